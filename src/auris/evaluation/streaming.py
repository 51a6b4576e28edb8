"""Live streams compared with files: equality of the texts, cost early and late, delay of words."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from auris.diagnostics.parity import TIE_MARGIN, Verdict, first_difference
from auris.evaluation.live_delays import DelayScore, LiveDelays
from auris.evaluation.loading import resident_gb
from auris.evaluation.wer import word_error_rate
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.streaming.decoder import StepCost
from auris.streaming.session import StreamSession, StreamUpdate
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE, Samples, Segment

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from auris.recognition.options import CallOptions, StreamOptions


@dataclass(frozen=True)
class StreamScore:
    """One recording as a stream and as a file.

    Attributes:
        name: the recording.
        seconds: its length.
        steps, chunks: numbers of steps and of chunks.
        verdict: how the texts of stream and file compare: "identical", "tie" or "different".
        early_seconds, late_seconds: median time of a step in the first and in the last fifth.
        ratio: late divided by early.
        early_gb, late_gb: resident memory at the end of the first fifth and at the last step.
        delays: of its words.
        busy: processing time divided by the length of the recording.
        frames, encoded, decoded: medians of what a step computed, see `StepCost`.
    """

    name: str
    seconds: float
    steps: int
    chunks: int
    verdict: Verdict
    early_seconds: float
    late_seconds: float
    ratio: float
    early_gb: float
    late_gb: float
    delays: DelayScore
    busy: float
    frames: float
    encoded: float
    decoded: float


@dataclass(frozen=True)
class ClipsScore:
    """Clips as streams and as files.

    Attributes:
        clips, identical, ties: numbers of clips by the comparison of their texts.
        different: names of the clips whose texts differ.
        step_seconds: processor time of all steps and final texts, divided by the number of steps.
        live: the delays of the words of the streams.
        live_wer, file_wer: word error rates of the final texts of the streams, and of the files
            with default options; None if they were not computed.
    """

    clips: int
    identical: int
    ties: int
    different: tuple[str, ...]
    step_seconds: float
    live: LiveDelays
    live_wer: float | None = None
    file_wer: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the delays of the words as a `DelayScore`."""
        values = {name: value for name, value in vars(self).items() if name != "live"}
        return {**values, "delays": asdict(self.live.score())}


def compare_segments(ours: Sequence[Segment], theirs: Sequence[Segment]) -> Verdict:
    """Compare two transcripts of a recording under the tie rule.

    Where tokens differ, both are the best ones of the same scores up to rounding, so the difference
    of their log-probabilities bounds the margin. If one text goes on where the other one ends, the
    verdict is "different", since the probability of the end is not known.
    """
    if [(s.start, s.end) for s in ours] != [(s.start, s.end) for s in theirs]:
        return "different"
    verdict: Verdict = "identical"
    for mine, other in zip(ours, theirs, strict=True):
        first = first_difference(mine.tokens, other.tokens)
        if first is None:
            if (mine.text, mine.language) != (other.text, other.language):
                return "different"
            continue
        if first >= min(len(mine.tokens), len(other.tokens)):
            return "different"
        if abs(mine.logprobs[first] - other.logprobs[first]) >= TIE_MARGIN:
            return "different"
        verdict = "tie"
    return verdict


