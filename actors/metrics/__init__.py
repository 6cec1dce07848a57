"""Metrics: put and log, values, reductions, results and predictions."""
