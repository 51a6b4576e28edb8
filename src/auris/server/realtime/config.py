"""The settings of a realtime session, in both shapes of the session object."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from auris.decoding.requests import MOST_BEAM_SIZE
from auris.server.errors import unsupported_value
from auris.server.realtime.formats import FORMATS, Format
from auris.server.transcription_request import TranscriptionRequest, read_language

LOGPROBS = "item.input_audio_transcription.logprobs"
PROVISIONAL = "auris.provisional"
FINAL = "auris.final"
WORDS = "auris.words"
SPEAKERS = "auris.speakers"

CHUNK_SECONDS: dict[str, float | None] = {
    "minimal": None,
    "low": None,
    "medium": 12.0,
    "high": 12.0,
    "xhigh": 30.0,
}
"""Target length of the chunks of a stream by the setting `delay`; None for the model's default."""

SETTLE_SECONDS = {"minimal": 0.5, "low": 1.0, "medium": 2.0, "high": 0.0, "xhigh": 0.0}
"""How long a word has to be the same before it settles, by the same; 0 for the end of its chunk."""

OLDER_NAMES = {
    "format": "input_audio_format",
    "transcription": "input_audio_transcription",
    "turn_detection": "turn_detection",
    "noise_reduction": "input_audio_noise_reduction",
}
"""Settings of the audio input, and their names in the older shape."""

NEWER_FORMATS = {form.older_name: form.name for form in FORMATS}


class StrictModel(BaseModel):
    """A JSON object without unknown fields, whose values are of exactly the types of the fields."""

    model_config = ConfigDict(strict=True, extra="forbid")


