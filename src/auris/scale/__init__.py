"""Corpora in object storage, transcribed by any number of processes and machines."""

from auris.scale.transcribe import Transcribe

__all__ = ["Transcribe"]
