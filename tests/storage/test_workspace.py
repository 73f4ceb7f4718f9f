from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.atomic_files import whole_file, whole_folder, write_json, write_text
from evokd_data.errors import WorkspaceError
from evokd_data.repo_layout import round_tag
from evokd_data.storage import workspace
from evokd_data.storage.workspace import Workspace, read_json

HOLD = "import sys, evokd_data.storage.workspace as w, pathlib\nwith w.Workspace(pathlib.Path(sys.argv[1])).lock(): print('held', flush=True); input()"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(st.integers(0, 5000))
def test_tags_sort_as_rounds_do_up_to_a_thousand(index):
    assert round_tag(index).removeprefix("round-").isdecimal()
    assert int(round_tag(index).removeprefix("round-")) == index
    assert index >= 1000 or round_tag(index) < round_tag(index + 1) or index == 999


def test_rounds_are_listed_in_order_and_copies_put_aside_are_none(tmp_path):
    for name in ("round-002", "round-000", "round-1000", "round-001.bak", "round-1 (copy)", "round-01", "round-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "round-003").write_text("a file")
    assert [folder.index for folder in Workspace(tmp_path).rounds()] == [0, 2, 1000]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "deep" / "plan.json", "old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "deep" / "plan.json") as draft:
        draft.write_text("half")
        1 / 0  # noqa: B018
    assert (tmp_path / "deep" / "plan.json").read_text() == "old"
    assert names(tmp_path / "deep") == ["plan.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with whole_folder(tmp_path / "student") as draft:
        (draft / "weights").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "student") as draft:
        (draft / "weights").write_text("half")
        1 / 0  # noqa: B018
    with whole_folder(tmp_path / "other") as draft:
        (draft / "weights").write_text("new")
        (draft / "weights").chmod(0o444)
    assert (tmp_path / "student" / "weights").read_text() == "old"
    assert names(tmp_path) == ["other", "student"]


def test_a_written_file_has_the_rights_that_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "plan.json", "{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "plan.json").stat().st_mode) == 0o640


@pytest.mark.slow
@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_json_comes_back_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    try:
        write_json(path, value)
    except UnicodeEncodeError:
        assert not path.exists()
    else:
        assert read_json(path) == value


def test_a_missing_and_a_damaged_file_are_told(tmp_path):
    with pytest.raises(WorkspaceError, match=r"plan\.json: is missing"):
        read_json(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text('{"half": ')
    with pytest.raises(WorkspaceError, match=r"plan\.json: is damaged"):
        read_json(tmp_path / "plan.json")


def test_a_run_is_held_by_one_process_and_let_go_when_that_one_dies(tmp_path):
    run = Workspace(tmp_path / "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match="another evokd-data process works on this run"), run.lock():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with run.lock():
        pass


def test_taking_a_run_removes_the_drafts_a_killed_process_left(tmp_path):
    run = Workspace(tmp_path)
    shards = run.round(1).shards
    with whole_file(shards / "00000.arrow") as draft, whole_folder(run.round(1).student) as folder:
        draft.with_name(draft.name).write_text("half")
        left = [draft.name, folder.name]
        contents = {path: path.read_bytes() if path.is_file() else None for path in (draft, folder)}
    for path, content in contents.items():  # as kill -9 leaves them
        path.write_bytes(content) if content is not None else path.mkdir()
    assert set(left) <= {path.name for path in tmp_path.rglob("*")}
    with run.lock():
        assert not set(left) & {path.name for path in tmp_path.rglob("*")}
    assert (shards / "00000.arrow").exists() and run.round(1).student.exists()


def test_a_file_where_the_run_should_be_is_told(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(WorkspaceError, match="cannot hold a run"), Workspace(tmp_path / "run").lock():
        pass


def test_a_run_keeps_its_recipe_and_refuses_another(tmp_path):
    run = Workspace(tmp_path)
    empty: dict[str, object] = {"settings": {}, "prompts": {}, "teacher": {}, "student": {}, "splits": {"test": "x"}}
    run.freeze("name: a\n", {**empty, "seed": 0})
    run.freeze("name: a\nrounds: {count: 9}\n", {**empty, "seed": 0})
    assert run.recipe.read_text() == "name: a\nrounds: {count: 9}\n"
    with pytest.raises(WorkspaceError) as caught:
        run.freeze("name: b\n", {**empty, "seed": 1})
    assert '- "seed": 0' in str(caught.value) and '+ "seed": 1' in str(caught.value)
    assert run.recipe.read_text() == "name: a\nrounds: {count: 9}\n"


@pytest.mark.parametrize("writes", [0, 1])
def test_a_checked_file_that_is_written_again_is_readable_whenever_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    path = tmp_path / "plan.json"
    before, after = ({"weaknesses": [], "cells": [], "refills": refills} for refills in ([], [[]]))
    workspace.write_checked_json(path, before)
    left = itertools.count()
    write_text = workspace.write_text

    def killed_after(target: Path, text: str) -> None:
        if next(left) == writes:
            raise KeyboardInterrupt
        write_text(target, text)

    monkeypatch.setattr(workspace, "write_text", killed_after)
    with pytest.raises(KeyboardInterrupt):
        workspace.write_checked_json(path, after)
    assert workspace.read_json(path) == (after if writes else before)
    monkeypatch.undo()
    workspace.write_checked_json(path, after)
    assert workspace.read_json(path) == after
