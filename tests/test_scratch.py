"""Scratch folders: gone at the end of the block, and gone at the next start when their process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from evokd_data.scratch import PREFIX, remove_abandoned, scratch_folder
from tests.support import ROOT

PROGRAM = """
import sys
from evokd_data.scratch import scratch_folder
with scratch_folder("test") as folder:
    (folder / "large").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def started() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)


def test_a_scratch_folder_is_empty_private_and_gone_afterwards(temporary: Path) -> None:
    with scratch_folder("test") as folder:
        assert list(folder.iterdir()) == [] and folder.is_relative_to(temporary)
        assert folder.parent.stat().st_mode & 0o077 == 0
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_stays(temporary: Path) -> None:
    killed, killed_folder = started()
    living, living_folder = started()
    try:
        killed.send_signal(signal.SIGKILL)
        ended(killed)
        assert (killed_folder / "large").exists()
        with scratch_folder("test") as folder:
            assert not killed_folder.parent.exists()
            assert (living_folder / "large").exists() and folder.exists()
    finally:
        ended(living)
    assert list(temporary.iterdir()) == []


def test_folders_of_others_links_and_other_names_stay(temporary: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / ".lock").touch()
    (temporary / f"{PREFIX}link").symlink_to(target)
    (temporary / f"{PREFIX}new").mkdir()
    (temporary / "evokd-other").mkdir()
    remove_abandoned()
    assert sorted(path.name for path in temporary.iterdir()) == sorted(
        [f"{PREFIX}link", f"{PREFIX}new", "evokd-other", "precious"]
    )


BUSY = """
from evokd_data.scratch import scratch_folder
for _ in range(400):
    with scratch_folder("race") as folder:
        (folder / "file").write_text("x")
"""


@pytest.mark.slow
def test_processes_that_begin_at_the_same_moment_take_no_folder_from_each_other(temporary: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert errors == [""] * 4
    assert list(temporary.iterdir()) == []


def test_a_folder_whose_process_was_killed_before_it_was_locked_is_removed_when_it_is_old(temporary: Path) -> None:
    old, new = temporary / f"{PREFIX}old", temporary / f"{PREFIX}new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    remove_abandoned()
    assert not old.exists() and new.exists()
