"""What runs a model: the protocol, and torch behind it."""
