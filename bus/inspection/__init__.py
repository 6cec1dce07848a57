"""Reads logs and runs for the verbs of the command line."""
