"""Optimizers, learning-rate schedulers, and manual steps."""
