"""The session as a nursery: entering, leaving, its three children, and what its author holds."""
