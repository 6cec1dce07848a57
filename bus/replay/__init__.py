"""Replay: delivers a recorded run to observers again."""
