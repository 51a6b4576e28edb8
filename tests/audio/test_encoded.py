"""Recordings as data URIs and base64."""

from __future__ import annotations

import base64
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audio.media import chirp, pcm, wav

from auris.audio.encoded import from_base64, from_data_uri
from auris.audio.io import load
from auris.errors import UnreadableAudio

DATA = wav(pcm(chirp(0.5)))
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "uri",
    [
        f"data:audio/wav;base64,{TEXT}",
        f"DATA:;BASE64,{TEXT}",
        f"data:text/plain;charset=utf-8;base64,{TEXT}",
        f"data:audio/wav,{quote_from_bytes(DATA)}",
        f"data:audio/wav;base64,{TEXT.replace('+', '%2B').replace('=', '%3D')}",
    ],
)
def test_data_uris(uri: str) -> None:
    np.testing.assert_array_equal(load(uri).samples, load(DATA).samples)


@given(st.binary(max_size=60), st.sampled_from(["", "\n", " \r\n"]), st.booleans(), st.booleans())
def test_base64_round_trips(data: bytes, gap: str, safe: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    assert from_base64(gap.join(text)) == data
    assert from_base64(text.encode()) == data


@pytest.mark.parametrize("text", ["a", "ab*d", "é" * 8, "QUJD\0", "{}"])
def test_damaged_base64(text: str) -> None:
    with pytest.raises(UnreadableAudio, match="base64"):
        from_base64(text)
    with pytest.raises(UnreadableAudio, match="base64"):
        load(f"data:audio/wav;base64,{text}")


def test_invalid_data_uris() -> None:
    with pytest.raises(UnreadableAudio, match="no comma"):
        from_data_uri("data:audio/wav;base64")
    with pytest.raises(UnreadableAudio, match="the data URI is empty"):
        load("data:,")
    with pytest.raises(UnreadableAudio, match="the data URI is not"):
        load("data:text/plain,these are words and no sound")
    with pytest.raises(UnreadableAudio, match="the data URI"):
        load(f"data:audio/wav;base64,{TEXT[: len(TEXT) // 2]}")