def score_stream(
    pipeline: AsrPipeline,
    source: str,
    feed_seconds: Sequence[float],
    **options: Unpack[StreamOptions],
) -> StreamScore:
    """Transcribe a recording as a stream and as a file, and compare the results.

    Args:
        feed_seconds: sizes of the blocks that are fed, in turn.

    Raises:
        AurisError: the recording cannot be read.
    """
    updates: list[StreamUpdate] = []
    times: list[float] = []
    memory: list[float] = []
    session, spent = pipeline.stream(**options), 0.0
    for block in _blocks(source, feed_seconds):
        began = time.perf_counter()
        new = session.feed(block)
        spent += time.perf_counter() - began
        updates += new
        # The steps of one feed get equal parts of its time.
        if steps := sum(not update.final for update in new):
            times += [spent / steps] * steps
            memory += [resident_gb()] * steps
            spent = 0.0
    last = session.finish()
    updates += last
    memory += [resident_gb()] * sum(not update.final for update in last)
    final = [update for update in updates if update.final]
    costs: list[StepCost] = [update.cost for update in updates if not update.final]
    delays = LiveDelays()
    delays.add(updates)
    transcript = pipeline.transcribe(source, **_file_options(pipeline, options))
    fifth = max(len(times) // 5, 1)
    early, late = _median(times[:fifth]), _median(times[-fifth:])
    return StreamScore(
        name=source,
        seconds=transcript.seconds,
        steps=len(costs),
        chunks=len(final),
        verdict=compare_segments([update.segment for update in final], transcript.segments),
        early_seconds=early,
        late_seconds=late,
        ratio=late / early if early else 1.0,
        early_gb=_median(memory[fifth - 1 : fifth]),
        late_gb=_median(memory[-1:]),
        delays=delays.score(),
        busy=sum(times) / transcript.seconds,
        frames=_median([cost.frames for cost in costs]),
        encoded=_median([cost.encoded for cost in costs]),
        decoded=_median([cost.decoded for cost in costs]),
    )


@dataclass
class _StreamedClip:
    file: Path
    blocks: Iterator[Samples]
    updates: list[StreamUpdate] = field(default_factory=list)


def compare_clips(
    pipeline: AsrPipeline,
    files: Sequence[Path],
    feed_seconds: Sequence[float],
    streams: int = 1,
    texts: Mapping[Path, str] | None = None,
    **options: Unpack[StreamOptions],
) -> ClipsScore:
    """Transcribe clips as streams, several at once, and each as a file, and compare the texts.

    Args:
        files: the clips; the next one begins when one ends.
        feed_seconds: as of `score_stream`.
        streams: the number of streams at once, in one pool.
        texts: transcripts of the clips, to compute word error rates.

    Raises:
        AurisError: a clip cannot be read.
    """
    pool, waiting = pipeline.streams(streams), iter(files)
    clips: dict[StreamSession, _StreamedClip] = {}
    verdicts: list[tuple[Path, Verdict]] = []
    delays = LiveDelays()
    finals: dict[Path, str] = {}
    spent, steps = 0.0, 0
    while len(verdicts) < len(files):
        for file in islice(waiting, streams - len(clips)):
            session = pipeline.stream(pool=pool, **options)
            clips[session] = _StreamedClip(file, _blocks(str(file), feed_seconds))
        ended = []
        for session, clip in clips.items():
            block = next(clip.blocks, None)
            if block is None:
                session.push_end()
                ended.append(session)
            else:
                session.push(block)
        began = time.process_time()
        pool.work()
        spent += time.process_time() - began
        for session, clip in clips.items():
            new = session.updates()
            steps += sum(not update.final for update in new)
            clip.updates += new
        for session in ended:
            clip = clips.pop(session)
            theirs = pipeline.transcribe(
                str(clip.file), **_file_options(pipeline, options)
            ).segments
            delays.add(clip.updates)
            ours = [update.segment for update in clip.updates if update.final]
            verdicts.append((clip.file, compare_segments(ours, theirs)))
            finals[clip.file] = join_texts([segment.text for segment in ours])
    kinds = [verdict for _, verdict in verdicts]
    different = tuple(str(file) for file, verdict in verdicts if verdict == "different")
    counts = len(kinds), kinds.count("identical"), kinds.count("tie")
    score = ClipsScore(*counts, different, spent / max(steps, 1), delays)
    return score if texts is None else _with_error_rates(score, pipeline, texts, finals)


def _with_error_rates(
    score: ClipsScore,
    pipeline: AsrPipeline,
    references: Mapping[Path, str],
    live: Mapping[Path, str],
) -> ClipsScore:
    """The score with the word error rates of live texts and of the same files."""
    by_default = pipeline.transcribe([str(file) for file in live])
    files = {file: done.text for file, done in zip(live, by_default, strict=True)}
    live_wer, file_wer = (word_error_rate(references, given) for given in (live, files))
    return replace(score, live_wer=live_wer, file_wer=file_wer)


def _file_options(pipeline: AsrPipeline, options: StreamOptions) -> CallOptions:
    """Options of a file that is cut as a stream with these is."""
    return {
        "chunk_seconds": options.get("chunk_seconds") or pipeline.live_chunk_seconds,
        "max_new_tokens": options.get("max_new_tokens"),
        "vad": False,
        "end_at_pauses": True,
    }


def _blocks(source: str, seconds: Sequence[float]) -> Iterator[Samples]:
    """The samples of a recording, in blocks of some lengths."""
    sizes = cycle(max(round(length * SAMPLE_RATE), 1) for length in seconds)
    size, waiting = next(sizes), np.empty(0, np.float32)
    for chunk in AudioChunker().chunks(source):
        waiting = np.concatenate((waiting, chunk.samples))
        begin = 0
        while len(waiting) - begin >= size:
            yield waiting[begin : begin + size]
            begin, size = begin + size, next(sizes)
        waiting = waiting[begin:]
    if len(waiting):
        yield waiting


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0
