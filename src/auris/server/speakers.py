"""Speakers of requests: told apart by their voices, or by the channels of a recording."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import count, product
from string import ascii_uppercase

from starlette.requests import Request

from auris.audio.encoded import from_data_uri, is_data_uri
from auris.audio.io import Source
from auris.diarization.diarizer import Diarizer
from auris.errors import AudioError, AurisError, UnreadableAudio
from auris.server.errors import ApiError, invalid, unsupported
from auris.server.transcription_request import TranscriptionRequest
from auris.server.upload_validation import (
    TOO_LONG,
    DecodeContext,
    Recording,
    decode_in_lanes,
    measured,
)

LEAST_SECONDS, MOST_SECONDS = 2.0, 10.0
"""Lengths of references of known speakers."""

SLACK_SECONDS = 0.1
"""A reference may be so much longer or shorter, as encoders make it."""

REFERENCES = "known_speaker_references[]"


def letters() -> Iterator[str]:
    """Names of speakers: A to Z, AA, AB and so on."""
    return ("".join(name) for size in count(1) for name in product(ascii_uppercase, repeat=size))


class SharedDiarizer:
    """The networks that tell voices apart, loaded when a request first needs them.

    Args:
        speaker_model: see `load_networks`; one that is named is loaded at once.

    Raises:
        AurisError: the named model cannot be loaded.
    """

    def __init__(self, speaker_model: str | None = None) -> None:
        self._lock = threading.Lock()
        self._loaded = None if speaker_model is None else _load(speaker_model)

    def get(self, param: str = "diarize") -> Diarizer:
        """The diarizer, which may take a moment.

        Args:
            param: the field that needs it.

        Raises:
            ApiError: this server cannot tell voices apart.
        """
        with self._lock:
            if self._loaded is None:
                try:
                    self._loaded = _load(None)
                except AurisError as error:
                    reason = f"this server cannot tell speakers apart by voice ({error.actual})"
                    raise unsupported(param, reason) from error
            return self._loaded


def _load(speaker_model: str | None) -> Diarizer:
    return Diarizer(Diarizer.from_pretrained(speaker_model).networks, names=letters)


@dataclass(frozen=True)
class RequestedSpeakers:
    """How the speakers of a recording are told apart.

    Attributes:
        diarizer: by voice with this one; None for channels.
        names: of the channels.
    """

    diarizer: Diarizer | None
    names: tuple[str, ...] = ()


def speakers_of(
    request: TranscriptionRequest,
    channels: int,
    diarizer: SharedDiarizer,
    references: tuple[Recording, ...] = (),
) -> RequestedSpeakers | None:
    """Who tells the speakers of a recording apart; None where they are not requested.

    Args:
        references: those of the request, see `read_references`.

    Raises:
        ApiError: the recording has too few channels, or the names do not fit them; this server
            cannot tell voices apart; or nobody speaks in a reference.
    """
    names = request.known_speaker_names
    if not request.speakers_shown:
        return None
    if not request.by_voice and channels > 1:
        if names and len(names) != channels:
            raise invalid("known_speaker_names[]", f"the recording has {channels} channels")
        lettered = letters()
        return RequestedSpeakers(None, names or tuple(next(lettered) for _ in range(channels)))
    if request.diarize is False:
        reason = "false tells speakers apart by their channels, and this recording has one"
        raise unsupported("diarize", reason)
    if names and not request.known_speaker_references:
        reason = f"without {REFERENCES} they name channels, and this recording has one"
        raise invalid("known_speaker_names[]", reason)
    known: dict[str, Source] = {
        name: one.again() for name, one in zip(names, references, strict=False)
    }
    param = "diarize" if request.by_voice else "response_format"
    try:
        return RequestedSpeakers(diarizer.get(param).with_known(known))
    except AudioError as error:
        raise invalid(REFERENCES, error.actual) from error


async def read_references(
    request: Request, fields: TranscriptionRequest, files: ExitStack
) -> tuple[Recording, ...]:
    """Decode the references of known speakers; `files` closes what they need.

    Raises:
        ApiError: one is no data URL of audio of the right length.
        ClientDisconnected: the client has disconnected.
    """
    references = []
    for number, url in enumerate(fields.known_speaker_references, 1):
        try:
            reference = await _reference(request, url, files)
        except (AudioError, ApiError) as error:
            if isinstance(error, ApiError) and error.code == TOO_LONG:
                raise _wrong_length(number) from error
            if isinstance(error, ApiError) and error.param != "file":
                raise
            raise invalid(REFERENCES, f"number {number} cannot be used ({error})") from error
        if reference.seconds < LEAST_SECONDS - SLACK_SECONDS:
            raise _wrong_length(number)
        references.append(reference)
    return tuple(references)


def _wrong_length(number: int) -> ApiError:
    limits = f"{LEAST_SECONDS:g} to {MOST_SECONDS:g} s"
    return invalid(REFERENCES, f"number {number} has to be {limits} long")


async def _reference(request: Request, url: str, files: ExitStack) -> Recording:
    if not is_data_uri(url):
        raise UnreadableAudio(
            "A reference has to be a data URL", f"it begins with {url[:20]!r}", "encode the audio"
        )
    data = BytesIO(from_data_uri(url))
    return await decode_in_lanes(request, data, lambda context: _short(data, context, files))


def _short(file: BytesIO, context: DecodeContext, files: ExitStack) -> Recording:
    """Decode a reference, and nothing that is longer."""
    most = MOST_SECONDS + SLACK_SECONDS
    settings = replace(context.settings, most_audio_seconds=most)
    return measured(file, False, replace(context, settings=settings), files)
