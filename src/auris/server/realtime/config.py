"""What a realtime session is set to: both shapes of the session object, read and written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from auris.errors import LanguageError
from auris.server.errors import ApiError
from auris.server.realtime.formats import FORMATS, Format, format_of
from auris.server.realtime.turns import Detection
from auris.server.transcription_request import TranscriptionRequest, joined_context
from auris.text.languages import language_name

__all__ = ["LOGPROBS", "PROVISIONAL", "WORDS", "SessionConfig"]

LOGPROBS = "item.input_audio_transcription.logprobs"
PROVISIONAL = "auris.provisional"
WORDS = "auris.words"

INCLUDES = (LOGPROBS, PROVISIONAL, WORDS)

DELAYS = {"minimal": 2.0, "low": 3.0, "medium": 6.0, "high": 12.0, "xhigh": 30.0}
"""Seconds of the pieces that a stream is cut into."""

NEWER = {
    "format": "audio.input.format",
    "transcription": "audio.input.transcription",
    "turn_detection": "audio.input.turn_detection",
    "noise_reduction": "audio.input.noise_reduction",
    "include": "include",
}
OLDER = {
    "format": "input_audio_format",
    "transcription": "input_audio_transcription",
    "turn_detection": "turn_detection",
    "noise_reduction": "input_audio_noise_reduction",
    "include": "include",
    "modalities": "modalities",
}
"""Where each setting stands in the session object."""

RESPONSES = ("create_response", "interrupt_response")
"""Settings of models that answer."""


@dataclass(frozen=True)
class SessionConfig:
    """The settings of a session.

    Attributes:
        model: a served name.
        format: of the audio.
        language: code or English name of the language to force, as it was given.
        prompt, keywords: words and names to expect.
        delay: one of `DELAYS`.
        detection: how turns are found; None where the client commits.
        include: what is sent besides, of `INCLUDES`.
    """

    model: str
    format: Format = FORMATS[0]
    language: str | None = None
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    delay: str = "low"
    detection: Detection | None = Detection()  # noqa: RUF009 - it is frozen
    include: tuple[str, ...] = ()

    @property
    def piece_seconds(self) -> float:
        """Target length of the pieces of a stream."""
        return DELAYS[self.delay]

    @property
    def asked(self) -> TranscriptionRequest:
        """The same as a request for a transcript."""
        return TranscriptionRequest(
            model=self.model,
            language=language_name(self.language),
            context=joined_context(self.prompt, self.keywords),
            words=WORDS in self.include,
        )

    def updated(self, session: object, newer: bool) -> SessionConfig:
        """These settings with those of a session object; what it does not have stays.

        Args:
            session: the client's object.
            newer: its shape.

        Raises:
            ApiError: a setting is unknown, wrong, or cannot be honoured; its `param` is the path.
        """
        config = self
        given = _newer_fields(session) if newer else _older_fields(session)
        for name, (path, value) in given.items():
            config = replace(config, **READERS[name](config, path, value, newer))
        return config

    def to_dict(self, newer: bool) -> dict[str, Any]:
        """The settings in one of the shapes."""
        detection = self.detection and {"type": "server_vad", **vars(self.detection)}
        transcription = {
            "model": self.model,
            "language": self.language,
            "prompt": self.prompt,
            "keywords": list(self.keywords),
            "delay": self.delay,
        }
        if not newer:
            return {
                "modalities": ["text"],
                "input_audio_format": self.format.older_name,
                "input_audio_transcription": transcription,
                "turn_detection": detection,
                "input_audio_noise_reduction": None,
                "include": list(self.include) or None,
            }
        form: dict[str, Any] = {"type": self.format.name}
        if self.format is FORMATS[0]:
            form["rate"] = self.format.rate
        heard = {
            "format": form,
            "transcription": transcription,
            "noise_reduction": None,
            "turn_detection": detection,
        }
        return {
            "type": "transcription",
            "audio": {"input": heard},
            "include": list(self.include) or None,
        }


Given = dict[str, tuple[str, Any]]
"""Paths and values of the settings in a session object, by name."""


def _newer_fields(session: object) -> Given:
    outer = _object(session, "session", {"type", "audio", "include"})
    if "type" not in outer:
        raise ApiError(
            400,
            "Missing 'session.type': it is needed.",
            param="session.type",
            code="missing_required_parameter",
        )
    if outer["type"] != "transcription":
        raise _unsupported("session.type", "this server has transcription sessions only")
    audio = _object(outer.get("audio", {}), "session.audio", {"input"})
    inputs = {"format", "transcription", "turn_detection", "noise_reduction"}
    heard = _object(audio.get("input", {}), "session.audio.input", inputs)
    found = {**heard, **{name: value for name, value in outer.items() if name == "include"}}
    return {name: (f"session.{NEWER[name]}", found[name]) for name in NEWER if name in found}


def _older_fields(session: object) -> Given:
    found = _object(session, "session", set(OLDER.values()))
    return {
        name: (f"session.{place}", found[place]) for name, place in OLDER.items() if place in found
    }


def _object(value: object, path: str, known: Collection[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(path, "it has to be an object")
    for name in value:
        if name not in known:
            place = f"{path}.{name[:100]}"
            raise ApiError(
                400, f"Unknown parameter: {place!r}.", param=place, code="unknown_parameter"
            )
    return value


def _invalid(path: str, why: str) -> ApiError:
    return ApiError(400, f"Invalid '{path}': {why}.", param=path, code="invalid_value")


def _unsupported(path: str, why: str) -> ApiError:
    return ApiError(400, f"Unsupported '{path}': {why}.", param=path, code="unsupported_parameter")


def _format(config: SessionConfig, path: str, value: Any, newer: bool) -> dict[str, Any]:
    name = value
    if newer:
        given = _object(value, path, {"type", "rate"})
        name = given.get("type", "audio/pcm")
        rate = given.get("rate")
        if rate is not None and not (name == "audio/pcm" and rate == FORMATS[0].rate):
            raise _unsupported(f"{path}.rate", "audio/pcm has 24000, and the others none")
    found = format_of(name, newer)
    if found is None:
        names = ", ".join(f.name if newer else f.older_name for f in FORMATS)
        raise _invalid(f"{path}.type" if newer else path, f"it has to be one of {names}")
    return {"format": found}


def _transcription(config: SessionConfig, path: str, value: Any, newer: bool) -> dict[str, Any]:
    if value is None:
        raise _unsupported(path, "this server does nothing but transcribe")
    known = {"model", "language", "languages", "prompt", "keywords", "delay"}
    given = _object(value, path, known)
    found: dict[str, Any] = {}
    for name in ("model", "prompt"):
        if given.get(name) is not None:
            found[name] = _text(given[name], f"{path}.{name}")
    if "prompt" in given:
        found.setdefault("prompt", "")
    if "keywords" in given:
        found["keywords"] = _texts(given["keywords"], f"{path}.keywords")
    if "delay" in given:
        found["delay"] = "low" if given["delay"] is None else given["delay"]
        if found["delay"] not in tuple(DELAYS):
            raise _invalid(f"{path}.delay", f"it has to be one of {', '.join(DELAYS)}")
    return found | _language(given, path)


def _language(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The language to force; a list with one is the same."""
    several = _texts(given.get("languages"), f"{path}.languages")
    if len(several) > 1:
        raise _unsupported(
            f"{path}.languages", "live text has one language, or the one that the model hears"
        )
    if "language" not in given and "languages" not in given:
        return {}
    name = given.get("language")
    place = f"{path}.language"
    if name is None:
        name, place = (several or (None,))[0], f"{path}.languages"
    elif several and several != (name,):
        raise _invalid(f"{path}.languages", "it contradicts 'language'")
    if name is not None:
        try:
            language_name(_text(name, place))
        except LanguageError as error:
            raise _invalid(place, error.found) from None
    return {"language": name or None}