class _NullMeansDefault(StrictModel):
    """An object in which null resets a field."""

    @field_validator("*", mode="before")
    @classmethod
    def _read_null(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[str(info.field_name)].default if value is None else value


def _only(accepted: object, reason: str) -> BeforeValidator:
    """A validator of a field that may be null or have one value, with the same meaning."""

    def check(value: object) -> None:
        if value is not None and value != accepted:
            raise unsupported_value(reason)

    return BeforeValidator(check)


def _check_language(name: str) -> str | None:
    read_language(name)
    return name or None


Language = Annotated[str, AfterValidator(_check_language)]
NoiseReduction = Annotated[None, _only(None, "the audio is recognized as it is")]
Modalities = Annotated[None, _only(["text"], "this server writes text only")]
NoResponse = Annotated[None, _only(False, "transcription sessions have no responses")]
NoOtherDetection = Annotated[None, _only(None, "server_vad does not have this setting")]
Include = Annotated[
    list[
        Literal[
            "item.input_audio_transcription.logprobs",
            "auris.provisional",
            "auris.final",
            "auris.words",
            "auris.speakers",
        ]
    ],
    BeforeValidator(lambda value: [] if value is None else value),
    AfterValidator(lambda names: list(dict.fromkeys(names))),
]


class AudioFormat(StrictModel):
    """The format of the audio; it is replaced as a whole."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int | None = Field(default=None, exclude=True)

    @field_validator("rate")
    @classmethod
    def _check_rate(cls, rate: int | None, info: ValidationInfo) -> None:
        if rate is not None and (info.data.get("type"), rate) != ("audio/pcm", 24_000):
            raise unsupported_value("audio/pcm has 24000, and the others none")

    @model_serializer
    def _written(self) -> dict[str, Any]:
        pcm = self.type == "audio/pcm"
        return {"type": self.type, "rate": 24_000} if pcm else {"type": self.type}


class TranscriptionSettings(_NullMeansDefault):
    """How turns are transcribed. An update without a model leaves it."""

    model: str = ""
    language: Language | None = None
    languages: list[Language] = Field(default=[], exclude=True)
    prompt: str = ""
    keywords: list[str] = []
    beam_size: int | None = Field(default=None, ge=1, le=MOST_BEAM_SIZE)
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] = "low"

    @field_validator("languages")
    @classmethod
    def _check_languages(cls, languages: list[str], info: ValidationInfo) -> list[str]:
        if len(languages) > 1:
            raise unsupported_value("live text has one language, or the one that the model detects")
        if languages and info.data.get("language") not in (None, *languages):
            raise ValueError("it contradicts 'language'")
        return languages

    @model_validator(mode="after")
    def _read_languages(self) -> TranscriptionSettings:
        """A list with one language forces it."""
        if "languages" in self.model_fields_set:
            self.language = self.language or next(iter(self.languages), None)
            self.languages = []
        return self


class TurnDetection(_NullMeansDefault):
    """How turns are detected.

    Attributes:
        threshold: 0 to 1; with higher ones speech has to be louder.
        prefix_padding_ms: audio before the first speech that belongs to a turn.
        silence_duration_ms: silence that ends a turn.
    """

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(default=300, ge=0, le=5000)
    silence_duration_ms: int = Field(default=500, ge=100, le=10_000)
    create_response: NoResponse = Field(default=None, exclude=True)
    interrupt_response: NoResponse = Field(default=None, exclude=True)
    idle_timeout_ms: NoOtherDetection = Field(default=None, exclude=True)
    eagerness: NoOtherDetection = Field(default=None, exclude=True)


class AudioInput(StrictModel):
    """The settings of the audio that a client sends."""

    format: AudioFormat = AudioFormat()
    transcription: TranscriptionSettings = TranscriptionSettings()
    noise_reduction: NoiseReduction = None
    turn_detection: TurnDetection | None = TurnDetection()


class AudioSettings(StrictModel):
    """The settings of audio; a transcription session has no output."""

    input: AudioInput = AudioInput()


class Session(StrictModel):
    """The settings of a session, in the newer shape."""

    type: Literal["transcription"]
    audio: AudioSettings = AudioSettings()
    include: Include = []

    @classmethod
    def of_model(cls, name: str) -> Session:
        """The default settings, with a served model."""
        return cls.model_validate(
            {"type": "transcription", "audio": {"input": {"transcription": {"model": name}}}}
        )

    @property
    def format(self) -> Format:
        """The format of the audio."""
        return next(form for form in FORMATS if form.name == self.audio.input.format.type)

    @property
    def chunk_seconds(self) -> float | None:
        """Target length of the chunks of a stream; None for the model's default."""
        return CHUNK_SECONDS[self.audio.input.transcription.delay]

    @property
    def settle_seconds(self) -> float:
        """When words settle. With log-probabilities, a delta is the text of a whole chunk."""
        if LOGPROBS in self.include:
            return 0.0
        return SETTLE_SECONDS[self.audio.input.transcription.delay]

    @property
    def request(self) -> TranscriptionRequest:
        """The same as a request for a transcript."""
        settings = self.audio.input.transcription
        return TranscriptionRequest(
            model=settings.model,
            language=settings.language,
            prompt=settings.prompt,
            keywords=tuple(settings.keywords),
            beam_size=settings.beam_size,
            response_format="verbose_json",
            timestamp_granularities=("word",) if WORDS in self.include else (),
            diarize=True if SPEAKERS in self.include else None,
        )

    def updated(self, change: Session | OlderSession) -> Session:
        """These settings with those that a client gave."""
        return _merged(self, change if isinstance(change, Session) else change.as_newer())

    def to_dict(self, newer: bool) -> dict[str, Any]:
        """The settings in one of the shapes."""
        content = self.model_dump()
        content["include"] = content["include"] or None
        if newer:
            return content
        audio = content["audio"]["input"] | {"format": self.format.older_name}
        older = {name: audio[newer] for newer, name in OLDER_NAMES.items()}
        return {"modalities": ["text"], **older, "include": content["include"]}


class OlderSession(StrictModel):
    """The settings of a session, in the older shape."""

    modalities: Modalities = None
    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] = "pcm16"
    input_audio_transcription: TranscriptionSettings = TranscriptionSettings()
    turn_detection: TurnDetection | None = None
    input_audio_noise_reduction: NoiseReduction = None
    include: Include = []

    def as_newer(self) -> Session:
        """The given settings in the newer shape."""
        given = self.model_dump(exclude_unset=True)
        audio = {newer: given[name] for newer, name in OLDER_NAMES.items() if name in given}
        if "format" in audio:
            audio["format"] = {"type": NEWER_FORMATS[audio["format"]]}
        include = {name: given[name] for name in given if name == "include"}
        return Session.model_validate(
            {"type": "transcription", "audio": {"input": audio}, **include}
        )


M = TypeVar("M", bound=BaseModel)


def _merged(current: M, given: M) -> M:
    """Settings with a change of them: in nested objects, too, only the given fields change."""
    changes: dict[str, Any] = {}
    for name in given.model_fields_set:
        before, after = getattr(current, name), getattr(given, name)
        nested = isinstance(before, BaseModel) and isinstance(after, BaseModel)
        if nested and not isinstance(after, AudioFormat):
            changes[name] = _merged(before, after)
        elif (name, after) != ("model", ""):
            changes[name] = after
    return current.model_copy(update=changes)
