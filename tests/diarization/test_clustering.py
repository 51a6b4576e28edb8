"""Stretches of speech to speakers."""

from __future__ import annotations

import numpy as np
import pytest

from auris.diarization import clustering
from auris.diarization.clustering import NOBODY, ClusterSettings, clustered, joined
from auris.diarization.windows import VoiceWindow

SETTINGS = ClusterSettings(threshold=0.5)


def windows(
    speakers: list[int], noise: float = 0.3, frames: int = 200, seed: int = 0
) -> list[VoiceWindow]:
    """A window with one stretch for each number, whose embedding is near that speaker's."""
    generator = np.random.default_rng(seed)
    voices = np.linalg.qr(generator.standard_normal((64, 64)))[0]
    made = []
    for place, speaker in enumerate(speakers):
        embedding = voices[speaker] + noise * generator.standard_normal(64) / 8
        embedding = (embedding / np.linalg.norm(embedding)).astype(np.float32)[None]
        active = np.ones((frames, 1), bool)
        used = np.array([frames])
        made.append(VoiceWindow(place * frames, active, np.zeros(1, np.int64), embedding, used))
    return made


def agree(found: list[np.ndarray], expected: list[int]) -> bool:
    """Whether the groups are the expected ones, whatever their numbers."""
    pairs = {(int(labels[0]), speaker) for labels, speaker in zip(found, expected, strict=True)}
    return len(pairs) == len(set(expected)) == len({group for group, _ in pairs})


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_speakers_are_told_apart(count: int) -> None:
    speakers = [number % count for number in range(8 * count)]
    labels, centers = clustered(windows(speakers), SETTINGS)
    assert len(centers) == count
    assert agree(labels, speakers)
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1, atol=1e-5)


def test_limits_of_the_number_are_kept() -> None:
    speakers = [number % 4 for number in range(40)]
    assert len(clustered(windows(speakers), SETTINGS, most=2)[1]) == 2
    assert len(clustered(windows(speakers), SETTINGS, least=6, most=6)[1]) == 6
    assert len(clustered(windows(speakers), SETTINGS, least=2, most=8)[1]) == 4


def test_there_are_no_more_speakers_than_stretches() -> None:
    labels, centers = clustered(windows([0, 1, 0]), SETTINGS, least=10, most=10)
    assert len(labels) == 3
    assert 2 <= len(centers) <= 3


def test_a_voice_that_is_heard_briefly_is_given_to_the_most_similar_one() -> None:
    speakers = [0] * 10 + [1] * 10 + [2]
    labels, centers = clustered(windows(speakers), SETTINGS)
    assert len(centers) == 2
    assert agree(labels[:20], speakers[:20])


def test_without_speech_there_is_nobody() -> None:
    nothing = np.zeros((1000, 0), bool)
    empty = VoiceWindow(
        0, nothing, np.zeros(0, np.int64), np.zeros((0, 64), np.float32), np.zeros(0, np.int64)
    )
    assert len(clustered([], SETTINGS)[1]) == 0
    labels, centers = clustered([empty], SETTINGS)
    assert (len(labels[0]), len(centers)) == (0, 0)
    labels, _ = clustered([*windows([0] * 5), empty], SETTINGS)
    assert len(labels[-1]) == 0


def test_a_stretch_without_an_embedding_is_nobodys() -> None:
    short = VoiceWindow(
        0,
        np.ones((10, 1), bool),
        np.zeros(1, np.int64),
        np.zeros((1, 64), np.float32),
        np.zeros(1, np.int64),
    )
    assert clustered([short], SETTINGS)[0][0].tolist() == [NOBODY]
    assert clustered([*windows([0] * 5), short], SETTINGS)[0][-1].tolist() == [NOBODY]


def test_long_recordings_are_clustered_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    speakers = [number // 3 % 5 for number in range(300)]
    whole = clustered(windows(speakers), SETTINGS)[0]
    largest = 0
    inner = clustering.joined

    def measured(similarities: np.ndarray, *args: object, **options: object) -> np.ndarray:
        nonlocal largest
        largest = max(largest, len(similarities))
        return inner(similarities, *args, **options)

    monkeypatch.setattr(clustering, "BLOCK_ITEMS", 40)
    monkeypatch.setattr(clustering, "BLOCK_GROUPS", 8)
    monkeypatch.setattr(clustering, "joined", measured)
    blocks, centers = clustered(windows(speakers), SETTINGS)
    assert len(centers) == 5
    assert largest <= 40
    assert agree(blocks, speakers)
    assert agree(whole, speakers)


def test_joining_is_average_linkage() -> None:
    """Against the definition, computed anew at every step."""
    generator = np.random.default_rng(3)
    items = generator.standard_normal((24, 6))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    groups = [[number] for number in range(24)]
    while True:
        means = np.array([items[group].mean(0) for group in groups])
        similar = means @ means.T
        np.fill_diagonal(similar, -np.inf)
        first, second = sorted(divmod(int(similar.argmax()), len(groups)))
        if similar[first, second] < 0.2:
            break
        groups[first] += groups.pop(second)
    found = joined((items @ items.T).astype(np.float32), np.ones(24, np.int64), 0.2)
    expected = sorted(sorted(group) for group in groups)
    assert sorted(np.flatnonzero(found == g).tolist() for g in range(max(found) + 1)) == expected
