"""The training process: its signals, its settings, and whether it is one of several."""
