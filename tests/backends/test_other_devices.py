"""What runs on the device of a model, proved on the meta device: it computes shapes alone, and it
refuses to give a number to the host, for which a GPU would have to be waited for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from auris.audio.features import log_mel
from auris.backends.base import TextRules, TextStart
from auris.backends.torch import TorchBackend
from auris.config import DecoderConfig
from auris.models.cache import KVCache
from auris.recognition.recognizer import encode_together
from tests.tiny_models import ctc_config, qwen_config, tiny_model, tone_speech

CONFIG = qwen_config()
CLIPS = [tone_speech(seconds, key) for key, seconds in enumerate((1.0, 9.7, 0.2))]


class Recording(TorchBackend):
    """Keeps the log-mels that it encodes."""

    mels: Sequence[Tensor] = ()

    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        self.mels = mels
        return super().encode(mels)


def prompts(backend: TorchBackend) -> list[Tensor]:
    states = encode_together(backend, CONFIG, CLIPS, [{} for _ in CLIPS])
    return [backend.embed([1, *[CONFIG.audio_token_id] * len(one), 2], one) for one in states]


@pytest.mark.parametrize("config", [CONFIG, ctc_config()])
def test_log_mels_are_computed_on_the_device_of_the_model(config: Any) -> None:
    backend = Recording(tiny_model(config).to("meta"))
    encode_together(backend, config, CLIPS, [{} for _ in CLIPS])
    assert [mel.device.type for mel in backend.mels] == ["meta"] * 3
    here = Recording(tiny_model(config))
    encode_together(here, config, CLIPS, [{} for _ in CLIPS])
    for mel, there, clip in zip(here.mels, backend.mels, CLIPS, strict=True):
        assert torch.equal(mel, log_mel(clip, config.frontend, config.encoder.mel_bins))
        assert mel.shape == there.shape


def test_no_pass_reads_numbers_from_the_device() -> None:
    backend = TorchBackend(tiny_model(CONFIG).to("meta"))
    cache = backend.new_cache(3, 8)
    rows = backend.admit(cache, 3)
    assert backend.extend(cache, prompts(backend), rows).device.type == "meta"
    backend.extend(cache, [[1], [2]], [2, 0])
    backend.extend(cache, [[1, 2], [3]], [2, 0], "all")
    backend.copy_tail(cache, 0, 1, 1)
    backend.drop(cache, 0)
    assert cache.lengths == [12, 17]


def test_no_static_pass_reads_numbers_from_the_device() -> None:
    backend = TorchBackend(tiny_model(CONFIG).to("meta"), static=True)
    step = backend.static_step(2, 3, 10, TextRules((5,), (20, 20)))
    assert step is not None
    rows = backend.admit(step.cache, 2)
    backend.extend(step.cache, prompts(backend)[:2], rows)
    texts = step.begin([(row, TextStart((1,), 9)) for row in rows])
    assert step.launch() is not None
    step.end(texts[0])
    assert step.launch() is not None


class NothingFromTheHost(TorchFunctionMode):
    """Refuses lists of numbers that would be moved to the device, which waits for it."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        index = args[1] if func in (Tensor.__getitem__, Tensor.__setitem__) else ()
        index = index if isinstance(index, tuple) else (index,)
        assert func is not torch.tensor
        assert not any(isinstance(part, list) for part in index)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0]])
@pytest.mark.parametrize("count", [1, 2])
def test_places_of_rows_go_to_the_device_once_a_pass(rows: list[int], count: int) -> None:
    config = DecoderConfig(
        vocab=8, hidden=4, layers=2, heads=2, kv_heads=1, head_dim=2, ffn=4, rope_theta=1e4
    )
    cache = KVCache(config, 3, 4, torch.float32, torch.device("cpu"))
    cache.admit(3)
    step, tokens = cache.rows(rows, [count] * len(rows)), len(rows) * count
    with NothingFromTheHost():
        for layer in range(config.layers):
            step.attend(layer, *(torch.zeros(1, heads, tokens, 2) for heads in (2, 1, 1)))
