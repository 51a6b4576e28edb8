"""Training data that are read while a model is trained, from the sources of `auris batch`."""
