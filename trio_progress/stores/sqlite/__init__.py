"""One SQLite file as a store, for the processes of one machine."""
