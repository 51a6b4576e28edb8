"""Voices of the synthesizers flite, espeak-ng, festival and hibari, with tempo, pitch and formants.

flite, espeak-ng and festival are Debian's programs; hibari-tts is a package of PyPI (Apache-2.0)
whose wheel holds one neural voice, distilled from Kokoro-82M (Apache-2.0). Formants are moved by
playing a recording faster or slower; the tempo and pitch of the synthesizer compensate for that.
"""

from __future__ import annotations

import functools
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = ["FESTIVAL", "RATE", "Voice", "draw_voice", "held_out_voice", "read_wav", "speak"]

RATE = 16_000
HELD_OUT_VOICE = "flite-rms"

FLITE = {"kal16": 105.0, "awb": 125.0, "rms": 100.0, "slt": 170.0}
"""Voices with their usual pitch in Hz."""

FESTIVAL = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")
ESPEAK_ACCENTS = ("en-us", "en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc")
# fmt: off
ESPEAK_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "adam", "Alex",
    "Alicia", "Andrea", "Andy", "Annie", "anika", "antonio", "aunty", "belinda", "benjamin",
    "boris", "caleb", "david", "Denis", "Diogo", "ed", "edward", "Gene", "grandma", "grandpa",
    "Gustave", "Henrique", "Hugo", "iven", "Jacky", "john", "Lee", "linda", "marcelo", "Marco",
    "Mario", "max", "michael", "michel", "miguel", "mike", "norbert", "pablo", "paul", "pedro",
    "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis", "victor", "zac", "klatt",
    "klatt2", "klatt3", "klatt4",
)
# fmt: on

HIBARI_SPEAKERS = 40
"""Pairs of formants and pitch that the one voice of hibari speaks with."""

DEFAULT_SHARES = {"flite": 0.25, "festival": 0.15, "espeak": 0.2, "hibari": 0.4}

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Voice:
    """A way to speak.

    Attributes:
        engine, name: the synthesizer and its voice.
        stretch: length, relative to the engine's own.
        pitch: relative to the voice's own; festival has no such setting.
        formants: frequencies of the vocal tract, relative to the voice's own.
        range: of the intonation around its mean, relative to the voice's own; hibari only.
        speaker: the name in manifests.
    """

    engine: str
    name: str
    stretch: float
    pitch: float
    formants: float = 1.0
    range: float = 1.0
    person: str = field(default="", compare=False)

    @property
    def speaker(self) -> str:
        """The name in manifests."""
        return f"{self.engine}-{self.name}{self.person}"


def draw_voice(rng: random.Random, shares: dict[str, float] | None = None) -> Voice:
    """A training voice with a random tempo, pitch and formants."""
    given = shares or DEFAULT_SHARES
    engine = rng.choices(list(given), list(given.values()))[0]
    stretch = rng.uniform(0.85, 1.25)
    if engine == "hibari":
        return _hibari_voice(rng, stretch)
    formants = rng.choice((1.0, rng.uniform(0.88, 1.14)))
    if engine == "espeak":
        name = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}"
    else:
        voices = FLITE if engine == "flite" else FESTIVAL
        name = rng.choice([v for v in voices if f"{engine}-{v}" != HELD_OUT_VOICE])
    return Voice(engine, name, stretch, rng.uniform(0.85, 1.2), formants)


def _hibari_voice(rng: random.Random, stretch: float) -> Voice:
    """One of some persons between a deep man's and a child's voice.

    A longer vocal tract goes with a deeper voice, loosely: pitch falls about three times as fast.
    """
    number = rng.randrange(HIBARI_SPEAKERS)
    person = random.Random(number)
    formants = person.uniform(0.82, 1.15)
    pitch = formants ** person.uniform(2.5, 3.5) * person.uniform(0.87, 1.13)
    return Voice(
        "hibari",
        "heart",
        stretch,
        pitch * rng.uniform(0.94, 1.06),
        formants * rng.uniform(0.98, 1.02),
        rng.uniform(0.5, 1.4),
        f"+{number:02d}",
    )


def held_out_voice(rng: random.Random) -> Voice:
    """The voice that speaks development texts only."""
    engine, name = HELD_OUT_VOICE.split("-")
    return Voice(engine, name, rng.uniform(0.9, 1.15), rng.uniform(0.92, 1.1))


