"""Device kinds: how the values of one kind of space are measured, frozen and copied."""
