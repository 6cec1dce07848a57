"""The training process: its signals and its settings."""
