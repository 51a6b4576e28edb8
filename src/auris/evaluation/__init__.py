"""Scoring: error rates and speed, through the public API."""
