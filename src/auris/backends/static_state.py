"""The texts of a static step, as numbers on the device.

Every slot has a row of one table. `TextTable.choose` takes the scores of a pass, and writes the
next token of every text, its counters and its end into the table, without a number of the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auris.backends.base import MOST_PROBED, Choice, StaticResult, TextRules, TextStart
from auris.types import FinishReason

FINISH: dict[int, FinishReason | None] = {0: None, 1: "stop", 2: "length", 3: "loop"}
"""Ends of texts as numbers."""

INACTIVE = -1
"""Stands for the end of a text that was over before."""

NO_ID = -1


class TextTable:
    """The texts of all slots.

    Args:
        slots: rows of the table.
        rules: when texts end.
        device: of the table.

    Attributes:
        tokens: int64 [slots], the input of the next pass.
        lengths: int64 [slots], positions that the cache has of the row.
        active: bool [slots], whether there is a text that is not over.
    """

    def __init__(self, slots: int, rules: TextRules, device: torch.device) -> None:
        self.rules = rules
        self._stops = torch.tensor(rules.stops, dtype=torch.int64, device=device)
        self._loops = torch.tensor(rules.loops, dtype=torch.int64, device=device)
        periods = len(rules.loops)
        self._widths = [1, 1, 1, 1, periods, periods, MOST_PROBED]
        self._table = torch.zeros(slots, sum(self._widths), dtype=torch.int64, device=device)
        self.active = torch.zeros(slots, dtype=torch.bool, device=device)
        self._name_columns()

    def _name_columns(self) -> None:
        columns = self._table.split(self._widths, dim=1)
        self.tokens, self.lengths, self._counts, self._budgets = (c[:, 0] for c in columns[:4])
        self._recent, self._repeats, self._probes = columns[4:]

    def resize(self, slots: int) -> None:
        """Make room for more slots; the tensors move."""
        more = slots - len(self._table)
        if more > 0:
            self._table = torch.cat((self._table, self._table.new_zeros(more, sum(self._widths))))
            self.active = torch.cat((self.active, self.active.new_zeros(more)))
            self._name_columns()

    def begin(
        self, slots: Sequence[int], lengths: Sequence[int], texts: Sequence[TextStart]
    ) -> None:
        """Put texts into slots whose rows have so many positions."""
        rows = [self._row(length, text) for length, text in zip(lengths, texts, strict=True)]
        device = self._table.device
        index = torch.tensor(slots, device=device)
        self._table[index] = torch.tensor(rows, dtype=torch.int64).to(device)
        self.active[index] = True

    def _row(self, length: int, text: TextStart) -> list[int]:
        periods = len(self.rules.loops)
        recent = text.ids[: -periods - 1 : -1]
        probe = text.probe + (NO_ID,) * (MOST_PROBED - len(text.probe))
        head = [text.ids[-1], length, len(text.ids), text.budget]
        repeats = [_repeats(text.ids, period) for period in range(1, periods + 1)]
        return [*head, *recent, *(NO_ID,) * (periods - len(recent)), *repeats, *probe]

    def end(self, slot: int) -> None:
        """The text of a slot does not go on."""
        self.active[slot] = False

    def clear(self) -> None:
        """There is no text."""
        self.active.zero_()

    def move(self, old: int, slot: int) -> None:
        """Copy the text of a slot to another one."""
        self._table[slot] = self._table[old]
        self.active[slot] = self.active[old]
        self.active[old] = False

    def choose(self, scores: Tensor) -> Tensor:
        """Continue the texts of the first slots.

        Args:
            scores: float32 [B, vocab], after the tokens of the slots.

        Returns:
            float64 [5, B]: chosen token, its log-probability, margin, end (see `FINISH`), and the
            log-probability of the probe.
        """
        width = len(scores)
        active, counts = self.active[:width], self._counts[:width]
        best, ids = scores.topk(2, dim=-1)
        token, total = ids[:, 0], torch.logsumexp(scores, dim=-1)
        stops = (token[:, None] == self._stops).any(1)
        full = ~stops & (counts == self._budgets[:width])
        taken = active & ~stops & ~full
        loops = self._take(token, taken)
        finish = stops * 1 + full * 2 + (taken & loops) * 3
        results = torch.stack(
            (
                token.double(),
                (best[:, 0] - total).double(),
                (best[:, 0] - best[:, 1]).double(),
                torch.where(active, finish, INACTIVE).double(),
                self._probed(scores, total).double(),
            )
        )
        self.lengths[:width] += active
        counts += taken
        active &= finish == 0
        return results

    def _take(self, token: Tensor, taken: Tensor) -> Tensor:
        """Append tokens [B] to the texts that take them; returns which of all texts loop."""
        width = len(token)
        tokens, recent, repeats = (t[:width] for t in (self.tokens, self._recent, self._repeats))
        now = torch.where(recent == token[:, None], repeats + 1, 0)
        following = torch.cat((token[:, None], recent[:, :-1]), dim=1)
        repeats.copy_(torch.where(taken[:, None], now, repeats))
        recent.copy_(torch.where(taken[:, None], following, recent))
        tokens.copy_(torch.where(taken, token, tokens))
        return (now >= self._loops).any(1)

    def _probed(self, scores: Tensor, total: Tensor) -> Tensor:
        """Log-probabilities [B] of the probed ids."""
        probes = self._probes[: len(scores)]
        chosen = scores.gather(1, probes.clamp(min=0))
        return chosen.masked_fill(probes < 0, float("-inf")).logsumexp(-1) - total


def _repeats(ids: Sequence[int], period: int) -> int:
    """How many of the last ids equal the id `period` positions before."""
    count = 0
    for index in range(len(ids) - 1, period - 1, -1):
        if ids[index] != ids[index - period]:
            break
        count += 1
    return count


def results_of(numbers: Tensor) -> list[StaticResult | None]:
    """The results of slots from what `TextTable.choose` returned; None where no text went on."""
    results: list[StaticResult | None] = []
    for token, logprob, margin, end, probe in numbers.T.tolist():
        if int(end) == INACTIVE:
            results.append(None)
        else:
            choice = Choice(int(token), logprob, margin)
            results.append(StaticResult(choice, FINISH[int(end)], min(0.0, probe)))
    return results
