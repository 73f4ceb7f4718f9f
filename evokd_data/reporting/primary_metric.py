"""The one score that tables, curves and commit titles show of a round.

Micro-F1 over spans where spans are tagged, macro-F1 over classes elsewhere: what Liu et al. 2024, section 4, report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

NAMES = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "accuracy": "accuracy"}
"""What people read for what metrics.json says."""


class PrimaryMetric(NamedTuple):
    """`interval`: low and high of the bootstrap over the test texts, where the metrics have one."""

    key: str
    value: float
    interval: tuple[float, float] | None

    @property
    def name(self) -> str:
        return NAMES[self.key]

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def within(self) -> str:
        """ "0.812 to 0.901", or nothing."""
        return f"{self.interval[0]:.3f} to {self.interval[1]:.3f}" if self.interval else ""


def primary_metric(test: Mapping[str, Any]) -> PrimaryMetric:
    """Of the metrics of one test set."""
    key = "micro_f1" if "micro_f1" in test else "macro_f1"
    bounds = (test.get("intervals") or {}).get(key)
    return PrimaryMetric(key, test[key], (bounds[0], bounds[1]) if bounds else None)
