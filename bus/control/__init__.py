"""The control socket of a running run, through which it is steered from outside."""
