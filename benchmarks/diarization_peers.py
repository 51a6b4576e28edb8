#!/usr/bin/env python3
"""Let another program diarize the recordings of a test set, for `auris benchmark der --rttm-dir`.

    senko        senko as a whole
    resemblyzer  embeddings of resemblyzer, clustered by spectralcluster with its configuration of
                 ICASSP 2018; speech is found by webrtcvad, with a majority over 0.33 s

Run it with a Python that has the program, soundfile and typer; nothing of auris is needed. For each
recording it writes NAME.rttm into the folder, and at the end it prints a line of JSON with the
length of the recordings and the processor time of the program.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

RATE = 16_000
"""Samples per second of the recordings."""

FRAME = 480
"""Samples of a frame of webrtcvad."""

SMOOTHED = 11
"""Frames of the majority."""

Spans = list[tuple[float, float, str]]
"""Starts and ends in seconds, and speakers."""

Diarize = Callable[[Any], Spans]


def load_senko() -> Diarize:
    """The whole program."""
    import senko

    diarizer = senko.Diarizer(device="cpu", warmup=False, quiet=True)

    def diarize(samples: Any) -> Spans:
        found = diarizer.diarize_samples(samples) or {"merged_segments": []}
        return [(one["start"], one["end"], one["speaker"]) for one in found["merged_segments"]]

    return diarize


def load_resemblyzer() -> Diarize:
    """Embeddings, their clustering, and speech by webrtcvad."""
    import webrtcvad
    from resemblyzer import VoiceEncoder
    from spectralcluster import configs

    encoder = VoiceEncoder("cpu", verbose=False)

    def diarize(samples: Any) -> Spans:
        _, embeddings, slices = encoder.embed_utterance(samples, return_partials=True, rate=4)
        labels = configs.icassp2018_clusterer.predict(embeddings)
        middles = np.array([(one.start + one.stop) / 2 for one in slices])
        speech = speech_frames(samples, webrtcvad.Vad(3))
        times = (np.arange(len(speech)) + 0.5) * FRAME
        nearest = np.abs(times[:, None] - middles[None]).argmin(1)
        return spans_of(np.where(speech, labels[nearest], -1))

    return diarize


def speech_frames(samples: Any, detector: Any) -> Any:
    """Whether each frame is speech, by the majority of those around it."""
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    starts = range(0, len(pcm) - FRAME, FRAME)
    speech = [detector.is_speech(pcm[first : first + FRAME].tobytes(), RATE) for first in starts]
    return np.convolve(speech, np.ones(SMOOTHED) / SMOOTHED, "same") > 0.5


def spans_of(labels: Any) -> Spans:
    """Runs of frames with the same label; -1 is nobody."""
    spans, first = [], 0
    for label, frames in groupby(labels.tolist()):
        last = first + len(list(frames))
        if label >= 0:
            spans.append((first * FRAME / RATE, last * FRAME / RATE, f"speaker{label}"))
        first = last
    return spans


PROGRAMS = {"senko": load_senko, "resemblyzer": load_resemblyzer}


def write_rttm(path: Path, spans: Spans) -> None:
    """Write the result of a recording."""
    lines = [
        f"SPEAKER {path.stem} 1 {start:.3f} {end - start:.3f} <NA> <NA> {speaker} <NA> <NA>\n"
        for start, end, speaker in spans
    ]
    path.write_text("".join(lines), encoding="utf-8")


def diarization_peers(
    program: Annotated[Literal["senko", "resemblyzer"], typer.Option(help="The program.")],
    test_set: Annotated[Path, typer.Option(help="CSV with the column wav.")],
    out: Annotated[Path, typer.Option(help="Folder for the RTTM files.")],
) -> None:
    """Let another program diarize the recordings of a test set. The last line is JSON."""
    import soundfile

    out.mkdir(parents=True, exist_ok=True)
    diarize = PROGRAMS[program]()
    with test_set.open(encoding="utf-8", newline="") as file:
        names = [row["wav"] for row in csv.DictReader(file)]
    seconds = work = 0.0
    for name in names:
        samples, _ = soundfile.read(test_set.parent / name, dtype="float32")
        begun = time.process_time()
        spans = diarize(samples)
        work += time.process_time() - begun
        seconds += len(samples) / RATE
        write_rttm(out / f"{Path(name).stem}.rttm", spans)
    figures = {"program": program, "recordings": len(names)}
    print(json.dumps({**figures, "seconds": seconds, "processor_seconds": work}))


if __name__ == "__main__":
    typer.run(diarization_peers)