def _detection(config: SessionConfig, path: str, value: Any, newer: bool) -> dict[str, Any]:
    if value is None:
        return {"detection": None}
    numbers: dict[str, tuple[float, float]] = {
        "threshold": (0.0, 1.0),
        "prefix_padding_ms": (0, 5000),
        "silence_duration_ms": (100, 10_000),
    }
    known = {"type", "idle_timeout_ms", "eagerness", *RESPONSES, *numbers}
    given = _object(value, path, known)
    if given.get("type", "server_vad") != "server_vad":
        raise _unsupported(f"{path}.type", "server_vad is the detection there is")
    for name in RESPONSES:
        if given.get(name) not in (None, False):
            raise _unsupported(f"{path}.{name}", "transcription sessions have no responses")
    for name in ("idle_timeout_ms", "eagerness"):
        if given.get(name) is not None:
            raise _unsupported(f"{path}.{name}", "it does not belong to this detection")
    found: dict[str, Any] = {
        name: _number(given[name], f"{path}.{name}", least, most)
        for name, (least, most) in numbers.items()
        if given.get(name) is not None
    }
    return {"detection": replace(config.detection or Detection(), **found)}


def _noise_reduction(config: SessionConfig, path: str, value: Any, newer: bool) -> dict[str, Any]:
    if value is not None:
        raise _unsupported(path, "sound is heard as it is")
    return {}


def _include(config: SessionConfig, path: str, value: Any, newer: bool) -> dict[str, Any]:
    names = _texts(value, path)
    if not set(names) <= set(INCLUDES):
        raise _invalid(path, f"what can be included is {', '.join(INCLUDES)}")
    return {"include": tuple(dict.fromkeys(names))}


def _modalities(config: SessionConfig, path: str, value: Any, newer: bool) -> dict[str, Any]:
    if value is not None and value != ["text"]:
        raise _unsupported(path, "text is what this server writes")
    return {}


READERS: dict[str, Callable[[SessionConfig, str, Any, bool], dict[str, Any]]] = {
    "format": _format,
    "transcription": _transcription,
    "turn_detection": _detection,
    "noise_reduction": _noise_reduction,
    "include": _include,
    "modalities": _modalities,
}
"""Settings that a field changes."""


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise _invalid(path, "it has to be a string")
    return value


def _texts(value: object, path: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _invalid(path, "it has to be a list of strings")
    return tuple(value)


def _number(value: object, path: str, least: float, most: float) -> float:
    whole = isinstance(least, int)
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        raise _invalid(path, f"it has to be {kind} from {least:g} to {most:g}")
    return value  # type: ignore[return-value]
