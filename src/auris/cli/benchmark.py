"""`auris benchmark`: measurements, each ending in one line of JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auris.cli.declare import option, with_options
from auris.cli.options import (
    BatchSize,
    BeamSize,
    ChunkSeconds,
    ClipLengths,
    ClipTokens,
    Device,
    Dtype,
    Dtypes,
    HotwordList,
    Limit,
    Lm,
    Model,
    ModelOptions,
    Models,
    Peers,
    Revision,
    Runs,
    Speculate,
    TestSets,
    Threads,
    Vad,
    VadModel,
    models_or_default,
)
from auris.cli.table import Table, write_json
from auris.cli.values import numbers, read_hotwords
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.evaluation.speed import MeasuredModel, Peer
    from auris.recognition.load import LoadOptions
    from auris.recognition.options import CallOptions


app = typer.Typer(name="benchmark", help="Measure a model. The last line of output is JSON.")


def names(text: str) -> list[str]:
    """Names that an option takes separated by commas; none of an empty text."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _group(
    context: typer.Context,
    model: ModelOptions,
    test_set: Annotated[
        list[str] | None, option("Without a command: measure error rates, as wer does. Repeatable.")
    ] = None,
) -> None:
    """Measure a model. The last line of output is JSON.

    With --test-set and no command, the error rates are measured as by wer.
    """
    if context.invoked_subcommand is None:
        if not test_set:
            typer.echo(context.get_help())
            raise typer.Exit(2)
        wer(test_set, model)
    elif test_set or model != ModelOptions():
        raise UsageError(
            f"The options of {context.invoked_subcommand} have to follow its name",
            "some come before it",
            "move them",
        )


