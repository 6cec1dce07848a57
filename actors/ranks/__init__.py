"""Ranks: the processes that train one model together, and what they say to each other."""
