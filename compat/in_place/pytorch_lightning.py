"""Stands for Lightning in processes that one with nightbus.compat installed has started."""

from nightbus.compat import take_the_place_of

take_the_place_of(__name__)
