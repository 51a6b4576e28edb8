"""The reliability plot: how often words are right, beside how sure they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auris.errors import MissingExtra, OutputError

__all__ = ["draw"]


def draw(measured: Mapping[str, Any], title: str, path: Path) -> None:
    """Write the plot of what `auris.evaluation.calibration.measure` found, as PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra(
            "The reliability plot needs the package matplotlib",
            "it is not installed",
            "run pip install 'auris-asr[train]', or leave --plot out",
        ) from None
    figure = Figure(figsize=(6.5, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="as it should be")
    for key, name, error in (
        ("raw_bins", "the model's own", measured["raw_ece"]),
        ("bins", "calibrated", measured["ece"]),
    ):
        filled: Sequence[tuple[float, float, int]] = [one for one in measured[key] if one[2]]
        label = f"{name}, ECE {error:.3f}"
        above.plot([c for c, _, _ in filled], [s for _, s, _ in filled], marker="o", label=label)
    above.set_ylabel("share of words that are right")
    above.set_title(title)
    above.legend(loc="upper left")
    counts = [count for _, _, count in measured["bins"]]
    width = 1 / len(counts)
    below.bar([(n + 0.5) * width for n in range(len(counts))], counts, 0.9 * width, color="C1")
    below.set_xlabel("confidence")
    below.set_ylabel("words")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise OutputError(
            "The plot has to be written somewhere", f"{str(path)!r}: {error}", "name another --plot"
        ) from None
