"""The static step: greedy decoding in passes with fixed shapes.

A pass takes one token for each of the first slots of a cache, whose number is a power of two, and
looks at a span of positions, a power of two as well. Its inputs are in tensors that stay where they
are, so a device can run the same pass again without the host. Passes are run by a `PassRunner`: one
after the other as any PyTorch code, or captured as CUDA graphs (`auris.backends.cuda_graphs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from auris.backends.base import StaticResult, StaticText, TextRules, TextStart
from auris.backends.memory import within_memory
from auris.backends.static_state import TextTable, results_of
from auris.models.attention import Kernel, kernel_choice
from auris.models.qwen3 import Decoder
from auris.models.slots import SlotCache, span_for, width_for

MOST_UNUSED = 2
"""Most steps that are kept for later use: one for files, and one for streams."""

Shape = tuple[int, int]
"""Width and span of a pass."""


class PassRunner(Protocol):
    """Runs passes, and brings their results to the host."""

    def run(self, shape: Shape, one_pass: Callable[[], Tensor], table: TextTable) -> Tensor:
        """Run a pass; for one shape it is always the same until `forget` is called.

        Args:
            one_pass: changes the table and the cache, and returns results. A pass over slots that
                are not active changes nothing.
        """

    def forget(self) -> None:
        """The tensors of the passes so far have moved."""

    def fetch(self, results: Tensor) -> Callable[[], Tensor]:
        """Start a copy of results to the host; calling what this returns waits for the copy."""


class PlainPasses:
    """Runs passes as they are, on any device."""

    def run(self, shape: Shape, one_pass: Callable[[], Tensor], table: TextTable) -> Tensor:
        return one_pass()

    def forget(self) -> None:
        """There is nothing to forget."""

    def fetch(self, results: Tensor) -> Callable[[], Tensor]:
        return results.cpu


@dataclass(eq=False)
class SlotText:
    """A text that the step continues.

    Attributes:
        slot: its slot.
        length: positions that its row has by the results that were read.
        passes: how many more passes it may take, at most.
    """

    slot: int
    length: int
    passes: int


class SlotPassResults:
    """A pass that was started.

    Args:
        texts: the texts that it was started for.
        fetched: waits for its results.
    """

    def __init__(self, texts: Sequence[SlotText], fetched: Callable[[], Tensor]) -> None:
        self._texts = [(text, text.slot) for text in texts]
        self._fetched = fetched

    def results(self) -> dict[StaticText, StaticResult]:
        of_slots = results_of(self._fetched())
        results: dict[StaticText, StaticResult] = {}
        for text, slot in self._texts:
            result = of_slots[slot]
            if result is not None:
                text.length += 1
                results[text] = result
        return results


class SlotStep:
    """A static step of a decoder, see `auris.backends.base.StaticStep`.

    Args:
        decoder: with weights in floating point.
        cache: of all rows. Its lengths count the passes that were started; `end` corrects them.
        rules: when texts end.
        runner: of the passes.
        kernel: attention kernel.

    Attributes:
        released: called with the step when it is released.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: SlotCache,
        rules: TextRules,
        runner: PassRunner,
        kernel: Kernel = "auto",
    ) -> None:
        self.cache = cache
        self._decoder = decoder
        self._runner = runner
        self._kernel = kernel
        self.released: Callable[[SlotStep], object] = lambda step: None
        self._table = TextTable(cache.width, rules, cache.keys.device)
        self._texts: list[SlotText] = []
        self._moves = cache.moves

    @torch.inference_mode()
    def begin(self, texts: Sequence[tuple[int, TextStart]]) -> list[StaticText]:
        self._follow_cache()
        rows = [row for row, _ in texts]
        slots, lengths = [self.cache.slots[row] for row in rows], self.cache.lengths
        begun = [
            SlotText(slot, lengths[row], start.budget - len(start.ids) + 1)
            for slot, (row, start) in zip(slots, texts, strict=True)
        ]
        starts = [start for _, start in texts]
        self._table.begin(slots, [text.length for text in begun], starts)
        self._texts += begun
        return list(begun)

    @torch.inference_mode()
    def end(self, text: StaticText) -> None:
        assert isinstance(text, SlotText)
        self._texts.remove(text)
        self._table.end(text.slot)
        self.cache.lengths[self.cache.slots.index(text.slot)] = text.length

    @torch.inference_mode()
    def launch(self) -> SlotPassResults | None:
        going = [text for text in self._texts if text.passes]
        if not going:
            return None
        self._narrow()
        row_of = {slot: row for row, slot in enumerate(self.cache.slots)}
        rows = [row_of[text.slot] for text in going]
        with within_memory():
            self.cache.make_room(rows, [1] * len(rows))
        self._follow_cache()
        shape = (
            width_for(max(text.slot for text in going) + 1),
            span_for(max(self.cache.lengths[row] for row in rows) + 1),
        )
        with kernel_choice(self._kernel), within_memory():
            results = self._runner.run(shape, lambda: self._pass(*shape), self._table)
        self.cache.grow(rows, [1] * len(rows))
        for text in going:
            text.passes -= 1
        return SlotPassResults(going, self._runner.fetch(results))

    def release(self) -> None:
        self.released(self)

    @torch.inference_mode()
    def reset(self, capacity: int) -> None:
        """Begin anew, without rows, with room for so many positions a row."""
        self._texts.clear()
        self._table.clear()
        self.cache.clear()
        self.cache.reserve(capacity)

    def _pass(self, width: int, span: int) -> Tensor:
        table = self._table
        x = self._decoder.embed(table.tokens[:width, None])
        slots = self.cache.slot_pass(width, span, table.lengths, table.active)
        states = self._decoder.states(x, slots)
        return table.choose(self._decoder.logits(states[:, 0]).float())

    def _follow_cache(self) -> None:
        """Forget passes over tensors that were moved."""
        if self.cache.moves != self._moves:
            self._moves = self.cache.moves
            self._table.resize(self.cache.width)
            self._runner.forget()

    def _narrow(self) -> None:
        """Move texts out of the highest slots if a pass of half the width has room for all rows."""
        width = width_for(len(self.cache.slots))
        for text in sorted(self._texts, key=lambda text: -text.slot):
            if text.slot < width:
                return
            slot = min(set(range(self.cache.width)) - set(self.cache.slots))
            self.cache.move_row(self.cache.slots.index(text.slot), slot)
            self._table.move(text.slot, slot)
            text.slot = slot


