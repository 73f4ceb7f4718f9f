"""Diff against the local Hub: what changed between two rounds, from their revisions alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from evokd_data import localhub
from evokd_data.cli import cli
from evokd_data.errors import PublishError
from evokd_data.localhub.child import RunningHub
from evokd_data.revisions.diff import diff
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import read_json
from tests.support.published_runs import Played, published

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def run(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return published(server, tmp_path_factory.mktemp("run"), "org/colours", 4)


@pytest.fixture(scope="module")
def changes(run: Played, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return diff(run.repo, 1, 3, cache_dir=tmp_path_factory.mktemp("cache"), **run.at)


def test_it_names_both_revisions(run: Played, changes: dict) -> None:
    tags = {ref.name: ref.target_commit for ref in run.api.list_repo_refs(run.repo, repo_type="dataset").tags}
    assert changes["from"] == {
        "round": 1, "tag": "round-001", "commit": tags["round-001"],
        "digest": read_json(run.workspace.round(1).manifest)["digest"],
    }  # fmt: skip
    assert (changes["to"]["round"], changes["to"]["commit"]) == (3, tags["round-003"])


def test_rows_are_counted_for_each_round_added_and_class(run: Played, changes: dict) -> None:
    expected = {}
    for index in (2, 3):
        samples = list(ShardedSamples(run.recipe.task, run.workspace.round(index).shard_files()))
        counts = Counter(sample.target for sample in samples)
        expected |= {(index, None): len(samples), **{(index, label): counts[label] for label in run.recipe.task.labels}}
    assert {(entry["round"], entry["class"]): entry["rows"] for entry in changes["rows"]} == expected


def test_weaknesses_and_cells_are_those_of_the_plans(run: Played, changes: dict) -> None:
    plans = [read_json(run.workspace.round(index).plan) for index in (1, 3)]
    assert not plans[0]["weaknesses"]
    assert [(entry["name"], entry["from"]) for entry in changes["weaknesses"]] == [
        (entry["name"], None)
        for entry in sorted(plans[1]["weaknesses"], key=lambda entry: (-entry["missed"], entry["name"]))
    ]
    most_missed = min(plans[1]["weaknesses"], key=lambda entry: (-entry["missed"], entry["name"]))
    assert changes["weaknesses"][0]["to"] == {key: most_missed[key] for key in ("missed", "seen")}
    asked = [sum(quota["samples"] for quota in plan["cells"]) for plan in plans]
    added = sum(entry["to"] - entry["from"] for entry in changes["cells"])
    assert added == asked[1] - asked[0] and any(entry["weakness"] for entry in changes["cells"])


def test_metrics_come_with_their_intervals_and_by_class(run: Played, changes: dict) -> None:
    was, now = (read_json(run.workspace.round(index).metrics)["test"] for index in (1, 3))
    by_name = {(entry["split"], entry["metric"], entry["class"]): entry for entry in changes["metrics"]}
    macro = by_name["test", "macro_f1", ""]
    assert (macro["from"], macro["to"], macro["to_n"]) == (was["macro_f1"], now["macro_f1"], now["n"])
    assert macro["change"] == round(now["macro_f1"] - was["macro_f1"], 6)
    assert macro["from_interval"] == was["intervals"]["macro_f1"]
    assert by_name["test", "recall", "red"]["to"] == now["per_class"]["red"]["recall"]
    assert ("probe", "accuracy", "") in by_name


def test_rejections_are_counted_by_reason(run: Played, changes: dict) -> None:
    by_round = [Counter(read_json(run.workspace.round(index).generated)["rejected"]) for index in range(4)]
    assert by_round[2] or by_round[3]
    for entry in changes["rejected"]:
        reason = entry["reason"]
        assert entry["added"] == by_round[2][reason] + by_round[3][reason]
        assert (entry["from"], entry["to"]) == (by_round[1][reason], by_round[3][reason])


def test_one_recipe_and_its_prompts_do_not_differ(changes: dict) -> None:
    assert changes["recipe"] == [] and changes["prompts"] == {} and "teacher" not in changes


def test_the_order_of_the_rounds_does_not_matter(run: Played, changes: dict, tmp_path: Path) -> None:
    assert diff(run.repo, 3, "round-001", cache_dir=tmp_path, **run.at) == changes


def test_a_round_is_not_compared_with_itself_or_with_one_that_is_not_there(run: Played, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"round-002 cannot differ from itself; give two rounds, e\.g\. 2 3"):
        diff(run.repo, 2, 2, cache_dir=tmp_path, **run.at)
    with pytest.raises(PublishError, match=r"no revision 'round-009'.*round-003"):
        diff(run.repo, 2, 9, cache_dir=tmp_path, **run.at)


def test_the_command_prints_tables_or_json(run: Played, changes: dict, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", run.server.token)
    line = ["diff", run.repo, "1", "3", "--endpoint", run.server.endpoint]
    result = CliRunner().invoke(cli, [*line, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == changes
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    for part in ("recipe: the same", "prompts: the same", "texts asked for", "macro_f1", "samples added", "rejected"):
        assert part in result.stdout
