"""The ranks of one training: what they agree on, what they send each other, and who was lost."""
