"""The tests; a regular package, so that spawned processes find these and no other ``tests``."""
