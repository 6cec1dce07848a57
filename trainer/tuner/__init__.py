"""Tries learning rates and batch sizes on a few steps before training."""
