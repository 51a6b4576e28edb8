"""Corpora in object storage, transcribed by any number of processes and machines."""

from auris.scale.curator import CuratorModel
from auris.scale.transcribe import Transcribe

__all__ = ["CuratorModel", "Transcribe"]