_StepKey = tuple[int, int, TextRules]
"""Width, rows and rules of a step."""


class StaticSteps:
    """The static steps of a decoder. Those that are not used are given out again, since a device
    would have to capture their passes anew.

    Args:
        decoder: of all steps.
        kernel: attention kernel.
        runner: makes the runner of a step.
    """

    def __init__(self, decoder: Decoder, kernel: Kernel, runner: Callable[[], PassRunner]) -> None:
        self._decoder = decoder
        self._kernel = kernel
        self._runner = runner
        self._unused: list[tuple[_StepKey, SlotStep]] = []

    def take(self, texts: int, rows: int, capacity: int, rules: TextRules) -> SlotStep:
        """A step without texts; see `Backend.static_step`."""
        key = width_for(texts), rows, rules
        for index, (other, step) in enumerate(self._unused):
            if other == key:
                del self._unused[index]
                step.reset(capacity)
                return step
        self._unused.clear()
        weight, config = self._decoder.norm.weight, self._decoder.config
        with torch.inference_mode():
            cache = SlotCache(config, rows, texts, capacity, weight.dtype, weight.device)
            step = SlotStep(self._decoder, cache, rules, self._runner(), self._kernel)
        step.released = partial(self._give_back, key)
        return step

    def _give_back(self, key: _StepKey, step: SlotStep) -> None:
        # May be called while an object is freed, on any thread, so nothing is computed here.
        if len(self._unused) < MOST_UNUSED:
            self._unused.append((key, step))
