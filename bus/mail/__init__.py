"""Mailboxes with commands for actors, and the replies."""
