"""Data: loaders, the place in them, the seeds of their workers."""
