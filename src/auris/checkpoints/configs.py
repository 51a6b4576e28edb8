"""config.json in every layout, read into our own terms; `config_writer` writes it back.

Keys come in variants; each is accepted, and a missing key is refused by name, never replaced
by a default. The native layout has exceptions, `IMPLIED` and `IMPLIED_SPEAKER`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from auris.checkpoints.layouts import LayoutName
from auris.config import (
    CONV_BLOCK_FRAMES,
    CONV_BLOCK_TOKENS,
    AlignerConfig,
    AutConfig,
    AutCtcConfig,
    DecoderConfig,
    ModelConfig,
    ProjectorConfig,
    QwenAsrConfig,
    SpeakerConfig,
)
from auris.errors import CheckpointError, ConfigError

FORMAT = "auris"
FORMAT_VERSION = 1
SPEAKER = "speaker_encoder"
"""Architecture of speaker encoders, which are no models of speech recognition."""

ARCHITECTURES: dict[str, type[ModelConfig]] = {
    "qwen_asr": QwenAsrConfig,
    "aut_ctc": AutCtcConfig,
    "forced_aligner": AlignerConfig,
}
"""Kinds of models in the native layout."""

IMPLIED = {"stem": AutConfig.stem, "batch_norm": AutConfig.batch_norm}
"""Keys of the native encoder that are younger than the format, with what their absence means. They
are written only if they have another value, so that other files stay the same in every version."""

IMPLIED_SPEAKER = {"axes": SpeakerConfig.axes}
"""Such keys of a speaker encoder."""

LARGEST_REAL = 1e30
ROPE_THETA = ("rope_theta", "rope_parameters.rope_theta", "rope_scaling.rope_theta")
ENCODER_NORM_EPS = 1e-5
"""The only one that the official layouts know; their configs do not write it."""

CLASSES = ("classify_num", "num_labels", "text_config.classify_num")
SEGMENT_MS = "timestamp_segment_time"
HF_SEGMENT_MS = 80.0
"""The time step of the hf layout if its processor does not name one."""

_MISSING = object()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: the file is missing or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"A model directory has to hold {path.name}",
            f"{str(path.parent)!r} has none",
            "name the directory of a checkpoint",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} has to be readable JSON",
            f"reading {str(path)!r} failed ({error})",
            "fetch or write the file anew",
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} has to hold a JSON object",
            f"{str(path)!r} holds a {type(content).__name__}",
            "fetch or write the file anew",
        )
    return content


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON object; returns the file."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


ENCODER_KEYS = {
    "mel_bins": ("num_mel_bins",),
    "layers": ("encoder_layers", "num_hidden_layers"),
    "d_model": ("d_model", "hidden_size"),
    "heads": ("encoder_attention_heads", "num_attention_heads"),
    "ffn": ("encoder_ffn_dim", "intermediate_size"),
    "conv_channels": ("downsample_hidden_size",),
    "window_frames": ("n_window_infer",),
}
DECODER_KEYS = {
    "vocab": "vocab_size",
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ffn": "intermediate_size",
}
"""Whole numbers of our configs, and their keys in the official layouts; the first is written."""

_JSON_NAMES = {str: "a string", bool: "true or false"}


class _Keys:
    """Looks keys up in one object of a config and names the object in its errors."""

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, Mapping):
            raise ConfigError(
                f"config.json has to hold the object {where}",
                "it is missing" if content is None else f"it is a {type(content).__name__}",
                "use the config.json that belongs to the weights",
            )
        self.content = content
        self.where = where

    def find(self, *names: str) -> Any:
        """The value of the first of `names` (dots descend) that is there."""
        for name in names:
            value: Any = self.content
            for key in name.split("."):
                value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
            if value is not _MISSING and value is not None:
                return value
        return _MISSING

    def number(self, *names: str) -> int:
        value = self._required(names)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(names[0], "a whole number", value)
        return int(value)

    def real(self, *names: str) -> float:
        value = self._required(names)
        if not is_number(value):
            self.refuse(names[0], "a number", value)
        if not abs(value) < LARGEST_REAL:
            self.refuse(names[0], "a finite number", value)
        return float(value)

    def typed(self, name: str, kind: Any) -> Any:
        """A value of a type: a plain one, a Literal, or either with None."""
        if isinstance(kind, UnionType):
            if name in self.content and self.content[name] is None:
                return None
            (kind,) = (part for part in get_args(kind) if part is not type(None))
        if dataclasses.is_dataclass(kind):
            return _Keys(self.content.get(name), name).build(kind, complete=True)
        if kind is int:
            return self.number(name)
        if kind is float:
            return self.real(name)
        value = self._required((name,))
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                self.refuse(name, " or ".join(map(repr, get_args(kind))), value)
        elif not isinstance(value, kind):
            self.refuse(name, _JSON_NAMES[kind], value)
        return value

    def build(self, kind: Any, complete: bool = False) -> Any:
        """A config; fields in `IMPLIED` and `IMPLIED_SPEAKER` may be missing.

        Args:
            complete: whether other keys are refused.
        """
        types = get_type_hints(kind)
        unknown = sorted(set(self.content) - set(types))
        if complete and unknown:
            raise ConfigError(
                f"{self.where} in config.json may hold {', '.join(sorted(types))}",
                f"it also holds {', '.join(unknown)}",
                "remove what is unknown",
            )
        given = set(types) - ({*IMPLIED, *IMPLIED_SPEAKER} - set(self.content))
        return kind(**{name: self.typed(name, types[name]) for name in sorted(given)})

    def expect(self, name: str, expected: Any) -> None:
        """Refuse any value but `expected`; a missing key is fine."""
        value = self.find(name)
        if value is not _MISSING and value != expected:
            self.refuse(name, repr(expected), value)

    def agree(self, *names: str) -> None:
        """Refuse spellings of one value that contradict each other."""
        values = {name: value for name in names if (value := self.find(name)) is not _MISSING}
        for name, value in values.items():
            if value != next(iter(values.values())):
                self.refuse(name, f"as in {next(iter(values))}, which says the same", value)

    def _required(self, names: tuple[str, ...]) -> Any:
        value = self.find(*names)
        if value is _MISSING:
            raise ConfigError(
                f"config.json has to hold {' or '.join(names)} in {self.where}",
                "it is missing",
                "use the config.json that belongs to the weights",
            )
        return value

    def refuse(self, name: str, expected: str, value: Any) -> None:
        """Raise the ConfigError of a value that is not what was expected."""
        raise ConfigError(
            f"{name} in {self.where} of config.json has to be {expected}",
            f"it is {value!r}",
            "use the config.json that belongs to the weights",
        )


def _encoder(keys: _Keys) -> AutConfig:
    keys.expect("activation_function", "gelu")
    if keys.number("n_window") * 2 != CONV_BLOCK_FRAMES:
        raise ConfigError(
            f"n_window in {keys.where} of config.json has to be {CONV_BLOCK_FRAMES // 2}, since "
            f"{CONV_BLOCK_TOKENS} tokens for a conv block of twice as many frames are built into "
            "the model",
            f"it is {keys.number('n_window')}",
            "use the config.json that belongs to the weights",
        )
    sizes: Any = {field: keys.number(*names) for field, names in ENCODER_KEYS.items()}
    return AutConfig(**sizes)


def _decoder(keys: _Keys, tied: bool) -> DecoderConfig:
    keys.expect("attention_bias", False)
    keys.expect("hidden_act", "silu")
    keys.expect("use_sliding_window", False)
    for kind in keys.find("layer_types") if isinstance(keys.find("layer_types"), list) else ():
        if kind != "full_attention":
            keys.refuse("layer_types", "'full_attention' in every layer", kind)
    keys.agree(*ROPE_THETA)
    for name in ("rope_parameters", "rope_scaling"):
        for kind in ("rope_type", "type"):
            # M-RoPE equals plain RoPE on the one position axis of audio and text.
            if keys.find(f"{name}.{kind}") not in (_MISSING, "default", "mrope"):
                keys.expect(f"{name}.{kind}", "default")
    sizes: Any = {field: keys.number(name) for field, name in DECODER_KEYS.items()}
    theta, eps = keys.real(*ROPE_THETA), keys.real("rms_norm_eps")
    return DecoderConfig(**sizes, rope_theta=theta, rms_eps=eps, tied=tied)


def _is_aligner(thinker: _Keys, outer: _Keys) -> bool:
    # What transformers writes: the class of the model, and a name for every class of its head.
    named = [str(outer.content.get("architectures"))]
    named += [str(keys.content.get("model_type")) for keys in (thinker, outer)]
    return any(keys.find(*CLASSES) is not _MISSING for keys in (thinker, outer)) or any(
        mark in name.lower() for name in named for mark in ("tokenclassification", "aligner")
    )


def _foreign(thinker: _Keys, outer: _Keys) -> QwenAsrConfig | AlignerConfig:
    audio = _Keys(thinker.content.get("audio_config"), "audio_config")
    text = _Keys(thinker.content.get("text_config"), "text_config")
    encoder = _encoder(audio)
    parts: dict[str, Any] = {
        "encoder": encoder,
        "projector": ProjectorConfig(out=audio.number("output_dim"), hidden=encoder.d_model),
        "audio_token_id": thinker.number("audio_token_id", "audio_token_index"),
    }
    if _is_aligner(thinker, outer):
        # Its only head is the classifier, so that nothing can be tied.
        return AlignerConfig(**parts, decoder=_decoder(text, True), **_times(thinker, outer))
    # In the hf layout the top level decides and text_config may say otherwise; in the published
    # one the decoder's own config does.
    tied = (text, thinker, outer) if thinker is not outer else (outer, text)
    return QwenAsrConfig(**parts, decoder=_decoder(text, _first_truth("tie_word_embeddings", tied)))


def _times(thinker: _Keys, outer: _Keys) -> dict[str, Any]:
    """The fields of an aligner's head, from the first object that has them."""

    def holder(*names: str) -> _Keys:
        return thinker if thinker.find(*names) is not _MISSING else outer

    named = outer.find("id2label")
    counted = any(keys.find(*CLASSES) is not _MISSING for keys in (thinker, outer))
    listed = isinstance(named, Mapping) and not counted
    unsaid = thinker is outer and outer.find(SEGMENT_MS) is _MISSING
    step = HF_SEGMENT_MS if unsaid else holder(SEGMENT_MS).real(SEGMENT_MS)
    return {
        "classes": len(named) if listed else holder(*CLASSES).number(*CLASSES),
        "timestamp_token_id": holder("timestamp_token_id").number("timestamp_token_id"),
        "segment_ms": step,
        "head_bias": outer.find("token_classification_bias") is True,
    }


