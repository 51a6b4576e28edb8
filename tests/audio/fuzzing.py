"""Generated and mutated uploads in every container that ffmpeg writes."""

from __future__ import annotations

import random
from collections.abc import Callable

import av
import numpy as np
from tests.audio import poison
from tests.audio.media import chirp, encode, film
from tests.fuzzing.mutation import cut, enlarge, flip, move_block

OUTPUTS_THAT_ARE_NO_FILES = frozenset(
    {
        *("alsa", "caca", "chromaprint", "dash", "decklink", "fbdev", "fifo", "fifo_test", "hds"),
        *("hls", "image2", "opengl", "oss", "pulse", "rtp", "rtp_mpegts", "rtsp", "sap", "sdl"),
        *("sdl2", "segment", "smoothstreaming", "ssegment", "stream_segment", "tee", "v4l2"),
        *("video4linux2", "webm_chunk", "webm_dash_manifest", "xv", "framecrc", "framehash"),
        *("framemd5", "hash", "md5", "crc", "streamhash", "uncodedframecrc", "null", "ffmetadata"),
    }
)

CODECS = (
    *("aac", "ac3", "adpcm_ima_wav", "alac", "flac", "libmp3lame", "libopus", "mp2", "pcm_alaw"),
    *("pcm_f32le", "pcm_f64le", "pcm_mulaw", "pcm_s16be", "pcm_s16le", "pcm_s24le", "pcm_u8"),
    *("wavpack", "wmav2", "tta", "eac3", "truehd", "libopencore_amrnb", "libgsm", "g722"),
)

RATES = (8_000, 16_000, 22_050, 44_100, 48_000)

ABORTING = frozenset({"pcm_alaw", "pcm_mulaw"})
"""Codecs with which ffmpeg's writer of FLV ends the process, if the rate is not 8 kHz mono."""


def _encoded(container: str, codec: str, rate: int, channels: int) -> bytes | None:
    if container == "flv" and codec in ABORTING:
        return None
    try:
        return encode(chirp(0.3, rate, channels), rate, container, codec) or None
    except Exception:  # Not every container takes every codec, rate and layout.
        return None


def outputs() -> list[str]:
    """ffmpeg's names of all containers that it writes as one file."""
    found = []
    for name in sorted(av.formats_available - OUTPUTS_THAT_ARE_NO_FILES):
        try:
            if av.ContainerFormat(name, "w").is_output:
                found.append(name)
        except ValueError:
            continue
    return found


def valid_files(chance: random.Random, per_container: int = 2) -> dict[str, bytes]:
    """Small files of every container, each with some codecs, rates and numbers of channels."""
    files: dict[str, bytes] = {}
    for container in outputs():
        codecs = list(CODECS)
        chance.shuffle(codecs)
        made = 0
        for codec in codecs:
            rate, channels = chance.choice(RATES), chance.choice((1, 1, 2, 6, 8))
            data = _encoded(container, codec, rate, channels) or _encoded(
                container, codec, 8_000 if "amr" in codec or "gsm" in codec else 48_000, 1
            )
            if data is not None:
                files[f"{container}/{codec}"] = data
                made += 1
            if made == per_container:
                break
    return files


