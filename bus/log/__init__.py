"""A rank's events on disk: how they are noted, laid out, written, read and compressed."""
