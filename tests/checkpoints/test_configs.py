"""config.json: variants of keys, missing keys, invalid values, other types of models."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from auris.checkpoints.config_writer import to_json
from auris.checkpoints.configs import from_json, read_config
from auris.config import AutCtcConfig, ModelConfig, QwenAsrConfig
from auris.errors import CheckpointError, ConfigError
from tests.checkpoints.files import FOREIGN, LAYOUTS
from tests.tiny_models import aligner_config, ctc_config, qwen_config, tiny_tokenizer

TOKEN_IDS = {text: token.id for text, token in tiny_tokenizer().added.items()}
DELETED = object()
AnyConfig = TypeVar("AnyConfig", QwenAsrConfig, AutCtcConfig)


def config_json(layout: str, config: ModelConfig | None = None) -> dict[str, Any]:
    content = to_json(config or qwen_config(), layout, "float32", TOKEN_IDS)
    parsed: dict[str, Any] = json.loads(json.dumps(content))
    return parsed


def part(content: dict[str, Any], layout: str, name: str = "") -> dict[str, Any]:
    """An object inside a foreign config: audio_config, text_config or their parent."""
    outer: dict[str, Any] = content["thinker_config"] if layout == "published" else content
    return outer[name] if name else outer


def set_path(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a config with one value changed or deleted."""
    changed = copy.deepcopy(content)
    *parents, last = path.split(".")
    place = changed
    for key in parents:
        place = place.setdefault(key, {})
    if value is DELETED:
        del place[last]
    else:
        place[last] = value
    return changed


def with_encoder(config: AnyConfig, **change: Any) -> AnyConfig:
    """The config with another encoder."""
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, **change))


ENCODER_KEYS = {
    "audio_config.num_mel_bins",
    "audio_config.encoder_layers",
    "audio_config.d_model",
    "audio_config.encoder_attention_heads",
    "audio_config.encoder_ffn_dim",
    "audio_config.downsample_hidden_size",
    "audio_config.n_window",
    "audio_config.n_window_infer",
    "audio_config.output_dim",
}
DECODER_KEYS = {
    "text_config.vocab_size",
    "text_config.hidden_size",
    "text_config.num_hidden_layers",
    "text_config.num_attention_heads",
    "text_config.num_key_value_heads",
    "text_config.head_dim",
    "text_config.intermediate_size",
    "text_config.rms_norm_eps",
}
NEEDED = ENCODER_KEYS | DECODER_KEYS | {"audio_token_id", "audio_config", "text_config"}
VARIANT_OF = {"audio_config.encoder_layers": "audio_config.num_hidden_layers"}


def foreign_cases() -> Iterator[tuple[str, str]]:
    for layout in FOREIGN:
        for path in sorted(NEEDED):
            yield layout, f"thinker_config.{path}" if layout == "published" else path
    yield "published", "thinker_config.text_config.rope_theta"
    yield "hf", "text_config.rope_parameters.rope_theta"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("window", range(100, 900, 100))
def test_configs_round_trip(layout: str, tied: bool, window: int) -> None:
    config = qwen_config(tied=tied, window_frames=window)
    assert from_json(config_json(layout, config)) == (layout, config)


def test_ctc_configs_round_trip() -> None:
    for config in (ctc_config(), AutCtcConfig(ctc_config().encoder, 7, None, "slaney400", "Welsh")):
        assert from_json(config_json("native", config)) == ("native", config)


class TestMissing:
    @pytest.mark.parametrize(("layout", "path"), foreign_cases())
    def test_every_foreign_key_is_named(self, layout: str, path: str) -> None:
        content = set_path(config_json(layout), path, DELETED)
        *parents, key = path.split(".")
        spare = VARIANT_OF.get(".".join([*parents, key]).removeprefix("thinker_config."))
        if spare is not None and spare.split(".")[1] in part(content, layout, "audio_config"):
            del part(content, layout, "audio_config")[spare.split(".")[1]]
        with pytest.raises(ConfigError) as caught:
            from_json(content)
        assert key in str(caught.value)

    @pytest.mark.parametrize(("layout", "path"), foreign_cases())
    def test_null_counts_as_missing(self, layout: str, path: str) -> None:
        content = set_path(config_json(layout), path, None)
        if path.endswith("encoder_layers"):
            part(content, layout, "audio_config").pop("num_hidden_layers", None)
        with pytest.raises(ConfigError) as caught:
            from_json(content)
        assert path.rpartition(".")[2] in str(caught.value)

    @pytest.mark.parametrize("layout", FOREIGN)
    def test_a_missing_tie_is_named(self, layout: str) -> None:
        content = config_json(layout)
        part(content, layout, "text_config").pop("tie_word_embeddings")
        content.pop("tie_word_embeddings", None)
        with pytest.raises(ConfigError, match="tie_word_embeddings"):
            from_json(content)

    @pytest.mark.parametrize("kind", ["qwen_asr", "aut_ctc"])
    def test_every_native_key_is_named(self, kind: str) -> None:
        content = config_json("native", qwen_config() if kind == "qwen_asr" else ctc_config())
        paths = [key for key in content if key not in ("dtype", "format")]
        for name in ("encoder", "projector", "decoder"):
            paths += [f"{name}.{key}" for key in content.get(name, {})]
        for path in paths:
            with pytest.raises(ConfigError) as caught:
                from_json(set_path(content, path, DELETED))
            assert path.rpartition(".")[2] in str(caught.value)


