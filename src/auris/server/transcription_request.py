"""Requests for transcripts and translations: their fields, read from forms and checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from starlette.datastructures import FormData, UploadFile

from auris.decoding.requests import MOST_BEAM_SIZE
from auris.diarization.diarizer import MOST_SPEAKERS
from auris.errors import AurisError, LanguageError
from auris.server.errors import invalid, unsupported, validation_error
from auris.server.formats import STREAMED, TIMED, CommonFormat, FurtherFormat, ResponseFormat
from auris.text.cleanup import CleanupStep, check_steps
from auris.text.languages import language_name


def read_language(name: str) -> str | None:
    """The English name of a language; a `ValueError` where there is none."""
    try:
        return language_name(name)
    except LanguageError as error:
        raise ValueError(f"{error.rule}, but {error.actual}") from None


MOST_KNOWN = 4
"""Largest number of known speakers, as in the OpenAI API."""


def _list(name: str, **options: Any) -> Any:
    return Field(default=(), validation_alias=f"{name}[]", **options)


Language = Annotated[str, AfterValidator(read_language)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _RecordingRequest(BaseModel):
    """The fields of every request with a recording."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    model: str = Field(description="One of /v1/models.")
    url: str | None = Field(default=None, description="Address of the recording, without file.")
    prompt: str = Field(default="", description="Words and names to expect.")
    temperature: float = Field(default=0.0, ge=0, le=1)


class TranslationRequest(_RecordingRequest):
    """The fields of a request for a translation."""

    response_format: CommonFormat = "json"


