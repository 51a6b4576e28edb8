"""Loading: exact weights from every layout and number of files, and errors that name the cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from auris.audio.features import log_mel
from auris.backends.torch import TorchBackend
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.checkpoints.weight_files import weight_files
from auris.errors import CheckpointError, ConfigError, TensorError
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import prompt_ids
from tests.checkpoints.files import (
    CPU,
    FOREIGN,
    INDEX,
    SINGLE,
    assert_same_tensors,
    change_weights,
    copied,
    load,
    read_config,
    read_weights,
    write_config,
    write_weights,
)
from tests.tiny_models import (
    ctc_config,
    qwen_config,
    tiny_model,
    tiny_tokenizer,
    tone_speech,
    write_tiny,
)

HALVES = (torch.float16, torch.bfloat16)
TIED_HEAD = {"published": "thinker.lm_head.weight", "hf": "lm_head.weight"}
EMBEDDING = {
    "published": "thinker.model.embed_tokens.weight",
    "hf": "model.language_model.embed_tokens.weight",
    "native": "decoder.embed.weight",
}
QKV = {
    "published": "thinker.model.layers.1.self_attn.k_proj.weight",
    "hf": "model.language_model.layers.1.self_attn.k_proj.weight",
    "native": "decoder.layers.1.qkv.weight",
}


def logits(model: QwenAsr) -> Tensor:
    """Scores after a prompt with audio."""
    backend = TorchBackend(model)
    (states,) = backend.encode([log_mel(tone_speech(1.3), "slaney400", 128)])
    ids = prompt_ids(tiny_tokenizer(), len(states), "English", "names")
    cache = backend.new_cache(1, len(ids))
    backend.admit(cache)
    return backend.extend(cache, [backend.embed(ids, states)], positions="all")


def expected(tied: bool = True, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    state = tiny_model(qwen_config(tied=tied)).state_dict()
    return {name: tensor.to(dtype) for name, tensor in state.items()}


class TestModels:
    @pytest.mark.parametrize("tied", [True, False])
    @pytest.mark.parametrize("copy", [True, False])
    def test_weights_are_loaded_exactly(
        self, written: dict[str, Path], layout: str, tied: bool, copy: bool
    ) -> None:
        model = load(written[layout if tied else f"{layout}-untied"], copy=copy)
        assert_same_tensors(model.state_dict(), expected(tied))
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())

    @pytest.mark.parametrize("copy", [True, False])
    def test_ctc(self, written: dict[str, Path], copy: bool) -> None:
        model = load(written["ctc"], copy=copy)
        assert_same_tensors(model.state_dict(), tiny_model(ctc_config()).state_dict())

    @pytest.mark.parametrize("shard_bytes", [1, 20_000, 200_000])
    def test_shards(self, tmp_path: Path, layout: str, shard_bytes: int) -> None:
        path = write_tiny(tmp_path / "out", layout, shard_bytes=shard_bytes)
        files = weight_files(path)
        assert len(files) > 1
        assert set(files) == set(path.glob("*.safetensors"))
        for file in files:
            sizes = [tensor.numel() * 4 for tensor in load_file(file).values()]
            assert len(sizes) == 1 or sum(sizes) <= shard_bytes
        index = json.loads((path / INDEX).read_text())
        stored = read_weights(path)
        assert set(index["weight_map"]) == set(stored)
        assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in stored.values())
        assert_same_tensors(load(path).state_dict(), expected())

    @pytest.mark.parametrize("stored", [torch.float32, *HALVES])
    @pytest.mark.parametrize("asked", [torch.float32, *HALVES])
    def test_dtypes(
        self, tmp_path: Path, layout: str, stored: torch.dtype, asked: torch.dtype
    ) -> None:
        path = write_tiny(tmp_path / "out", layout, dtype=stored)
        assert {tensor.dtype for tensor in read_weights(path).values()} == {stored}
        state = expected(dtype=stored)
        found = load(path, dtype=asked).state_dict()
        assert_same_tensors(found, {name: tensor.to(asked) for name, tensor in state.items()})

    @pytest.mark.parametrize("stored", [torch.float32, *HALVES])
    def test_the_stored_dtype_is_reported(
        self, tmp_path: Path, layout: str, stored: torch.dtype
    ) -> None:
        path = write_tiny(tmp_path / "out", layout, dtype=stored)
        offered: list[torch.dtype] = []
        load_weights(open_checkpoint(path), CPU, lambda found: offered.append(found) or found)
        assert offered == [stored]


class TestMapping:
    def test_mapped_and_copied_give_the_same_logits(
        self, written: dict[str, Path], layout: str
    ) -> None:
        mapped, held = load(written[layout]), load(written[layout], copy=True)
        memory = tiny_model()
        assert torch.equal(logits(mapped), logits(memory))
        assert torch.equal(logits(held), logits(memory))

    def test_a_copy_does_not_need_the_file(self, tmp_path: Path, layout: str) -> None:
        path = write_tiny(tmp_path / "out", layout)
        model = load(path, copy=True)
        with (path / SINGLE).open("r+b") as file:
            file.write(b"\x00" * (path / SINGLE).stat().st_size)
        assert_same_tensors(model.state_dict(), expected())

    def test_released_pages_can_be_read_again(self, tmp_path: Path) -> None:
        """Pages of converted weights are released; other mappings of the file still read every
        bit."""
        config = qwen_config(hidden=64, d_model=64)
        path = write_tiny(tmp_path / "out", "hf", config, dtype=torch.bfloat16)
        before = read_weights(path)
        mapped = load(path)
        cast = load(path, torch.float32)
        assert_same_tensors(read_weights(path), before)
        state = {k: v.to(torch.bfloat16) for k, v in tiny_model(config).state_dict().items()}
        assert_same_tensors(mapped.state_dict(), state)
        assert_same_tensors(cast.state_dict(), {k: v.float() for k, v in state.items()})

    @pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc")
    def test_copying_and_fusing_never_need_twice_the_memory(self, tmp_path: Path) -> None:
        config = qwen_config(hidden=512, d_model=32)
        path = write_tiny(tmp_path / "out", "hf", config)
        size = (path / SINGLE).stat().st_size
        for copy in (True, False):
            model = load(path, copy=copy)
            resident = _resident(path / SINGLE)
            assert resident < 0.2 * size, (copy, resident, size)
            del model


def _resident(file: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


class TestTiedHead:
    @pytest.mark.parametrize("layout", FOREIGN)
    def test_a_repeated_head_is_accepted(
        self, tmp_path: Path, written: dict[str, Path], layout: str
    ) -> None:
        path = copied(written[layout], tmp_path / "out")

        def repeat(tensors: dict[str, Tensor]) -> None:
            tensors[TIED_HEAD[layout]] = tensors[EMBEDDING[layout]].clone()

        assert_same_tensors(load(change_weights(path, repeat)).state_dict(), expected())

    @pytest.mark.parametrize("layout", FOREIGN)
    @pytest.mark.parametrize("how", ["values", "shape", "dtype"])
    def test_a_repeated_head_with_other_weights_is_refused(
        self, tmp_path: Path, written: dict[str, Path], layout: str, how: str
    ) -> None:
        """transformers would use both; dropping one of them silently would be a guess."""
        path = copied(written[layout], tmp_path / "out")

        def differ(tensors: dict[str, Tensor]) -> None:
            embedding = tensors[EMBEDDING[layout]]
            changes = {"values": embedding + 1, "shape": embedding[1:], "dtype": embedding.half()}
            tensors[TIED_HEAD[layout]] = changes[how].clone()

        with pytest.raises(TensorError, match="has to repeat") as caught:
            load(change_weights(path, differ))
        assert TIED_HEAD[layout] in str(caught.value)

    @pytest.mark.parametrize("layout", FOREIGN)
    def test_an_untied_model_needs_a_head(
        self, tmp_path: Path, written: dict[str, Path], layout: str
    ) -> None:
        path = copied(written[f"{layout}-untied"], tmp_path / "out")
        change_weights(path, lambda tensors: tensors.pop(TIED_HEAD[layout]))
        with pytest.raises(TensorError, match=f"1 missing .*{TIED_HEAD[layout]}"):
            load(path)


class TestTensors:
    """Every error is a TensorError that names the tensor."""

    def refuse(self, directory: Path, *named: str) -> None:
        with pytest.raises(TensorError) as caught:
            load(directory)
        for name in named:
            assert name in str(caught.value)

    def test_missing(self, tmp_path: Path, written: dict[str, Path], layout: str) -> None:
        path = copied(written[layout], tmp_path / "out")
        change_weights(path, lambda tensors: tensors.pop(QKV[layout]))
        self.refuse(path, f"1 missing ({QKV[layout]})", layout)

    def test_unknown(self, tmp_path: Path, written: dict[str, Path], layout: str) -> None:
        path = copied(written[layout], tmp_path / "out")
        change_weights(path, lambda tensors: tensors.update(extra=torch.zeros(2)))
        self.refuse(path, "1 unknown (extra)", layout)

    def test_missing_and_unknown_tensors_are_listed(
        self, tmp_path: Path, written: dict[str, Path], layout: str
    ) -> None:
        path = copied(written[layout], tmp_path / "out")
        tensors = read_weights(path)
        write_weights(path, {f"x.{name}": tensor for name, tensor in tensors.items()})
        count = len(tensors)
        self.refuse(path, f"{count} missing", f"{count} unknown", f"and {count - 4} more")

    def test_tensors_of_another_shape(
        self, tmp_path: Path, written: dict[str, Path], layout: str
    ) -> None:
        path = copied(written[layout], tmp_path / "out")
        whole = read_weights(path)[QKV[layout]]

        def shorten(tensors: dict[str, Tensor]) -> None:
            tensors[QKV[layout]] = whole[:-1].clone()

        change_weights(path, shorten)
        rows, width = whole.shape
        self.refuse(path, QKV[layout], f"[{rows}, {width}]", f"[{rows - 1}, {width}]")

    def test_swapped_sizes_of_fused_parts(self, tmp_path: Path, written: dict[str, Path]) -> None:
        """Queries as wide as keys and values together could still be concatenated."""
        path = copied(written["hf"], tmp_path / "out")

        def swap(tensors: dict[str, Tensor]) -> None:
            query = QKV["hf"].replace("k_proj", "q_proj")
            tensors[query], tensors[QKV["hf"]] = tensors[QKV["hf"]], tensors[query]

        change_weights(path, swap)
        self.refuse(path, "q_proj", "[64, 48]", "[32, 48]", "and 1 more")

    @pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float64, torch.bool])
    def test_dtype(
        self, tmp_path: Path, written: dict[str, Path], layout: str, dtype: torch.dtype
    ) -> None:
        path = copied(written[layout], tmp_path / "out")

        def retype(tensors: dict[str, Tensor]) -> None:
            tensors[QKV[layout]] = tensors[QKV[layout]].to(dtype)

        change_weights(path, retype)
        self.refuse(path, QKV[layout], "F32, BF16, F16")

    def test_config_of_another_model(self, tmp_path: Path, written: dict[str, Path]) -> None:
        path = copied(written["native"], tmp_path / "out")
        content = read_config(path)
        content["decoder"]["layers"] = 3
        write_config(path, content)
        self.refuse(path, "decoder.layers.2", " missing")

    def test_weights_of_another_layout(self, tmp_path: Path, written: dict[str, Path]) -> None:
        path = copied(written["published"], tmp_path / "out")
        write_weights(path, read_weights(written["hf"]))
        self.refuse(path, "published", "missing", "unknown")

    def test_the_stored_dtype_is_the_most_common(
        self, tmp_path: Path, written: dict[str, Path], layout: str
    ) -> None:
        path = copied(written[layout], tmp_path / "out")

        def mix(tensors: dict[str, Tensor]) -> None:
            for name, tensor in tensors.items():
                keep = tensor.dim() == 1 and "norm" in name
                tensors[name] = tensor if keep else tensor.to(torch.bfloat16)

        found = load(change_weights(path, mix)).state_dict()
        assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
        assert_same_tensors(found, expected(dtype=torch.bfloat16))


class TestFiles:
    """Every error is a CheckpointError that names the file."""

    def refuse(self, directory: Path, named: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            load(directory)
        assert named in str(caught.value)

    @pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, -1])
    def test_truncated(
        self, tmp_path: Path, written: dict[str, Path], layout: str, keep: float
    ) -> None:
        path = copied(written[layout], tmp_path / "out")
        content = (path / SINGLE).read_bytes()
        length = keep if isinstance(keep, int) else int(keep * len(content))
        (path / SINGLE).write_bytes(content[:length])
        self.refuse(path, SINGLE)

    @given(content=st.binary(max_size=64))
    def test_random_bytes(self, scratch: Path, content: bytes) -> None:
        (scratch / SINGLE).write_bytes(content)
        with pytest.raises(CheckpointError):
            load(scratch)

    @given(content=st.binary(max_size=64))
    def test_random_config(self, scratch: Path, content: bytes) -> None:
        path = scratch.parent / "random-config"
        path.mkdir(exist_ok=True)
        (path / "config.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load(path)

    @pytest.mark.parametrize("header", [b"{}", b"[]", b'{"x":{}}', b'{"__metadata__":{"a":"b"}}'])
    def test_headers(self, scratch: Path, header: bytes) -> None:
        (scratch / SINGLE).write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(CheckpointError):
            load(scratch)

    def test_no_weights(self, tmp_path: Path, written: dict[str, Path], layout: str) -> None:
        path = copied(written[layout], tmp_path / "out")
        (path / SINGLE).unlink()
        self.refuse(path, SINGLE)

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
    def test_only_pickled_weights(
        self, tmp_path: Path, written: dict[str, Path], name: str
    ) -> None:
        path = copied(written["hf"], tmp_path / "out")
        (path / SINGLE).rename(path / name)
        self.refuse(path, f"pickled weights such as {name} are never loaded")

    def test_empty_directory(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "config.json")

    def test_a_file_instead_of_a_directory(self, written: dict[str, Path]) -> None:
        self.refuse(written["hf"] / "config.json", "config.json")

    def sharded(self, tmp_path: Path) -> Path:
        return write_tiny(tmp_path / "out", "hf", shard_bytes=100_000)

    def test_missing_shard(self, tmp_path: Path) -> None:
        path = self.sharded(tmp_path)
        last = weight_files(path)[-1]
        last.unlink()
        self.refuse(path, last.name)

    def test_tensor_in_two_shards(self, tmp_path: Path) -> None:
        path = self.sharded(tmp_path)
        first, *_, last = weight_files(path)
        name, tensor = next(iter(load_file(first).items()))
        save_file({**load_file(last), name: tensor}, last)
        self.refuse(path, f"{name} is in more than one file")

    @pytest.mark.parametrize(
        "content",
        [
            "{",
            "[]",
            "{}",
            '{"weight_map": {}}',
            '{"weight_map": []}',
            '{"weight_map": {"a": 3}}',
            '{"weight_map": {"a": ["b"]}}',
            '{"weight_map": {"a": null}}',
        ],
    )
    def test_broken_index(self, tmp_path: Path, content: str) -> None:
        path = self.sharded(tmp_path)
        (path / INDEX).write_text(content)
        self.refuse(path, INDEX)

    @pytest.mark.parametrize("name", ["../escape.safetensors", "/etc/passwd", "sub/x.safetensors"])
    def test_an_index_does_not_refer_to_other_folders(self, tmp_path: Path, name: str) -> None:
        path = self.sharded(tmp_path)
        save_file({"a": torch.zeros(1)}, tmp_path / "escape.safetensors")
        (path / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
        self.refuse(path, str(path / Path(name).name))

    def test_unreadable_names_in_config(self, tmp_path: Path, written: dict[str, Path]) -> None:
        path = copied(written["hf"], tmp_path / "out")
        write_config(path, {**read_config(path), "text_config": None})
        with pytest.raises(ConfigError, match="text_config"):
            open_checkpoint(path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory, written: dict[str, Path]) -> Path:
    """A native directory whose weights a test overwrites."""
    return copied(written["native"], tmp_path_factory.mktemp("scratch") / "model")
