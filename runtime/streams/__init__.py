"""Streaming: tasks that run over and over, joined by bounded buffers."""
