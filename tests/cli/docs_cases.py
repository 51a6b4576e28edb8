"""Changes to command lines of the documentation so that they run in a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.cli.docs_files import SPOKEN

TEXT = f"'{SPOKEN}'"


@dataclass(frozen=True)
class Case:
    """How one line is run.

    Attributes:
        words: arguments that are replaced, and what replaces them, as a shell would read it.
        more: arguments that are added.
        after: another line of the documentation, which makes what this one reads.
        code: the expected exit code.
        message: what the error says, if one is expected.
    """

    words: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    after: str = ""
    code: int = 0
    message: str = ""


WORDS = {
    "COMMAND": "transcribe",
    "FILE...": "talk.mp3",
    "AUDIO...": "talk.mp3",
    "AUDIO": "talk.mp3",
    "TEXT": TEXT,
    "IN": "DIR",
    "OUT": "out",
    "M": "DIR",
    "CSV": "dev.csv",
    "JSONL": "timed/ked_diphone.jsonl",
    "FORMAT": "json",
    "N": "2",
    "S": "3",
    "what is said": TEXT,
    "what is said in it": TEXT,
    "$SLURM_ARRAY_TASK_ID/64": "1/64",
    "/etc/auris/keys": "keys",
    "/shared/speech_train.csv": "speech_train.csv",
    "/shared/runs/tiny": "runs/tiny",
}
"""Arguments that are replaced in every line."""

MORE = {
    "benchmark lm": "--trials 2",
    "benchmark speed": "--seconds 1 --tokens 2 --runs 1",
    "benchmark load": "--seconds 1 --tokens 2 --runs 1",
    "serve": "--port 0 --workers 1",
    "scale serve": "--port 0 --state-dir jobs",
    "wyoming": "--uri tcp://127.0.0.1:0",
}
"""Arguments that are added to every line of a command: shorter measurements, a free port, and a
server in the process of the test."""

ALONE = ("doctor", "models", "listen", "serve", "scale serve", "wyoming")
"""Commands that need no argument. A line with the name of another one alone speaks of the command,
and is no call."""

TRAINED = "auris train ctc --config recipes/tiny_ctc.json --data train.csv --dev dev.csv --out "
TRAINED += "runs/mine"
SPEAKER = "auris train speaker --config recipes/speaker.json --data speakers_train.csv --dev "
SPEAKER += "speakers_dev.csv --encoder tiny-ctc --out runs/speaker"
TAUGHT = "auris train speaker --config recipes/speaker_taught.json --data speakers_fit.csv --dev "
TAUGHT += "speakers_held.csv --encoder tiny-ctc --teacher campplus_cn_en_common.pt"
OWN_VOICES = "auris benchmark der --test-set talks/conversations.csv"
TUNED = "auris train asr --model $(auris pull Qwen/Qwen3-ASR-0.6B) --config recipes/tune.json "
TUNED += "--data tune.jsonl --out runs/tune --workers 1"
CTC_DIGITS = "auris train ctc --config recipes/digits_ctc.json --data digits/train.csv --dev "
CTC_DIGITS += "digits/dev.csv --out runs/digits_ctc --threads 1"
DIGITS = "auris train asr --encoder runs/digits_ctc --config recipes/digits.json --data "
DIGITS += "digits/train.csv --data digits/text.csv --dev digits/dev.csv --language English --out "
DIGITS += "runs/digits --threads 1"
JOINING = "--config recipes/digits.json --data train.csv"
NEW_RUN = "--config recipes/tiny_ctc.json --data train.csv"
TUNING = "--config recipes/tune.json --data tune.jsonl"

ADAPTER = "auris train export --run runs/tune --out adapters/tune --adapter"
EIGHT_DEVICES = (
    "auris train asr --config recipes/tune_corpus.json --model DIR --corpus corpus.jsonl "
)
EIGHT_DEVICES += "--dev dev.csv --out runs/tuned --device cuda --workers 4"
SECOND_MACHINE = "auris train asr --config recipes/tiny.json --data /shared/speech_train.csv --out "
SECOND_MACHINE += "/shared/runs/tiny --device cuda"
SERVED = ("german=adapters/german", "medical=adapters/medical")

CORPUS = "auris batch --input corpus.jsonl --output runs/corpus --worker 3/64"

RAY = "auris scale run --input corpus.jsonl --output runs/corpus --most-actors 64 --gpus 1 "
RAY += "--ray-address auto"
RAY_HERE = "auris scale run --input CORPUS --output RUN"
RAY_SERVE = "auris scale serve --host 0.0.0.0 --most-replicas 16 --gpus 1 --ray-address auto"
ONE_REPLICA = {"0.0.0.0": "127.0.0.1", "16": "1", "--gpus": "--cpus"}
ONE_REPLICA |= {"--ray-address": "--port", "auto": "0"}

CASES = {
    "auris transcribe --device cuda talk.m4a": Case({"cuda": "cpu"}),
    # The line before starts the Ray that is found.
    RAY: Case({"64": "1", "--gpus": "--cpus"}, after=RAY_HERE),
    RAY_SERVE: Case(ONE_REPLICA),
    "auris batch --input": Case(more="calls --output runs/calls"),
    "auris batch --input CORPUS --output RUN": Case({"CORPUS": "corpus.jsonl", "RUN": "runs/new"}),
    RAY_HERE: Case({"CORPUS": "corpus.jsonl", "RUN": "runs/new"}),
    "auris batch status RUN": Case({"RUN": "runs/corpus"}, after=CORPUS),
    "auris batch merge RUN OUT": Case({"RUN": "runs/corpus", "OUT": "out.jsonl"}, after=CORPUS),
    "auris batch status runs/corpus": Case(after=CORPUS),
    "auris batch merge runs/corpus corpus_transcripts.jsonl": Case(after=CORPUS),
    "auris batch merge runs/corpus corpus_transcripts.parquet": Case(after=CORPUS),
    "auris transcribe -f srt --word-timestamps": Case(more="talk.mp3"),
    "auris transcribe -f json": Case(more="talk.mp3"),
    "auris transcribe -f FORMAT": Case(more="talk.mp3"),
    "auris transcribe --chunk-seconds 30 --no-vad": Case(more="talk.mp3"),
    "auris detect-language talk.mp3 -f json --start 60": Case({"60": "0.5"}),
    "auris transcribe --model models/0.6b-int8 talk.mp3": Case(
        after="auris quantize Qwen/Qwen3-ASR-0.6B models/0.6b-int8"
    ),
    "auris benchmark wer --dtype float32": Case(more="--test-set dev.csv"),
    "auris benchmark stream --audio": Case(more="talk.flac"),
    "auris benchmark stream --audio FILE": Case({"FILE": "talk.mp3"}),
    "auris benchmark stream --audio FILE --test-set CSV": Case({"FILE": "talk.mp3"}),
    "auris benchmark hotwords --test-set CSV --hotwords FILE": Case({"FILE": "kitchen,fan"}),
    "auris benchmark hotwords --test-set CSV --hotwords FILE --other-set CSV --size N": Case(
        {"FILE": "kitchen,fan"}
    ),
    "auris benchmark der --test-set CSV": Case({"CSV": "talks/conversations.csv"}),
    "auris benchmark der --test-set known/conversations.csv --known-speakers": Case(
        {"known/conversations.csv": "talks/conversations.csv"}
    ),
    "auris benchmark cpwer --test-set CSV": Case({"CSV": "talks/conversations.csv"}),
    "auris benchmark cpwer --model tiny --test-set words/conversations.csv": Case(
        {"words/conversations.csv": "talks/conversations.csv"}
    ),
    "auris benchmark der --rttm-dir": Case(more="results --test-set talks/conversations.csv"),
    "auris benchmark der --test-set CSV --rttm-dir DIR": Case(
        {"CSV": "talks/conversations.csv", "DIR": "results"}
    ),
    "auris train ctc ...": Case({"...": NEW_RUN}),
    "auris train ctc ... --processes 4": Case({"...": NEW_RUN, "4": "1"}),
    DIGITS: Case(after=CTC_DIGITS),
    "auris transcribe --model runs/digits_ctc/model digits/recordings/7_jackson_0.wav": Case(
        after=CTC_DIGITS
    ),
    "auris train asr --encoder": Case(more=f"tiny-ctc {JOINING}"),
    "auris train asr --encoder RUN_OR_MODEL": Case({"RUN_OR_MODEL": "tiny-ctc"}, JOINING),
    "auris train asr --encoder tiny-ctc": Case(more=JOINING),
    "auris train asr --start runs/digits": Case(
        more="--config continue.json --data train.csv", after=DIGITS
    ),
    "auris train asr --model runs/digits/model": Case(more=TUNING, after=DIGITS),
    "auris transcribe --model runs/digits/model digits/recordings/7_jackson_0.wav": Case(
        after=DIGITS
    ),
    "auris benchmark wer --model runs/digits/model --normalizer spoken --test-set digits/dev.csv": (
        Case(after=DIGITS)
    ),
    "auris align digits/recordings/7_jackson_0.wav seven --model runs/digits/model": Case(
        after=DIGITS
    ),
    "auris quantize runs/digits/model models/digits-int8": Case(after=DIGITS),
    "auris transcribe --model models/digits-int8 digits/recordings/7_jackson_0.wav": Case(
        after="auris quantize runs/digits/model models/digits-int8"
    ),
    "auris train asr --model": Case(more=f"DIR {TUNING}"),
    "auris train asr --model DIR": Case(more=TUNING),
    "auris train export --run runs/speaker --out models/voices --checkpoint last": Case(
        after=SPEAKER
    ),
    TAUGHT: Case(code=1, message="There is no such speaker model"),
    f"{OWN_VOICES} --speaker-model runs/speaker/model": Case(after=SPEAKER),
    "auris train export --run runs/mine --out models/mine": Case(after=TRAINED),
    "auris train export --run runs/mine --out models/mine --checkpoint last --dtype bfloat16": Case(
        after=TRAINED
    ),
    "auris transcribe --model runs/mine/model recording.wav": Case(after=TRAINED),
    "auris transcribe --model runs/tune/model talk.wav": Case(after=TUNED),
    ADAPTER: Case(after=TUNED),
    "auris transcribe --model DIR --adapter adapters/tune talk.mp3": Case(after=ADAPTER),
    f"auris serve --model DIR {' '.join(f'--adapter {each}' for each in SERVED)}": Case(
        {each: f"{each.partition('=')[0]}=adapters/tune" for each in SERVED}, after=ADAPTER
    ),
    EIGHT_DEVICES: Case({"cuda": "cpu"}),
    SECOND_MACHINE: Case({"cuda": "cpu"}),
    "auris train ctc ... --device cuda": Case({"...": NEW_RUN, "cuda": "cpu"}),
}
"""By line, as it is written with its quotes left out."""
