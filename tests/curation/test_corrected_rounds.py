"""Corrections become a round: withdrawn rows, a student trained without them, a revision that loads, verifies and replays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from evokd_data import localhub, repo_layout
from evokd_data.curation.apply import apply_corrections
from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.digest import file_digest
from evokd_data.errors import PublishError, VerificationError, WorkspaceError
from evokd_data.generation.boosting import Boosting
from evokd_data.localhub.child import RunningHub
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.reporting.html_report import report, sections
from evokd_data.reporting.report_sections.browser import browser
from evokd_data.reporting.report_sections.run_files import read_run
from evokd_data.reporting.report_sections.teacher import teacher
from evokd_data.reporting.report_sections.weaknesses import weaknesses
from evokd_data.reporting.run_summary import summary
from evokd_data.revisions.diff import diff
from evokd_data.revisions.load import load_round
from evokd_data.revisions.replay import replay
from evokd_data.revisions.reproduce import reproduce
from evokd_data.revisions.verify import verify
from evokd_data.stages.plan import make_brief
from evokd_data.stages.train import training_data
from evokd_data.storage.corrections import open_log
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies import DEFAULT_LABELLING
from tests.support.example_task import QUICK
from tests.support.published_runs import Played, published, republish

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


def correct(workspace: Workspace) -> dict[str, list[Any]]:
    """Decide about four rows of rounds 1 and 2, as a person would. Returns the rows by what was decided."""
    with open_log(workspace.root) as log:
        review = ReviewedRun(workspace, log)
        first = [sample for sample in review.samples if sample.origin.round == 1]
        second = [sample for sample in review.samples if sample.origin.round == 2]
        key = lambda sample: (sample.origin.round, sample.id)  # noqa: E731
        review.decide([key(first[0])], "accept")
        other = next(label for label in review.task.labels if label != first[1].target)
        review.decide([key(first[1])], "relabel", other)
        review.decide([key(first[2]), key(second[0])], "reject", rule={"phrase": "x"})
        review.decide([key(second[1])], "reject")
        review.undo()
    return {"accept": first[:1], "relabel": first[1:2], "reject": [first[2], second[0]], "to": [other]}


@pytest.fixture(scope="module")
def run(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> tuple[Played, dict[str, list[Any]]]:
    """Rounds 0 to 2, published, and round 3 with the corrections of `correct`."""
    played = published(server, tmp_path_factory.mktemp("run"), "org/corrected")
    rows = correct(played.workspace)
    applied = apply_corrections(played.workspace, Progress())
    assert (applied.round, applied.counts) == (3, {"accept": 1, "relabel": 1, "reject": 2})
    assert applied.revision is not None and applied.revision.tag == "round-003"
    return played, rows


def ids(samples: Any) -> set[str]:
    return {sample.id for sample in samples}


def test_the_round_holds_the_relabelled_rows_and_its_plan_names_the_withdrawn_ones(run: Any) -> None:
    played, rows = run
    folder = played.workspace.round(3)
    (sample,) = ShardedSamples(played.recipe.task, folder.shard_files())
    (original,) = rows["relabel"]
    assert (sample.text, sample.target, sample.soft, sample.origin.strategy) == (
        original.text,
        rows["to"][0],
        None,
        "review",
    )
    corrections = read_json(folder.plan)["corrections"]
    assert {entry["id"] for entry in corrections if entry["action"] != "accept"} == ids(
        rows["relabel"] + rows["reject"]
    )
    assert {entry["becomes"] for entry in corrections} == {None, sample.id}
    assert [entry["rule"] for entry in corrections if entry["action"] == "reject"] == [3, 3]
    assert "text" not in {key for entry in corrections for key in entry}
    assert read_json(folder.manifest)["identity"]["withdrawn"] == 3


def test_the_student_and_later_prompts_do_not_see_withdrawn_rows(run: Any) -> None:
    played, rows = run
    recipe, workspace = played.recipe, played.workspace
    data = training_data(recipe, workspace, 3, Boosting.up_to(recipe, workspace, 3))
    learned = [(example.text, example.target) for example in (*data.earlier, *data.fresh)]
    segments = [(example.text, example.target) for segment in data.segments for example in segment.read()]
    assert segments == learned
    number = recipe.task.classes.index
    for sample in (*rows["relabel"], *rows["reject"]):
        assert (sample.text, number(sample.target)) not in learned
    assert (rows["relabel"][0].text, number(rows["to"][0])) in learned
    assert len(learned) == sum(len(ShardedSamples(recipe.task, f.shard_files())) for f in workspace.rounds()) - 3
    brief = make_brief(recipe, workspace, 4, DEFAULT_LABELLING)
    shown = {sample.id for samples in brief.demonstrations.values() for sample in samples}
    assert not shown & ids(rows["relabel"] + rows["reject"])
    assert ids(rows["accept"]) <= shown


def test_a_corrected_round_verifies_and_replays(run: Any, tmp_path: Path) -> None:
    played, _ = run
    assert verify(played.repo, 3, cache_dir=tmp_path, **played.at).round == 3
    replayed = replay(played.repo, 3, cache_dir=tmp_path, **played.at)
    assert (replayed.rows, replayed.answers) == (1, 0)
    assert replayed.content == read_json(played.workspace.round(3).manifest)["identity"]["content"]
    with pytest.raises(VerificationError, match="it asked nobody"):
        reproduce(played.repo, 3, out=tmp_path / "out", cache_dir=tmp_path, **played.at)


@pytest.mark.parametrize("columns", [None, ["text", "label"]])
def test_it_loads_without_the_withdrawn_rows_and_the_round_before_with_them(
    run: Any, tmp_path: Path, columns: list[str] | None
) -> None:
    played, rows = run
    before, after = (
        load_round(played.repo, index, columns=columns, cache_dir=tmp_path, class_labels=False, **played.at)["train"]
        for index in (2, 3)
    )
    assert len(after) == len(before) - 3 + 1
    pairs = [(row["text"], row["label"]) for row in after]
    for sample in (*rows["relabel"], *rows["reject"]):
        assert (sample.text, sample.target) not in pairs
        assert (sample.text, sample.target) in [(row["text"], row["label"]) for row in before]
    assert (rows["relabel"][0].text, rows["to"][0]) in pairs


def test_plain_datasets_loads_the_same_rows(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played, _ = run
    folder = Path(
        played.api.snapshot_download(
            played.repo, repo_type="dataset", revision="round-003", local_dir=tmp_path / "copy"
        )
    )
    plain = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    ours = load_round(played.repo, 3, cache_dir=tmp_path, **played.at)["train"]
    assert plain["id"] == ours["id"]
    assert "3 were rejected" not in (folder / "README.md").read_text()
    assert "1 were confirmed, 1 got another label, 2 were rejected" in (folder / "README.md").read_text()


def test_diff_tells_of_corrections(run: Any, tmp_path: Path) -> None:
    played, _ = run
    changes = diff(played.repo, 2, 3, cache_dir=tmp_path, **played.at)
    assert changes["corrections"] == [{"round": 3, "accept": 1, "relabel": 1, "reject": 2}]


def test_the_report_shows_the_rows_that_are_left_and_counts_no_person_as_the_teacher(run: Any, tmp_path: Path) -> None:
    played, _ = run
    assert report([played.workspace], tmp_path / "report.html").stat().st_size > 10_000
    files = read_run(played.workspace)
    content = browser(files, 1_000_000)
    shards = [path for folder in played.workspace.rounds() for path in folder.shard_files()]
    assert content["kept_total"] == len(ShardedSamples(played.recipe.task, shards)) - 3
    corrected = files.by_index(3)
    teacher_only = replace(files, rounds=[entry for entry in files.rounds if entry is not corrected])
    assert teacher(files)["matrix"] == teacher(teacher_only)["matrix"]


def test_the_report_says_what_a_person_did_and_counts_it_apart_from_what_the_teacher_was_asked_for(run: Any) -> None:
    """The teacher was asked for 24 texts in each of rounds 1 and 2, of which 19 were kept; round 3 holds the row that a person relabelled."""
    files = read_run(run[0].workspace)
    content = sections(files)
    done, _, corrected = content["outcome"]["sentences"]
    assert done.startswith("In 2 rounds the large model scripted was asked for 48 texts") and "; 19 of them (" in done
    assert corrected == (
        "A person looked at rows of earlier rounds: 1 relabelled, 2 rejected and 1 confirmed in round 3. From then on students learn the "
        "new labels, and no rejected row."
    )
    assert content["outcome"]["figures"][-1] == {"name": "texts kept", "value": "19", "note": "of 48 asked for"}
    rejections = content["rejections"]
    assert (rejections["rounds"], rejections["asked"], rejections["kept"]) == ([1, 2], 48, 19)
    assert [(row["asked"], row["kept"]) for row in content["rounds"]][3] == (0, 1)
    assert summary(run[0].workspace)["rounds"][3]["asked"] == 0
    rows = browser(files, 1_000_000)
    assert rows["corrected_rounds"] == [3] and [row[1] for row in rows["rows"]].count(3) == 1
    assert rows["asked_rows"] == len(rows["answers_of"]) == 48 - 3, "a row of a person has no prompt"


def test_there_is_nothing_to_apply_twice(run: Any) -> None:
    played, _ = run
    with pytest.raises(WorkspaceError, match="nothing to apply: no row is relabelled or rejected"):
        apply_corrections(played.workspace, Progress())
    assert not played.workspace.round(4).root.exists()


def test_a_live_file_that_still_holds_a_withdrawn_row_is_reported(run: Any, tmp_path: Path) -> None:
    played, _ = run

    def put_the_original_back(folder: Path, manifest: dict[str, Any]) -> None:
        path = next(path for path in manifest["files"] if path.startswith("live/round-003/round-001/"))
        original = folder / path.replace("live/round-003/", "data/")
        shutil.copyfile(original, folder / path)
        rows = read_json(folder / repo_layout.manifest("round-001"))["files"][path.replace("live/round-003/", "data/")]
        manifest["files"][path] = {**rows, "sha256": file_digest(original)}

    repo = republish(played, "withdrawn-again", 3, put_the_original_back)
    with pytest.raises(VerificationError, match="holds other rows than data/round-001/train-00000"):
        verify(repo, 3, cache_dir=tmp_path, **played.at)


def test_a_run_goes_on_after_corrected_rounds_and_the_next_one_replays(server: RunningHub, tmp_path: Path) -> None:
    played = published(server, tmp_path, "org/goes-on")
    rows = correct(played.workspace)
    apply_corrections(played.workspace, Progress())
    with open_log(played.workspace.root) as log:  # a second corrected round, without a row of its own
        review = ReviewedRun(played.workspace, log)
        rejected = next(sample for sample in review.samples if sample.origin.round == 3)
        review.decide([(3, rejected.id)], "reject")
    assert apply_corrections(played.workspace, Progress()).counts == {"accept": 0, "relabel": 0, "reject": 1}
    assert read_json(played.workspace.round(4).manifest)["identity"]["rows"] == 0
    addresses = ("publish.repo=org/goes-on", f"publish.endpoint={server.endpoint}", "rounds.count=5")
    recipe = load(tmp_path / "recipe.yaml", [*QUICK, *addresses])
    run_all([recipe], tmp_path / "runs", Progress())
    assert read_json(played.workspace.round(5).manifest)["identity"]["rows"]
    shown = read_run(played.workspace)
    aimed = [entry for entry in weaknesses(shown) if entry["round"] == 2 and entry["fresh"]["after"]]
    # Rounds 3 and 4 are corrected ones: their rows are none that the teacher has written.
    assert aimed and {entry["fresh"]["after"]["round"] for entry in aimed} == {5}
    assert {row["round"] for history in shown.summary["mastery"].values() for row in history} == {1, 2, 5}
    for index in (4, 5):
        replay(played.repo, index, cache_dir=tmp_path / "cache", **played.at)
    verify(played.repo, 5, cache_dir=tmp_path / "cache", **played.at)
    loaded = load_round(played.repo, 5, cache_dir=tmp_path / "cache", **played.at)["train"]
    assert not set(loaded["id"]) & ids([*rows["relabel"], *rows["reject"], rejected])
    with pytest.raises(PublishError, match="hold no samples"):
        load_round(played.repo, 4, only=True, cache_dir=tmp_path / "cache", **played.at)
    # Another machine goes on from the corrected round, and makes the same.
    elsewhere = load(tmp_path / "recipe.yaml", [*QUICK, *addresses, "name=elsewhere", "publish=null"])
    run_all([elsewhere], tmp_path / "runs", Progress(), origin="org/goes-on@round-004")
    workspaces = (played.workspace, Workspace(tmp_path / "runs" / "elsewhere"))
    contents = [read_json(workspace.round(5).manifest)["identity"]["content"] for workspace in workspaces]
    assert contents[0] == contents[1]