def load(
    model: Models = None,
    revision: Revision = None,
    runs: Runs = 5,
    seconds: Annotated[float, option("Length of the clip of noise.")] = 10.0,
    tokens: Annotated[int, option("Token budget of the clip.", min=1)] = 20,
    dtype: Dtype = "auto",
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Measure the time until a model can transcribe, and its memory then and after a first clip.

    The files are in the page cache. The runs of several models are interleaved.
    """
    from auris.checkpoints.hub import resolve
    from auris.evaluation.loading import help_seconds, interleaved

    models = models_or_default(model)
    for name in models:
        resolve(name, revision=revision)  # Refused, or downloaded, before anything is measured.
    options: LoadOptions = {"revision": revision, "dtype": dtype}
    options |= {"device": device, "threads": threads}
    rows = list(interleaved(models, runs, seconds, tokens, **options))
    formats = {"ready s": ">8.2f", "first s": ">8.2f", "weights GB": ">11.2f"}
    table = Table("model", formats | {"ready GB": ">9.2f", "used GB": ">8.2f"})
    for row in rows:
        seconds_and_sizes = (row.ready_seconds, row.first_seconds, row.weight_gb)
        table.row(row.model, *seconds_and_sizes, row.ready_gb, row.used_gb)
    answer = help_seconds(runs)
    typer.echo(f"auris --help: {answer:.2f} s")
    write_json({"help_seconds": answer, "models": rows})


@dataclass(frozen=True)
class SpeedOptions:
    """Whose stages are timed: options of `speed` and of benchmarks/roofline.py."""

    model: Models = None
    revision: Revision = None
    seconds: ClipLengths = "10,30,60"
    tokens: ClipTokens = 100
    dtype: Dtypes = "auto"
    peers: Peers = ""
    runs: Runs = 5
    threads: Threads = None

    @property
    def clips(self) -> list[float]:
        """Lengths of the clips."""
        return numbers("--seconds", self.seconds)

    @property
    def summary(self) -> dict[str, Any]:
        """What was measured, as plain JSON values."""
        models = models_or_default(self.model)
        return {"models": models, "tokens": self.tokens, "runs": self.runs}

    def load(self) -> tuple[list[MeasuredModel], list[Peer]]:
        """The models, each in every dtype, and the peers with the weights of the first, in the
        dtypes of the models."""
        from auris.evaluation.speed import MeasuredModel, load_peers

        models = [
            MeasuredModel(
                name, dtype=dtype, revision=self.revision, device="cpu", threads=self.threads
            )
            for name in models_or_default(self.model)
            for dtype in names(self.dtype)
        ]
        return models, load_peers(names(self.peers), models)


def speed(options: SpeedOptions) -> None:
    """Measure the time of every stage of a Qwen3-ASR model on the CPU.

    Stages are reading the file, features, encoder (its convolutions and its layers), prefill of the
    prompt and each token. Weights may be random, since decoding goes on for a fixed number of
    tokens. Figures are medians. The runs of all models, dtypes and peers are interleaved.

    After them follow the bandwidth of memory, read by all threads, PyTorch's rate of products of
    8-bit integers (with AMX that of its tiles), and for each model which code ran its parts, how
    long its bytes take to be read for a token, and products of 100 tokens of a prompt at that rate.
    """
    from auris.checkpoints.quantization_config import PACKED_DTYPES
    from auris.evaluation.speed import (
        IntegerProducts,
        MemoryRead,
        layer_weights,
        speed_ratios,
        stages_of,
    )

    clips = options.clips
    models, peers = options.load()
    memory, products = MemoryRead(), IntegerProducts()

    def measure_rates() -> None:
        memory.measure()
        products.measure()

    table = Table("model", {"clip s": ">7g", "stage": "<8", "ms": ">10.1f"})
    stages = []
    for stage in stages_of(
        [*models, *peers], clips, options.tokens, options.runs, before_round=measure_rates
    ):
        stages.append(stage)
        table.row(stage.model, stage.clip, stage.stage, 1e3 * stage.seconds)
    ratios = list(speed_ratios(stages, models, peers))
    for ratio in ratios:
        typer.echo(str(ratio))
    typer.echo(str(memory))
    kernels = {one.name: one.kernels for one in models}
    limits = {one.name: memory.seconds(one.token_bytes) for one in models}
    prompts = {}
    if products.gops:
        typer.echo(str(products))
        for one in models:
            if one.dtype in PACKED_DTYPES:
                prompts[one.name] = products.seconds(100 * layer_weights(one.config.decoder))
    for name, text in kernels.items():
        prompt = ""
        if name in prompts:
            milliseconds = 1e3 * prompts[name]
            prompt = f"; at that rate products of 100 tokens of a prompt take {milliseconds:.1f} ms"
        typer.echo(f"{name}: {text}; a token takes {1e3 * limits[name]:.1f} ms or more{prompt}")
    rates = {
        "gb_per_second": memory.gb_per_second,
        "token_limits": limits,
        "integer_gops": products.gops,
        "prompt_limits": prompts,
    }
    write_json({**options.summary, "stages": stages, "ratios": ratios, "kernels": kernels, **rates})


def wer(
    test_set: TestSets,
    model: ModelOptions,
    speculate: Speculate = "none",
    lm: Lm = "auto",
    beam_size: BeamSize = None,
    hotwords: HotwordList = None,
    batch_size: BatchSize = 1,
    normalizer: Annotated[
        str,
        option("english (the standard one; digits become numbers) or spoken (words as spoken)."),
    ] = "english",
    chunk_seconds: ChunkSeconds = None,
    vad: Vad = None,
    vad_model: VadModel = "auto",
    worst: Annotated[int, option("How many of the clips with most errors to show.", min=0)] = 3,
) -> None:
    """Measure word and character error rates and the speed.

    The exit code is 1 when a clip could not be transcribed.
    """
    from auris.evaluation.loading import peak_gb
    from auris.evaluation.sets import read_set
    from auris.evaluation.wer import score_set

    sets = {source: read_set(source) for source in test_set}
    pipeline = model.pipeline(speculate, lm, beam_size)
    options: CallOptions = {"batch_size": batch_size, "chunk_seconds": chunk_seconds}
    options |= {"vad": vad, "vad_model": vad_model, "beam_size": beam_size}
    options |= {"hotwords": read_hotwords(hotwords)}
    scores = [
        score_set(pipeline, name, clips, normalizer=normalizer, **options)
        for name, clips in sets.items()
    ]
    formats = {"WER %": ">7.2f", "CER %": ">7.2f", "sub": ">6", "ins": ">6", "del": ">6"}
    table = Table("set", formats | {"words": ">7", "RTF": ">7.4f"})
    for score in scores:
        rates = (None if rate is None else 100 * rate for rate in (score.wer, score.cer))
        edits = (score.substitutions, score.insertions, score.deletions)
        table.row(score.name, *rates, *edits, score.words, score.rtf)
        for file, reason in score.failed.items():
            typer.echo(f"not scored: {file}: {reason}", err=True)
        for clip in score.worst[:worst]:
            typer.echo(f"    {clip.edits}/{clip.words} {clip.file}")
            typer.echo(f"      reference {clip.reference!r}, transcript {clip.hypothesis!r}")
    summary = [score.to_dict() for score in scores]
    write_json({"model": pipeline.model.name, "peak_gb": peak_gb(), "sets": summary})
    if any(score.failed for score in scores):
        raise typer.Exit(1)


def lm(
    test_set: TestSets,
    model: ModelOptions,
    lm: Lm = "auto",
    trials: Annotated[int, option("How many weights are tried.", min=1)] = 16,
    beam_size: Annotated[
        int | None,
        option("Hypotheses that are followed.", default="that of the present weights", min=1),
    ] = None,
    limit: Limit = None,
    batch_size: BatchSize = 1,
    save: Annotated[
        bool,
        option("Write the best weights next to the weights of the model.", "--save"),
    ] = False,
) -> None:
    """Fit the weights of a model's search with a language model on development sets.

    They are those of the language model, of every word, and of the CTC head of a model with a
    decoder. Weights around the best ones so far are tried, closer and closer. What is minimized
    is the mean of the word error rates of the sets, over the words as they are spoken.
    """
    from auris.checkpoints.lm_weights import save_lm_weights
    from auris.evaluation.lm_weights import fit_weights
    from auris.evaluation.sets import read_set

    sets = {source: dict(islice(read_set(source).items(), limit)) for source in test_set}
    pipeline = model.pipeline(lm=lm)
    formats = {"weight": ">7.3f", "bonus": ">7.3f", "CTC": ">7.3f", "WER %": ">7.2f"}
    table = Table("trial", formats)
    done = []
    for trial in fit_weights(pipeline, sets, trials, beam_size, batch_size=batch_size):
        done.append(trial)
        weights = trial.weights
        numbers = (weights.weight, weights.word_bonus, weights.ctc_weight)
        table.row(len(done), *numbers, 100 * trial.rate)
    best = min(done, key=lambda trial: trial.rate)
    used = pipeline.recognizer.scorers.lm
    measured = {
        "lm_digest": None if used is None else used.digest,
        "wer": best.rate,
        "sets": [Path(source).name for source in sets],
        "clips_of_each_set": limit,
    }
    weights = replace(best.weights, measured=measured)
    if save:
        typer.echo(f"wrote {save_lm_weights(weights, pipeline.model.directory)}")
    write_json({"model": pipeline.model.name, **vars(weights), "trials": len(done)})


def parity(
    test_set: TestSets,
    model: Model = None,
    revision: Revision = None,
    threads: Threads = None,
    limit: Limit = None,
) -> None:
    """Compare texts with those of transformers, in float32 on the CPU.

    The exit code is 1 when a text differs by more than a tie, or a clip could not be compared.
    """
    from auris.diagnostics.parity import TIE_MARGIN, Parity, compare_set
    from auris.evaluation.sets import read_set

    sets = {source: read_set(source) for source in test_set}
    both = Parity(model, threads, revision)
    formats = {"clips": ">6", "identical": ">9", "ties": ">5", "different": ">9"}
    table = Table("set", formats | {"tokens": ">8", "minutes": ">8.1f"})
    scores = []
    for name, clips in sets.items():
        score = compare_set(both, name, list(clips)[:limit])
        scores.append(score)
        verdicts = (score.clips, score.identical, score.ties, score.different)
        table.row(name, *verdicts, score.tokens, score.seconds / 60)
        for file, clip in score.differences.items():
            typer.echo(f"    {clip.verdict}: {file} {clip.note}")
            typer.echo(f"      auris {clip.ours!r}, transformers {clip.theirs!r}")
        for file, reason in score.failed.items():
            typer.echo(f"not compared: {file}: {reason}", err=True)
    write_json({"model": both.pipeline.model.name, "tie_margin": TIE_MARGIN, "sets": scores})
    if any(score.different or score.failed for score in scores):
        raise typer.Exit(1)


def words(
    test_set: Annotated[
        list[Path],
        option(
            "Recordings with timed words: JSONL, as scripts/make_timed_set.py writes it. "
            "Repeatable."
        ),
    ],
    model: ModelOptions,
    fit_set: Annotated[
        Path | None, option("Another such set, to which one offset of all times is fitted.")
    ] = None,
) -> None:
    """Compare the times of aligned words with known ones, such as those of a synthesizer."""
    from auris.evaluation.words import errors_of, fit_offset, read_timed

    sets = {path: read_timed(path) for path in test_set}
    fitting = read_timed(fit_set) if fit_set else []
    aligner = model.aligner()
    offset = fit_offset(aligner, fitting)
    typer.echo(f"offset {1000 * offset:.0f} ms")
    formats = {"words": ">6", "missing": ">7", "start ms": ">9.0f", "end ms": ">7.0f"}
    table = Table("set", formats | {"95 %: start": ">12.0f", "end": ">5.0f"})
    summary = {}
    for path, clips in sets.items():
        errors = summary[str(path)] = errors_of(aligner, clips, offset)
        times = (errors.start, errors.end, errors.start_95, errors.end_95)
        table.row(path, errors.words, errors.missing, *(1000 * time for time in times))
    write_json({"sets": summary})


app.callback(invoke_without_command=True)(with_options(_group))
for command in (load, speed, wer, lm, parity, words):
    app.command()(with_options(command))