def _first_truth(name: str, objects: tuple[_Keys, ...]) -> bool:
    """A yes or no from the first of several objects that has it."""
    for keys in objects:
        value = keys.find(name)
        if isinstance(value, bool):
            return value
        if value is not _MISSING:
            keys.refuse(name, "true or false", value)
    raise ConfigError(
        f"config.json has to hold {name} as true or false",
        "it is missing",
        "use the config.json that belongs to the weights",
    )


def _native(content: dict[str, Any]) -> ModelConfig:
    keys = _Keys(content, "the top level")
    keys.number("format_version")
    keys.expect("format_version", FORMAT_VERSION)
    _Keys(content.get("encoder"), "encoder").expect("batch_norm", False)
    kind = ARCHITECTURES.get(str(content.get("architecture")))
    if kind is None:
        raise ConfigError(
            "architecture in config.json has to be 'qwen_asr', 'aut_ctc' or 'forced_aligner'",
            f"it is {content.get('architecture')!r}",
            "use a directory that this version of auris can read",
        )
    config: ModelConfig = keys.build(kind)
    return config


def read_speaker_config(directory: Path) -> SpeakerConfig:
    """The config of a speaker encoder's directory.

    Raises:
        CheckpointError: there is none, or it is one of another model.
    """
    content = read_json(directory / "config.json")
    keys = _Keys(content, "the top level")
    if (content.get("format"), content.get("architecture")) != (FORMAT, SPEAKER):
        raise ConfigError(
            f"A speaker model has to have the architecture {SPEAKER!r} in config.json",
            f"that of {str(directory)!r} has {content.get('architecture')!r}",
            "name a directory that `auris train speaker` wrote, or a checkpoint of CAM++",
        )
    keys.expect("format_version", FORMAT_VERSION)
    _Keys(content.get("encoder"), "encoder").expect("batch_norm", False)
    config: SpeakerConfig = keys.build(SpeakerConfig)
    return config


