"""Checks of an installation and of a checkpoint."""
