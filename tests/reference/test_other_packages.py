"""Differences of the qwen-asr package from the reference, as docs/reference.md lists them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auris.audio.features import log_mel
from auris.models.aut import pack_conv_blocks
from auris.text.reply import parse_reply
from tests.tiny_models import qwen_config, tiny_model, tone_speech


def test_samples_beyond_full_scale_are_not_divided_by_the_peak() -> None:
    loud = 4.0 * tone_speech(1.0) / np.abs(tone_speech(1.0)).max()
    assert not torch.allclose(log_mel(loud), log_mel(loud / 4.0), atol=1e-3)


def test_short_clips_are_padded_from_every_source() -> None:
    assert log_mel(tone_speech(0.2)).shape == (128, 50)


@pytest.mark.parametrize("kernel", ["math", "flash"])
def test_attention_is_windowed_with_every_kernel(kernel: str) -> None:
    from auris.backends.torch import TorchBackend

    backend = TorchBackend(tiny_model(qwen_config(window_frames=100)), kernel)
    first, second = (torch.randn(128, 100) for _ in range(2))
    (alone,) = backend.encode([first])
    (both,) = backend.encode([torch.cat([first, second], dim=1)])
    assert torch.allclose(both[:13], alone, atol=1e-5)


def test_the_last_conv_block_is_padded() -> None:
    blocks, counts = pack_conv_blocks([torch.ones(128, 130)])
    assert blocks.shape == (2, 1, 128, 100)
    assert blocks[1, 0, :, 30:].abs().max() == 0.0
    assert counts == [[13, 4]]


def test_replies_without_a_tag_are_text() -> None:
    assert parse_reply("language English hello").text == "language English hello"
