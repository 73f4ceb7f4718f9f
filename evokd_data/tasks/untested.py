"""Classes without an example among the texts that are scored: they count as 0 in macro-F1, whatever the student does.

Decided here for everyone who says it: `init`, `check`, `preview`, the table of a run, its report and its card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evokd_data.records import Sample
    from evokd_data.tasks import Task

LISTED = 5


def untested(support: Mapping[str, int], split: str = "test") -> str:
    """What the classes without an example mean for macro-F1, in a sentence; "" where each has one.

    `support`: every class of the task -> its texts, or its spans, in the split.
    """
    without = [name for name, number in support.items() if not number]
    if not without:
        return ""
    these, them = ("this class", "it") if len(without) == 1 else ("these classes", "each of them")
    return (
        f"The {split} set has no example of {listed(without)}: macro-F1 counts {these} as 0, so it is "
        f"{1 - len(without) / len(support):.3f} at most; add texts of {them} to the {split} set."
    )


def untested_in(task: Task, samples: Sequence[Sample], split: str = "test") -> str:
    """`untested` of the samples that a split has."""
    targets = [sample.target for sample in samples]
    return untested({label: sum(task.carries(target, label) for target in targets) for label in task.labels}, split)


def untested_by(metrics: Mapping[str, Any]) -> str:
    """`untested` of the metrics of a student on the test set."""
    return untested({name: row["support"] for name, row in metrics.get("per_class", {}).items()})


def listed(names: Sequence[str]) -> str:
    """The names in a row, or the first few of them and how many more there are."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
