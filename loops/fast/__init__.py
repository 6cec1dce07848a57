"""Shorter ways to do what the built-in loops say, taken where they come to the same.

What shares readings of the clock, and what leaves out calls, stands here and nowhere else.
"""
