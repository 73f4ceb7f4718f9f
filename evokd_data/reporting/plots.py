"""The plots of a comparison, PNG and SVG: F1 against samples, F1 against teacher tokens, samples per class against F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evokd_data.reporting.primary_metric import NAMES
from evokd_data.reporting.significance import spread

MARKERS = "osD^v<>pXP*h"


def plot(results: Mapping[str, Any], into: Path) -> None:
    """Write the plots into the folder `into`. Raises RecipeError when matplotlib (extra `compare`) is not installed."""
    from evokd_data.errors import RecipeError

    try:
        import matplotlib
    except ImportError:
        raise RecipeError("plots need matplotlib: pip install 'evokd-data[compare]'") from None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "evokd-data"  # so that equal results give equal files
    _curves(results, into, "kept_by_round", "f1-by-samples", "samples kept (mean over seeds)")
    _curves(results, into, "tokens_by_round", "f1-by-tokens", "teacher tokens (mean over seeds)")
    _classes(results, into)


def _mean_by_round(values: Sequence[Sequence[float]]) -> list[float]:
    return [spread(column).mean for column in zip(*values, strict=True)]


def _save(figure: Any, into: Path, name: str) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(into / f"{name}.svg", metadata={"Date": None})
    figure.savefig(into / f"{name}.png", dpi=150)
    pyplot.close(figure)


def _curves(results: Mapping[str, Any], into: Path, against: str, file_name: str, label: str) -> None:
    """Plot the mean score of each round against the mean of `against`, with a band of one standard deviation."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for number, (name, arm) in enumerate(results["arms"].items()):
        x = _mean_by_round(arm[against])
        spreads = [spread(scores) for scores in zip(*arm["score_by_round"], strict=True)]
        y = [scores.mean for scores in spreads]
        (line,) = axes.plot(x, y, marker=MARKERS[number % len(MARKERS)], markersize=4, label=name)
        low = [scores.mean - (scores.sd or 0.0) for scores in spreads]
        high = [scores.mean + (scores.sd or 0.0) for scores in spreads]
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xlabel(label)
    axes.set_ylabel(f"{NAMES[results['metric']]} on the test set")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title="mean, band: one sd over seeds", title_fontsize="small")
    _save(figure, into, file_name)


def _classes(results: Mapping[str, Any], into: Path) -> None:
    """Plot, for each arm, the F1 of each class before a round against its samples in that round (means over seeds).

    This is the adaptability figure of Liu et al. 2024: with feedback, classes with low F1 receive more samples.
    """
    from matplotlib import pyplot

    arms = {name: arm for name, arm in results["arms"].items() if len(arm["kept_by_round"][0]) > 1}
    if not arms:
        return
    figure, row = pyplot.subplots(1, len(arms), figsize=(3.2 * len(arms), 3.4), squeeze=False, sharey=True, sharex=True)
    for axes, (name, arm) in zip(row[0], arms.items(), strict=True):
        classes = list(arm["class_f1_by_round"][0][0])
        rounds = len(arm["kept_by_round"][0])
        for index in range(1, rounds):
            x = [spread([run[index - 1][c] for run in arm["class_f1_by_round"]]).mean for c in classes]
            y = [spread([run[index][c] for run in arm["class_samples_by_round"]]).mean for c in classes]
            axes.scatter(x, y, s=14, color=pyplot.get_cmap("viridis")(index / rounds), label=f"round {index}")
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("class F1 before the round")
        axes.grid(alpha=0.3)
    row[0][0].set_ylabel("samples of the class")
    row[0][-1].legend(frameon=False, fontsize="x-small")
    _save(figure, into, "classes")
