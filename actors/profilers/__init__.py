"""Profilers: how long hooks, and actions that users name, take."""
