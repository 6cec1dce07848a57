"""Commands on their way to an actor, and the replies."""
