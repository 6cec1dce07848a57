"""Optimizers, learning rate schedulers, steps made by hand."""
