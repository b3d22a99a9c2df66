"""The list of sessions, as a page or a stream of changes, as far as somebody may see it."""
