"""Training of AuT models."""
