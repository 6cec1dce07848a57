"""The control socket of a run that goes on: what steers it from outside."""
