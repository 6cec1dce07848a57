"""Data: loaders, the position in them, and the seeds of their workers."""
