"""Hundreds of mutated uploads are decoded or refused, and no other file is read."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.audio.fuzzing import Uploads
from tests.audio.media import wav

from auris.audio.isolation import DecodeLimits, DecoderPool
from auris.errors import AudioError, DecoderCrashed

SECRET_SAMPLES = 54_320


@pytest.mark.parametrize("seed", [0])
def test_mutated_uploads_are_decoded_or_refused(seed: int, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(np.full((1, SECRET_SAMPLES), 1000, np.int16)))
    uploads = Uploads(seed, str(secret), per_container=1)
    pool = DecoderPool(DecodeLimits(memory_bytes=256 << 20))
    decoded = 0
    for _ in range(200):
        kind, data = uploads.one()
        try:
            blocks = pool.stream(io.BytesIO(data), "mix", threading.Event())
            samples = sum(block.shape[1] for block in blocks)
        except DecoderCrashed as error:
            pytest.fail(f"{kind}: {error}")
        except AudioError:
            continue
        decoded += 1
        assert samples != SECRET_SAMPLES, kind
    assert 20 < decoded < 180
    pool.close()
