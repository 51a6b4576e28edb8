"""Tests with the speech-to-text classes of frameworks for voice agents."""
