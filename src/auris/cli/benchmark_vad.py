"""`auris benchmark vad`: detectors of speech, compared in noise, hum and music."""

from __future__ import annotations

from typing import Annotated

from auris.cli.declare import option
from auris.cli.options import Limit, TestSets
from auris.cli.table import Table, write_json


def vad(
    test_set: TestSets,
    background: Annotated[
        list[str] | None,
        option(
            "Sound behind the speech: white, pink, brown, hum or music. Repeatable.",
            default="white, pink, hum and music",
        ),
    ] = None,
    snr: Annotated[
        list[float] | None,
        option("Speech relative to it in dB. Repeatable.", default="10 and 5"),
    ] = None,
    threshold: Annotated[
        float, option("Probability from which speech begins, as of turns.", min=0, max=1)
    ] = 0.5,
    seed: Annotated[int, option("Random seed of pauses, levels and sounds.")] = 1,
    limit: Limit = None,
) -> None:
    """Compare the detectors of speech; no model is needed.

    Clips are joined with pauses. Shown are the share of the other seconds that counts as speech,
    the share of the seconds of speech that does not, and the computing time.
    """
    from auris.audio.activity import chosen_model
    from auris.evaluation.sets import read_set
    from auris.evaluation.voice_activity import score_detectors

    models = list(dict.fromkeys(["energy", chosen_model("auto")]))
    kinds, snrs = background or ["white", "pink", "hum", "music"], snr or [10.0, 5.0]
    formats = {"detector": "<9", "false %": ">8.1f", "missed %": ">9.1f", "ms/s": ">6.2f"}
    sets = []
    for name in test_set:
        table, scores = Table(name, formats), []
        clips = list(read_set(name))[:limit]
        for score in score_detectors(clips, models, kinds, snrs, seed, threshold):
            scores.append(score)
            title = "alone" if score.snr is None else f"{score.background}, {score.snr:g} dB"
            shares = (100 * score.false, 100 * score.missed, 1000 * score.cost)
            table.row(title, score.model, *shares)
        sets.append({"name": name, "scores": scores})
    write_json({"sets": sets})
