"""An AuT encoder with a CTC head: text units without a decoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from auris.config import AutCtcConfig
from auris.models.aut import AudioEncoder, Projector


class AutCtc(nn.Module):
    """Encoder, unit classifier, and the projector that could join the encoder to a decoder.

    The head reads the encoder's own width; the projector takes no part in it.
    """

    def __init__(self, config: AutCtcConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(config.encoder)
        self.head = nn.Linear(config.encoder.d_model, config.units + 1)
        if config.projector is not None:
            self.projector = Projector(config.encoder.d_model, config.projector)

    def forward(self, mels: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """Packed logits [N, units + 1] (blank last) of all clips, and each clip's length."""
        states, lengths = self.encoder(mels)
        return self.head(states), lengths
