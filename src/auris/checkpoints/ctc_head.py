"""The CTC head of a Qwen3-ASR model, in a file of its own next to the weights.

The head scores the audio embeddings, the projector's output: a class for every row of the decoder's
vocabulary and one more, the last, for the blank. The official layouts cannot hold it, so
their own files stay exactly what they are without it, and other programs load the model as before.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from auris.checkpoints.load import check_tensors, hollow
from auris.checkpoints.save import converted
from auris.checkpoints.weight_files import Files
from auris.config import ModelConfig, QwenAsrConfig
from auris.errors import ConfigError, TensorError

CTC_HEAD = "ctc_head.safetensors"


def _shapes(config: ModelConfig) -> dict[str, list[int]]:
    if not isinstance(config, QwenAsrConfig):
        raise ConfigError(
            f"{CTC_HEAD} belongs to a Qwen3-ASR model",
            "this is an AuT encoder, whose CTC head is among its weights",
            "leave the file out",
        )
    classes = config.decoder.vocab + 1
    return {"weight": [classes, config.decoder.hidden], "bias": [classes]}


def save_ctc_head(
    head: nn.Linear, config: ModelConfig, dtype: torch.dtype, directory: Path
) -> Path:
    """Write a head, from audio embeddings to vocab + 1 classes, next to its model's weights.

    Returns:
        the file.

    Raises:
        ConfigError: the model is of a kind that has no such head.
        TensorError: the head does not fit the config, or a value is too large for the dtype.
    """
    expected = _shapes(config)
    state = head.state_dict()
    actual = {name: list(tensor.shape) for name, tensor in state.items()}
    if actual != expected:
        raise TensorError(
            f"The CTC head of this model has to hold {expected}",
            f"it holds {actual}",
            "make it with a bias, a class for every row of the vocabulary and one for the blank",
        )
    written = {name: converted(f"ctc_head.{name}", state[name], dtype) for name in expected}
    path = directory / CTC_HEAD
    save_file(written, str(path), metadata={"format": "pt"})
    return path


def load_ctc_head(
    directory: Path,
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> nn.Linear | None:
    """Read the CTC head of a model directory; None where it has none.

    Args:
        dtype: to compute in, by default as stored.

    Raises:
        CheckpointError: the file is broken or belongs to another model.
    """
    path = directory / CTC_HEAD
    if not path.exists():
        return None
    expected = _shapes(config)
    classes, width = expected["weight"]
    head = hollow(lambda: nn.Linear(width, classes))
    with ExitStack() as stack:
        files = Files(stack, [path])
        check_tensors(files, expected, CTC_HEAD)
        state = {name: files.tensor(name).to(device=device, dtype=dtype) for name in expected}
    head.load_state_dict(state, assign=True)
    return head.requires_grad_(False).eval()
