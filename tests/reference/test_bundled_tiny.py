"""The bundled Qwen3-ASR model is an official checkpoint, and transformers reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from auris.checkpoints.calibration import CALIBRATION, SEARCH_CALIBRATION
from auris.checkpoints.configs import read_json
from auris.checkpoints.ctc_head import CTC_HEAD, load_ctc_head
from auris.checkpoints.hub import bundled_models
from auris.checkpoints.inference_defaults import DEFAULTS_FILE
from auris.checkpoints.lm_weights import LM_WEIGHTS
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.config import token_budget
from auris.diagnostics.parity import Parity
from auris.evaluation.sets import read_set
from auris.text.prompt import CHAT_TEMPLATE, CONTROL_TOKENS, prompt_ids
from auris.text.tokenizer import Tokenizer
from tests.tiny_models import tone_speech

transformers = pytest.importorskip("transformers", minversion="5.23")

NAME = "tiny"
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.flac"))
SPEECH = ROOT.parent / "shared" / "speech"
CLIPS = 2
"""Of each development set."""

OFFICIAL_FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
OUR_FILES = {"README.md", CTC_HEAD, CALIBRATION, SEARCH_CALIBRATION, LM_WEIGHTS, DEFAULTS_FILE}

DEFAULTS = {"initializer_range", "dtype", "transformers_version", "layer_types", "bos_token_id"}
DEFAULTS |= {"eos_token_id", "pad_token_id", "max_window_layers", "sliding_window"}
"""Keys that transformers writes besides, with values that it has by itself."""

TEXTS = ["turn the lights off", "It's ten past nine!", "Zoë, 北京  12345\n", "language English"]

pytestmark = pytest.mark.skipif(NAME not in bundled_models(), reason=f"no bundled model {NAME!r}")


@pytest.fixture(scope="module")
def directory() -> Path:
    return bundled_models()[NAME]


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer.from_directory(directory)


@pytest.fixture(scope="module")
def processor(directory: Path) -> Any:
    return transformers.AutoProcessor.from_pretrained(directory)


@pytest.fixture(scope="module")
def both(directory: Path) -> Parity:
    return Parity(directory)


def test_the_files_of_the_bundled_model(directory: Path) -> None:
    assert {path.name for path in directory.iterdir()} == OFFICIAL_FILES | OUR_FILES
    assert open_checkpoint(directory).layout == "hf"


def test_tensors_have_the_official_names(directory: Path) -> None:
    with torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(directory)
        model = transformers.Qwen3ASRForConditionalGeneration(config)
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del wanted["lm_head.weight"]
    with safe_open(directory / "model.safetensors", "pt") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        assert {name: part.get_shape() for name, part in slices.items()} == wanted
        assert len({part.get_dtype() for part in slices.values()}) == 1


def test_transformers_loads_it_without_warnings(directory: Path) -> None:
    _, info = transformers.Qwen3ASRForConditionalGeneration.from_pretrained(
        directory, output_loading_info=True
    )
    assert not any(info.values()), info


def agrees(ours: dict[str, Any], theirs: dict[str, Any], known: dict[str, Any]) -> None:
    """Every key of ours is known and read as written; the reference has more, with defaults."""
    assert set(ours) <= set(known)
    assert set(theirs) - set(ours) <= DEFAULTS
    for key, value in ours.items():
        if isinstance(value, dict) and key.endswith("_config"):
            agrees(value, theirs[key], known[key])
        else:
            assert theirs[key] == value, key


def test_the_config_is_read_by_transformers(directory: Path, tmp_path: Path) -> None:
    transformers.AutoConfig.from_pretrained(directory).save_pretrained(tmp_path)
    known = transformers.Qwen3ASRConfig(architectures=[], dtype="float32").to_dict()
    ours = read_json(directory / "config.json")
    agrees(ours, read_json(tmp_path / "config.json"), known)
    assert ours["architectures"] == ["Qwen3ASRForConditionalGeneration"]
    assert ours["model_type"] == "qwen3_asr"


def test_generation_config(directory: Path, tokenizer: Tokenizer) -> None:
    stops = [tokenizer.id("<|endoftext|>"), tokenizer.id("<|im_end|>")]
    assert read_json(directory / "generation_config.json") == {
        "eos_token_id": stops,
        "pad_token_id": stops[-1],
        "do_sample": False,
        "max_new_tokens": token_budget(30),
    }


def test_tokenizer(directory: Path, tokenizer: Tokenizer, processor: Any) -> None:
    assert tokenizer.cuts_like_qwen2
    reader = processor.tokenizer
    assert type(reader) is type(transformers.AutoTokenizer.from_pretrained(directory))
    assert len(reader) == tokenizer.size == open_checkpoint(directory).config.decoder.vocab
    for token in CONTROL_TOKENS:
        assert reader.convert_tokens_to_ids(token) == tokenizer.id(token)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert reader.encode(text) == ids
        assert reader.decode(ids) == tokenizer.decode(ids)


def test_processor_and_chat_template(directory: Path, tokenizer: Tokenizer, processor: Any) -> None:
    extractor = processor.feature_extractor
    assert type(extractor).__name__ == "Qwen3ASRFeatureExtractor"
    wanted = transformers.Qwen3ASRFeatureExtractor().to_dict()
    assert {key: extractor.to_dict()[key] for key in wanted} == wanted
    assert (directory / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE
    clip = tone_speech(2.0)
    for language, context in ((None, ""), ("English", "kitchen, fan")):
        request = processor.apply_transcription_request(clip, language=language, prompt=context)
        ids = request["input_ids"][0].tolist()
        slots = ids.count(tokenizer.id("<|audio_pad|>"))
        assert ids == prompt_ids(tokenizer, slots, language, context)


def test_the_encoder_is_small(directory: Path) -> None:
    model = load_weights(open_checkpoint(directory), torch.device("cpu"), lambda _: torch.float32)
    seconds = 8
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        states, _ = model.encoder([torch.zeros(128, 100 * seconds)])
        model.projector(states)
    assert counter.get_total_flops() / seconds <= 0.3e9


def test_ctc_head(directory: Path) -> None:
    config = open_checkpoint(directory).config
    head = load_ctc_head(directory, config, torch.device("cpu"))
    assert head is not None
    assert str(head.weight.dtype) == f"torch.{read_json(directory / 'config.json')['dtype']}"


def agree(both: Parity, clips: list[Path]) -> None:
    """Both implementations give the same texts; ties are printed, and at most one is allowed."""
    found = {clip: both.agree(clip) for clip in clips}
    ties = {clip: one for clip, one in found.items() if one.verdict == "tie"}
    print(f"ties: {ties}")
    assert {clip: one for clip, one in found.items() if one.verdict == "different"} == {}
    assert len(ties) <= 1
    assert all(one.tokens for one in found.values()), "a clip's reply is empty"


def test_texts_of_the_examples_are_equal(both: Parity) -> None:
    agree(both, EXAMPLES)


@pytest.mark.skipif(not SPEECH.is_dir(), reason="the speech sets are not here")
def test_texts_of_development_clips_are_equal(both: Parity) -> None:
    sets = sorted(SPEECH.glob("*_dev.csv"))
    agree(both, [clip for one in sets for clip in list(read_set(one))[:CLIPS]])
