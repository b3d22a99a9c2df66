"""A tracker in a thread of its own, for code without an event loop: see `trio_progress.blocking.progress()`."""
