"""Fast paths of the built-in loops, taken where their result is the same.

All code that shares readings of the clock, or leaves out calls, is here.
"""
