"""A teacher whose labels are worse than what the seeds alone say is told of, without a true label."""

from __future__ import annotations

from pathlib import Path

import pytest

from evokd_data.reporting.html_report import payload
from evokd_data.reporting.report_sections.run_files import read_run
from evokd_data.storage.workspace import Workspace
from tests.support.measured_recipe import generate_round_one, measured_recipe


@pytest.mark.parametrize(("wrong_labels", "told"), [(0.6, True), (0.0, False)])
def test_a_teacher_that_labels_worse_than_the_seeds_alone_is_told_of(
    tmp_path: Path, wrong_labels: float, told: bool
) -> None:
    recipe = measured_recipe(
        tmp_path, f"teacher.wrong_labels={wrong_labels}", "teacher_trust=force", "filters.label_confidence=0", "rounds.samples=60"
    )  # fmt: skip
    notes = generate_round_one(recipe, tmp_path / "runs")
    found = [note for note in notes if note.startswith("warning: by itself the seeds-only student labels ")]
    assert bool(found) == told
    if told:
        assert found[0].startswith(
            "warning: by itself the seeds-only student labels 60 of 60 texts as they were asked for, the teacher 49: "
        )
    remarks = payload([read_run(Workspace(tmp_path / "runs" / "colours"))])["runs"][0]["outcome"]["remarks"]
    assert [remark for remark in remarks if remark.startswith("In round 1 by itself the seeds-only student")] == [
        f"In round 1 {note.removeprefix('warning: ')}." for note in found
    ]
