"""What a name stands for: a run, a round's student, a copy of it, a student on the Hub."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from evokd_data.deployment.opening import open_model, with_metadata_alone
from evokd_data.digest import digest
from evokd_data.errors import DataError, StudentError, WorkspaceError
from evokd_data.recipe_sections import Source
from evokd_data.stages.adopt import best_student
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.students.checkpoint import METADATA_FILE
from tests.support.example_tagging_task import places
from tests.support.example_task import play, quick, write_rows


@pytest.fixture
def run(recipe_file, tmp_path) -> Workspace:
    return play(quick(recipe_file(), "task.label_names={red: crimson}"), tmp_path / "runs", 2)


def adopt_only(workspace: Workspace, best: int) -> None:
    """Let the metrics of the last round say that another round's student stays."""
    path = workspace.rounds()[-1].metrics
    metrics = read_json(path)
    metrics["adoption"] = {**metrics["adoption"], "adopted": best == metrics["round"], "best": best}
    write_checked_json(path, metrics)


def test_a_run_means_the_student_of_its_last_adopted_round_and_a_round_can_be_named(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adopt_only(run, 0)
    for name in ("colours", "runs/colours", str(run.root)):
        assert open_model(name).checkpoint.resolve() == run.round(0).student
        assert open_model(name, 1).checkpoint.resolve() == run.round(1).student
    adopt_only(run, 1)
    opened = open_model("colours")
    assert opened.checkpoint.resolve() == run.round(1).student and opened.name == "colours, round 1"
    assert opened.task.names["red"] == "crimson" and opened.student.buckets == 1024


def test_student_best_can_be_named_as_any_folder(run):
    assert open_model(str(run.best_student)).checkpoint == best_student(run).student


def test_the_test_set_of_a_run_is_found_from_anywhere(run, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    samples = open_model(str(run.root)).test_samples()
    assert len(samples) == 9 and samples[0].text == "tomatoes and cherries"


def test_a_copy_of_a_students_folder_is_used_by_what_its_classes_say(run, tmp_path):
    copied = Path(shutil.copytree(run.round(1).student, tmp_path / "copy"))
    opened = open_model(str(copied))
    assert opened.task.labels == ("red", "green", "blue") and opened.checkpoint == copied
    with pytest.raises(DataError, match=r"has no test set on this machine; name labelled texts with --test FILE"):
        opened.test_samples()
    write_rows(tmp_path / "own.jsonl", {"red": ["a red door"]})
    assert len(opened.test_samples(Source(path=tmp_path / "own.jsonl"))) == 1


def test_a_copy_of_a_taggers_folder_is_used_by_what_its_tags_say(tmp_path):
    workspace = play(places(tmp_path, "teacher_trust=off"), tmp_path / "runs", 1)
    copied = Path(shutil.copytree(workspace.round(0).student, tmp_path / "copy"))
    assert open_model(str(copied)).task.labels == ("person", "place")


@pytest.mark.parametrize(
    ("name", "round", "message"),
    [
        (
            "runs/nothing",
            None,
            "runs/nothing: neither a run, nor a student's folder, nor ORG/NAME@ROUND-003 on the Hub",
        ),
        ("nothing", None, "nothing: neither a run"),
        ("colours", 7, "round-007/student: is not on this machine; name another round with --round"),
        ("runs/colours/student/best", 1, "runs/colours/student/best: is the student of one round; drop --round"),
        ("empty", None, "no round is trained and scored; next: evokd-data run RECIPE"),
    ],
)
def test_a_name_that_means_no_student_is_one_message(run, tmp_path, monkeypatch, name, round, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "empty" / "inputs.json").write_text("{}")
    with pytest.raises(WorkspaceError) as caught:
        open_model(name, round)
    assert message in str(caught.value)


def test_a_damaged_student_is_named(run, tmp_path):
    copied = Path(shutil.copytree(run.round(1).student, tmp_path / "copy"))
    (copied / METADATA_FILE).write_text("{")
    with pytest.raises(StudentError, match=f"{os.fspath(copied)}.*is damaged"):
        open_model(str(copied))


@pytest.mark.parametrize(
    "change", [{"classes": 5}, {"words": None, "classes": None}, {"base": "x"}, {"task": {"labels": ["a", "b"]}}]
)
def test_a_students_metadata_of_another_form_are_named(run, tmp_path, change):
    copied = Path(shutil.copytree(run.round(1).student, tmp_path / "copy"))
    metadata = {**json.loads((copied / METADATA_FILE).read_text()), **change}
    (copied / METADATA_FILE).write_text(
        json.dumps({key: value for key, value in metadata.items() if value is not None})
    )
    with pytest.raises(StudentError, match=METADATA_FILE):
        open_model(str(copied))


def test_a_strangers_repository_names_no_folder_of_this_machine(run, tmp_path):
    copied = Path(shutil.copytree(run.round(1).student, tmp_path / "copy"))
    metadata = {**json.loads((copied / METADATA_FILE).read_text()), "base": {"model": str(tmp_path)}}
    metadata["checksum"] = digest({key: value for key, value in metadata.items() if key != "checksum"})
    (copied / METADATA_FILE).write_text(json.dumps(metadata))
    with pytest.raises(StudentError, match=r"^org/model@round-001: its base model .* is no repository of the Hub"):
        with_metadata_alone(copied, "org/model@round-001")


@pytest.mark.parametrize("files", [{"../recipe.yaml": "0" * 64}, {"/etc/hostname": "0" * 64}, {"linear.npz": 5}])
def test_a_checkpoint_names_files_of_its_own_folder_alone(run, tmp_path, files):
    copied = Path(shutil.copytree(run.round(1).student, tmp_path / "copy"))
    metadata = {**json.loads((copied / METADATA_FILE).read_text()), "files": files}
    metadata["checksum"] = digest({key: value for key, value in metadata.items() if key != "checksum"})
    (copied / METADATA_FILE).write_text(json.dumps(metadata))
    with pytest.raises(StudentError, match=rf"{METADATA_FILE} is damaged"):
        open_model(str(copied))
