"""What a caller asks: the fields of the API, checked; what cannot be done is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from starlette.datastructures import FormData, UploadFile

from auris.errors import LanguageError
from auris.server.errors import ApiError
from auris.text.languages import language_name

__all__ = [
    "FORMATS",
    "SHOWN_LETTERS",
    "TranscriptionRequest",
    "joined_context",
    "parse_transcription_request",
    "parse_translation_request",
]

T = TypeVar("T")

FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
STREAMED = ("json", "text", "verbose_json", "diarized_json")
TIMED = ("verbose_json", "srt", "vtt")
"""Formats that show when words are said."""

ALSO = ("text", "srt", "verbose_json", "vtt")
"""Formats that can come with a stream."""

LISTS = (
    "languages",
    "keywords",
    "timestamp_granularities",
    "include",
    "known_speaker_names",
    "known_speaker_references",
    "formats",
)
"""Fields that may come several times, as `name[]` or `name`."""

SINGLE = (
    "file",
    "url",
    "model",
    "language",
    "prompt",
    "response_format",
    "temperature",
    "chunking_strategy",
    "stream",
)
OF_TRANSLATIONS = frozenset({"file", "url", "model", "prompt", "response_format", "temperature"})

MOST_SPEAKERS = 4

SHOWN_LETTERS = 40
"""Of a wrong value, in the message that refuses it; no number is as long."""


@dataclass(frozen=True)
class TranscriptionRequest:
    """A checked request.

    Attributes:
        model: a served name.
        language: English name of the language to force, or None.
        languages: English names of those to choose from; none for all.
        context: prompt and keywords.
        vad: whether to cut where nobody speaks, and leave long silence out.
        response_format: one of `FORMATS`.
        temperature: 0 to 1.
        words: whether words get times.
        segments: whether the answer has segments (verbose_json).
        logprobs: whether the answer has the tokens' log-probabilities.
        stream: whether it comes as events.
        speakers: names of the channels' speakers (diarized_json).
        formats: further ones of the same transcript, at the end of a stream.
        url: where the recording is, when none was sent.
    """

    model: str
    language: str | None = None
    languages: tuple[str, ...] = ()
    context: str = ""
    vad: bool = False
    response_format: str = "json"
    temperature: float = 0.0
    words: bool = False
    segments: bool = True
    logprobs: bool = False
    stream: bool = False
    speakers: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    url: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> TranscriptionRequest:
        """What `to_dict` gave."""
        names = ("speakers", "languages", "formats")
        lists = {name: tuple(content.get(name, ())) for name in names}
        return cls(**{**content, **lists})


class _Fields:
    """The fields of a form by name, each taken once."""

    def __init__(self, form: FormData) -> None:
        self.texts: dict[str, list[str]] = {}
        self.file: UploadFile | None = None
        for name, value in form.multi_items():
            plain = name.removesuffix("[]")
            if plain.partition("[")[0] == "chunking_strategy" and plain != "chunking_strategy":
                raise _unsupported("chunking_strategy", "auto is the strategy there is")
            if (name != plain and plain not in LISTS) or plain not in LISTS + SINGLE:
                raise _invalid(name, "it is no field of this endpoint", "unknown_parameter")
            if isinstance(value, UploadFile) != (plain == "file"):
                kind = "a file" if plain == "file" else "text"
                raise _invalid(plain, f"it has to be {kind}")
            if isinstance(value, UploadFile):
                if self.file is not None:
                    raise _invalid("file", "there may be one")
                self.file = value
                continue
            if plain in self.texts and plain not in LISTS:
                raise _invalid(plain, "it may be given once")
            self.texts.setdefault(plain, []).append(value)

    def many(self, name: str) -> list[str]:
        """Values of a list."""
        return self.texts.get(name, [])

    def one(self, name: str, read: Callable[[str], T], default: T) -> T:
        """A value, or the default where the field is missing or empty."""
        value = self.texts.get(name, [""])[0]
        if value == "":
            return default
        try:
            return read(value)
        except ValueError as error:
            raise _invalid(name, str(error)) from None


def parse_transcription_request(
    form: FormData, prompt_letters: int
) -> tuple[TranscriptionRequest, UploadFile | None]:
    """A request for a transcript, and its upload.

    Args:
        form: its fields.
        prompt_letters: most letters of prompt and keywords.

    Raises:
        ApiError: a field is missing, wrong, unknown or asks for what cannot be done.
    """
    fields = _Fields(form)
    answer = fields.one("response_format", _among(FORMATS), "json")
    stream = fields.one("stream", _truth, False)
    if stream and answer not in STREAMED:
        raise _unsupported("stream", f"{answer} comes whole; {', '.join(STREAMED)} can be streamed")
    language, languages = _languages(fields)
    asked = TranscriptionRequest(
        model=_model(fields),
        language=language,
        languages=languages,
        vad=fields.one("chunking_strategy", _strategy, "") == "auto",
        context=_context(fields, prompt_letters),
        response_format=answer,
        temperature=fields.one("temperature", _temperature, 0.0),
        words="word" in (times := _times(fields, answer)),
        segments=not times or "segment" in times,
        logprobs=_logprobs(fields, answer),
        stream=stream,
        speakers=_speakers(fields, answer),
        formats=_formats(fields, stream),
        url=fields.one("url", str, None),
    )
    return asked, _sent(fields, asked)


def parse_translation_request(form: FormData) -> str:
    """The model that is asked for a translation.

    Raises:
        ApiError: as of `parse_transcription_request`.
    """
    fields = _Fields(form)
    for name in fields.texts:
        if name not in OF_TRANSLATIONS:
            raise _invalid(name, "it is no field of this endpoint", "unknown_parameter")
    fields.one("response_format", _among(FORMATS[:5]), "json")
    fields.one("temperature", _temperature, 0.0)
    return _model(fields)


def _invalid(name: str, why: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, f"Invalid '{name}': {why}.", param=name, code=code)


def _unsupported(name: str, why: str) -> ApiError:
    return ApiError(400, f"Unsupported '{name}': {why}.", param=name, code="unsupported_parameter")


def _missing(name: str) -> ApiError:
    return ApiError(
        400, f"Missing '{name}': it is needed.", param=name, code="missing_required_parameter"
    )


def _sent(fields: _Fields, asked: TranscriptionRequest) -> UploadFile | None:
    if fields.file is None and asked.url is None:
        raise _missing("file")
    if fields.file is not None and asked.url is not None:
        raise _invalid("url", "there is a file as well")
    return fields.file


def _model(fields: _Fields) -> str:
    name = fields.one("model", str, "")
    if not name:
        raise _missing("model")
    return name


def _among(choices: Sequence[str]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"it has to be one of {', '.join(choices)}")
        return value

    return read


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise ValueError("it has to be true or false")
    return value.lower() in ("true", "1")


def _temperature(value: str) -> float:
    try:
        number = float(value) if len(value) < SHOWN_LETTERS else math.nan
    except ValueError:
        number = math.nan
    if not 0.0 <= number <= 1.0:
        raise ValueError(
            f"it has to be a number from 0 to 1, but is {value[:SHOWN_LETTERS]!r}: correct it, or "
            "leave it out"
        )
    return number


def _strategy(value: str) -> str:
    if value != "auto":
        raise ValueError("auto is the strategy there is; its voice detection has no settings")
    return value


def _languages(fields: _Fields) -> tuple[str | None, tuple[str, ...]]:
    """The one to force, and those to choose from: at most one of the two."""
    one = fields.one("language", _language, None)
    named = (_listed_language(name) for name in fields.many("languages"))
    several = tuple(dict.fromkeys(name for name in named if name))
    if one and several and several != (one,):
        raise _invalid("languages[]", "it contradicts 'language'")
    return one, () if one else several


def _language(name: str) -> str | None:
    try:
        return language_name(name)
    except LanguageError as error:
        raise ValueError(f"{error.rule}, but {error.found}") from None


def _listed_language(name: str) -> str | None:
    try:
        return _language(name)
    except ValueError as error:
        raise _invalid("languages[]", str(error)) from None


def _context(fields: _Fields, most: int) -> str:
    prompt = fields.one("prompt", str, "")
    context = joined_context(prompt, fields.many("keywords"))
    if len(context) > most:
        name = "prompt" if prompt else "keywords[]"
        raise _invalid(name, f"prompt and keywords may have {most} letters together")
    return context


def joined_context(prompt: str, keywords: Iterable[str]) -> str:
    """What a model is told to expect."""
    words = ", ".join(word.strip() for word in keywords if word.strip())
    return "\n".join(part for part in (prompt, words) if part)


def _times(fields: _Fields, answer: str) -> set[str]:
    given = fields.many("timestamp_granularities")
    if given and answer not in TIMED:
        raise _invalid(
            "timestamp_granularities[]", f"it needs a response_format of {', '.join(TIMED)}"
        )
    if not set(given) <= {"word", "segment"}:
        raise _invalid("timestamp_granularities[]", "it has to be word, segment or both")
    if "segment" in given and answer != "verbose_json":
        raise _invalid("timestamp_granularities[]", f"{answer} shows no segments, so only word")
    return set(given)


def _formats(fields: _Fields, stream: bool) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(fields.many("formats")))
    if not set(given) <= set(ALSO):
        raise _invalid("formats[]", f"it has to be of {', '.join(ALSO)}")
    if given and not stream:
        raise _invalid("formats[]", "it needs stream; one format is asked by response_format")
    return given


def _logprobs(fields: _Fields, answer: str) -> bool:
    given = fields.many("include")
    if not set(given) <= {"logprobs"}:
        raise _invalid("include[]", "logprobs is what can be included")
    if given and answer != "json":
        raise _invalid("include[]", "logprobs need response_format json")
    return bool(given)


def _speakers(fields: _Fields, answer: str) -> tuple[str, ...]:
    if fields.many("known_speaker_references"):
        raise _unsupported(
            "known_speaker_references[]",
            "voices are not recognized; diarized_json tells speakers apart by their channels",
        )
    names = [name.strip() for name in fields.many("known_speaker_names")]
    if names and answer != "diarized_json":
        raise _invalid("known_speaker_names[]", "it needs response_format diarized_json")
    if len(names) > MOST_SPEAKERS or len(set(names)) < len(names) or not all(names):
        raise _invalid("known_speaker_names[]", "there may be 4 names, none empty and none twice")
    return tuple(names)