def from_json(content: dict[str, Any]) -> tuple[LayoutName, ModelConfig]:
    """Layout and config of a parsed config.json.

    Raises:
        ConfigError: a key is missing or impossible, or the model is of another kind.
    """
    top = _Keys(content, "the top level")
    if content.get("format") == FORMAT:
        return "native", _native(content)
    if "thinker_config" in content:
        return "published", _foreign(_Keys(content["thinker_config"], "thinker_config"), top)
    if "audio_config" in content and "text_config" in content:
        return "hf", _foreign(top, top)
    raise ConfigError(
        "config.json has to be of a Qwen3-ASR model (thinker_config, or audio_config and "
        "text_config) or of auris's own format",
        f"its model_type is {content.get('model_type')!r} and its keys are "
        f"{', '.join(sorted(content)[:8]) or 'none'}",
        "choose a Qwen3-ASR checkpoint",
    )


def read_generation(directory: Path) -> dict[str, Any] | None:
    """The content of generation_config.json, or None where there is none."""
    path = directory / "generation_config.json"
    return read_json(path) if path.exists() else None


def read_config(directory: Path) -> tuple[LayoutName, ModelConfig]:
    """Layout and config of a model directory; errors as in `from_json`.

    The hf layout keeps an aligner's time step with its processor.
    """
    content = read_json(directory / "config.json")
    processor = directory / "processor_config.json"
    keys = _Keys(content, "the top level")
    if "audio_config" in content and _is_aligner(keys, keys) and processor.exists():
        content = {SEGMENT_MS: read_json(processor).get(SEGMENT_MS), **content}
    return from_json(content)
