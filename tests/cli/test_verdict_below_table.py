"""Below the table of rounds stands whether they helped, in the words of the report."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from evokd_data.atomic_files import write_json
from evokd_data.cli import cli
from evokd_data.reporting.report_sections.outcome import outcome
from evokd_data.reporting.report_sections.run_files import read_run
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.finished_runs import make_run, make_score


def last_line(workspace: Workspace) -> str:
    result = CliRunner().invoke(cli, ["show", str(workspace.root)])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[-1]


def test_show_ends_with_the_verdict_of_the_report(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path)
    assert last_line(workspace) == outcome(read_run(workspace))["sentences"][1]
    assert last_line(workspace).endswith("outside noise: higher.")
    assert "A round is adopted when" not in CliRunner().invoke(cli, ["show", str(workspace.root)]).stdout


def test_an_adopted_round_that_is_worse_than_the_seeds_alone_is_said_to_be(tmp_path: Path) -> None:
    """The gate compares on the dev set, and may adopt what the test set shows to be worse."""
    recipe, workspace = make_run(tmp_path)
    for index in range(3):
        path = workspace.round(index).metrics
        adoption = {"adopted": True, "best": index, "scores": {}}
        write_json(path, {**read_json(path), "test": make_score(recipe, 2 - index), "adoption": adoption})
    line = last_line(workspace)
    assert line.startswith(
        "On 60 test texts macro-F1 is 0.400 in round 2, the adopted one, against 0.800 of the student of round 0"
    )
    assert line.endswith("outside noise: lower.")
    shown = CliRunner().invoke(cli, ["show", str(workspace.root)]).stdout.splitlines()
    assert (
        shown[-2]
        == "A round is adopted when its student is not clearly worse on the seeds; the test set decides nothing."
    )


def test_a_round_that_was_adopted_without_a_comparison_is_said_to_be(tmp_path: Path) -> None:
    recipe, workspace = make_run(tmp_path)
    for index in range(3):
        path = workspace.round(index).metrics
        adoption = {"adopted": True, "best": index, "against": index - 1 if index else None, "doubted": False}
        unknown = {"compared": 0, "difference": None} if index < 2 else {"compared": 3, "difference": 0.1}
        write_json(path, {**read_json(path), "test": make_score(recipe, index), "adoption": {**adoption, **unknown}})
    shown = CliRunner().invoke(cli, ["show", str(workspace.root)]).stdout
    assert (
        "Adopted without a comparison: round 1. Each seed has a label that no other has; with a second seed for each label, or "
        "with a dev set, rounds can be compared.\n"
    ) in shown
    assert any(
        remark.startswith("Adopted without a comparison: round 1") for remark in outcome(read_run(workspace))["remarks"]
    )


def test_rounds_that_were_doubted_are_said_to_be_not_adopted_and_why(tmp_path: Path) -> None:
    recipe, workspace = make_run(tmp_path)
    for index in range(3):
        path = workspace.round(index).metrics
        adoption = {
            "adopted": not index,
            "best": 0,
            "against": 0 if index else None,
            "difference": None,
            "doubted": bool(index),
        }
        write_json(path, {**read_json(path), "test": make_score(recipe, index), "adoption": adoption})
    shown = CliRunner().invoke(cli, ["show", str(workspace.root)]).stdout
    assert (
        "Not adopted: rounds 1, 2. The seeds-only student labels the texts, or those of a round before that was not adopted, as they were "
        "asked for significantly more often than the teacher, and no comparison shows that they help all the same.\n"
    ) in shown
    assert "without a comparison" not in shown


def test_nothing_is_judged_without_a_test_set(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path)
    for index in range(3):
        path = workspace.round(index).metrics
        write_json(path, {**read_json(path), "test": None})
    assert last_line(workspace).split()[0] == "2"


def test_that_no_round_aimed_at_a_weakness_is_said_where_a_round_could(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path)
    says = "No round aimed at a weakness"
    why = f"{says}: no student got a new text wrong whose label can be trusted."
    inputs, plan = read_json(workspace.inputs), read_json(workspace.round(2).plan)
    aimed = [{**quota, "weakness": "red for blue"} for quota in plan["cells"]]
    unaimed = [{**quota, "weakness": None} for quota in plan["cells"]]
    found = [{**weakness, "rate": 0.25} for weakness in plan["weaknesses"]]
    assert plan["cells"] and found
    evokd = {"name": "evokd", "targeted": 0.3, "targeted_from": 2}
    for strategy, cells, weaknesses, said in (
        (evokd, unaimed, [], why),
        (evokd, unaimed, found, f"{says}."),
        (evokd, unaimed, plan["weaknesses"], why),
        (evokd, aimed, found, None),
        ({**evokd, "targeted_from": 1}, unaimed, [], why),
        ({**evokd, "targeted": 0.0}, unaimed, [], None),
        ({**evokd, "targeted_from": 9}, unaimed, [], None),
        ({**evokd, "init": "auggpt", "init_rounds": 2}, unaimed, [], None),
        ({"name": "static"}, unaimed, [], None),
        ("evokd", unaimed, [], None),
    ):
        write_json(workspace.inputs, {**inputs, "settings": {**inputs["settings"], "strategy": strategy}})
        write_json(workspace.round(2).plan, {**plan, "cells": cells, "weaknesses": weaknesses})
        shown = CliRunner().invoke(cli, ["show", str(workspace.root)]).stdout.splitlines()
        assert [line for line in shown if line.startswith(says)] == [said] * (said is not None), (strategy, cells)
