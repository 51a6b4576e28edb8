"""Requests for transcripts and translations: their fields, read from forms and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from starlette.datastructures import FormData, UploadFile

from auris.errors import LanguageError
from auris.server.errors import invalid, unsupported, unsupported_value, validation_error
from auris.text.languages import language_name

__all__ = [
    "TranscriptionRequest",
    "TranslationRequest",
    "joined_context",
    "read_form",
    "read_language",
]

STREAMED = ("json", "text", "verbose_json", "diarized_json")
TIMED = ("verbose_json", "srt", "vtt")
"""Formats that show the times of words."""

MOST_SPEAKERS = 4


def read_language(name: str) -> str | None:
    """The English name of a language; a `ValueError` where there is none."""
    try:
        return language_name(name)
    except LanguageError as error:
        raise ValueError(f"{error.rule}, but {error.found}") from None


Language = Annotated[str, AfterValidator(read_language)]
"""A language by code or English name, as its English name."""


class _RecordingRequest(BaseModel):
    """The fields of every request with a recording."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    model: str = Field(description="One of /v1/models.")
    url: str | None = Field(
        default=None, description="Address of the recording, where the server downloads recordings."
    )
    prompt: str = Field(default="", description="Words and names to expect.")
    temperature: float = Field(default=0.0, ge=0, le=1)


class TranslationRequest(_RecordingRequest):
    """The fields of a request for a translation."""

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"


class TranscriptionRequest(_RecordingRequest):
    """The fields of a request for a transcript.

    Validators of a field may read only fields above it.
    """

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    stream: bool = False
    language: Language | None = Field(
        default=None, description="Code or English name of the language to force."
    )
    languages: tuple[Language, ...] = Field(
        default=(), validation_alias="languages[]", description="Languages to choose from."
    )
    keywords: tuple[str, ...] = Field(default=(), validation_alias="keywords[]")
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = Field(
        default=(), validation_alias="timestamp_granularities[]"
    )
    include: tuple[Literal["logprobs"], ...] = Field(default=(), validation_alias="include[]")
    chunking_strategy: Literal["auto"] | None = None
    known_speaker_names: tuple[str, ...] = Field(
        default=(),
        validation_alias="known_speaker_names[]",
        json_schema_extra={"maxItems": MOST_SPEAKERS},
    )
    formats: tuple[Literal["text", "srt", "verbose_json", "vtt"], ...] = Field(
        default=(),
        validation_alias="formats[]",
        description="Further formats of the transcript of a stream.",
    )

    @property
    def context(self) -> str:
        """Prompt and keywords as the model gets them."""
        return joined_context(self.prompt, self.keywords)

    @property
    def diarized(self) -> bool:
        """Whether channels are transcribed apart, each as a speaker."""
        return self.response_format == "diarized_json"

    @property
    def words(self) -> bool:
        """Whether words get times."""
        return "word" in self.timestamp_granularities

    @property
    def segments(self) -> bool:
        """Whether the answer has segments (verbose_json)."""
        return not self.timestamp_granularities or "segment" in self.timestamp_granularities

    @field_validator("stream")
    @classmethod
    def _check_stream(cls, stream: bool, info: ValidationInfo) -> bool:
        form = info.data.get("response_format", "json")
        if stream and form not in STREAMED:
            raise unsupported_value(f"{form} cannot be streamed, but {', '.join(STREAMED)} can")
        return stream

    @field_validator("languages")
    @classmethod
    def _check_languages(
        cls, languages: tuple[str | None, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name for name in languages if name))
        forced = info.data.get("language")
        if forced and names and names != (forced,):
            raise ValueError("it contradicts 'language'")
        return () if forced else names

    @field_validator("timestamp_granularities")
    @classmethod
    def _check_times(cls, kinds: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        form = info.data.get("response_format", "json")
        if kinds and form not in TIMED:
            raise ValueError(f"it needs a response_format of {', '.join(TIMED)}")
        if "segment" in kinds and form != "verbose_json":
            raise ValueError(f"{form} shows no segments, so it can only be word")
        return kinds

    @field_validator("include")
    @classmethod
    def _check_include(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if names and info.data.get("response_format", "json") != "json":
            raise ValueError("logprobs need response_format json")
        return names

    @field_validator("known_speaker_names")
    @classmethod
    def _check_speakers(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        names = tuple(name.strip() for name in names)
        if names and info.data.get("response_format") != "diarized_json":
            raise ValueError("it needs response_format diarized_json")
        if len(names) > MOST_SPEAKERS or len(set(names)) < len(names) or not all(names):
            raise ValueError("there may be 4 names, none empty and none twice")
        return names

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if formats and not info.data.get("stream"):
            raise ValueError("it needs stream; response_format chooses the one format of an answer")
        return tuple(dict.fromkeys(formats))

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_versions(cls, content: Any) -> Any:
        """Requests that earlier versions stored with their jobs have other fields."""
        if not isinstance(content, dict) or "context" not in content:
            return content
        words, segments = content.pop("words"), content.pop("segments")
        content["prompt"] = content.pop("context")
        content["timestamp_granularities"] = ["word"] * words + ["segment"] * (words and segments)
        content["include"] = ["logprobs"] * content.pop("logprobs")
        content["chunking_strategy"] = "auto" if content.pop("vad", False) else None
        content["known_speaker_names"] = content.pop("speakers", ())
        return content


R = TypeVar("R", TranscriptionRequest, TranslationRequest)


def read_form(form: FormData, kind: type[R]) -> tuple[R, UploadFile | None]:
    """A request of some kind from a form, and its recording where one was sent.

    Raises:
        ApiError: a field is missing, wrong, unknown or not supported.
    """
    lists = {field.validation_alias for field in kind.model_fields.values()}
    values: dict[str, Any] = {}
    upload: UploadFile | None = None
    for given, value in form.multi_items():
        name = f"{given}[]" if f"{given}[]" in lists else given
        if name == "file" and isinstance(value, UploadFile):
            upload = value
        elif name == "file":
            raise invalid(name, "it has to be a file")
        elif name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise invalid(name, "it may be given once")
        elif value != "":
            values[name] = value
    _refuse_unsupported(values)
    try:
        request = kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise validation_error({**fault, "loc": fault["loc"][:1]}) from None
    if upload is None and request.url is None:
        raise validation_error({"type": "missing", "loc": ("file",), "msg": ""})
    if upload is not None and request.url is not None:
        raise invalid("url", "there is a file as well")
    return request, upload


def _refuse_unsupported(values: Mapping[str, Any]) -> None:
    """Refuse fields of the public API that no server of Auris supports."""
    for name in values:
        if name.startswith("chunking_strategy["):
            raise unsupported("chunking_strategy", "auto is the strategy there is")
        if name.removesuffix("[]") == "known_speaker_references":
            raise unsupported(
                "known_speaker_references[]",
                "voices are not recognized; diarized_json tells speakers apart by their channels",
            )


def joined_context(prompt: str, keywords: Iterable[str]) -> str:
    """What a model is told to expect."""
    words = ", ".join(word.strip() for word in keywords if word.strip())
    return "\n".join(part for part in (prompt, words) if part)
