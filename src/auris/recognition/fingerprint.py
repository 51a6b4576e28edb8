"""Everything that can change a transcript, as plain values and as one fingerprint of them.

Work that can be continued later (the results file of a batch, the segments of a job) records these
values. If they differ, the work begins anew.

The values of a model are the content of its files and of its language model, the dtype that it
computes in (also int8 and int4), the device, the attention kernel and the version of Auris. The
values of a call are its options with the model's defaults filled in. Options that only change the
speed (threads, batch size, read-ahead) are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from auris import __version__
from auris.audio.activity import described_model
from auris.backends.torch import TorchBackend
from auris.checkpoints.gguf_files import is_gguf, open_gguf
from auris.checkpoints.hub import FILES, ResolvedModel
from auris.checkpoints.inference_defaults import InferenceDefaults
from auris.checkpoints.quantization_config import PACKED_DTYPES
from auris.errors import CheckpointError
from auris.recognition.load import with_window
from auris.recognition.options import (
    CallOptions,
    chunker_for,
    decode_options,
    with_default_search,
)
from auris.recognition.recognizer import Recognizer

BLOCK_BYTES = 1 << 22


class LoadedModel(Protocol):
    """The parts of a pipeline that can change its results, see `auris.AsrPipeline`."""

    recognizer: Recognizer
    model: ResolvedModel
    backend: TorchBackend
    defaults: InferenceDefaults


def fingerprint(values: Mapping[str, Any]) -> str:
    """A hash of plain JSON values, as a hexadecimal number; their order does not matter."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def model_values(pipeline: LoadedModel) -> dict[str, Any]:
    """The values of a loaded model."""
    backend, lm = pipeline.backend, pipeline.recognizer.scorers.lm
    return {
        "adapter": getattr(backend.model, "adapter", ""),
        "version": __version__,
        "model_digest": model_digest(pipeline.model.directory),
        "dtype": computed_dtype(backend),
        "device": backend.device.type,
        "kernel": backend.kernel,
        "exact_logprobs": backend.exact,
        "lm": None if lm is None else lm.values,
        "window_frames": pipeline.recognizer.config.encoder.window_frames,
    }


def call_values(
    pipeline: LoadedModel, language: str | None, context: str, given: CallOptions
) -> dict[str, Any]:
    """The values of a call: those of its model and of its options.

    Raises:
        UsageError, LanguageError: an option is impossible.
        CheckpointError: a file of the model, or of the aligner, cannot be read.
    """
    values = model_values(pipeline) | option_values(pipeline, language, context, given)
    window = given.get("attention_window")
    if window is not None:
        encoder = with_window(pipeline.recognizer.config.encoder, window)
        values["window_frames"] = encoder.window_frames
    return values


def option_values(
    pipeline: LoadedModel, language: str | None, context: str, given: CallOptions
) -> dict[str, Any]:
    """The values of a call's options; an option that is left out has the value of its default."""
    searched = with_default_search(given, pipeline.recognizer.scorers.lm)
    options = asdict(decode_options(language, context, searched))
    del options["batch_seconds"]  # It does not change results.
    reading = asdict(chunker_for(given, pipeline.defaults))
    del reading["urls"]
    if not reading["end_at_pauses"]:
        del reading["pause_seconds"]
    detects = reading["vad"] or reading["end_at_pauses"]
    reading["vad_model"] = described_model(reading["vad_model"]) if detects else None
    values = {**options, **reading, "words": _words_values(given)}
    return values | _speaker_values(given)


def _speaker_values(given: CallOptions) -> dict[str, Any]:
    """Who the speakers are, and for voices what tells them apart and finds the words to divide."""
    diarize, speakers = given.get("diarize", False), given.get("speakers")
    values = speakers if speakers is None or isinstance(speakers, int) else list(speakers)
    counts = {name: given.get(name) for name in ("min_speakers", "max_speakers")}
    networks: Any = diarize
    if not isinstance(diarize, bool):
        networks = {**diarize.values, "words": _aligner_values(given)}
    return {"diarize": networks, "speakers": values, **counts}


def _words_values(given: CallOptions) -> Any:
    """False, "own" for the model's own CTC head, or the digest of the aligner."""
    if not given.get("word_timestamps", False):
        return False
    return _aligner_values(given)


def _aligner_values(given: CallOptions) -> str:
    """ "own" for the model's own CTC head, or the digest of the aligner."""
    aligner = given.get("aligner")
    if aligner is None:
        return "own"
    directory = getattr(aligner, "directory", None)
    return "custom" if directory is None else model_digest(directory)


def computed_dtype(backend: TorchBackend) -> str:
    """The dtype that a model computes in: "int4", "int8" or that of its floating-point weights, and
    that of a decoder's weights where it is another one."""
    computed = str(backend.dtype).removeprefix("torch.")
    if backend.weights in (computed, *PACKED_DTYPES):
        return backend.weights
    return f"{computed}, decoder {backend.weights}"


def model_digest(directory: Path) -> str:
    """A hash of the files that a model is loaded from, as a hexadecimal number.

    In one process a file is read once, and again only when its size or its times have changed.

    Raises:
        CheckpointError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in _model_files(directory):
            status = path.stat()
            # These values change when a file is written or replaced.
            changes = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            content = _file_digest(path.resolve(), changes)
            digest.update(f"{path.name}\0{content}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise CheckpointError(
            f"A file of the model in {str(directory)!r} cannot be read ({error})",
            "",
            "correct its permissions, or fetch the checkpoint anew",
        ) from error
    return digest.hexdigest()


def _model_files(directory: Path) -> list[Path]:
    if is_gguf(directory):
        model = open_gguf(directory)
        return [model.text.path, model.encoder.path]
    return sorted({path for pattern in FILES for path in directory.glob(pattern)})


@lru_cache(maxsize=256)
def _file_digest(path: Path, changes: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
