"""Replay: a recorded run, fed to observers again."""
