"""Striking out what is secret, before anything is written."""
