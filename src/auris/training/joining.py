"""The parts of a model that joins a trained encoder to a decoder, and where they come from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from auris.checkpoints.load import load_weights, open_checkpoint
from auris.checkpoints.validation import check_vocabulary
from auris.config import AutCtcConfig, QwenAsrConfig
from auris.errors import TrainingError
from auris.models.aut import AudioEncoder
from auris.models.aut_ctc import AutCtc
from auris.models.folding import fold_batch_norm
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import AUDIO_PAD
from auris.text.tokenizer import Tokenizer
from auris.training.asr import merged
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.folder import JoinedModel
from auris.training.starting import is_run, run_task, trained_directory


@dataclass(frozen=True)
class ModelParts:
    """A trained encoder, and a trained decoder with its vocabulary or None for a fresh one.

    Attributes:
        encoder: a model with the encoder.
        decoder: a model with the decoder.
        sources: the directories that they come from.
    """

    encoder: AutCtc | QwenAsr
    decoder: QwenAsr | None
    tokenizer: Tokenizer | None
    sources: tuple[Path | None, Path | None]

    def joined(self, recipe: DecoderRecipe, tokenizer: Tokenizer) -> JoinedModel:
        """Shapes of the model that joins them, with a vocabulary."""
        given = self.encoder.config
        shapes = dataclasses.replace(given.encoder, dropout=recipe.dropout)
        decoder = recipe.decoder_config(tokenizer.size)
        if self.decoder is not None:
            decoder = self.decoder.config.decoder
        slot = tokenizer.id(AUDIO_PAD)
        fresh = self.decoder is None
        return JoinedModel(
            config=recipe.model_config(shapes, given.frontend, decoder, slot),
            fresh=fresh,
            head=recipe.ctc_weight > 0 or (fresh and recipe.decoder_from_step > 0),
            encoder=self.sources[0],
            decoder=self.sources[1],
        )

    def copy_into(self, model: QwenAsr) -> None:
        """Give their weights to a joined model."""
        model.encoder.load_state_dict(self.encoder.encoder.state_dict())
        if self.decoder is not None:
            model.decoder.load_state_dict(self.decoder.decoder.state_dict())


def load_parts(
    recipe: DecoderRecipe, encoder: str | Path, decoder: str | Path | None
) -> ModelParts:
    """Read the parts of a joined model in float32.

    Args:
        encoder: folder of a run, model directory or bundled model with the encoder.
        decoder: the same with the decoder, or None.

    Raises:
        TrainingError: there is no such run or model, or it is one of another kind.
        CheckpointError, ConfigError: a model cannot be read, or is packed to integers.
        UsageError: the recipe has shapes although the decoder is given.
    """
    if decoder is not None:
        recipe.check_no_shapes()
    with_encoder, _ = _load(encoder, "--encoder")
    sources = source_directories(encoder, decoder)
    if decoder is None:
        return ModelParts(with_encoder, None, None, sources)
    with_decoder, tokenizer = _load(decoder, "--decoder")
    if not isinstance(with_decoder, QwenAsr):
        raise TrainingError(
            "--decoder takes a model with a decoder",
            f"{decoder} holds an encoder with a CTC head only",
            "name a Qwen3-ASR model, or leave --decoder out for a new decoder",
        )
    check_vocabulary(with_decoder.config, tokenizer)
    return ModelParts(with_encoder, with_decoder, tokenizer, sources)


def load_encoder(source: str | Path, encoder: AudioEncoder) -> None:
    """Read the weights of a trained audio encoder, of which there may be more layers.

    Args:
        source: folder of a run, model directory or bundled model.

    Raises:
        TrainingError: there is no such run or model, or its encoder has other shapes.
        CheckpointError, ConfigError: a model cannot be read, or is packed to integers.
    """
    model, _ = _load(source, "--encoder")
    given, needed = model.encoder.state_dict(), encoder.state_dict()
    odd = [name for name in needed if name not in given or given[name].shape != needed[name].shape]
    if odd:
        raise TrainingError(
            "--encoder takes a model whose encoder has the shapes of the recipe",
            f"{odd[0]} of {source} has others, or is missing",
            "correct the recipe, or name another model",
        )
    encoder.load_state_dict({name: given[name] for name in needed})


def source_directories(
    encoder: str | Path | None, decoder: str | Path | None
) -> tuple[Path | None, Path | None]:
    """The directories of encoder and decoder, as of `load_parts`."""
    return (
        None if encoder is None else trained_directory(encoder, "--encoder"),
        None if decoder is None else trained_directory(decoder, "--decoder"),
    )


def _load(source: str | Path, option: str) -> tuple[AutCtc | QwenAsr, Tokenizer]:
    directory = trained_directory(source, option)
    if is_run(directory):
        task = run_task(directory)
        trained = task.model
        model = fold_batch_norm(trained) if isinstance(trained, AutCtc) else merged(trained)
        return model, task.tokenizer
    checkpoint = open_checkpoint(directory)
    if not isinstance(checkpoint.config, QwenAsrConfig | AutCtcConfig):
        raise TrainingError(
            f"{option} takes a CTC model or a Qwen3-ASR model",
            f"{directory} holds a forced aligner",
            "name another model",
        )
    loaded = load_weights(checkpoint, torch.device("cpu"), lambda _: torch.float32, copy=True)
    assert isinstance(loaded, QwenAsr | AutCtc)
    return loaded, Tokenizer.from_directory(directory)
