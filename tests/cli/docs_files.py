"""Small versions of the files and models that command lines of the documentation name."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from auris.audio.io import load
from auris.checkpoints.layouts import LAYOUTS, LayoutName
from auris.decoding.arpa import write_arpa
from auris.decoding.language_model_file import packed_model
from tests.audio.media import RATE, encode, pcm
from tests.cli.docs_lines import ROOT
from tests.decoding.texts import small_model
from tests.tiny_models import aligner_config, ctc_config, qwen_config, write_tiny

CLIP = ROOT / "examples" / "kitchen_fan.flac"
SPOKEN = "switch the kitchen fan off"
FORMATS = {
    "mp3": ("mp3", "libmp3lame"),
    "m4a": ("mp4", "aac"),
    "mkv": ("matroska", "aac"),
    "ogg": ("ogg", "libopus"),
    "flac": ("flac", "flac"),
    "wav": ("wav", "pcm_s16le"),
}
RECORDINGS = (
    *("recording.mp3", "recording.wav", "talk.mp3", "talk.m4a", "talk.ogg", "talk.flac"),
    *(
        "digits/recordings/7_jackson_0.wav",
        "talk.wav",
        "film.mkv",
        "meeting.m4a",
        "ann.wav",
        "voices/bob.wav",
        "call.wav",
        "calls/one.mp3",
        "calls/two.wav",
    ),
)
TEST_SETS = ("dev.csv", "fsdd_dev.csv", "speech_dev.csv", "digits/dev.csv")
MANIFESTS = ("train.csv", "speech_train.csv", "data/audio/asr.csv", "digits/train.csv")
SPEAKER_SETS = ("speakers_train.csv", "speakers_dev.csv")
TIMED = ("timed/kal_diphone.jsonl", "timed/ked_diphone.jsonl", "timed/cmu_us_slt_arctic_hts.jsonl")
SMALL: dict[str, Any] = {
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_ff": 32,
    "conv_channels": 4,
    "middle_layer": 0,
    "projector_dim": 8,
    "units": 28,
    "vocabulary": 260,
    "hidden": 24,
    "decoder_layers": 1,
    "decoder_heads": 2,
    "kv_heads": 1,
    "head_dim": 8,
    "decoder_ff": 32,
    "decoder_from_step": 1,
    "encoder_from_step": 1,
    "lora_rank": 2,
    "lora_alpha": 4,
    "long_seconds": 3,
    "bf16": False,
}
"""Values that take the place of those in a recipe."""


def make_files(folder: Path) -> None:
    """Write the recordings, lists and recipes into a folder, and the models that are folders."""
    for name in (
        "calls",
        "timed",
        "recipes",
        "configs",
        "data/audio",
        "models",
        "digits/recordings",
        "voices",
    ):
        (folder / name).mkdir(parents=True)
    samples = pcm(load(CLIP).samples[None])
    for name in RECORDINGS:
        (folder / name).write_bytes(encode(samples, RATE, *FORMATS[name.rpartition(".")[2]]))
    (folder / "talk.txt").write_text(SPOKEN + "\n")
    for name in ("sentences.txt", "dev.txt"):
        (folder / name).write_text(f"{SPOKEN}\n{SPOKEN}\n")
    (folder / "english.ngrams").write_bytes(packed_model(small_model()))
    (folder / "large.arpa").write_text("\n".join(write_arpa(small_model())))
    (folder / "keys").write_text("a-key-of-the-documentation\n")
    (folder / "names.txt").write_text("Auris\nQwen3\n")
    clip = (folder / "talk.wav").resolve()
    for name in TEST_SETS:
        (folder / name).write_text(f"wav,text\n{clip},{SPOKEN}\n")
    for name in MANIFESTS:
        rows = "".join(f"{clip.parent / other},fan off\n" for other in RECORDINGS)
        (folder / name).write_text("wav,text\n" + rows)
    for name in SPEAKER_SETS:
        rows = "".join(f"{clip},,{speaker}\n" for speaker in ("ann", "bob"))
        (folder / name).write_text("wav,text,speaker\n" + rows)
    _write_conversation(folder)
    rows = "".join(json.dumps({"audio": name, "text": SPOKEN}) + "\n" for name in RECORDINGS)
    (folder / "tune.jsonl").write_text(rows)
    _write_corpus(folder)
    words = [{"text": word, "start": 0.1, "end": 1.0} for word in SPOKEN.split()]
    timed = {"audio": str(clip), "text": SPOKEN, "words": words}
    for name in TIMED:
        (folder / name).write_text(json.dumps(timed) + "\n")
    (folder / "digits" / "text.csv").write_text("wav,text\n,fan off\n")
    for recipe in (*ROOT.glob("recipes/[dst]*.json"), *ROOT.glob("configs/*.json")):
        shrink(recipe, folder / recipe.parent.name / recipe.name)
    more = {"max_steps": 2, "warmup_steps": 1, "decoder_from_step": 0, "encoder_from_step": 0}
    (folder / "continue.json").write_text(json.dumps(more))
    for layout in LAYOUTS:
        write_tiny(folder / "data" / f"random-0.6b-{layout}", layout)
    if importlib.util.find_spec("gguf") is not None:
        from tests.checkpoints.foreign_files import Kind, as_kind, write_gguf

        source = folder / "data" / "random-0.6b-published"
        write_gguf(source, folder / "models", as_kind(Kind.Q8_0), "Qwen3-ASR-0.6B-Q8_0")
    # DIR stands for a model, a folder of recordings and a test set.
    _write_model(folder / "DIR", "native")
    (folder / "DIR" / "clip.flac").write_bytes(CLIP.read_bytes())
    (folder / "DIR" / "clip.txt").write_text(SPOKEN)


def _write_corpus(folder: Path) -> None:
    """A corpus as a NeMo manifest."""
    row = {"audio_filepath": "talk.wav", "duration": 1.765, "text": SPOKEN}
    (folder / "corpus.jsonl").write_text(json.dumps(row) + "\n")


def _write_conversation(folder: Path) -> None:
    """A set of conversations with one recording, and the same reference as a result."""
    line = "SPEAKER talk 1 0.100 0.900 <NA> <NA> Ann <NA> <NA>\n"
    for name in ("talks", "results"):
        (folder / name).mkdir()
        (folder / name / "talk.rttm").write_text(line)
    (folder / "talks" / "talk.stm").write_text(f"talk 1 Ann 0.1 1.0 {SPOKEN}\n")
    clip = (folder / "talk.wav").resolve()
    (folder / "talks" / "voices").mkdir()
    (folder / "talks" / "voices" / "Ann.flac").write_bytes(CLIP.read_bytes())
    row = f"wav,rttm,stm,known\n{clip},talk.rttm,talk.stm,voices\n"
    (folder / "talks" / "conversations.csv").write_text(row)


def make_hub(folder: Path) -> None:
    """Write the models of the hub into a folder, each at its id."""
    _write_model(folder / "Qwen" / "Qwen3-ASR-0.6B", "hf")
    write_tiny(folder / "Qwen" / "Qwen3-ForcedAligner-0.6B", "hf", aligner_config())
    write_tiny(folder / "OWNER" / "NAME", config=ctc_config())


def raw_samples() -> bytes:
    """The clip as arecord writes it: 16-bit samples without a header."""
    return np.ascontiguousarray(pcm(load(CLIP).samples)).tobytes()


def _write_model(out: Path, layout: LayoutName) -> None:
    """A model with matrices wide enough for groups of 128 columns, and with short texts: every
    second token ends them."""
    write_tiny(out, layout, qwen_config(d_model=128, hidden=128))
    path = out / "generation_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["eos_token_id"] = [*content["eos_token_id"], *range(1, 300, 2)]
    path.write_text(json.dumps(content))


def shrink(recipe: Path, out: Path) -> None:
    """A recipe with every setting of the original and two steps."""
    content = json.loads(recipe.read_text(encoding="utf-8"))
    small = {name: value for name, value in SMALL.items() if name in content}
    content.pop("epochs", None)
    out.write_text(json.dumps({**content, **small, "warmup_steps": 1, "max_steps": 2}))
