"""Rewrites code that was written for Lightning to import nightbus; reads it, never runs it."""
