"""Consumers of events, such as progress bars."""
