"""One process' way to its store: group commit, spool and its delivery, reaper, declarations."""
