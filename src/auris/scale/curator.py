"""`CuratorModel`: a model of Auris in the speech recognition stage of NeMo Curator.

`ASRStage` of NeMo Curator gives batches of waveforms to an adapter, a class with the methods below.
It needs no base class, so this one is written and tested without NeMo Curator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from auris.errors import EmptyAudio, LanguageError, UsageError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from auris.pipeline import AsrPipeline
    from auris.recognition.load import LoadOptions
    from auris.recognition.options import CallOptions

Item = Mapping[str, Any]
"""What the stage gives for a recording: `waveform`, `sample_rate` and `language_code`."""


@dataclass
class CuratorResult:
    """What the stage gets for a recording, with the attributes of its `ASRResult`.

    Attributes:
        text: empty if it was skipped.
        skipped, skip_reason: whether it could not be transcribed, and a word for why.
        unsupported_language: its language, if the model does not know that.
        extras: language, confidence, segments, and the error if there is one.
    """

    text: str = ""
    skipped: bool = False
    skip_reason: str | None = None
    unsupported_language: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)


class CuratorModel:
    """An adapter for `ASRStage(adapter_target="auris.scale.CuratorModel", model_id=...)`.

    Args:
        model_id: model, as of `AsrPipeline`.
        load: options of loading.
        context: as of `AsrPipeline.transcribe`.
        options: of every recording.
    """

    def __init__(
        self,
        model_id: str,
        load: LoadOptions | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> None:
        self.model_id = model_id
        self.load: LoadOptions = {} if load is None else load
        self.context, self.options = context, options
        self._pipeline: AsrPipeline | None = None

    def download_weights_on_node(self) -> None:
        """Fetch the model, if it is one of the hub and not in the cache."""
        from auris.checkpoints.hub import resolve

        resolve(self.model_id, self.load.get("local_files_only", False), self.load.get("revision"))

    def load_model(self, *, num_gpus: int) -> None:
        """Load the model.

        Args:
            num_gpus: of the stage. Ray lets a process see these only, so the default device is
                right for any number.
        """
        from auris.pipeline import AsrPipeline

        self._pipeline = AsrPipeline.from_pretrained(self.model_id, **self.load)

    def unload_model(self) -> None:
        """Free the model."""
        self._pipeline = None

    def transcribe_batch(self, items: Sequence[Item]) -> list[CuratorResult]:
        """Transcribe recordings; those of a language are decoded together.

        Returns:
            a result for each, in order; what cannot be transcribed is skipped.
        """
        groups: dict[str | None, list[int]] = defaultdict(list)
        for number, item in enumerate(items):
            groups[item.get("language_code") or None].append(number)
        results = [CuratorResult() for _ in items]
        for language, numbers in groups.items():
            for number, result in zip(
                numbers, self._results(language, [items[n] for n in numbers]), strict=True
            ):
                results[number] = result
        return results

    def _results(self, language: str | None, items: Sequence[Item]) -> list[CuratorResult]:
        """The results of recordings of one language."""
        if self._pipeline is None:
            raise UsageError(
                "The model has to be loaded", "load_model was not called", "call it before"
            )
        sources = [(item["waveform"], item["sample_rate"]) for item in items]
        try:
            results = dict(self._pipeline.results(sources, language, self.context, **self.options))
        except LanguageError as error:
            return [_unsupported(language, error) for _ in items]
        return [_result(results[number]) for number in range(len(items))]


def _unsupported(language: str | None, error: LanguageError) -> CuratorResult:
    return CuratorResult(
        skipped=True,
        skip_reason="language_not_supported",
        unsupported_language=language,
        extras={"error": error.sentence},
    )


def _result(result: Any) -> CuratorResult:
    """What the stage gets for a transcript or a failure."""
    from auris.types import Transcript

    if not isinstance(result, Transcript):
        reason = "empty_audio" if isinstance(result.error, EmptyAudio) else "audio_error"
        error = result.error.without_span().sentence
        return CuratorResult(skipped=True, skip_reason=reason, extras={"error": error})
    extras = {
        "language": result.language,
        "confidence": result.confidence,
        "finish_reason": result.finish_reason,
        "segments": [segment.to_dict() for segment in result.segments],
    }
    return CuratorResult(result.text, extras=extras)
