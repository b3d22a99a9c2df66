"""Who follows what: feeds, the hub, cursors, subscriptions, and the watcher of the store."""
