"""evokd-data review from export to a round, for a tagging task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evokd_data.cli import cli
from evokd_data.cli.review import TOOLS
from evokd_data.curation import tool_files
from evokd_data.reporting.html_report import DATA, REPORT, report
from evokd_data.storage.corrected_rounds import live_samples
from evokd_data.storage.shards import ShardedSamples
from evokd_data.tasks.ner import NER
from tests.support.tagging_runs import make_tagging_run


def review(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["review", *map(str, arguments)])


def rounds_on(page: Path) -> list[int]:
    """The rounds that a report shows."""
    data = DATA.search(page.read_text(encoding="utf-8"))
    assert data is not None
    return [row["round"] for row in json.loads(data[1])["runs"][0]["rounds"]]


def test_the_command_knows_the_tools_that_the_library_knows() -> None:
    assert TOOLS == tool_files.TOOLS


@pytest.mark.slow
def test_spans_corrected_in_a_tool_become_a_round(tmp_path: Path) -> None:
    workspace = make_tagging_run(tmp_path)
    file = tmp_path / "samples.jsonl"
    exported = review(workspace.root, "--export", file, "--format", "doccano")
    assert (exported.exit_code, exported.stdout.strip()) == (0, str(file)), exported.output
    first, second = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert second["text"] == "Peter came to Berlin"
    first["label"] = [[3, 5, "ORG"], [14, 20, "LOC"]]
    file.write_text(json.dumps(first) + "\n", encoding="utf-8")
    unclear = review(workspace.root, "--import", file)
    assert unclear.exit_code == 1 and "--missing reject" in unclear.output
    imported = review(workspace.root, "--import", file, "--missing", "reject", "--json")
    assert json.loads(imported.stdout) == {
        "accept": 0, "relabel": 1, "reject": 1, "known": 0, "undecided": 0, "gone": 0,
    }  # fmt: skip
    status = review(workspace.root, "--status", "--json")
    assert json.loads(status.stdout) == {"samples": 2, "accept": 0, "relabel": 1, "reject": 1}
    page = report([workspace], workspace.root / REPORT)
    assert rounds_on(page) == [0, 1]
    # By its name under another folder than runs/, as the other commands have it.
    applied = review(workspace.root.name, "--runs", workspace.root.parent, "--apply", "--json")
    assert applied.exit_code == 0, applied.output
    assert f"{page}: written anew" in applied.stderr
    assert rounds_on(page) == [0, 1, 2]
    answer = json.loads(applied.stdout)
    assert (answer["round"], answer["relabel"], answer["reject"], answer["revision"]) == (2, 1, 1, None)
    task = NER(types=("ORG", "LOC"))
    (sample,) = ShardedSamples(task, workspace.round(2).shard_files())
    assert [(span.surface, span.type) for span in sample.target] == [("EU", "ORG"), ("German", "LOC")]  # type: ignore[union-attr]
    assert [s.id for s in live_samples(task, workspace, 3) if s.origin.round] == [sample.id]
    # The round's new sample was not in the export, so it cannot have been deleted in the tool.
    twice = review(workspace.root, "--import", file, "--missing", "reject")
    assert "0 relabelled, 0 rejected, 0 confirmed, 0 undecided; 1 were withdrawn" in twice.output
    assert "nothing waits for --apply" in twice.output
    again = review(workspace.root, "--apply")
    assert again.exit_code == 1 and "there is nothing to apply" in again.output
    assert "no such file; name the one" in review(workspace.root, "--import", tmp_path / "none.jsonl").output
    assert "holds no run" in review(tmp_path / "nothing" / "here").output
    assert f"see what is there: ls {tmp_path}" in review("nothing", "--runs", tmp_path).output
    assert review(workspace.root, "--apply", "--status").exit_code == 2
