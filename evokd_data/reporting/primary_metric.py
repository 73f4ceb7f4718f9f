"""The primary metric: the one score of a round that tables, curves and commit titles show.

For tagging it is micro-F1 over spans, else macro-F1 over classes, as Liu et al. 2024, section 4, report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

NAMES = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "accuracy": "accuracy"}
"""Key in metrics.json -> the metric's name for people."""


class PrimaryMetric(NamedTuple):
    """A score. `interval`: low and high of the bootstrap over the test texts; None when the metrics have none."""

    key: str
    value: float
    interval: tuple[float, float] | None

    @property
    def name(self) -> str:
        """The name for people, such as "macro-F1"."""
        return NAMES[self.key]

    @property
    def title(self) -> str:
        """The name with a capital letter, for the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def within(self) -> str:
        """The interval as text, such as "0.812 to 0.901"; empty when there is none."""
        return f"{self.interval[0]:.3f} to {self.interval[1]:.3f}" if self.interval else ""


def primary_metric(test: Mapping[str, Any]) -> PrimaryMetric:
    """The primary metric among the metrics of one test set."""
    key = "micro_f1" if "micro_f1" in test else "macro_f1"
    bounds = (test.get("intervals") or {}).get(key)
    return PrimaryMetric(key, test[key], (bounds[0], bounds[1]) if bounds else None)
