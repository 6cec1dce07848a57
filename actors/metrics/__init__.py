"""Metrics: put and log, their values, reductions, results and predictions."""