def speak(texts: Sequence[str], voices: Sequence[Voice], folder: Path) -> list[Wave | None]:
    """Speech at 16 kHz of texts by voices of one engine; None for a text that it cannot speak.

    Args:
        folder: an empty directory for its files.
    """
    if voices[0].engine == "hibari":
        pairs = zip(texts, voices, strict=True)
        return [_speak_hibari(text, voice, i) for i, (text, voice) in enumerate(pairs)]
    wavs = [folder / f"{i}.wav" for i in range(len(texts))]
    if voices[0].engine == "festival":
        _speak_festival(texts, voices, wavs)
    else:
        one = _speak_flite if voices[0].engine == "flite" else _speak_espeak
        for text, voice, wav in zip(texts, voices, wavs, strict=True):
            one(text, voice, wav)
    return [
        read_wav(wav, voice.formants) if wav.exists() else None
        for wav, voice in zip(wavs, voices, strict=True)
    ]


def _speak_flite(text: str, voice: Voice, wav: Path) -> None:
    pitch = FLITE[voice.name] * voice.pitch / voice.formants
    command = ["flite", "-voice", voice.name, "-t", text, "-o", str(wav)]
    command += ["--setf", f"duration_stretch={voice.stretch * voice.formants:.3f}"]
    command += ["--setf", f"int_f0_target_mean={pitch:.1f}"]
    subprocess.run(command, check=True, capture_output=True)


def _speak_espeak(text: str, voice: Voice, wav: Path) -> None:
    """Its rate is in words a minute, and its pitch lies in 0..99."""
    speed = round(155 / (voice.stretch * voice.formants))
    pitch = round(min(99, max(0, 50 + 120 * (voice.pitch / voice.formants - 1))))
    command = ["espeak-ng", "-v", voice.name, "-s", str(speed), "-p", str(pitch)]
    subprocess.run([*command, "-w", str(wav), text], check=True, capture_output=True)


def _speak_festival(texts: Sequence[str], voices: Sequence[Voice], wavs: Sequence[Path]) -> None:
    """Many texts in one process, since festival takes long to start."""
    lines, current = [], None
    spoken = zip(texts, voices, wavs, strict=True)
    for text, voice, wav in sorted(spoken, key=lambda item: item[1].name):
        if voice.name != current:
            current = voice.name
            lines.append(f"(voice_{current})")
        text = text.replace("\\", " ").replace('"', " ")
        lines.append(f"(Parameter.set 'Duration_Stretch {voice.stretch * voice.formants:.3f})")
        save = f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{wav}" \'riff)'
        # A text that festival cannot speak ends neither the process nor the texts after it.
        lines.append(f"(unwind-protect {save} nil)")
    script = wavs[0].with_suffix(".scm")
    script.write_text("\n".join(lines), encoding="latin-1", errors="ignore")
    subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)


@functools.cache
def _hibari() -> Any:
    from hibari import Hibari

    return Hibari(threads=1)


def _speak_hibari(text: str, voice: Voice, seed: int) -> Wave | None:
    """The network's spectra, with the pitch curve changed before the waveform is made."""
    from hibari import dsp

    tts = _hibari()
    rng = np.random.default_rng(seed)
    parts = []
    for phonemes in tts.phonemize(text):
        ids = np.asarray([tts.ids(phonemes)], np.int64)
        speed = np.asarray([1.0 / (voice.stretch * voice.formants)], np.float32)
        spectra = [part[0] for part in tts.sess.run(None, {"ids": ids, "speed": speed})]
        *rest, pitch = spectra
        voiced = pitch > 40.0
        if voiced.any():
            mean = float(np.exp(np.log(pitch[voiced]).mean()))
            curve = (np.maximum(pitch, 40.0) / mean) ** voice.range
            moved = mean * voice.pitch / voice.formants * curve
            pitch = np.where(voiced, moved.clip(45.0, 600.0), pitch).astype(np.float32)
        parts.append(dsp.synth(*rest, pitch, rng))
    if not parts:
        return None
    rate = dsp.SR * voice.formants
    return np.asarray(soxr.resample(np.concatenate(parts), rate, RATE), dtype=np.float32)


def read_wav(path: Path, formants: float = 1.0) -> Wave:
    """Mono samples at 16 kHz, played `formants` times as fast."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        blocks = [frame.to_ndarray() for frame in container.decode(stream)]
        samples = np.concatenate(blocks, axis=1)[0].astype(np.float32) / 32768.0
    rate = stream.rate * formants
    resampled = samples if rate == RATE else soxr.resample(samples, rate, RATE)
    return np.asarray(resampled, dtype=np.float32)
