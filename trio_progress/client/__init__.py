"""A subscriber over WebSocket that reconnects and resumes by itself."""
