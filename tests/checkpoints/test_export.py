"""Exported directories: their content, and that they are written completely or not at all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from auris.checkpoints import export as package
from auris.checkpoints.export import convert, export
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.errors import (
    AurisError,
    ConfigError,
    OutputError,
    TensorError,
    TokenizerError,
    UsageError,
)
from auris.text.languages import LANGUAGES
from auris.text.prompt import ALIGNER_TEMPLATE, AUDIO_PAD, CHAT_TEMPLATE, CONTROL_TOKENS, TEXT_TAG
from auris.text.tokenizer import AddedId, Tokenizer
from tests.checkpoints.files import assert_same_tensors
from tests.tiny_models import (
    aligner_config,
    ctc_config,
    qwen_config,
    tiny_model,
    tiny_tokenizer,
    write_tiny,
)

LAYOUTS = ("native", "hf", "published")
FILES = {
    "native": {
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer_config.json",
        "vocab.json",
    },
    "hf": {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    },
    "published": {
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "vocab.json",
    },
}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Any:
    return request.param


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def read(directory: Path, name: str) -> Any:
    return json.loads((directory / name).read_text(encoding="utf-8"))


class TestContent:
    def test_files(self, tmp_path: Path, layout: Any) -> None:
        out = write_tiny(tmp_path / "out", layout)
        assert names(out) == FILES[layout]
        assert names(tmp_path) == {"out"}
        with safe_open(out / "model.safetensors", "pt") as weights:
            assert weights.metadata() == {"format": "pt"}

    def test_ctc_files(self, tmp_path: Path) -> None:
        out = write_tiny(tmp_path / "out", "native", ctc_config())
        assert names(out) == FILES["native"] - {"generation_config.json"}
        checkpoint = open_checkpoint(out)
        assert (checkpoint.layout, checkpoint.config) == ("native", ctc_config())

    def test_units_of_another_vocabulary_format(self, tmp_path: Path) -> None:
        content = json.loads(tiny_tokenizer().to_json())
        content["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True}
        content["pre_tokenizer"] |= {"trim_offsets": True, "use_regex": True}
        tokenizer = Tokenizer.from_json(json.dumps(content))
        out = export(tiny_model(), qwen_config(), tokenizer, tmp_path / "native")
        assert names(out) >= {"tokenizer.json"}
        assert Tokenizer.from_directory(out).encode("a b") == tokenizer.encode("a b")
        with pytest.raises(ConfigError, match="cuts text in another way"):
            export(tiny_model(), qwen_config(), tokenizer, tmp_path / "out", layout="published")

    def test_generation_is_greedy_and_bounded(self, tmp_path: Path, layout: Any) -> None:
        out = write_tiny(tmp_path / "out", layout)
        end_of_text, turn_end = (tiny_tokenizer().id(t) for t in ("<|endoftext|>", "<|im_end|>"))
        assert read(out, "generation_config.json") == {
            "eos_token_id": [end_of_text, turn_end],
            "pad_token_id": turn_end,
            "do_sample": False,
            "max_new_tokens": 64 + 16 * 30,
        }

    def test_the_generation_config_of_the_source_is_copied(
        self, tmp_path: Path, layout: Any
    ) -> None:
        source = write_tiny(tmp_path / "source", "published")
        own = {"eos_token_id": [7], "temperature": 1e-6, "do_sample": False}
        (source / "generation_config.json").write_text(json.dumps(own))
        out = convert(source, tmp_path / "out", layout)
        assert read(out, "generation_config.json") == own

    def test_without_stop_tokens_there_is_no_generation_config(self, tmp_path: Path) -> None:
        tokenizer = Tokenizer(tiny_tokenizer().core, {AUDIO_PAD: tiny_tokenizer().added[AUDIO_PAD]})
        out = export(tiny_model(), qwen_config(), tokenizer, tmp_path / "out", layout="hf")
        assert "generation_config.json" not in names(out)
        assert read(out, "config.json")["eos_token_id"] == []

    def test_tokenizers_round_trip(self, tmp_path: Path, layout: Any) -> None:
        found = Tokenizer.from_directory(write_tiny(tmp_path / "out", layout))
        assert found.added == tiny_tokenizer().added
        assert found.size == tiny_tokenizer().size
        assert found.encode("the fox, 你好") == tiny_tokenizer().encode("the fox, 你好")

    def test_gaps_between_ids_are_filled(self, tmp_path: Path) -> None:
        """transformers numbers added tokens one after another; every id has to have its token."""
        tokenizer = tiny_tokenizer()
        shifted = {
            text: AddedId(token.id + 5 * (text in (TEXT_TAG, AUDIO_PAD)), token.special)
            for text, token in tokenizer.added.items()
        }
        config = replace(qwen_config(), audio_token_id=shifted[AUDIO_PAD].id)
        gapped = Tokenizer(tokenizer.core, shifted)
        for layout in ("hf", "published"):
            out = tmp_path / layout
            export(tiny_model(config), config, gapped, out, layout=layout)
            reader = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(out)
            ids = reader.convert_tokens_to_ids([*CONTROL_TOKENS])
            assert ids == [shifted[token].id for token in CONTROL_TOKENS]
            assert Tokenizer.from_directory(out).id(AUDIO_PAD) == config.audio_token_id

    def test_published_extras(self, tmp_path: Path) -> None:
        out = write_tiny(tmp_path / "out", "published")
        assert read(out, "config.json")["support_languages"] == list(LANGUAGES.values())
        assert read(out, "chat_template.json") == {"chat_template": CHAT_TEMPLATE}
        assert (out / "merges.txt").read_text(encoding="utf-8").startswith("#version: 0.2\n")

    def test_unicode_is_not_escaped(self, tmp_path: Path) -> None:
        out = write_tiny(tmp_path / "out", "published")
        assert "\\u" not in (out / "vocab.json").read_text(encoding="utf-8")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_the_dtype_is_in_weights_and_config(
        self, tmp_path: Path, layout: Any, dtype: torch.dtype
    ) -> None:
        out = write_tiny(tmp_path / "out", layout, dtype=dtype)
        assert read(out, "config.json")["dtype"] == str(dtype).removeprefix("torch.")
        with safe_open(out / "model.safetensors", "pt") as weights:
            kinds = {weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118
        assert kinds == {dtype}

    def test_the_model_is_not_changed(self, tmp_path: Path, layout: Any) -> None:
        model = tiny_model()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        export(model, qwen_config(), tiny_tokenizer(), tmp_path / "out", layout=layout)
        for name, tensor in model.state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, before[name])

    def test_a_model_with_gradients(self, tmp_path: Path, layout: Any) -> None:
        model = tiny_model().train().requires_grad_(True)
        out = export(model, qwen_config(), tiny_tokenizer(), tmp_path / "out", layout=layout)
        assert names(out) == FILES[layout]

    def test_too_large_for_half_precision(self, tmp_path: Path) -> None:
        model = tiny_model()
        with torch.no_grad():
            model.encoder.norm.bias[3] = -70000.0
        for dtype, fits in ((torch.bfloat16, True), (torch.float32, True), (torch.float16, False)):
            out = tmp_path / str(dtype)
            if fits:
                export(model, qwen_config(), tiny_tokenizer(), out, dtype=dtype)
                continue
            with pytest.raises(TensorError, match=r"encoder\.norm\.bias has values up to 7e\+04"):
                export(model, qwen_config(), tiny_tokenizer(), out, dtype=dtype)
            assert not out.exists()

    def test_a_ctc_model(self, tmp_path: Path) -> None:
        model, tokenizer = tiny_model(ctc_config()), tiny_tokenizer()
        out = export(model, ctc_config(), tokenizer, tmp_path / "out", dtype=torch.float32)
        assert Tokenizer.from_directory(out).added == tokenizer.added
        found = load_weights(open_checkpoint(out), torch.device("cpu"), lambda stored: stored)
        for name, tensor in model.state_dict().items():
            assert torch.equal(found.state_dict()[name], tensor)


class TestTarget:
    def refuse(self, target: Path, match: str, **options: Any) -> None:
        with pytest.raises((UsageError, OutputError), match=match):
            export(tiny_model(), qwen_config(), tiny_tokenizer(), target, **options)

    def test_a_folder_that_is_not_empty(self, tmp_path: Path, layout: Any) -> None:
        (tmp_path / "notes.txt").write_text("keep me")
        self.refuse(tmp_path, "new or empty directory", layout=layout)
        assert (tmp_path / "notes.txt").read_text() == "keep me"
        assert names(tmp_path) == {"notes.txt"}

    def test_hidden_files_count(self, tmp_path: Path) -> None:
        (tmp_path / ".git").mkdir()
        self.refuse(tmp_path, "new or empty directory")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("keep me")
        self.refuse(tmp_path / "out", "new or empty directory")
        self.refuse(tmp_path / "out" / "below", "Writing .* failed")
        assert (tmp_path / "out").read_text() == "keep me"

    def test_empty_and_nested(self, tmp_path: Path, layout: Any) -> None:
        (tmp_path / "empty").mkdir()
        assert write_tiny(tmp_path / "empty", layout) == tmp_path / "empty"
        assert names(tmp_path / "empty") == FILES[layout]
        write_tiny(tmp_path / "a" / "b" / "c", layout)
        assert names(tmp_path / "a" / "b") == {"c"}

    def test_a_name_without_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert export(tiny_model(), qwen_config(), tiny_tokenizer(), "out") == Path("out")
        assert names(tmp_path) == {"out"}

    def test_a_dangling_link(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to(tmp_path / "gone")
        self.refuse(tmp_path / "out", "directory")
        assert names(tmp_path) == {"out"}

    def test_unknown_layout(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "out", "it is 'gguf'", layout="gguf")
        assert names(tmp_path) == set()

    def test_ctc_has_no_foreign_layout(self, tmp_path: Path) -> None:
        source = write_tiny(tmp_path / "source", "native", ctc_config())
        for layout in ("hf", "published"):
            with pytest.raises(ConfigError, match="CTC head"):
                convert(source, tmp_path / "a" / "b", layout)
        assert names(tmp_path) == {"source"}

    @pytest.mark.skipif(os.name != "posix", reason="permission bits")
    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_permissions_follow_the_umask(self, tmp_path: Path, layout: Any, mask: int) -> None:
        """Also those of weight files, which safetensors writes for their owner alone."""
        before = os.umask(mask)
        try:
            out = write_tiny(tmp_path / "out", layout, shard_bytes=100_000)
        finally:
            os.umask(before)
        assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~mask
        for path in out.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask, path.name


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def _after_some_shards(error: Exception) -> Callable[..., Any]:
    """A save_file that writes two files and then fails."""
    from auris.checkpoints import save

    real, calls = save.save_file, iter(range(2))

    def fail(*given: Any, **options: Any) -> None:
        if next(calls, None) is None:
            raise error
        real(*given, **options)

    return fail


class TestFailures:
    """No new files are left, and existing files are not changed."""

    NO_SPACE = OSError(28, "No space left on device")

    @pytest.fixture(params=["absent", "empty"])
    def target(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
        target = tmp_path / "out"
        if request.param == "empty":
            target.mkdir()
        before = names(tmp_path)
        yield target
        assert names(tmp_path) == before
        if request.param == "empty":
            assert names(target) == set()

    def write(self, target: Path, **options: Any) -> None:
        export(tiny_model(), qwen_config(), tiny_tokenizer(), target, **options)

    def test_a_full_disk(self, target: Path, layout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        failing = _after_some_shards(self.NO_SPACE)
        monkeypatch.setattr("auris.checkpoints.save.save_file", failing)
        with pytest.raises(OutputError, match="No space left on device") as caught:
            self.write(target, layout=layout, shard_bytes=50_000)
        assert str(target) in str(caught.value)

    @pytest.mark.parametrize("step", ["save_weights", "write_json"])
    @pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
    def test_any_error(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
    ) -> None:
        monkeypatch.setattr(package, step, _raise(error))
        with pytest.raises(type(error)):
            self.write(target)

    def test_the_last_step(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "rename", _raise(PermissionError(13, "Permission denied")))
        with pytest.raises(OutputError, match="Permission denied"):
            self.write(target)

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
    def test_read_only_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o555)
        with pytest.raises(OutputError, match=r"Writing .* failed"):
            self.write(folder / "out")
        assert names(folder) == set()

    def test_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"[Nn]ame too long"):
            self.write(tmp_path / ("x" * 300))
        assert names(tmp_path) == set()

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
    def test_a_folder_that_cannot_have_files(self) -> None:
        with pytest.raises(OutputError, match=r"Writing .* failed"):
            self.write(Path("/proc/self/out"))

    def test_a_failing_tokenizer(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Tokenizer, "to_json", _raise(ValueError("broken")))
        with pytest.raises(ValueError, match="broken"):
            self.write(target, layout="hf")


class TestConvert:
    def test_the_source_is_not_changed(self, tmp_path: Path, layout: Any) -> None:
        source = write_tiny(tmp_path / "source", "hf")
        before = {path.name: path.read_bytes() for path in source.iterdir()}
        convert(source, tmp_path / "out", layout, dtype=torch.float16)
        with pytest.raises(UsageError, match="new or empty"):
            convert(source, source, layout)
        assert {path.name: path.read_bytes() for path in source.iterdir()} == before

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        source = write_tiny(tmp_path / "source", "hf")
        (source / "tokenizer.json").unlink()
        with pytest.raises(TokenizerError):
            convert(source, tmp_path / "out", "native")
        assert names(tmp_path) == {"source"}

    def test_tokenizer_of_another_model(self, tmp_path: Path) -> None:
        source = write_tiny(tmp_path / "source", "hf")
        content = read(source, "tokenizer.json")
        for token in content["added_tokens"]:
            token["id"] += 1
        (source / "tokenizer.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=r"audio_token_id .*, but they are 345 and 346"):
            convert(source, tmp_path / "out", "native")
        assert names(tmp_path) == {"source"}

    @pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
    def test_broken_generation_config(self, tmp_path: Path, content: bytes) -> None:
        source = write_tiny(tmp_path / "source", "hf")
        (source / "generation_config.json").write_bytes(content)
        with pytest.raises(AurisError, match=r"generation_config\.json"):
            convert(source, tmp_path / "out", "native")
        assert names(tmp_path) == {"source"}

    def test_invalid_stop_ids(self, tmp_path: Path) -> None:
        source = write_tiny(tmp_path / "source", "hf")
        (source / "generation_config.json").write_text('{"eos_token_id": [5, 99999]}')
        with pytest.raises(ConfigError, match="eos_token_id"):
            convert(source, tmp_path / "out", "native")
        assert names(tmp_path) == {"source"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_aligner_round_trips_through_every_layout(layout: Any, tmp_path: Path) -> None:
    config = aligner_config(head_bias=True)
    first = write_tiny(tmp_path / "first", layout, config)
    assert {path.name for path in first.iterdir()} == FILES[layout] - {"generation_config.json"}
    if layout == "hf":
        template = (first / "chat_template.jinja").read_text(encoding="utf-8")
        assert template == ALIGNER_TEMPLATE
        processor = json.loads((first / "processor_config.json").read_text(encoding="utf-8"))
        assert processor["timestamp_segment_time"] == 80.0
    for other in LAYOUTS:
        again = convert(first, tmp_path / other, other)
        checkpoint = open_checkpoint(again)
        assert checkpoint.config == config
        model = load_weights(checkpoint, torch.device("cpu"), lambda stored: stored)
        assert_same_tensors(model.state_dict(), tiny_model(config).state_dict())


def test_an_aligner_needs_its_timestamp_token(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "it", "hf", aligner_config())
    path = directory / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "timestamp_token_id": 5}))
    with pytest.raises(ConfigError, match="<timestamp>"):
        convert(directory, tmp_path / "out", "native")
