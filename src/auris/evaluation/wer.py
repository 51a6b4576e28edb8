"""Word and character error rates of a model on recordings with transcripts.

Both texts are normalized, then jiwer aligns them. Rates are over all words of a set, not means
over clips. The normalizer "english" is the standard one (whisper-normalizer: case, punctuation,
numbers, spellings); it makes one number, and so one word, of a string of digits. "spoken" compares
the words as they are said.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auris.errors import MissingExtra, UsageError
from auris.pipeline import AsrPipeline
from auris.recognition.scheduler import Failure
from auris.text.normalize import spoken
from auris.types import Transcript

NORMALIZERS = ("english", "spoken")

__all__ = [
    "NORMALIZERS",
    "ClipScore",
    "SetScore",
    "normalizer_named",
    "read_set",
    "require_jiwer",
    "score_set",
]


@dataclass(frozen=True)
class ClipScore:
    """One clip: its normalized texts and its edits over the reference's words."""

    file: str
    reference: str
    hypothesis: str
    edits: int
    words: int


@dataclass(frozen=True)
class SetScore:
    """One test set.

    Attributes:
        name: the set's.
        clips, seconds: what was scored.
        failed: files that could not be transcribed, with the reason; they are not scored.
        wer, cer: error rates; None where the references hold no word.
        substitutions, insertions, deletions, words: what the rate is made of.
        stages: seconds of work per second of audio, by stage.
        rtf: wall-clock seconds per second of audio, reading included.
        worst: clips with the most edits for their length, the worst first.
    """

    name: str
    clips: int
    seconds: float
    failed: Mapping[str, str]
    wer: float | None
    cer: float | None
    substitutions: int
    insertions: int
    deletions: int
    words: int
    stages: Mapping[str, float]
    rtf: float
    worst: tuple[ClipScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the clips."""
        content = asdict(self)
        del content["worst"]
        return content


def require_jiwer() -> Any:
    """The module jiwer.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import jiwer
    except ImportError:
        raise _missing("jiwer") from None
    return jiwer


def normalizer_named(name: str) -> Callable[[str], str]:
    """One of `NORMALIZERS`.

    Raises:
        UsageError: there is no such normalizer.
        MissingExtra: whisper-normalizer is not installed.
    """
    if name == "spoken":
        # What has no spoken form is compared as it stands.
        return lambda text: spoken(text) or text.lower()
    if name != "english":
        raise UsageError(
            f"The normalizer has to be {' or '.join(NORMALIZERS)}",
            f"{name!r} was asked",
            "choose one of these",
        )
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        raise _missing("whisper-normalizer") from None
    normalize: Callable[[str], str] = EnglishTextNormalizer()
    return normalize


def _missing(package: str) -> MissingExtra:
    return MissingExtra(
        f"Scoring needs the package {package}",
        "it is not installed",
        "run pip install 'auris-asr[score]'",
    )


def read_set(source: str | Path) -> dict[Path, str]:
    """Recordings and their transcripts.

    Args:
        source: a CSV with the columns wav (relative to its folder) and text; or a folder of
            recordings, each with its text in a .txt file of the same name; or a folder as of
            LibriSpeech, where .trans.txt files in the folders hold a name and a text a line.

    Raises:
        UsageError: the source is neither.
    """
    path = Path(source)
    if path.is_dir():
        found = _read_trans(path)
        texts = {text.stem: text for text in sorted(path.glob("*.txt"))}
        files = [file for file in sorted(path.iterdir()) if file.suffix != ".txt"]
        found |= {f: texts[f.stem].read_text(encoding="utf-8") for f in files if f.stem in texts}
    else:
        found = _read_csv(path)
    if not found:
        raise UsageError(
            "A test set has to hold recordings with transcripts",
            f"{str(path)!r} holds none",
            "name a CSV with the columns wav and text, or a folder of recordings and .txt files",
        )
    return found


def _read_trans(folder: Path) -> dict[Path, str]:
    """Recordings of a folder in the layout of LibriSpeech.

    Raises:
        UsageError: a text has no recording.
    """
    found = {}
    for listing in sorted(folder.rglob("*.trans.txt")):
        files = {file.stem: file for file in listing.parent.iterdir() if file.suffix != ".txt"}
        for line in listing.read_text(encoding="utf-8").splitlines():
            name, _, text = line.strip().partition(" ")
            if not name:
                continue
            if name not in files:
                raise UsageError(
                    "Every text of a test set has to have a recording",
                    f"{str(listing)!r} names {name!r}, which is not beside it",
                    "add the recording, or remove the line",
                )
            found[files[name]] = text
    return found


def _read_csv(path: Path) -> dict[Path, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            missing = {"wav", "text"} - set(rows.fieldnames or [])
            if missing:
                raise UsageError(
                    "A test set has to be a CSV with the columns wav and text",
                    f"{str(path)!r} has no column {' or '.join(sorted(missing))}",
                    "name its columns in the first line",
                )
            return {path.parent / row["wav"]: row["text"] or "" for row in rows if row["wav"]}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            "A test set has to be a folder or a readable CSV",
            f"reading {str(path)!r} failed ({error})",
            "check the path",
        ) from None


def _clip(jiwer: Any, file: Path, reference: str, hypothesis: str) -> tuple[ClipScore, Any]:
    # jiwer refuses an empty reference, though inserted words count against it.
    marked = jiwer.process_words(f"= {reference}", f"= {hypothesis}")
    edits = marked.substitutions + marked.insertions + marked.deletions
    return ClipScore(str(file), reference, hypothesis, edits, len(reference.split())), marked


def score_set(
    pipeline: AsrPipeline,
    name: str,
    clips: Mapping[Path, str],
    *,
    batch_size: int = 1,
    normalizer: str = "english",
    chunk_seconds: float | None = None,
    vad: bool | None = None,
) -> SetScore:
    """Transcribe and score one set.

    Args:
        pipeline: the model.
        name: of the set.
        clips: transcripts by file.
        batch_size, chunk_seconds, vad: see `auris.recognition.options.CallOptions`.
        normalizer: one of `NORMALIZERS`.

    Raises:
        UsageError: there is no such normalizer, or an option is impossible.
        MissingExtra: jiwer or whisper-normalizer is not installed.
    """
    jiwer, normalize = require_jiwer(), normalizer_named(normalizer)
    files = list(clips)
    began = time.perf_counter()
    sources = [str(file) for file in files]
    results = dict(
        pipeline.results(sources, batch_size=batch_size, chunk_seconds=chunk_seconds, vad=vad)
    )
    spent = time.perf_counter() - began
    done = {
        files[number]: result
        for number, result in results.items()
        if isinstance(result, Transcript)
    }
    failed = {
        str(files[number]): str(result.error)
        for number, result in results.items()
        if isinstance(result, Failure)
    }
    pairs = [
        _clip(jiwer, file, normalize(clips[file]).strip(), normalize(transcript.text).strip())
        for file, transcript in done.items()
    ]
    scores = [score for score, _ in pairs]
    counts = {
        kind: sum(getattr(marked, kind) for _, marked in pairs)
        for kind in ("substitutions", "insertions", "deletions")
    }
    words = sum(score.words for score in scores)
    seconds = sum(transcript.seconds for transcript in done.values())
    return SetScore(
        name=name,
        clips=len(done),
        seconds=seconds,
        failed=failed,
        wer=sum(counts.values()) / words if words else None,
        cer=_cer(jiwer, scores),
        words=words,
        stages=_stages(done.values(), seconds),
        rtf=spent / seconds if seconds else 0.0,
        worst=tuple(sorted(scores, key=lambda s: -s.edits / max(1, s.words))),
        **counts,
    )


def _cer(jiwer: Any, scores: list[ClipScore]) -> float | None:
    spoken = [score for score in scores if score.reference]
    if not spoken:
        return None
    return float(jiwer.cer([s.reference for s in spoken], [s.hypothesis for s in spoken]))


def _stages(transcripts: Iterable[Transcript], seconds: float) -> dict[str, float]:
    stages: dict[str, float] = {}
    for transcript in transcripts:
        for stage, spent in transcript.timings.items():
            stages[stage] = stages.get(stage, 0.0) + spent
    return {stage: spent / seconds for stage, spent in stages.items()} if seconds else stages
