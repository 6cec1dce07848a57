"""Checkpoints on disk: files, format, values, and importing others'."""
