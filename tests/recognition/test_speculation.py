"""Drafts from the CTC head of the bundled model: equal texts, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from auris import AsrPipeline
from auris.errors import UnsupportedOption, UsageError
from tests.ties import Ties
from tests.tiny_models import tone_speech


def test_speculation_does_not_change_texts_of_bundled_models() -> None:
    plain = AsrPipeline.from_pretrained("tiny", device="cpu", lm="none")
    guessing = AsrPipeline.from_pretrained("tiny", device="cpu", speculate="ctc")
    ties = Ties()
    for seed in range(4):
        clip = (tone_speech(1.0 + 2.5 * seed, seed), 16000)
        for language in (None, "English"):
            one, other = (p.transcribe(clip, language) for p in (plain, guessing))
            pairs = zip(one.segments, other.segments, strict=True)
            for ours, theirs in pairs:
                # Segments have no margins; these clips have no ties.
                ties.same(ours.tokens, theirs.tokens, [1.0] * (len(ours.tokens) + 1), str(seed))
    assert ties.count == 0


def test_speculation_without_a_ctc_head_is_refused(
    qwen_directory: Path, ctc_directory: Path
) -> None:
    for model, why in ((qwen_directory, "has no such file"), (ctc_directory, "another kind")):
        with pytest.raises(UnsupportedOption, match=why):
            AsrPipeline.from_pretrained(model, device="cpu", speculate="ctc")
    with pytest.raises(UsageError, match="it is 'dice'"):
        AsrPipeline.from_pretrained(qwen_directory, device="cpu", speculate="dice")
