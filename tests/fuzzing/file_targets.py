"""Readers of files: manifests, configurations, weights and language models."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch

from auris.checkpoints.calibration import (
    MAPS,
    Calibration,
    Logistic,
    load_calibrations,
    save_calibration,
)
from auris.checkpoints.configs import read_speaker_config
from auris.checkpoints.ctc_head import CTC_HEAD, load_ctc_head, save_ctc_head
from auris.checkpoints.hub import resolve
from auris.checkpoints.inference_defaults import load_inference_defaults
from auris.checkpoints.lm_weights import load_lm_weights
from auris.checkpoints.load import build, hollow, load_weights, open_checkpoint, read_tokenizer
from auris.checkpoints.weight_files import INDEX, SINGLE
from auris.config import AutConfig, AutCtcConfig, ProjectorConfig
from auris.decoding.arpa import write_arpa
from auris.decoding.language_model_file import load_language_model, packed_model
from auris.evaluation.diarization import read_rttm
from auris.evaluation.sets import read_set
from auris.output.results_file import ResultsFile
from auris.scale.sources import units
from auris.text.tokenizer import Tokenizer
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.manifests import read_manifest
from auris.training.recipes import AsrRecipe, CtcRecipe, TuneRecipe
from auris.training.speaker_recipe import SpeakerRecipe
from tests.checkpoints.foreign_files import as_kind, write_gguf
from tests.decoding.texts import small_model
from tests.fuzzing.mutation import change_header
from tests.fuzzing.target import FileTarget, named, refusable
from tests.tiny_models import aligner_config, qwen_config, tiny_tokenizer, write_tiny

CPU = torch.device("cpu")
RECIPES = Path(__file__).parents[2] / "recipes"
LAYERS = {"encoder_layers": 1, "decoder_layers": 1}


def small_ctc() -> AutCtcConfig:
    """The smallest model, so that its files are small."""
    return AutCtcConfig(
        encoder=AutConfig(
            mel_bins=128, layers=1, d_model=8, heads=2, ffn=8, conv_channels=2, norm="rms"
        ),
        units=tiny_tokenizer().size,
        projector=ProjectorConfig(8, bias=False),
    )


def consume(values: Iterable[object]) -> None:
    """Read everything that an iterator gives."""
    for _ in values:
        pass


class Manifests(FileTarget):
    """Manifests of training, test sets and corpora, RTTM, and results files."""

    readers: ClassVar = {
        "train.csv": read_manifest,
        "train.jsonl": read_manifest,
        "set.csv": read_set,
        "a.txt": lambda path: read_set(path.parent),
        "a.trans.txt": lambda path: read_set(path.parent),
        "nemo.jsonl": lambda path: consume(units(str(path), "manifest")),
        "cuts.jsonl": lambda path: consume(units(str(path), "lhotse")),
        "list.txt": lambda path: consume(units(str(path), "list")),
        "speakers.rttm": read_rttm,
        "results.jsonl": lambda path: ResultsFile(path, {"model": "tiny"}).close(),
        "results.json": lambda path: ResultsFile(path, {"model": "tiny"}).close(),
    }

    def prepare(self) -> None:
        (self.folder / "a.wav").touch()
        with ResultsFile(self.folder / "results.jsonl", {"model": "tiny"}):
            results = (self.folder / "results.jsonl").read_text()
        (self.folder / "results.jsonl").unlink()
        row = {"audio": "a.wav", "text": "language English<asr_text>hello", "speaker": "s"}
        nemo = {"audio_filepath": "a.wav", "offset": 0.5, "duration": 2, "text": "a", "lang": "en"}
        cut = {
            "id": "c",
            "start": 0.0,
            "duration": 2.0,
            "channel": [0],
            "recording": {"id": "r", "sources": [{"type": "file", "source": "a.wav"}]},
            "supervisions": [{"text": "hello"}],
            "type": "MonoCut",
        }
        csv = 'wav,text,speaker,language,prompt\na.wav,"a, ""b""",s,English,\na.wav,c,,,x\n'
        done = {"name": "a.wav", "text": "hello", "segments": [], "language": "English"}
        self.corpus = [
            named("train.csv", csv),
            named("train.jsonl", json.dumps(row) + "\n" + json.dumps({**row, "prompt": "x"})),
            named("set.csv", csv),
            named("a.txt", "hello"),
            named("a.trans.txt", "a hello there"),
            named("nemo.jsonl", json.dumps(nemo) + "\n" + json.dumps(cut)),
            named("cuts.jsonl", json.dumps(cut) + "\n"),
            named("list.txt", "a.wav\nhttps://host/a.wav\ndata:audio/wav;base64,AAAA\n"),
            named("speakers.rttm", "SPEAKER a 1 0.5 2.0 <NA> <NA> anna <NA> <NA>\n"),
            named("results.jsonl", results),
            named("results.jsonl", results + json.dumps(done) + "\n"),
        ]