class TestVariants:
    @pytest.mark.parametrize("layout", FOREIGN)
    @pytest.mark.parametrize(
        "path", ["rope_theta", "rope_scaling.rope_theta", "rope_parameters.rope_theta"]
    )
    def test_rope_theta(self, layout: str, path: str) -> None:
        content = config_json(layout)
        text = part(content, layout, "text_config")
        for name in ("rope_theta", "rope_scaling", "rope_parameters"):
            text.pop(name, None)
        changed = set_path(text, path, 5e5)
        part(content, layout)["text_config"] = changed
        _, config = from_json(content)
        assert isinstance(config, QwenAsrConfig)
        assert config.decoder.rope_theta == 5e5

    @pytest.mark.parametrize("layout", FOREIGN)
    def test_contradicting_rope_thetas(self, layout: str) -> None:
        content = config_json(layout)
        text = part(content, layout, "text_config")
        text["rope_theta"], text["rope_parameters"] = 1e6, {"rope_theta": 1e4}
        with pytest.raises(ConfigError, match=r"rope_parameters\.rope_theta"):
            from_json(content)

    @pytest.mark.parametrize("layout", FOREIGN)
    @pytest.mark.parametrize(
        ("name", "variant"),
        [
            ("encoder_layers", "num_hidden_layers"),
            ("encoder_attention_heads", "num_attention_heads"),
            ("encoder_ffn_dim", "intermediate_size"),
            ("d_model", "hidden_size"),
        ],
    )
    def test_encoder_keys(self, layout: str, name: str, variant: str) -> None:
        content = config_json(layout)
        audio = part(content, layout, "audio_config")
        audio[variant] = audio.pop(name)
        assert from_json(content) == (layout, qwen_config())

    @pytest.mark.parametrize("tied", [True, False])
    def test_the_top_level_tie_is_used_in_hf(self, tied: bool) -> None:
        """As in transformers, where the value of the decoder is ignored."""
        for inner in (True, False, DELETED):
            content = set_path(config_json("hf"), "text_config.tie_word_embeddings", inner)
            content["tie_word_embeddings"] = tied
            _, config = from_json(content)
            assert isinstance(config, QwenAsrConfig)
            assert config.decoder.tied is tied

    @pytest.mark.parametrize("tied", [True, False])
    @pytest.mark.parametrize("place", ["", "thinker_config.", "thinker_config.text_config."])
    def test_tie_in_the_published_layout(self, tied: bool, place: str) -> None:
        path = "thinker_config.text_config.tie_word_embeddings"
        content = set_path(config_json("published"), path, DELETED)
        content = set_path(content, f"{place}tie_word_embeddings", tied)
        if place:
            content["tie_word_embeddings"] = not tied
        _, config = from_json(content)
        assert isinstance(config, QwenAsrConfig)
        assert config.decoder.tied is tied

    @pytest.mark.parametrize("layout", FOREIGN)
    def test_a_variant_replaces_null(self, layout: str) -> None:
        content = config_json(layout)
        text, audio = (part(content, layout, name) for name in ("text_config", "audio_config"))
        text.update(rope_theta=None, rope_scaling=None, rope_parameters={"rope_theta": 1e6})
        text.update(layer_types=None, sliding_window=None)
        audio.update(num_attention_heads=audio.pop("encoder_attention_heads"))
        audio.update(encoder_attention_heads=None)
        content.update(num_labels=None, classify_num=None, architectures=None)
        assert from_json(content) == (layout, qwen_config())

    @pytest.mark.parametrize("layout", FOREIGN)
    def test_audio_token_index(self, layout: str) -> None:
        content = config_json(layout)
        outer = part(content, layout)
        outer["audio_token_index"] = outer.pop("audio_token_id")
        assert from_json(content) == (layout, qwen_config())

    @pytest.mark.parametrize("kind", ["rope_type", "type"])
    @pytest.mark.parametrize("name", ["default", "mrope"])
    def test_rope_types_that_equal_plain_rope(self, kind: str, name: str) -> None:
        content = config_json("published")
        rope = {kind: name, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
        part(content, "published", "text_config")["rope_scaling"] = rope
        assert from_json(content) == ("published", qwen_config())

    def test_configs_written_by_transformers(self, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers", minversion="5.23")
        kept = ("audio_config", "text_config", "audio_token_id", "tie_word_embeddings")
        content = {key: value for key, value in config_json("hf").items() if key in kept}
        transformers.Qwen3ASRConfig(**content).save_pretrained(tmp_path)
        assert read_config(tmp_path) == ("hf", qwen_config())


IMPOSSIBLE = [
    ("audio_config.n_window_infer", 50, "from 100 to 800"),
    ("audio_config.n_window_infer", 150, "multiple of 100"),
    ("audio_config.n_window_infer", 900, "from 100 to 800"),
    ("audio_config.n_window_infer", 0, "n_window_infer"),
    ("audio_config.n_window_infer", -100, "n_window_infer"),
    ("audio_config.n_window", 25, "n_window .* has to be 50"),
    ("audio_config.n_window", 100, "n_window .* has to be 50"),
    ("audio_config.activation_function", "relu", "activation_function"),
    ("audio_config.d_model", 31, "d_model"),
    ("audio_config.d_model", 0, "d_model"),
    ("audio_config.encoder_attention_heads", 3, "multiple of its heads"),
    ("audio_config.encoder_layers", -1, "layers"),
    ("audio_config.encoder_layers", "2", "encoder_layers"),
    ("audio_config.encoder_layers", 2.0, "encoder_layers"),
    ("audio_config.encoder_layers", True, "encoder_layers"),
    ("audio_config.encoder_layers", [2], "encoder_layers"),
    ("audio_config.output_dim", 47, "output_dim"),
    ("audio_config", [], "audio_config"),
    ("text_config", "qwen3", "text_config"),
    ("text_config.head_dim", 15, "head_dim"),
    ("text_config.num_key_value_heads", 3, "key-value heads"),
    ("text_config.attention_bias", True, "attention_bias"),
    ("text_config.hidden_act", "gelu", "hidden_act"),
    ("text_config.use_sliding_window", True, "use_sliding_window"),
    ("text_config.layer_types", ["full_attention", "sliding_attention"], "layer_types"),
    ("text_config.rms_norm_eps", 0, "rms_eps"),
    ("text_config.rms_norm_eps", "1e-6", "rms_norm_eps"),
    ("text_config.rope_theta", float("nan"), "rope_theta"),
    ("text_config.rope_theta", float("inf"), "rope_theta"),
    ("text_config.rope_theta", 10**400, "rope_theta"),
    ("text_config.rope_theta", -1, "rope_theta"),
    ("text_config.rope_scaling.rope_type", "yarn", "rope_type"),
    ("text_config.rope_scaling.type", "linear", "type"),
    ("text_config.rope_parameters.rope_type", "dynamic", "rope_type"),
    ("text_config.tie_word_embeddings", "yes", "tie_word_embeddings"),
    ("text_config.vocab_size", 0, "vocab"),
    ("audio_token_id", -1, "audio_token_id"),
    ("audio_token_id", 10**6, "audio_token_id"),
    ("audio_token_id", "<|audio_pad|>", "audio_token_id"),
]


class TestInvalid:
    @pytest.mark.parametrize("layout", FOREIGN)
    @pytest.mark.parametrize(("path", "value", "named"), IMPOSSIBLE)
    def test_foreign_values(self, layout: str, path: str, value: Any, named: str) -> None:
        content = config_json(layout)
        if path.endswith("rope_theta"):
            part(content, layout, "text_config").pop("rope_parameters", None)
        if path.endswith("tie_word_embeddings"):
            content.pop("tie_word_embeddings", None)
        prefix = "thinker_config." if layout == "published" else ""
        with pytest.raises(ConfigError, match=named):
            from_json(set_path(content, prefix + path, value))

    @pytest.mark.parametrize(
        ("path", "value", "named"),
        [
            ("format_version", 2, "format_version"),
            ("format_version", "1", "format_version"),
            ("architecture", "llama", "architecture"),
            ("encoder", None, "encoder"),
            ("encoder.layers", "2", "layers"),
            ("encoder.layers", 1.5, "layers"),
            ("encoder.window_frames", 150, "n_window_infer"),
            ("encoder.norm", "batch", "norm"),
            ("encoder.norm", 3, "norm"),
            ("encoder.dropout", 1.0, "dropout"),
            ("encoder.extra", 1, "extra"),
            ("projector", {}, "projector|bias"),
            ("projector", False, "projector"),
            ("projector", 0, "projector"),
            ("projector.hidden", "32", "hidden"),
            ("projector.bias", 1, "bias"),
            ("projector.out", None, "out"),
            ("frontend", "mel", "frontend"),
            ("frontend", ["slaney400"], "frontend"),
        ],
    )
    def test_native_values(self, path: str, value: Any, named: str) -> None:
        for config in (qwen_config(), ctc_config()):
            with pytest.raises(ConfigError, match=named):
                from_json(set_path(config_json("native", config), path, value))

    @pytest.mark.parametrize(
        ("path", "value"),
        [("units", 0), ("units", "60"), ("language", 3), ("language", None)],
    )
    def test_ctc_values(self, path: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=path if value else "CTC head|language"):
            from_json(set_path(config_json("native", ctc_config()), path, value))

    @pytest.mark.parametrize(
        ("path", "value"),
        [("decoder.tied", 1), ("decoder.head_dim", 15), ("decoder.rope_theta", "1e6")],
    )
    def test_decoder_values(self, path: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=path.rpartition(".")[2]):
            from_json(set_path(config_json("native"), path, value))


class TestAligner:
    """Each of several keys identifies the forced aligner."""

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_aligner_configs_round_trip(self, layout: str, bias: bool) -> None:
        config = aligner_config(head_bias=bias)
        assert from_json(config_json(layout, config)) == (layout, config)

    @pytest.mark.parametrize("name", ["num_labels", "text_config.classify_num", "classify_num"])
    @pytest.mark.parametrize("layout", FOREIGN)
    def test_keys_with_the_number_of_classes(self, layout: str, name: str) -> None:
        content = config_json(layout, aligner_config())
        inner = part(content, layout)
        inner.pop("num_labels" if layout == "hf" else "classify_num")
        *parents, last = name.split(".")
        (inner[parents[0]] if parents else inner)[last] = 40
        assert from_json(content) == (layout, aligner_config())

    @pytest.mark.parametrize("layout", FOREIGN)
    def test_missing_keys(self, layout: str) -> None:
        content = config_json(layout, aligner_config())
        names = {
            "hf": ["timestamp_token_id", "num_labels"],
            "published": [
                "timestamp_token_id",
                "timestamp_segment_time",
                "thinker_config.classify_num",
            ],
        }
        for name in names[layout]:
            with pytest.raises(ConfigError, match=name.rpartition(".")[2]):
                from_json(set_path(content, name, DELETED))

    @pytest.mark.parametrize(
        "change", [{"classes": 0}, {"segment_ms": -1.0}, {"timestamp_token_id": 10**6}]
    )
    def test_invalid_values(self, change: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            dataclasses.replace(aligner_config(), **change)
        untied = dataclasses.replace(aligner_config().decoder, tied=False)
        with pytest.raises(ConfigError, match="head of its own"):
            dataclasses.replace(aligner_config(), decoder=untied)

    def test_written_by_transformers(self, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers", minversion="5.23")
        kept = ("audio_config", "text_config", "audio_token_id", "timestamp_token_id")
        content = {key: value for key, value in config_json("hf").items() if key in kept}
        config = transformers.Qwen3ASRConfig(**content, num_labels=40)
        transformers.Qwen3ASRForTokenClassification(config).save_pretrained(tmp_path)
        assert read_config(tmp_path) == ("hf", aligner_config())
        (tmp_path / "processor_config.json").write_text('{"timestamp_segment_time": 40}')
        expected = dataclasses.replace(aligner_config(), segment_ms=40.0)
        assert read_config(tmp_path) == ("hf", expected)


class TestOtherModels:
    @pytest.mark.parametrize(
        "content",
        [
            {"model_type": "whisper", "d_model": 384, "num_mel_bins": 80},
            {"model_type": "llama", "hidden_size": 64, "architectures": ["LlamaForCausalLM"]},
            {"model_type": "qwen3", "text_config": {}},
            {"model_type": "wav2vec2", "audio_config": {}},
            {},
        ],
    )
    def test_foreign_model_types(self, content: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="Qwen3-ASR model") as caught:
            from_json(content)
        assert repr(content.get("model_type")) in str(caught.value)


class TestFiles:
    @pytest.mark.parametrize(
        "content",
        [b"{", b"", b"[1]", b'"text"', b"3", b"null", b"\xff\xfe{}", b"[" * 100_000, b"\x00" * 64],
        ids=range(9),
    )
    def test_not_a_json_object(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"config\.json") as caught:
            read_config(tmp_path)
        assert str(tmp_path) in str(caught.value)

    def test_no_config(self, tmp_path: Path) -> None:
        for place in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(CheckpointError, match=r"has to hold config\.json"):
                read_config(place)

    def test_directories_instead_of_files(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").mkdir()
        with pytest.raises(CheckpointError, match=r"config\.json"):
            read_config(tmp_path)