class Uploads:
    """Generates uploads.

    Args:
        seed: of the chances.
        secret: path of a file that no upload may make anybody read.
        per_container: how many whole files of every container they are made of.
    """

    def __init__(self, seed: int, secret: str, per_container: int = 2) -> None:
        self._chance = random.Random(seed)
        # A fixed seed, since ffmpeg's writers crash with some combinations.
        self.whole = valid_files(random.Random(0), per_container)
        self.whole["film"] = film(with_sound=True)
        self.whole["film without sound"] = film(with_sound=False)
        self._names = sorted(self.whole)
        self._foreign = {name: make() for name, make in poison.foreign(secret).items()}
        self._poison = {
            "channels change": poison.channels_change(),
            "rate changes": poison.rate_changes(),
            "sixteen channels": poison.many_channels(),
            "sixteen channels in MP4": poison.many_channels("mp4"),
            "sixteen channels in Ogg": poison.many_channels("ogg", "libopus"),
            "places of channels": poison.custom_layout(),
            "eight planes": poison.eight_channels(),
            "64-bit floats": poison.wide_pcm("pcm_f64le"),
            "64-bit integers": poison.wide_pcm("pcm_s64le"),
            "claimed samples": poison.claimed_samples(),
            "claimed fragments": poison.claimed_fragments(),
            "compressed header": poison.compressed_header(poison.claimed_samples()),
            **{name: make() for name, make in poison.claimed_elsewhere().items()},
            "long silence": encode(np.zeros((1, 90 * 16_000), np.int16), 16_000, "flac", "flac"),
        }
        self._makers: list[tuple[str, int, Callable[[], bytes]]] = [
            ("whole", 1, self._any),
            ("cut", 3, lambda: cut(self._chance, self._any())),
            ("flipped", 6, lambda: flip(self._chance, self._any())),
            ("numbers", 6, lambda: enlarge(self._chance, self._any())),
            ("blocks", 4, lambda: move_block(self._chance, self._any())),
            ("spliced", 4, self._spliced),
            ("poison", 2, lambda: self._of(self._poison)),
            ("mutated poison", 6, lambda: self._mutated(self._of(self._poison))),
            ("claims", 2, self._claims),
            ("foreign", 2, lambda: self._of(self._foreign)),
            ("mutated foreign", 2, lambda: self._disguised(self._of(self._foreign))),
            ("noise", 1, lambda: self._chance.randbytes(self._chance.randint(0, 4000))),
        ]

    def one(self) -> tuple[str, bytes]:
        """The kind and the bytes of an upload."""
        weights = [weight for _, weight, _ in self._makers]
        kind, _, make = self._chance.choices(self._makers, weights)[0]
        return kind, make()

    def _of(self, files: dict[str, bytes]) -> bytes:
        return files[self._chance.choice(sorted(files))]

    def _any(self) -> bytes:
        return self.whole[self._chance.choice(self._names)]

    def _spliced(self) -> bytes:
        """Concatenate files, so that channels, rates and codecs change."""
        parts = [self._any() for _ in range(self._chance.randint(2, 3))]
        if self._chance.random() < 0.5:
            kind = self._chance.choice(self._names).partition("/")[0]
            alike = [name for name in self._names if name.startswith(kind)]
            parts = [self.whole[self._chance.choice(alike)] for _ in range(2)]
        at = self._chance.randrange(len(parts[0]) + 1)
        return b"".join(parts) if self._chance.random() < 0.5 else parts[0][:at] + parts[1]

    def _mutated(self, data: bytes) -> bytes:
        return self._chance.choice((flip, enlarge))(self._chance, data)

    def _claims(self) -> bytes:
        samples = self._chance.choice((1_000_000, 7_000_000, 80_000_000, 0xFFFFFFF0))
        makers: list[Callable[[], bytes]] = [
            lambda: poison.claimed_samples(samples),
            lambda: poison.claimed_samples(samples // 1000, edits=self._chance.randint(1, 300)),
            lambda: poison.claimed_samples(samples, chunks=self._chance.randint(2, 500)),
            lambda: poison.claimed_fragments(samples, self._chance.randint(1, 20)),
            self._claimed_elsewhere,
        ]
        data = self._chance.choice(makers)()
        return poison.compressed_header(data) if self._chance.random() < 0.3 else data

    def _claimed_elsewhere(self) -> bytes:
        """A box that declares samples inside others, after a first box of any type."""
        kinds = (*poison.HIDING, b"moov", b"free", b"hoov", self._chance.randbytes(4))
        boxes = ("trak", "mdia", "minf", "stbl", "stsz")
        return poison.claimed_samples(
            first=self._chance.choice(kinds),
            wrapped={self._chance.choice(boxes): self._chance.choice(kinds) for _ in range(2)},
            kind=self._chance.choice((b"soun", b"vide", b"text")),
        )

    def _disguised(self, data: bytes) -> bytes:
        """A script after a byte order mark, white space, a tag or a part of another file."""
        front = self._chance.choice(
            [b"\xef\xbb\xbf", b"\n\n  ", b"ID3\x04\x00\x00\x00\x00\x00\x00", self._any()[:64], b""]
        )
        return front + (flip(self._chance, data) if self._chance.random() < 0.3 else data)
