"""The ground: frozen values and their JSON, and what a message makes of a state. Knows no other room."""
