"""A trained model as it is written: its batch norms folded into the convolutions before them."""

from __future__ import annotations

import copy
import dataclasses
from typing import TypeVar

from auris.models.aut_ctc import AutCtc
from auris.models.qwen_asr import QwenAsr

Model = TypeVar("Model", AutCtc, QwenAsr)


def fold_batch_norm(model: Model) -> Model:
    """The same model without batch norms, and with a config that says so.

    In eval mode a batch norm is an affine map of each channel by its running statistics, which
    the convolution before it can do as well; states agree up to rounding. In training mode, where
    a batch norm takes its statistics from the batch, the two models differ.

    Args:
        model: left as it is; without batch norms it is what is returned.

    Returns:
        a copy that `auris.checkpoints.export` accepts together with its own `config`.
    """
    if not model.config.encoder.batch_norm:
        return model
    folded = copy.deepcopy(model)
    folded.encoder.stem.fold()
    folded.encoder.config = dataclasses.replace(model.config.encoder, batch_norm=False)
    folded.config = dataclasses.replace(model.config, encoder=folded.encoder.config)
    return folded
