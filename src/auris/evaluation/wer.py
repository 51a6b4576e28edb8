"""Word and character error rates of a model on recordings with transcripts.

Both texts are normalized, then jiwer aligns them. Rates are over all words of a set, not means
over clips. The normalizer "english" is the standard one (whisper-normalizer: case, punctuation,
numbers, spellings); it turns a string of digits into one number, which is one word. "spoken"
compares the words as they are spoken.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auris.errors import MissingExtra, UsageError
from auris.pipeline import AsrPipeline
from auris.recognition.scheduler import Failure
from auris.text.normalize import spoken
from auris.types import Transcript

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from auris.recognition.options import CallOptions

NORMALIZERS = ("english", "spoken")
EDITS = ("substitutions", "insertions", "deletions")


@dataclass(frozen=True)
class ClipScore:
    """One clip: its normalized texts, the number of edits between them, and the words of the
    reference."""

    file: str
    reference: str
    hypothesis: str
    edits: int
    words: int


@dataclass(frozen=True)
class SetScore:
    """One test set.

    Attributes:
        clips, seconds: what was scored.
        failed: files that could not be transcribed, with the reason; they are not scored.
        wer, cer: error rates; None where the references hold no word.
        substitutions, insertions, deletions, words: what the rate is made of.
        stages: seconds of work per second of audio, by stage.
        rtf: wall-clock seconds per second of audio, reading included.
        worst: the clips, those with the most edits for their length first.
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
        return {name: value for name, value in vars(self).items() if name != "worst"}


def require_jiwer() -> Any:
    """The module jiwer, or MissingExtra."""
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
        # What has no spoken form is compared as it is written.
        return lambda text: spoken(text) or text.lower()
    if name != "english":
        raise UsageError(
            f"The normalizer has to be {' or '.join(NORMALIZERS)}",
            f"it is {name!r}",
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


def word_error_rate(references: Mapping[Path, str], hypotheses: Mapping[Path, str]) -> float | None:
    """The rate over the words of all files of the hypotheses, as "spoken" compares them; None where
    the references have no word.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    normalize = normalizer_named("spoken")
    words = edits = 0
    for file, text in hypotheses.items():
        reference = normalize(references[file]).strip()
        edits += word_edits(reference, normalize(text).strip()).total()
        words += len(reference.split())
    return edits / words if words else None


def word_edits(reference: str, text: str) -> Counter[str]:
    """Least numbers of words to substitute, insert and delete, by kind (`EDITS`), so that a
    reference becomes a text.

    Args:
        reference, text: words separated by spaces.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    # jiwer refuses an empty reference, but inserted words are errors there, too.
    aligned = require_jiwer().process_words(f"= {reference}", f"= {text}")
    return Counter({kind: getattr(aligned, kind) for kind in EDITS})


def score_set(
    pipeline: AsrPipeline,
    name: str,
    clips: Mapping[Path, str],
    *,
    normalizer: str = "english",
    **options: Unpack[CallOptions],
) -> SetScore:
    """Transcribe and score one set.

    Args:
        clips: transcripts by file.

    Raises:
        UsageError: there is no such normalizer, or an option is impossible.
        MissingExtra: jiwer or whisper-normalizer is not installed.
    """
    jiwer, normalize = require_jiwer(), normalizer_named(normalizer)
    files = list(clips)
    began = time.perf_counter()
    results = dict(pipeline.results([str(file) for file in files], **options))
    spent = time.perf_counter() - began
    transcripts: dict[Path, Transcript] = {}
    failed = {}
    for number, result in results.items():
        if isinstance(result, Failure):
            failed[str(files[number])] = str(result.error)
        else:
            transcripts[files[number]] = result
    scores, edits = [], Counter[str]()
    stages = defaultdict[str, float](float)
    for file, transcript in transcripts.items():
        reference, hypothesis = normalize(clips[file]).strip(), normalize(transcript.text).strip()
        counts = word_edits(reference, hypothesis)
        edits.update(counts)
        words = len(reference.split())
        scores.append(ClipScore(str(file), reference, hypothesis, counts.total(), words))
        for stage, work in transcript.timings.items():
            stages[stage] += work
    words = sum(score.words for score in scores)
    seconds = sum(transcript.seconds for transcript in transcripts.values())
    scored = [score for score in scores if score.reference]
    references = [score.reference for score in scored]
    hypotheses = [score.hypothesis for score in scored]
    return SetScore(
        name=name,
        clips=len(scores),
        seconds=seconds,
        failed=failed,
        wer=edits.total() / words if words else None,
        cer=float(jiwer.cer(references, hypotheses)) if scored else None,
        words=words,
        stages={stage: work / seconds for stage, work in stages.items()} if seconds else {},
        rtf=spent / seconds if seconds else 0.0,
        worst=tuple(sorted(scores, key=lambda score: -score.edits / max(1, score.words))),
        substitutions=edits["substitutions"],
        insertions=edits["insertions"],
        deletions=edits["deletions"],
    )
