"""Delays of many live streams on one core, in simulated time.

Streams of one pool play clips one after the other. The clock advances by the processor time of
every round of steps, or to the next block of audio where nothing is due. So the delays are those of
a core that does nothing else, also on a busy machine. The output is a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from auris import AsrPipeline
from auris.evaluation.live_delays import LiveDelays, word_ends
from auris.evaluation.sets import read_set
from auris.recognition.chunker import AudioChunker
from auris.streaming.pool import StreamPool
from auris.streaming.session import StreamSession, StreamUpdate
from auris.types import SAMPLE_RATE, Samples

BLOCK = SAMPLE_RATE // 10
"""Samples that a stream receives at a time."""


@dataclass
class Delays:
    """What is measured, in seconds.

    Attributes:
        first: from the end of the first word of a clip until there was any text.
        words: of all words.
        busy: processor time of all rounds.
    """

    first: list[float] = field(default_factory=list)
    words: LiveDelays = field(default_factory=LiveDelays)
    busy: float = 0.0


@dataclass
class Player:
    """A stream that plays one clip; its updates have the time at which they were ready."""

    session: StreamSession
    samples: Samples
    start: float
    fed: int = 0
    updates: list[StreamUpdate] = field(default_factory=list)

    def feed(self, clock: float) -> None:
        """Give the stream what was spoken by now."""
        arrived = int((clock - self.start) * SAMPLE_RATE) // BLOCK * BLOCK
        until = min(arrived, (len(self.samples) - 1) // BLOCK * BLOCK)
        if until > self.fed:
            self.session.push(self.samples[self.fed : until])
            self.fed = until
        if arrived + BLOCK > len(self.samples) > self.fed:
            self.session.push(self.samples[self.fed :])
            self.fed = len(self.samples)
            self.session.push_end()

    def collect(self, clock: float) -> bool:
        """Take the updates that are ready; returns whether the clip is over."""
        delivered = clock - self.start
        self.updates += [replace(one, seconds=delivered) for one in self.session.updates()]
        ends = [one.segment.end for one in self.updates[-1:] if one.final]
        return any(end >= len(self.samples) / SAMPLE_RATE - 1e-6 for end in ends)

    def score(self, delays: Delays) -> None:
        """Add the delays of the clip."""
        delays.words.add(self.updates)
        shown = [one.seconds for one in self.updates if one.settled or one.partial]
        spoken = [end for one in self.updates if one.final for end in word_ends(one.segment)]
        if shown and spoken:
            delays.first.append(shown[0] - spoken[0])


def simulate(pipeline: AsrPipeline, clips: Iterator[Samples], streams: int, clip: int) -> Delays:
    """Play that many clips in that many streams.

    Args:
        clip: number of clips in all.
    """
    pool: StreamPool = pipeline.streams(streams)
    delays, clock, begun = Delays(), 0.0, 0
    players: list[Player] = []
    free = [number * 0.5 / streams for number in range(streams)]
    while begun < clip or players:
        for start in [start for start in free if start <= clock and begun < clip]:
            free.remove(start)
            session = pipeline.stream(pool=pool, skip_late=True, word_timestamps=True)
            players.append(Player(session, next(clips), start))
            begun += 1
        for player in players:
            player.feed(clock)
        began = time.process_time()
        worked = pool.work_round()
        spent = time.process_time() - began
        clock += spent if worked else 0.01
        delays.busy += spent if worked else 0.0
        for player in [player for player in players if player.collect(clock)]:
            player.score(delays)
            players.remove(player)
            free.append(clock + 1.0)
    return delays


def read_clips(sets: list[str], every: int) -> list[Samples]:
    """The samples of every `every`-th clip."""
    files = [file for name in sets for file in list(read_set(Path(name)))[::every]]
    chunks = (list(AudioChunker().chunks(str(file))) for file in files)
    return [np.concatenate([chunk.samples for chunk in clip]) for clip in chunks]


def percentiles(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    if not values:
        return {}
    rank = float(np.percentile(values, 95))
    return {"median": round(statistics.median(values), 3), "p95": round(rank, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="as of auris transcribe")
    parser.add_argument("--test-set", action="append", required=True, help="clips; repeatable")
    parser.add_argument("--every", type=int, default=1, help="take every N-th clip")
    parser.add_argument("--streams", type=int, default=16, help="streams at once")
    parser.add_argument("--clips", type=int, default=48, help="clips in all")
    given = parser.parse_args()
    pipeline = AsrPipeline.from_pretrained(given.model, device="cpu", threads=1)
    samples = read_clips(given.test_set, given.every)
    pipeline.transcribe((samples[0], SAMPLE_RATE))  # Loads what is loaded at the first use.
    clips = list(islice(cycle(samples), given.clips))
    delays = simulate(pipeline, iter(clips), given.streams, given.clips)
    result = {
        "streams": given.streams,
        "first_text": percentiles(delays.first),
        "settled": percentiles(delays.words.settled),
        "final": percentiles(delays.words.final),
        "words": len(delays.words.final),
        "early": delays.words.early,
        "revised": delays.words.revised,
        "core_seconds": round(delays.busy, 2),
        "audio_seconds": round(sum(map(len, clips)) / SAMPLE_RATE, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
