"""Runs as data: a table of runs, one run with all it recorded, and what differs between them."""
