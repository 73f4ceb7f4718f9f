"""A run outlives its machine: at every moment the mirror holds a folder from which the run can go on."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from evokd_data.errors import MirrorError
from evokd_data.loop.rounds import generate_next, open_run, run_all, train_next
from evokd_data.progress import Progress
from evokd_data.storage import journal, mirror
from evokd_data.storage.mirror import Mirror, mirrored
from evokd_data.storage.workspace import Workspace
from tests.support.example_task import contents, play, quick

pytestmark = pytest.mark.slow

DRIVER = """
import sys
from pathlib import Path
from evokd_data.storage import mirror
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.loop.rounds import run_all
mirror.INTERVAL_S = 0.05
print("started", flush=True)
run_all([load(Path(sys.argv[1]))], Path(sys.argv[2]), Progress(), mirror=sys.argv[3])
"""
SLOW = {"engine: scripted": "engine: scripted, latency_s: 0.02, window: 4"}


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def url() -> Iterator[str]:
    """A mirror that is no folder of this machine."""
    yield "memory://bucket/runs"
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture(params=["memory", "folder"])
def any_url(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> str:
    return url if request.param == "memory" else str(tmp_path / "shared")


def files(workspace: Workspace) -> dict[str, bytes]:
    """The files that the mirror must give back, byte for byte."""
    paths = (path for path in workspace.root.rglob("*") if path.is_file() and not path.name.startswith("."))
    names = {path.relative_to(workspace.root).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in names.items() if not name.startswith("tokens/") and name[-4:] != ".log"}


def here(folder: Path) -> Workspace:
    return Workspace(folder / "colours")


def test_a_run_goes_on_on_another_machine_where_it_was(recipe, any_url, tmp_path):
    whole = play(recipe(), tmp_path / "whole", 3)
    first = tmp_path / "first"
    generate_next(recipe(), first, Progress(), mirror=any_url)
    train_next(recipe(), first, Progress(), mirror=any_url)
    generate_next(recipe(), first, Progress(), mirror=any_url)
    left = files(here(first))
    shutil.rmtree(first)

    notes = Notes()
    second = tmp_path / "second"
    with open_run(recipe(), second, progress=notes, mirror=any_url):
        assert files(here(second)) == left
    assert notes.notes == [f"fetching {len(left)} files of the run from {any_url}/colours"]
    run_all([recipe()], second, Progress(), mirror=any_url)
    assert contents(here(second)) == contents(whole)
    assert not list(here(second).rounds()[1].journal.glob("00001*")), "what was journalled was asked again"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_machine_that_dies_at_any_moment_leaves_a_run_to_go_on_from(recipe_file, seed, tmp_path):
    path = recipe_file(**{"engine: scripted": "engine: scripted, latency_s: 0.05, window: 2"})
    whole = play(quick(path, "teacher.latency_s=0"), tmp_path / "whole", 3)
    chance = random.Random(seed)
    for machine in range(7):
        runs = tmp_path / f"machine-{machine}"
        words = [sys.executable, "-c", DRIVER, str(path), str(runs), str(tmp_path / "shared")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "started\n"
            try:
                process.wait(timeout=chance.uniform(0.3, 1.2) if machine < 6 else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            else:
                assert process.returncode == 0
                break
    assert machine >= 1, "nothing was killed"
    last = here(runs)
    assert contents(last) == contents(whole)
    for folder, other in zip(last.rounds(), whole.rounds(), strict=True):
        keys = Counter(row["key"] for row in journal.read_answers(folder.journal))
        assert keys == Counter(row["key"] for row in journal.read_answers(other.journal))


def test_every_state_is_a_folder_to_go_on_from(recipe, url, tmp_path, monkeypatch):
    """Whenever the machine dies: each state that was ever the newest is restored and played to the end."""
    whole = play(recipe(), tmp_path / "whole", 2)
    monkeypatch.setattr(mirror, "INTERVAL_S", 0.001)
    store = fsspec.filesystem("memory")
    states: list[dict[str, bytes]] = []
    write_state = Mirror._write_state

    def recorded(self: Mirror, files: mirror.Files) -> None:
        write_state(self, files)
        states.append({path: store.cat_file(path) for path in store.find("/bucket/runs")})

    monkeypatch.setattr(Mirror, "_write_state", recorded)
    slow = recipe(**SLOW)
    generate_next(slow, tmp_path / "runs", Progress(), mirror=url)
    train_next(slow, tmp_path / "runs", Progress(), mirror=url)
    generate_next(slow, tmp_path / "runs", Progress(), mirror=url)
    monkeypatch.setattr(Mirror, "_write_state", write_state)
    assert len(states) > 2
    for number in range(0, len(states), max(1, len(states) // 8)):
        store.store.clear()
        for path, content in states[number].items():
            store.pipe_file(path, content)
        runs = tmp_path / f"from-{number}"
        run_all([quick(slow.path, "rounds.count=1")], runs, Progress(), mirror=url)
        assert contents(here(runs)) == contents(whole)


def test_long_files_travel_in_blocks_and_a_journal_only_by_its_end(recipe, url, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "BLOCK_BYTES", 1000)
    run = play(recipe(), tmp_path / "runs", 2)
    store = fsspec.filesystem("memory")
    with mirrored(run, url):
        pass
    before = {path: store.created(path) for path in store.find("/bucket/runs") if "journal" in path}
    segment = journal.segments(run.round(1).journal)[0]
    size = segment.stat().st_size
    assert len(before) == -(-size // 1000) > 3
    with segment.open("ab") as file:
        file.write(segment.read_bytes().splitlines(keepends=True)[0] + b'{"key": "torn')
    with mirrored(run, url):
        pass
    after = {path: store.created(path) for path in store.find("/bucket/runs") if "journal" in path}
    full = {path: when for path, when in before.items() if len(store.cat_file(path)) == 1000}
    assert {path: after[path] for path in full} == full, "a full block was sent again"

    with mirrored(here(tmp_path / "elsewhere"), url):
        pass
    whole_lines = segment.read_bytes().removesuffix(b'{"key": "torn')
    assert files(here(tmp_path / "elsewhere")) == files(run) | {"round-001/journal/00000.jsonl": whole_lines}


def test_a_mirror_that_was_removed_is_filled_again(recipe, url, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "INTERVAL_S", 0.01)
    run = play(recipe(), tmp_path / "runs", 1)
    store = fsspec.filesystem("memory")
    with mirrored(run, url):
        wait_for(lambda: store.exists("/bucket/runs/colours/state-00000001.json"))
        store.rm("/bucket/runs", recursive=True)
        (run.root / "more.txt").write_text("more")
    with mirrored(here(tmp_path / "new"), url):
        assert files(here(tmp_path / "new")) == files(run)


def test_what_is_waste_is_removed_and_nothing_else(recipe, url, tmp_path):
    run = play(recipe(), tmp_path / "runs", 2)
    for text in ("one", "two", "three", "four"):
        (run.root / "changing.txt").write_text(text)
        with mirrored(run, url):
            pass
    store = fsspec.filesystem("memory")
    paths = [path.removeprefix("/bucket/runs/colours/") for path in store.find("/bucket/runs")]
    # The states of the last two; a mirror opened anew knows only the one it paths and the one it wrote.
    assert sorted(path for path in paths if path.startswith("state")) == ["state-00000003.json", "state-00000004.json"]
    with mirrored(here(tmp_path / "elsewhere"), url):
        pass
    assert (tmp_path / "elsewhere/colours/changing.txt").read_text() == "four"
    assert files(here(tmp_path / "elsewhere")) == files(run)


def test_two_machines_do_not_write_one_mirror(recipe, url, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "INTERVAL_S", 0.01)
    old, new = tmp_path / "old", tmp_path / "new"
    raises = pytest.raises(MirrorError, match=r"is written from another folder, on .*put .*/old/colours aside")
    with raises, open_run(recipe(), old, mirror=url) as run:
        wait_for(lambda: fsspec.filesystem("memory").exists("/bucket/runs/colours/state-00000001.json"))
        with open_run(recipe(), new, mirror=url):
            pass
        (run.workspace.root / "more.txt").write_text("the old machine is back")
        time.sleep(10)
        pytest.fail("the old machine went on")
    with pytest.raises(MirrorError, match="is written from another folder"):  # nor does it begin again
        generate_next(recipe(), old, Progress(), mirror=url)
    generate_next(recipe(), new, Progress(), mirror=url)
    with mirrored(here(tmp_path / "third"), url):
        pass
    assert files(here(tmp_path / "third")) == files(here(new))
    assert not (tmp_path / "third" / "colours" / "more.txt").exists()


def test_a_generation_stops_when_its_run_was_taken_over(recipe, url, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "INTERVAL_S", 0.5)
    slow = recipe(**{"engine: scripted": "engine: scripted, latency_s: 0.5, window: 1"})
    generate_next(slow, tmp_path / "old", Progress(), mirror=url)
    train_next(slow, tmp_path / "old", Progress(), mirror=url)

    def take_over() -> None:
        wait_for(lambda: bool(here(tmp_path / "old").round(1).plan.exists()))
        with mirrored(here(tmp_path / "new"), url):
            pass

    other = threading.Thread(target=take_over)
    other.start()
    with pytest.raises(MirrorError, match="is written from another folder"):
        generate_next(slow, tmp_path / "old", Progress(), mirror=url)
    other.join()
    assert not here(tmp_path / "old").round(1).generated.exists()


def test_a_fetch_that_was_cut_off_begins_again(recipe, url, tmp_path, monkeypatch):
    run = play(recipe(), tmp_path / "runs", 2)
    with mirrored(run, url):
        pass
    store = fsspec.filesystem("memory")
    read = type(store).cat_file
    left = [7]

    def cut(self: object, path: str, *more: object, **settings: object) -> bytes:
        left[0] -= 1
        if not left[0]:
            raise ConnectionError("reset")
        return read(self, path, *more, **settings)

    with monkeypatch.context() as down:
        down.setattr(type(store), "cat_file", cut)
        with pytest.raises(MirrorError, match=r"cannot be read \(reset\)"), mirrored(here(tmp_path / "new"), url):
            pass
    assert not here(tmp_path / "new").inputs.exists()
    with mirrored(here(tmp_path / "new"), url):
        assert files(here(tmp_path / "new")) == files(run)


def test_a_folder_with_a_run_of_its_own_is_not_mixed_with_another(recipe, url, tmp_path):
    generate_next(recipe(), tmp_path / "one", Progress(), mirror=url)
    generate_next(recipe(), tmp_path / "two", Progress())
    with pytest.raises(MirrorError, match="is written from another folder"):
        generate_next(recipe(), tmp_path / "two", Progress(), mirror=url)


def test_a_run_goes_on_while_its_mirror_cannot_be_reached(recipe, url, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "INTERVAL_S", 0.005)
    notes = Notes()
    store = fsspec.filesystem("memory")

    def refused(*_: object, **__: object) -> None:
        raise ConnectionError("503 Slow Down")

    with monkeypatch.context() as down:
        down.setattr(type(store), "pipe_file", refused)
        with pytest.raises(
            MirrorError, match=r"cannot be written \(503 Slow Down\); all is in .*colours; run the command"
        ):
            generate_next(recipe(**SLOW), tmp_path / "runs", notes, mirror=url)
    assert (
        notes.notes.count(
            "memory://bucket/runs/colours: cannot be written (503 Slow Down); tried again, the run goes on"
        )
        == 1
    )
    train_next(recipe(), tmp_path / "runs", notes, mirror=url)
    with mirrored(here(tmp_path / "elsewhere"), url):
        pass
    assert files(here(tmp_path / "elsewhere")) == files(here(tmp_path / "runs"))


def test_a_damaged_block_is_not_taken(recipe, url, tmp_path):
    play(recipe(), tmp_path / "runs", 1)
    with mirrored(here(tmp_path / "runs"), url):
        pass
    store = fsspec.filesystem("memory")
    (shard,) = (path for path in store.find("/bucket/runs") if "/shards/" in path)
    store.pipe_file(shard, store.cat_file(shard)[:-1] + b"?")
    with pytest.raises(MirrorError, match=r"shards/00000.arrow.[0-9a-f]{16}: is damaged"):
        generate_next(recipe(), tmp_path / "new", Progress(), mirror=url)
    assert not here(tmp_path / "new").inputs.exists(), "half a run would be gone on with"


def test_a_half_written_state_is_passed_over(recipe, url, tmp_path):
    run = play(recipe(), tmp_path / "runs", 1)
    with mirrored(run, url):
        pass
    fsspec.filesystem("memory").pipe_file("/bucket/runs/colours/state-00000002.json", b'{"writer": "')
    with mirrored(here(tmp_path / "new"), url):
        pass
    assert files(here(tmp_path / "new")) == files(run)


def test_a_state_cannot_name_files_outside_of_the_run(recipe, url, tmp_path):
    state = {"writer": "x", "host": "y", "files": {"../../evil": [[1, "0" * 64]]}}
    fsspec.filesystem("memory").pipe_file("/bucket/runs/colours/state-00000001.json", json.dumps(state).encode())
    with pytest.raises(MirrorError, match=r"names the file '../../evil', outside of a run folder"):
        generate_next(recipe(), tmp_path / "runs", Progress(), mirror=url)


@pytest.mark.parametrize("wrong", ["nothing://bucket/runs", "gdrive://bucket/runs"])
def test_a_protocol_nobody_knows_is_refused_before_anything_is_done(recipe, wrong, tmp_path):
    with pytest.raises(MirrorError, match=r"--mirror .*: cannot be opened \(.*\); give a folder or a URL"):
        generate_next(recipe(), tmp_path / "runs", Progress(), mirror=wrong)
    assert not here(tmp_path / "runs").inputs.exists()


def test_a_run_folder_is_not_its_own_mirror(recipe, tmp_path):
    with pytest.raises(MirrorError, match="holds the run folder itself"):
        generate_next(recipe(), tmp_path / "runs", Progress(), mirror=str(tmp_path / "runs"))


def test_a_password_in_a_url_is_not_repeated(recipe, tmp_path):
    with pytest.raises(MirrorError) as error:
        generate_next(recipe(), tmp_path / "runs", Progress(), mirror="ftp://me:hidden@127.0.0.1:1/runs")
    assert "ftp://127.0.0.1:1/runs: cannot be opened" in str(error.value)


def wait_for(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)
