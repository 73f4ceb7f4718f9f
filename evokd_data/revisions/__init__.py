"""Published rounds, read back: load, verify, replay, reproduce, diff, resume."""