class TranscriptionRequest(_RecordingRequest):
    """The fields of a request for a transcript; languages are English names."""

    response_format: ResponseFormat = "json"
    language: Language | None = Field(default=None, description="The language to force.")
    languages: tuple[Language, ...] = _list("languages", description="Languages to choose from.")
    keywords: tuple[str, ...] = _list(
        "keywords", description="Words and phrases that are written more readily."
    )
    beam_size: int | None = Field(
        default=None,
        ge=1,
        le=MOST_BEAM_SIZE,
        description="Hypotheses of a text that are followed at a time; 1 takes the best token at "
        "every step, without a language model. By default what the server was started with, or "
        "what the model's search needs.",
    )
    clean: tuple[CleanupStep, ...] = _list(
        "clean", description="Clean-up of the texts; see the option --clean of auris transcribe."
    )
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = _list(
        "timestamp_granularities"
    )
    include: tuple[Literal["logprobs"], ...] = _list("include")
    chunking_strategy: Literal["auto"] | None = None
    known_speaker_names: tuple[Name, ...] = _list(
        "known_speaker_names",
        json_schema_extra={"maxItems": MOST_KNOWN},
        description="Names of the speakers of known_speaker_references[], or of the channels.",
    )
    known_speaker_references: tuple[str, ...] = _list(
        "known_speaker_references",
        json_schema_extra={"maxItems": MOST_KNOWN},
        description="Data URLs of audio of 2 to 10 s, one for each name.",
    )
    diarize: bool | None = Field(
        default=None,
        description="Tell speakers apart by their voices, in formats that show speakers. By "
        "default, diarized_json takes each channel of a recording with several as a speaker, and "
        "tells voices apart in one with a single channel; false only takes channels.",
    )
    speakers: int | None = Field(
        default=None, ge=1, le=MOST_SPEAKERS, description="Number of speakers."
    )
    min_speakers: int | None = Field(
        default=None, ge=1, le=MOST_SPEAKERS, description="Least number of speakers."
    )
    max_speakers: int | None = Field(
        default=None, ge=1, le=MOST_SPEAKERS, description="Largest number of speakers."
    )
    stream: bool = False
    formats: tuple[FurtherFormat, ...] = _list(
        "formats", description="Further formats of the transcript of a stream."
    )

    _reads_contexts: bool = PrivateAttr(default=True)

    @property
    def reads_contexts(self) -> bool:
        """Whether the model has the context in its prompt."""
        return self._reads_contexts

    @property
    def context(self) -> str:
        """The context: the prompt, and the keywords if the model reads contexts."""
        listed = self.keywords if self._reads_contexts else ()
        words = ", ".join(word.strip() for word in listed if word.strip())
        return "\n".join(part for part in (self.prompt, words) if part)

    def for_model_without_contexts(self) -> TranscriptionRequest:
        """The same for a model that reads no context: keywords only change the search."""
        other = self.model_copy()
        other._reads_contexts = False
        return other

    @property
    def by_voice(self) -> bool:
        """Whether speakers have to be told apart by their voices."""
        counts = (self.speakers, self.min_speakers, self.max_speakers)
        return bool(self.diarize or self.known_speaker_references or any(counts))

    @property
    def speakers_shown(self) -> bool:
        """Whether speakers are told apart, by their voices or channels."""
        return self.by_voice or self.response_format == "diarized_json"

    @property
    def may_split(self) -> bool:
        """Whether each channel of a recording with several is a speaker."""
        return self.speakers_shown and not self.by_voice

    @property
    def words(self) -> bool:
        """Whether words get times."""
        return "word" in self.timestamp_granularities

    @property
    def segments(self) -> bool:
        """Whether the answer has segments (verbose_json)."""
        return not self.timestamp_granularities or "segment" in self.timestamp_granularities

    @model_validator(mode="after")
    def _check_together(self) -> TranscriptionRequest:
        form = self.response_format
        times = self.timestamp_granularities
        if self.stream and form not in STREAMED:
            choices = ", ".join(STREAMED)
            raise unsupported("stream", f"{form} cannot be streamed, but {choices} can")
        if self.language and not set(self.languages) <= {self.language, None}:
            raise invalid("languages[]", "it contradicts 'language'")
        if times and form not in TIMED:
            reason = f"it needs a response_format of {', '.join(TIMED)}"
            raise invalid("timestamp_granularities[]", reason)
        if "segment" in times and form != "verbose_json":
            reason = f"{form} shows no segments, so it can only be word"
            raise invalid("timestamp_granularities[]", reason)
        if self.include and form != "json":
            raise invalid("include[]", "logprobs need response_format json")
        try:
            check_steps(self.clean, self.language)
        except AurisError as error:
            raise unsupported("clean[]", f"{error.rule}, but {error.actual}") from None
        self._check_speakers()
        if self.formats and not self.stream:
            reason = "it needs stream; response_format chooses the one format of an answer"
            raise invalid("formats[]", reason)
        return self

    def _check_speakers(self) -> None:
        names, references = self.known_speaker_names, self.known_speaker_references
        if names and not self.speakers_shown:
            reason = "it needs response_format diarized_json, or diarize"
            raise invalid("known_speaker_names[]", reason)
        if len(names) > MOST_KNOWN or len(set(names)) < len(names):
            reason = f"there may be {MOST_KNOWN} names, and none twice"
            raise invalid("known_speaker_names[]", reason)
        if references and len(references) != len(names):
            reason = f"there are {len(references)}, and {len(names)} names"
            raise invalid("known_speaker_references[]", reason)
        if self.by_voice and self.response_format == "json":
            reason = "json shows no speakers; diarized_json, verbose_json and others do"
            raise invalid("response_format", reason)
        if self.by_voice and self.diarize is False:
            raise invalid("diarize", "it is false, and other fields are about voices")
        least, most = self.min_speakers, self.max_speakers
        if self.speakers is not None and (least is not None or most is not None):
            raise invalid("speakers", "it excludes min_speakers and max_speakers")
        if least is not None and most is not None and most < least:
            raise invalid("max_speakers", "it has to be at least min_speakers")


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
        if name.startswith("chunking_strategy[") and name != "chunking_strategy[]":
            raise unsupported("chunking_strategy", "auto is the strategy there is")
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
