"""A rank's events on disk: how they are recorded, laid out, written, read and compressed."""
