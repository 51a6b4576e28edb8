"""Speakers of live streams: labels while text grows, and the transcript of the file at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline, StreamUpdate
from auris.audio.io import load
from auris.errors import UsageError
from auris.types import SAMPLE_RATE, Samples
from tests.diarization.test_transcripts import EverySecond
from tests.diarization.voices import MarkEncoder, conversation, diarizer, spoken
from tests.streaming.live import updates_of
from tests.streaming.test_bundled import CLIP

TALK = spoken((0, 6), (None, 1), (1, 5), (None, 1), (0, 5), (None, 1), (2, 7))


@pytest.fixture(scope="module")
def pipeline(ctc_directory: Path) -> AsrPipeline:
    return AsrPipeline.from_pretrained(ctc_directory, device="cpu")


def live(pipeline: AsrPipeline, samples: Samples = TALK, **options: Any) -> list[StreamUpdate]:
    given = {"diarize": diarizer(), "aligner": EverySecond(), **options}
    with pipeline.stream(**given) as session:
        return updates_of(session, samples)


@pytest.mark.parametrize("sizes", [(8000,), (1000, 4321, 16000)])
@pytest.mark.parametrize("vad", [False, True])
def test_the_transcript_at_the_end_is_that_of_the_file(
    pipeline: AsrPipeline, sizes: tuple[int, ...], vad: bool
) -> None:
    given: dict[str, Any] = {"diarize": diarizer(), "vad": vad, "chunk_seconds": 4.0}
    session = pipeline.stream(aligner=EverySecond(), **given)
    updates_of(session, TALK, sizes)
    found = session.transcript()
    expected = pipeline.transcribe(
        (TALK, SAMPLE_RATE), aligner=EverySecond(), end_at_pauses=True, **given
    )
    assert found.turns == expected.turns
    assert found.turns
    shown = [(one.speaker, one.text, one.start, one.end) for one in found.segments]
    assert shown == [(one.speaker, one.text, one.start, one.end) for one in expected.segments]
    for name in ("text", "language", "finish_reason", "seconds", "peak", "warnings", "words"):
        assert getattr(found, name) == getattr(expected, name), name


def test_final_text_has_speakers_at_once(pipeline: AsrPipeline) -> None:
    updates = live(pipeline)
    parts = [part for update in updates if update.final for part in update.speakers or ()]
    for update in updates:
        for part in update.speakers or ():
            assert part.speaker in {"speaker 1", "speaker 2", "speaker 3"}
            assert part.end is None or part.end <= update.seconds + 0.1
    said = {part.speaker: part for part in reversed(parts)}
    assert {name: part.start for name, part in said.items()} == {
        "speaker 1": pytest.approx(0.0, abs=1.1),
        "speaker 2": pytest.approx(7.0, abs=1.1),
        "speaker 3": pytest.approx(19.0, abs=1.1),
    }
    assert all(update.speakers is not None for update in updates)
    assert updates[-1].to_dict()["speakers"] == [p.to_dict() for p in updates[-1].speakers or ()]
    texts = " ".join(part.text for part in parts)
    assert texts == " ".join(update.segment.text for update in updates if update.final)


def test_settled_words_have_speakers_before_their_chunk_is_over() -> None:
    """Of a bundled model, whose words have ends, with speech in two voices."""
    recognizer = AsrPipeline.from_pretrained("tiny-ctc", device="cpu")
    speech = load(CLIP).samples
    talk = conversation(speech, 0, 0, 0, 1, 1, 1, 0, 0)
    given: dict[str, Any] = {"diarize": diarizer(MarkEncoder()), "settle_seconds": 0.5}
    with recognizer.stream("en", **given) as session:
        updates = updates_of(session, talk)
    settled = [update for update in updates if not update.final and update.settled]
    assert len(settled) >= 8
    for update in settled:
        assert " ".join(part.text for part in update.speakers or ()) == update.settled
    turn = len(talk) / SAMPLE_RATE / 8
    for part in [(update.speakers or ())[-1] for update in settled]:
        assert part.end is not None
        other = 3 * turn < part.end - 0.3 < 6 * turn
        assert part.speaker == ("speaker 2" if other else "speaker 1"), part


def test_silence_before_speech_has_no_speakers() -> None:
    """Chunks without text are longer than a window of the networks before anybody speaks."""
    recognizer = AsrPipeline.from_pretrained("tiny-ctc", device="cpu")
    speech = np.concatenate([np.zeros(14 * SAMPLE_RATE, np.float32), load(CLIP).samples])
    given: dict[str, Any] = {"diarize": diarizer(MarkEncoder()), "vad": False}
    with recognizer.stream("en", **given) as session:
        updates = updates_of(session, speech)
        transcript = session.transcript()
    silent = [update for update in updates if update.seconds <= 14.0]
    assert len(silent) > 10
    assert not any(update.speakers for update in silent)
    assert {part.speaker for update in updates for part in update.speakers or ()} == {"speaker 1"}
    assert transcript.text == " ".join(u.segment.text for u in updates if u.final).strip()


def test_a_stream_without_diarize_has_no_speakers(pipeline: AsrPipeline) -> None:
    with pipeline.stream() as session:
        updates = updates_of(session, TALK[:SAMPLE_RATE])
        assert [update.speakers for update in updates] == [None] * len(updates)
        assert "speakers" not in updates[-1].to_dict()
        with pytest.raises(UsageError, match="without diarize"):
            session.transcript()


def test_the_transcript_needs_the_end(pipeline: AsrPipeline) -> None:
    with pipeline.stream(diarize=diarizer()) as session:
        session.feed(TALK[:SAMPLE_RATE])
        with pytest.raises(UsageError, match="not finished"):
            session.transcript()
