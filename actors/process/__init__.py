"""The process that trains: its signals, its settings, whether it is one of several."""