class Configs(FileTarget):
    """The JSON files of model directories, vocabularies, and recipes."""

    readers: ClassVar = {
        "config.json": lambda path: Configs.read_config(path.parent),
        "traits.json": lambda path: load_inference_defaults(path.parent),
        "calibration.json": lambda path: load_calibrations(path.parent),
        "lm_weights.json": lambda path: load_lm_weights(path.parent),
        "tokenizer.json": lambda path: Tokenizer.from_directory(path.parent).encode("a b"),
        "digits_ctc.json": CtcRecipe.read,
        "digits.json": AsrRecipe.read,
        "tune.json": TuneRecipe.read,
        "tiny.json": DecoderRecipe.read,
        "speaker.json": SpeakerRecipe.read,
    }

    @staticmethod
    def read_config(directory: Path) -> None:
        """Read the configuration, and make the modules without memory."""
        with refusable():
            read_speaker_config(directory)
        checkpoint = open_checkpoint(directory)
        hollow(lambda: build(checkpoint.config))

    def prepare(self) -> None:
        models = self.folder / "models"
        made = [write_tiny(models / name, name) for name in ("native", "published", "hf")]
        made += [write_tiny(models / "ctc", config=small_ctc())]
        made += [write_tiny(models / "aligner", "published", aligner_config())]
        configs = [(folder / "config.json").read_text(encoding="utf-8") for folder in made]
        native, published = json.loads(configs[0]), json.loads(configs[1])
        packed = {**native, "quantization": {"dtype": "int4", "group": 32}}
        mlx = {**published, "quantization": {"bits": 4, "group_size": 64, "mode": "affine"}}
        awq = {**published, "quantization_config": {"quant_method": "awq", "bits": 4}}
        gptq = {**published, "quantization_config": {"quant_method": "gptq", "bits": 8}}
        configs += [json.dumps(one) for one in (packed, mlx, awq, gptq)]
        maps = (Logistic(0.1, (1.0,) * len(features)) for features in MAPS.values())
        save_calibration(Calibration(*maps, silence_threshold=0.5), models)
        bundled = resolve("tiny").directory
        self.corpus = [named("config.json", one) for one in configs]
        self.corpus += [named("config.json", path.read_text()) for path in speaker_configs()]
        self.corpus.append(named("calibration.json", (models / "calibration.json").read_text()))
        self.corpus.append(named("tokenizer.json", (made[2] / "tokenizer.json").read_text()))
        for name in ("traits.json", "lm_weights.json"):
            if (bundled / name).exists():
                self.corpus.append(named(name, (bundled / name).read_text()))
        recipes = (RECIPES / name for name in self.readers)
        self.corpus += [named(path.name, path.read_text()) for path in recipes if path.exists()]
        shutil.rmtree(models)


def speaker_configs() -> list[Path]:
    """Configurations of bundled speaker encoders."""
    bundled = resolve("tiny").directory.parent
    return [path for path in bundled.glob("*/config.json") if "speaker_encoder" in path.read_text()]


class Containers(FileTarget):
    """Readers of safetensors containers, whose headers are changed as JSON, too."""

    binary = True

    def generate(self, rng: random.Random) -> bytes:
        name, _, content = rng.choice(self.corpus).partition(b"\n")
        if rng.random() < 0.5:
            return super().generate(rng)
        return named(name.decode(), change_header(rng, content))


class Safetensors(Containers):
    """Weight files: one, several with an index, and that of a CTC head."""

    readers: ClassVar = {
        SINGLE: lambda path: Safetensors.load(path.parent),
        INDEX: lambda path: Safetensors.load(path.parent),
        CTC_HEAD: lambda path: load_ctc_head(
            path.parent, open_checkpoint(path.parent).config, CPU, torch.float32
        ),
    }

    @staticmethod
    def load(directory: Path) -> None:
        load_weights(open_checkpoint(directory), CPU, lambda stored: stored)

    def prepare(self) -> None:
        config = qwen_config(d_model=8, conv_channels=2, hidden=16, head_dim=4, **LAYERS)
        write_tiny(self.folder, config=config)
        head = torch.nn.Linear(config.decoder.hidden, config.decoder.vocab + 1)
        save_ctc_head(head, config, torch.float16, self.folder)
        half = write_tiny(self.folder / "half", config=config, dtype=torch.bfloat16)
        sharded = write_tiny(self.folder / "sharded", config=config, shard_bytes=1000)
        index = json.loads((sharded / INDEX).read_text())
        self.corpus = [
            named(SINGLE, (half / SINGLE).read_bytes()),
            named(SINGLE, (self.folder / SINGLE).read_bytes()),
            named(CTC_HEAD, (self.folder / CTC_HEAD).read_bytes()),
            named(INDEX, json.dumps({"weight_map": dict.fromkeys(index["weight_map"], SINGLE)})),
        ]


class Gguf(FileTarget):
    """The two files of a model of llama.cpp, each next to a valid other one."""

    binary = True
    readers: ClassVar = {
        "model.gguf": lambda path: Gguf.load(path),
        "mmproj-model.gguf": lambda path: Gguf.load(path.with_name("model.gguf")),
    }

    @staticmethod
    def load(path: Path) -> None:
        checkpoint = open_checkpoint(path)
        with refusable():
            read_tokenizer(checkpoint)
        load_weights(checkpoint, CPU, lambda stored: stored)

    def prepare(self) -> None:
        import gguf

        kinds = gguf.GGMLQuantizationType
        config = qwen_config(d_model=32, conv_channels=2, hidden=32, **LAYERS)
        published = write_tiny(self.folder / "published", "published", config)
        self.corpus = []
        for kind in (kinds.F16, kinds.Q8_0, kinds.Q4_0):
            text = write_gguf(published, self.folder, as_kind(kind))
            for path in (text, text.with_name(f"mmproj-{text.name}")):
                self.corpus.append(named(path.name, path.read_bytes()))


class LanguageModels(Containers):
    """ARPA files, and language models in the own format."""

    readers: ClassVar = {"lm.arpa": load_language_model, "lm.ngrams": load_language_model}

    def prepare(self) -> None:
        self.corpus = [named("lm.arpa", "\n".join(write_arpa(small_model())))]
        self.corpus += [named("lm.ngrams", packed_model(small_model(3, q))) for q in (True, False)]
