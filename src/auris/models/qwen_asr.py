"""Qwen3-ASR: AuT encoder, projector and Qwen3 decoder in one module, and its audio prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from auris.config import PromptedConfig, QwenAsrConfig
from auris.models.aut import AudioEncoder, Projector
from auris.models.qwen3 import Decoder


class Prompted(nn.Module):
    """Encoder, projector and decoder of a prompt that contains audio; a backend runs them."""

    def __init__(self, config: PromptedConfig) -> None:
        super().__init__()
        self.audio_token_id = config.audio_token_id
        self.encoder = AudioEncoder(config.encoder)
        self.projector = Projector(config.encoder.d_model, config.projector)
        self.decoder = Decoder(config.decoder)

    def embed(self, ids: Sequence[int], states: Tensor | None) -> Tensor:
        """Embeddings [L, hidden] of a prompt, its audio slots filled with projected states.

        Args:
            ids: token ids with as many audio slots as there are states.
            states: encoder states [N, d_model], or None for a prompt without audio.

        Raises:
            ValueError: the number of slots is not the number of states.
        """
        return self.embed_projected(ids, None if states is None else self.projector(states))

    def embed_projected(self, ids: Sequence[int], audio: Tensor | None) -> Tensor:
        """As `embed`, of audio embeddings [N, hidden] that the projector has already made."""
        tokens = torch.tensor(ids, device=self.decoder.embed.weight.device)
        embedded: Tensor = self.decoder.embed(tokens)
        # Found on the host, which would have to wait for the device otherwise.
        slots = [slot for slot, token in enumerate(ids) if token == self.audio_token_id]
        given = 0 if audio is None else len(audio)
        if len(slots) != given:
            raise ValueError(f"the prompt has {len(slots)} audio slots for {given} states")
        if audio is not None:
            # The audio is not rounded where the decoder's weights have fewer digits.
            embedded = embedded.to(torch.promote_types(embedded.dtype, audio.dtype))
            index = torch.tensor(slots, dtype=torch.int64, device=tokens.device)
            embedded[index] = audio.to(embedded.dtype)
        return embedded


class QwenAsr(Prompted):
    """The parts of a Qwen3-ASR model.

    Attributes:
        adapter: hash of the adapters of its layers; empty for none.
    """

    def __init__(self, config: QwenAsrConfig) -> None:
        super().__init__(config)
        self.config = config
        self.adapter = ""
