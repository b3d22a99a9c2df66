"""Who may do what: tokens, grants, origins, and when a grant ends."""
