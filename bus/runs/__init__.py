"""A run's folder: what it holds, how it is found, and which of its attempts are current."""
