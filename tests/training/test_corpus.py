"""Training on a corpus: the losses of clips in memory, exact positions, bounded memory."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from auris.errors import TrainingError, UsageError
from auris.training.corpus import reader as reader_module
from auris.training.corpus.plan import read_plan, write_plan
from auris.training.corpus.reader import Block, ClipReader, ReaderPosition
from auris.training.corpus.settings import CorpusReading
from auris.training.data import ClipForm
from auris.training.recipes import AsrRecipe, CtcRecipe, TextForm
from auris.training.run_options import Sources
from auris.training.starting import build_task
from auris.training.trainer import Trainer
from auris.training.units import ALPHABET, train_units
from tests.training.conftest import broken_off, train_here
from tests.training.tones import tones, write_wav

MakeCtc = Callable[..., CtcRecipe]

TEXTS = ["ab", "ba", "cd", "dc", "abc", "bcd", "dcb", "cab", "abcd", "dbca", "bb ad", "ca"]


def losses(run: Path) -> list[str]:
    with open(run / "steps.csv", newline="", encoding="utf-8") as file:
        return [row["loss"] for row in csv.DictReader(file)]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A recording of each of `TEXTS`, and its text beside it."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        write_wav(folder / f"{number:02}.wav", tones(text))
        (folder / f"{number:02}.txt").write_text(text)
    return folder


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [
        {"audio": str(folder / f"{number:02}.wav"), "text": text, "speaker": "ann"}
        for number, text in enumerate(TEXTS)
    ]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def listed(recordings: Path, tmp_path: Path) -> Path:
    """A manifest of the recordings."""
    return write_lines(tmp_path / "tones.jsonl", lines_of(recordings))


def corpus(listed: Path | str, **more: Any) -> Sources:
    return Sources(corpus=[str(listed)], **more)


def test_the_losses_are_those_of_clips_in_memory(
    listed: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    """Over several passes, with joined clips, silence and augmentation."""
    recipe = tiny(max_steps=16, silence_share=0.3, long_share=0.5, augment_from_epoch=2)
    train_here(recipe, Sources([listed]), tmp_path / "memory")
    train_here(recipe, corpus(listed), tmp_path / "corpus")
    assert losses(tmp_path / "corpus") == losses(tmp_path / "memory")
    assert len(set(losses(tmp_path / "corpus"))) == 16


def test_a_model_with_a_decoder_learns_languages_and_contexts(
    recordings: Path, tmp_path: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    rows = [{**row, "language": "German", "prompt": "ab"} for row in lines_of(recordings)]
    listed = write_lines(tmp_path / "tones.jsonl", rows)
    recipe = tiny_asr(max_steps=4, checkpoint_steps=4)
    train_here(recipe, Sources([listed]), tmp_path / "memory")
    train_here(recipe, corpus(listed), tmp_path / "corpus")
    assert losses(tmp_path / "corpus") == losses(tmp_path / "memory")
    about = [json.loads((tmp_path / run / "run.json").read_text()) for run in ("memory", "corpus")]
    assert about[0] == about[1]
    assert (about[1]["languages"], about[1]["lower_case"]) == (["German"], True)


def small_blocks(**more: Any) -> dict[str, Any]:
    """Blocks of two or three clips, and shards of as many."""
    return {"memory_mb": 0.35, "shard_seconds": 2.0, **more}


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(listed: Path, tmp_path: Path, tiny: MakeCtc, workers: int) -> None:
    recipe = tiny(
        max_steps=12, batch_seconds=2.4, corpus=small_blocks(readers=4, batch_parts=2, memory_mb=1)
    )
    train_here(recipe, corpus(listed), tmp_path / "none")
    train_here(recipe, corpus(listed), tmp_path / "some", workers=workers)
    assert losses(tmp_path / "some") == losses(tmp_path / "none")


@pytest.mark.parametrize("after", [1, 5, 7, 10])
def test_a_resumed_run_is_the_same_bit_for_bit(
    listed: Path, tmp_path: Path, tiny: MakeCtc, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """In the middle of blocks and of passes, with several readers and sources."""
    other = write_lines(tmp_path / "other.jsonl", lines_of(tmp_path / "recordings")[:5])
    settings = small_blocks(readers=2, memory_mb=0.6, weights=[1, 3])
    recipe = tiny(max_steps=12, batch_seconds=1.6, checkpoint_steps=1, corpus=settings)
    sources = Sources(corpus=[str(listed), str(other)])
    train_here(recipe, sources, tmp_path / "whole")
    broken_off(monkeypatch, after, lambda: train_here(recipe, sources, tmp_path / "cut"))
    train_here(recipe, sources, tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    first, second = ((tmp_path / run / "last" / "model.safetensors") for run in ("cut", "whole"))
    assert first.read_bytes() == second.read_bytes()


def plan_of(folder: Path, sources: list[str], **settings: Any) -> Any:
    reading = CorpusReading.of(settings)
    write_plan(folder, sources, reading)
    return read_plan(folder, sources)


def reader_of(
    plan: Any, recipe: CtcRecipe, number: int = 0, form: TextForm = "spoken"
) -> ClipReader:
    task = build_task(recipe, None, train_units(TEXTS, len(ALPHABET)))
    return ClipReader(plan, recipe, task.preprocessor, ClipForm(form, replies=False), number)


def blocks_of(reader: ClipReader, pools: int, count: int) -> list[Block]:
    blocks = reader.blocks(ReaderPosition.of([], pools))
    return [next(blocks) for _ in range(count)]


def test_a_corpus_of_20_times_the_memory_is_read_within_it(
    recordings: Path, tmp_path: Path, tiny: MakeCtc, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = lines_of(recordings) * 22
    listed = write_lines(tmp_path / "tones.jsonl", rows)
    allowed = 0.28
    recipe = tiny(
        max_steps=40,
        batch_seconds=1.2,
        join_copies=0,
        corpus={"memory_mb": allowed, "shard_seconds": 4.0},
    )
    bytes_of = {text: 2 * len(tones(text)) for text in TEXTS}
    assert sum(bytes_of[row["text"]] for row in rows) > 20 * allowed * 1e6
    held: list[int] = []

    read = ClipReader._block

    def watched(reader: ClipReader, *arguments: Any) -> Block:
        block = read(reader, *arguments)
        held.append(sum(clip.samples.nbytes for clip in block.report.clips))
        return block

    monkeypatch.setattr(ClipReader, "_block", watched)
    train_here(recipe, corpus(listed), tmp_path / "run")
    assert len(held) > 4
    # Two blocks are in memory: the one that is used, and the next one.
    assert max(map(sum, pairwise(held))) <= allowed * 1e6


def test_every_clip_is_read_once_in_a_pass_and_the_shards_are_shuffled(
    listed: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    settings = small_blocks(readers=2)
    recipe = tiny(batch_seconds=1.4, corpus=settings)
    plan = plan_of(tmp_path / "plan", [str(listed)], **settings)
    orders = []
    for passes in range(2):
        order = []
        for number in range(2):
            for block in blocks_of(reader_of(plan, recipe, number), 1, 40):
                if block.passes == passes:
                    order += [clip.name for clip in block.report.clips]
        assert sorted(order) == sorted(row["audio"] for row in lines_of(tmp_path / "recordings"))
        orders.append(order)
    assert orders[0] != orders[1]


def test_sources_are_read_by_their_weights(recordings: Path, tmp_path: Path, tiny: MakeCtc) -> None:
    rows = lines_of(recordings)
    sources = [
        str(write_lines(tmp_path / f"{name}.jsonl", [{**row, "speaker": name} for row in part]))
        for name, part in (("many", rows[:10]), ("few", rows[10:]))
    ]
    settings = small_blocks(weights=[1, 3], memory_mb=1)
    recipe = tiny(batch_seconds=1.4, corpus=settings)
    reader = reader_of(plan_of(tmp_path / "plan", sources, **settings), recipe)
    clips = [clip for block in blocks_of(reader, 2, 40) for clip in block.report.clips]
    share = sum(clip.speaker == "few/few" for clip in clips) / len(clips)
    assert len(clips) > 300
    assert 0.68 < share < 0.82


def tar_of(recordings: Path, path: Path, order: tuple[str, ...]) -> Path:
    """A tar file with a sample of each recording, whose members have an order."""
    with tarfile.open(path, "w") as tar:
        for number, text in enumerate(TEXTS):
            contents = {
                ".wav": (recordings / f"{number:02}.wav").read_bytes(),
                ".json": json.dumps({"speaker": "ann", "text": "x"}).encode(),
                ".txt": text.encode(),
            }
            for suffix in order:
                member = tarfile.TarInfo(f"{number:02}{suffix}")
                member.size = len(contents[suffix])
                tar.addfile(member, io.BytesIO(contents[suffix]))
    return path


def parquet_of(recordings: Path, path: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    audio = [
        {"bytes": (recordings / f"{number:02}.wav").read_bytes(), "path": f"{number:02}.wav"}
        for number in range(len(TEXTS))
    ]
    parquet.write_table(pyarrow.table({"audio": audio, "text": TEXTS}), path)
    return path


def nemo_of(recordings: Path, path: Path) -> Path:
    rows = [
        {"audio_filepath": f"recordings/{number:02}.wav", "duration": 0.5, "text": text}
        for number, text in enumerate(TEXTS)
    ]
    assert recordings.parent == path.parent
    return write_lines(path, rows)


def lhotse_of(recordings: Path, path: Path) -> Path:
    def cut(number: int, text: str) -> dict[str, Any]:
        source = {"type": "file", "source": str(recordings / f"{number:02}.wav")}
        length = len(tones(text)) / 16000
        return {
            "id": f"cut-{number}",
            "type": "MonoCut",
            "start": 0.0,
            "duration": length,
            "channel": 0,
            "recording": {"id": f"rec-{number}", "sources": [source]},
            "supervisions": [{"text": text, "language": "German", "speaker": "ann"}],
        }

    return write_lines(path, [cut(number, text) for number, text in enumerate(TEXTS)])


@pytest.mark.parametrize("kind", ["folder", "pattern", "nemo", "lhotse", "tar", "json first",
                                  "parquet", "csv", "memory"])  # fmt: skip
def test_every_source_gives_the_clips_with_their_texts(
    recordings: Path, tmp_path: Path, tiny: MakeCtc, kind: str
) -> None:
    source: Path | str
    if kind == "folder":
        source = recordings
    elif kind == "pattern":
        source = f"{recordings}/*.wav"
    elif kind == "nemo":
        source = nemo_of(recordings, tmp_path / "nemo.jsonl")
    elif kind == "lhotse":
        source = lhotse_of(recordings, tmp_path / "cuts.jsonl")
    elif kind == "tar":
        source = tar_of(recordings, tmp_path / "shard.tar", (".wav", ".json", ".txt"))
    elif kind == "json first":
        source = tar_of(recordings, tmp_path / "shard.tar", (".json", ".txt", ".wav"))
    elif kind == "parquet":
        source = parquet_of(recordings, tmp_path / "table.parquet")
    elif kind == "csv":
        source = tmp_path / "tones.csv"
        rows = [f"recordings/{number:02}.wav,{text}" for number, text in enumerate(TEXTS)]
        source.write_text("\n".join(["wav,text", *rows]))
    else:
        fs = pytest.importorskip("fsspec").filesystem("memory")
        fs.put(str(recordings), "/tones", recursive=True)
        source = "memory://tones"
    plan = plan_of(tmp_path / "plan", [str(source)])
    (block,) = blocks_of(reader_of(plan, tiny()), 1, 1)
    assert not block.report.skipped
    assert [clip.text for clip in block.report.clips] == TEXTS
    lengths = [len(clip.samples) for clip in block.report.clips]
    assert lengths == [len(tones(text)) for text in TEXTS]


def test_rows_that_cannot_be_used_are_listed(
    recordings: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    rows = lines_of(recordings)
    rows[2]["audio"] = "absent.wav"
    rows[5]["text"] = "room 5"
    write_wav(recordings / "long.wav", tones("abcd" * 5))
    rows[7]["audio"] = str(recordings / "long.wav")
    listed = write_lines(tmp_path / "tones.jsonl", rows)
    recipe = tiny(max_steps=8, corpus=small_blocks(memory_mb=1))
    train_here(recipe, corpus(listed), tmp_path / "run")
    with open(tmp_path / "run" / "skipped" / "0.csv", newline="", encoding="utf-8") as file:
        skipped = [row[1:] for row in csv.reader(file)]
    assert ["the audio cannot be read", str(tmp_path / "absent.wav")] in skipped
    assert any("longer than a batch" in reason for reason, name in skipped)
    assert any("how it is spoken" in reason for reason, name in skipped)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corpus_without_a_usable_clip_is_refused(
    tmp_path: Path, tiny: MakeCtc, workers: int
) -> None:
    listed = write_lines(tmp_path / "none.jsonl", [{"audio": "absent.wav", "text": "ab"}])
    with pytest.raises(TrainingError, match=r"reader 0 found none.*cannot be read"):
        train_here(tiny(), corpus(listed), tmp_path / "run", workers=workers)


def test_a_damaged_container_is_a_row_that_cannot_be_read(
    recordings: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    whole = tar_of(recordings, tmp_path / "whole.tar", (".wav", ".txt")).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    plan = plan_of(tmp_path / "plan", [str(tmp_path / "cut.tar")])
    (block,) = blocks_of(reader_of(plan, tiny()), 1, 1)
    assert [clip.text for clip in block.report.clips] == TEXTS[: len(block.report.clips)]
    assert block.report.skipped == {"the audio cannot be read": [str(tmp_path / "cut.tar")]}


def test_samples_of_a_tar_file_with_the_same_name_are_all_read(
    recordings: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    with tarfile.open(tmp_path / "same.tar", "w") as tar:
        for number in (3, 8, 4):
            tar.add(recordings / f"{number:02}.wav", "same.wav")
            tar.add(recordings / f"{number:02}.txt", "same.txt")
    plan = plan_of(tmp_path / "plan", [str(tmp_path / "same.tar")])
    (block,) = blocks_of(reader_of(plan, tiny()), 1, 1)
    clips = {clip.text: len(clip.samples) for clip in block.report.clips}
    assert clips == {TEXTS[number]: len(tones(TEXTS[number])) for number in (3, 8, 4)}


def test_texts_that_are_not_valid_unicode_are_left_out(
    recordings: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    rows = [{"audio_filepath": row["audio"], "text": row["text"]} for row in lines_of(recordings)]
    content = write_lines(tmp_path / "tones.jsonl", rows).read_bytes()
    (tmp_path / "tones.jsonl").write_bytes(content.replace(b'"abc"', b'"ab\xe9"'))
    plan = plan_of(tmp_path / "plan", [str(tmp_path / "tones.jsonl")])
    assert len(plan.texts(ClipForm("written"))) == len(TEXTS) - 1
    reader = reader_of(plan, tiny(), form="written")
    (block,) = blocks_of(reader, 1, 1)
    assert len(block.report.clips) == len(TEXTS) - 1
    assert list(block.report.skipped) == ["the text is not valid Unicode"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("open.csv", 'wav,text\na.wav,"ab\n', r"quotes in pairs.*open\.csv"),
        ("none.csv", "wav,text\n", "list recordings, but .*none.csv lists none"),
        ("deep.jsonl", "[" * 100_000, "no JSON object"),
    ],
)
def test_wrong_manifests_are_refused(
    tmp_path: Path, tiny: MakeCtc, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((TrainingError, UsageError), match=message):
        train_here(tiny(), corpus(tmp_path / name), tmp_path / "run")


def test_storage_that_fails_is_tried_again_and_then_ends_the_run(
    listed: Path, tmp_path: Path, tiny: MakeCtc, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path / "plan", [str(listed)])
    reader = reader_of(plan, tiny())
    failures = iter([True, False, *[True] * 99])
    load = reader_module.load_clip

    def failing(*arguments: Any) -> Any:
        if next(failures):
            reader._failures.errors.append(ConnectionResetError("reset"))
        return load(*arguments)

    monkeypatch.setattr(reader_module, "load_clip", failing)
    with pytest.raises(TrainingError, match=r"01.wav was not, 3 times.*reset"):
        blocks_of(reader, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": None}, "max_steps"),
        ({"val_split": 0.5}, "a val_split of 0"),
        ({"corpus": {"weights": [1, 2]}}, "one for each"),
        ({"corpus": {"memory_mb": 0.01}}, "memory_mb"),
        ({"corpus": {"readers": 3, "shard_seconds": 600}}, "at least as many shards as readers"),
    ],
)
def test_recipes_that_do_not_fit_a_corpus_are_refused(
    listed: Path, tmp_path: Path, tiny: MakeCtc, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train_here(tiny(**changes), corpus(listed), tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"beam": 3}, "corpus.beam is no key"),
        ({"readers": 0}, "corpus.readers has to"),
        ({"readers": 3, "batch_parts": 2}, "multiple of batch_parts"),
        ({"weights": [1, -1]}, "corpus.weights.1 has to"),
    ],
)
def test_wrong_settings_are_refused(tiny: MakeCtc, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        tiny(corpus=given)


def test_data_and_a_corpus_are_not_given_together(
    listed: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    with pytest.raises(UsageError, match="both are given"):
        train_here(tiny(), Sources([listed], corpus=[str(listed)]), tmp_path / "run")
    with pytest.raises(UsageError, match="neither is given"):
        train_here(tiny(), Sources(), tmp_path / "run")
    with pytest.raises(UsageError, match="is for corpus"):
        train_here(tiny(corpus={"readers": 2}), Sources([listed]), tmp_path / "run")


def test_another_corpus_is_refused_when_a_run_is_resumed(
    listed: Path, recordings: Path, tmp_path: Path, tiny: MakeCtc
) -> None:
    train_here(tiny(max_steps=2), corpus(listed), tmp_path / "run")
    with pytest.raises(TrainingError, match="corpus it began with"):
        train_here(tiny(max_steps=2), corpus(recordings), tmp_path / "run", resume=True)


def test_the_trainer_of_clips_is_unchanged(listed: Path, tmp_path: Path, tiny: MakeCtc) -> None:
    assert isinstance(train_here(tiny(max_steps=1), Sources([listed]), tmp_path / "run"), Trainer)
