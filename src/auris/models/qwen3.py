"""The Qwen3 decoder: grouped-query attention with normed queries and keys, SwiGLU, no biases.

Source: Qwen3 technical report (arXiv 2505.09388) and the `qwen3` model of transformers.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from auris.config import DecoderConfig
from auris.models.cache import Rows
from auris.models.layers import RMSNorm, TokenEmbedding, rope_tables, rotate


class DecoderLayer(nn.Module):
    """Pre-norm block over cached rows."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, head_dim = config.hidden, config.head_dim
        self.attention_norm = RMSNorm(width, config.rms_eps)
        self.qkv = nn.Linear(width, (config.heads + 2 * config.kv_heads) * head_dim, bias=False)
        self.q_norm = RMSNorm(head_dim, config.rms_eps)
        self.k_norm = RMSNorm(head_dim, config.rms_eps)
        self.out = nn.Linear(config.heads * head_dim, width, bias=False)
        self.ffn_norm = RMSNorm(width, config.rms_eps)
        self.gate_up = nn.Linear(width, 2 * config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, width, bias=False)

    def attend(self, x: Tensor, layer: int, rope: tuple[Tensor, Tensor], rows: Rows) -> Tensor:
        """Self-attention of normed x [B, T, hidden] over the rows' keys."""
        sizes = [self.config.heads, self.config.kv_heads, self.config.kv_heads]
        qkv = self.qkv(x).unflatten(-1, (-1, self.config.head_dim))
        q, k, v = qkv.split(sizes, dim=2)
        q = rotate(self.q_norm(q).transpose(1, 2), *rope)
        k = rotate(self.k_norm(k).transpose(1, 2), *rope)
        attended = rows.attend(layer, q, k, v.transpose(1, 2))
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out

    def forward(self, x: Tensor, layer: int, rope: tuple[Tensor, Tensor], rows: Rows) -> Tensor:
        """x: [B, T, hidden]."""
        x = x + self.attend(self.attention_norm(x), layer, rope, rows)
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        down: Tensor = self.down(F.silu(gate) * up)
        return x + down


class Decoder(nn.Module):
    """Embeddings in, logits out; everything remembered lies in the cache."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = TokenEmbedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden, config.rms_eps)
        if not config.tied:
            self.head = nn.Linear(config.hidden, config.vocab, bias=False)

    def states(self, x: Tensor, rows: Rows) -> Tensor:
        """Normed states [B, T, hidden] of embeddings x [B, T, hidden]; the rows grow."""
        cos, sin = rope_tables(rows.positions, self.config.head_dim, self.config.rope_theta)
        rope = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
        for index, layer in enumerate(self.layers):
            x = layer(x, index, rope, rows)
        rows.commit()
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, states: Tensor) -> Tensor:
        """Vocabulary scores of normed states."""
        scores: Tensor = self.embed.scores(states) if self.config.tied else self.head(states)
        return scores
