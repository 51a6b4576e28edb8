"""Corpora in object storage, transcribed by any number of processes and machines."""
