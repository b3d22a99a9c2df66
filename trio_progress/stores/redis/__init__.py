"""Redis as a store: fenced logs by scripts and streams, through redis-py in worker threads."""
