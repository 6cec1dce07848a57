"""A run's checkpoints: when they are saved, what they hold, how they are written and kept."""
