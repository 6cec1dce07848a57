"""Checkpoints on disk: files, format, values, and conversion from other formats."""
