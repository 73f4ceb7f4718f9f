"""corrections.jsonl: a decision that was answered survives kill -9, a torn line is cut off, an altered one is refused."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from evokd_data.curation.apply import apply_corrections
from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.curation.rules import Rule, matching_rows
from evokd_data.deployment.opening import recipe_of
from evokd_data.errors import DataError, WorkspaceError
from evokd_data.loop.rounds import open_run
from evokd_data.progress import Progress
from evokd_data.stages.evaluate import evaluate
from evokd_data.stages.manifest import write_manifest
from evokd_data.stages.train import train
from evokd_data.storage.corrected_rounds import withdrawn_rows
from evokd_data.storage.corrections import CorrectionLog, open_log
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support.finished_runs import make_run

DECIDE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from evokd_data.storage.corrections import open_log

    with open_log(Path(sys.argv[1])) as log:
        for number in range(10_000):
            print(log.add(0, "reject", [(1, f"{number:032d}")]), flush=True)
    """
)


@pytest.mark.slow
def test_every_answered_decision_survives_kill_9(tmp_path: Path) -> None:
    answered: list[int] = []
    for _ in range(2):  # the second process goes on behind what the first one left
        command = [sys.executable, "-c", DECIDE, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            answered += [int(process.stdout.readline()) for _ in range(25)]
            process.kill()
            answered += [int(line) for line in process.stdout if line.endswith("\n")]
    records = CorrectionLog(tmp_path).records
    assert [record["n"] for record in records] == list(range(1, len(records) + 1))
    assert set(answered) <= {record["n"] for record in records}
    assert len(records) - len(answered) <= 2  # of each process, the one that was not answered yet


def test_a_torn_line_is_cut_off_and_an_altered_one_is_refused(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.add(0, "reject", [(1, "a")])
        log.add(0, "accept", [(1, "b")])
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + whole[:30])
    with open_log(tmp_path) as log:
        assert log.path.read_bytes() == whole
        assert log.add(0, "reject", [(2, "c")]) == 3
    log.path.write_bytes(log.path.read_bytes().replace(b'"accept"', b'"reject"'))
    with pytest.raises(WorkspaceError, match=r"corrections\.jsonl: damaged at byte \d+"):
        CorrectionLog(tmp_path)


def test_a_full_disk_takes_no_decision_and_leaves_no_half_a_line(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.add(0, "reject", [(1, "a")])
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 20, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                log.add(0, "reject", [(1, "b")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert log.add(0, "accept", [(1, "c")]) == 2
    assert [record["rows"] for record in CorrectionLog(tmp_path).records] == [[[1, "a"]], [[1, "c"]]]


def test_the_last_decision_counts_and_undo_takes_the_newest_back(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.add(4, "reject", [(1, "a"), (1, "b")])
        log.add(4, "relabel", [(1, "a")], {"label": "x"})
        assert log.decisions(4)[1, "a"].to == {"label": "x"}
        assert log.decisions(4)[1, "b"].action == "reject"
        log.add(4, "undo", [], undoes=6)
        assert log.decisions(4)[1, "a"].action == "reject"
        assert log.decisions(5) == {}  # a round has taken up the numbers to 5
        with pytest.raises(WorkspaceError, match="is reviewed by another process"), open_log(tmp_path):
            pass


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    _, workspace = make_run(tmp_path)
    workspace.remember_recipe_folder(tmp_path)
    return workspace


def opened(workspace: Workspace) -> ReviewedRun:
    return ReviewedRun(workspace, CorrectionLog(workspace.root))


def test_seeds_are_not_reviewed_and_unknown_rows_and_labels_are_refused(workspace: Workspace) -> None:
    review = opened(workspace)
    assert {sample.origin.round for sample in review.samples} == {1, 2}
    first = review.samples[0]
    seed = next(iter(ShardedSamples(review.task, workspace.round(0).shard_files())))
    for key, value, message in (
        ((0, seed.id), "music", "is no sample of"),
        ((1, first.id), "purple", '"purple": cannot be right for'),
        ((1, first.id), [{"start": 0}], "cannot be right for"),
        ((1, first.id), 7, "7: cannot be right for"),
    ):
        with pytest.raises(DataError, match=message):
            review.decide([key], "relabel", value)
    assert not review.log.path.exists()
    review.decide([(1, first.id)], "relabel", first.target)
    assert review.decisions()[1, first.id].action == "accept"  # it has that label


def test_rules_mean_the_undecided_rows_that_fit(workspace: Workspace) -> None:
    review = opened(workspace)
    of_label = [(s.origin.round, s.id) for s in review.samples if s.target == "music"]
    assert matching_rows(review, Rule.of({"label": "music"})) == of_label
    review.decide(of_label[:1], "reject")
    assert matching_rows(review, Rule.of({"label": "music"})) == of_label[1:]
    assert {review.sample(key).text for key in matching_rows(review, Rule.of({"phrase": "TEXT 1 ON"}))} == {
        "round 1 text 1 on weather",
        "round 2 text 1 on weather",
    }
    assert len(matching_rows(review, Rule.of({"regex": r"text \d on books$", "label": "books"}))) == 6
    # The student of these runs predicts music everywhere.
    differs = matching_rows(review, Rule.of({"student": "differs"}))
    assert {review.sample(key).target for key in differs} == {"weather", "books"}
    like = next((s.origin.round, s.id) for s in review.samples if s.text == "round 2 text 4 on weather")
    nearest = matching_rows(review, Rule.of({"like": list(like), "nearest": 2}))
    assert nearest[0] == like
    assert review.sample(nearest[1]).text.endswith("on weather")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "would mean every sample"),
        ({"nearest": 5}, "would mean every sample"),
        ({"regex": "("}, r'regex: "\(" is no regular expression'),
        ({"phrase": "x" * 201}, "no text of at most 200 characters"),
        ({"student": "maybe"}, "neither 'equal' nor 'differs'"),
        ({"like": [1, 2], "nearest": 3}, r"is not \[round, id\]"),
        ({"what": 1}, "is none; it may hold"),
        ([1], "is none; it may hold"),
    ],
)
def test_a_rule_that_is_none_is_refused(rule: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Rule.of(rule)
        matching_rows(opened_nothing(), Rule.of(rule))


def opened_nothing() -> ReviewedRun:
    """A review without rows: what a rule holds is looked at before any row."""
    review = ReviewedRun.__new__(ReviewedRun)
    review.log, review.taken, review.index_of, review.samples = CorrectionLog(Path("none")), 0, {}, []  # type: ignore[assignment]
    return review


def test_a_regular_expression_that_takes_too_long_is_refused(workspace: Workspace) -> None:
    review = opened(workspace)
    with pytest.raises(DataError, match="takes too long"):
        matching_rows(review, Rule.of({"regex": "^" + ".?" * 25 + r"(.+)\1[!?]$"}))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["plan", "shards", "student"])
def test_a_round_of_corrections_that_was_killed_is_completed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Stopped behind the plan, behind the shards, and before the manifest: what is there then is all that a kill leaves."""
    review = opened(workspace)
    keys = list(review.index_of)
    review.decide(keys[:1], "relabel", next(label for label in review.task.labels if label != review.samples[0].target))
    review.decide(keys[1:2], "reject")

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    target = {
        "plan": ("evokd_data.curation.apply.generate", kill),
        "shards": ("evokd_data.curation.apply.complete_round", kill),
        "student": ("evokd_data.loop.rounds.write_manifest", kill),
    }[moment]
    unpublished(workspace)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(*target)
        apply_corrections(workspace, Progress())
    opened(workspace).decide(keys[2:3], "reject")  # comes too late for the round that is begun
    applied = apply_corrections(workspace, Progress())
    assert (applied.round, applied.counts) == (3, {"accept": 0, "relabel": 1, "reject": 1})
    assert withdrawn_rows(workspace, 3) == frozenset(keys[:2])
    assert apply_corrections(workspace, Progress()).round == 4
    assert withdrawn_rows(workspace, 4) == frozenset(keys[:3])
    assert read_json(workspace.round(4).manifest)["identity"]["rows"] == 0


def unpublished(workspace: Workspace) -> None:
    """Take the `publish` section out of a run, and give it what its rounds lack: students, and the comparison of rounds."""
    table = load_yaml(workspace.recipe.read_text())
    table.pop("publish")
    workspace.recipe.write_text(dump_yaml(table))
    recipe = recipe_of(workspace)
    with open_run(recipe, workspace.root.parent) as run:
        for folder in workspace.rounds():
            for path in (folder.metrics, folder.manifest):
                path.unlink()
        for folder in workspace.rounds():
            train(recipe, workspace, folder.index)
            evaluate(recipe, workspace, folder.index, run.splits, 0.0)
            write_manifest(recipe, workspace, folder.index)


def test_a_review_that_a_corrected_round_has_overtaken_takes_no_decision(workspace: Workspace, tmp_path: Path) -> None:
    review = opened(workspace)
    sample = review.samples[0]
    key = (sample.origin.round, sample.id)
    review.decide([key], "reject")
    apply_corrections(workspace, Progress())
    for act in (review.undo, lambda: review.decide([key], "accept")):
        with pytest.raises(
            WorkspaceError, match=r"another process made a corrected round .*; end this review and begin it again"
        ):
            act()
    assert len(CorrectionLog(workspace.root).records) == 1


def test_nothing_to_apply_is_said_and_writes_nothing(workspace: Workspace) -> None:
    review = opened(workspace)
    review.decide([next(iter(review.index_of))], "accept")
    with pytest.raises(
        WorkspaceError, match="nothing to apply: 1 rows are confirmed, and none is relabelled or rejected"
    ):
        apply_corrections(workspace, Progress())
    assert not workspace.round(3).root.exists()
