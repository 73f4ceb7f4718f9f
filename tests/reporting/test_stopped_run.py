"""A run that its exam stopped says so first, with the reason and what to do; others do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from evokd_data.cli import cli
from evokd_data.errors import TeacherError
from evokd_data.loop.rounds import generate_next, take_exam
from evokd_data.progress import Progress
from evokd_data.reporting.html_report import payload
from evokd_data.reporting.report_sections.run_files import read_run
from evokd_data.reporting.stopped_run import REMEDY, stopped_by_exam
from evokd_data.storage.workspace import Workspace, read_json
from tests.support import ROOT
from tests.support.example_task import play
from tests.support.measured_recipe import measured_recipe

pytestmark = pytest.mark.slow

WRONG = "teacher.wrong_labels=1"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Round 0, then an exam that refuses the teacher."""
    folder = tmp_path_factory.mktemp("stopped")
    recipe = measured_recipe(folder, WRONG)
    workspace = play(recipe, folder / "runs", 1)
    with pytest.raises(TeacherError):
        generate_next(recipe, folder / "runs", Progress())
    return workspace


def test_report_and_show_say_first_that_the_exam_stopped_the_run(stopped: Workspace) -> None:
    exam = read_json(stopped.round(1).exam)
    stop = f"The run stopped before round 1, because of the exam's verdict: {exam['verdict']}."
    reason = f"The exam says: {exam['message']}. {REMEDY}"
    outcome = payload([read_run(stopped)])["runs"][0]["outcome"]
    assert outcome["sentences"][:2] == [stop, reason]
    assert outcome["sentences"][2].startswith("So far")
    assert outcome["verdict"] == {"kind": "unknown", "words": "stopped before round 1"}
    assert outcome["sentences"][3].endswith("with the seeds alone (round 0), and no later round was made.")
    shown = CliRunner().invoke(cli, ["show", str(stopped.root)])
    assert shown.stdout.splitlines()[:2] == [stop, reason]


def test_the_remedy_is_in_the_documentation() -> None:
    assert "\n### When the verdict is bad\n" in (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")


def test_a_preview_is_no_run_that_stopped(tmp_path: Path) -> None:
    content = take_exam(measured_recipe(tmp_path, WRONG), tmp_path / "runs", Progress())
    assert content["verdict"] in ("no better than chance", "adds nothing")
    assert stopped_by_exam(Workspace(tmp_path / "runs" / "colours")) is None


def test_a_forced_run_goes_on_whatever_the_exam_says(stopped: Workspace, tmp_path: Path) -> None:
    recipe = measured_recipe(tmp_path, WRONG, "teacher_trust=force", "filters.label_confidence=0")
    workspace = play(recipe, tmp_path / "runs", 2)
    assert read_json(workspace.round(1).exam)["verdict"] == read_json(stopped.round(1).exam)["verdict"]
    assert stopped_by_exam(workspace) is None
