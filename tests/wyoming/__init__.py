"""Tests of the Wyoming server, with the client of the package."""
