"""Live speech."""
