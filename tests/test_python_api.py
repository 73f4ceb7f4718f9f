"""The classes and functions that `evokd_data` exports: what the commands do, in scripts, in `async def`, in Jupyter's loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import evokd_data
from evokd_data import Progress, Recipe, Run
from evokd_data.errors import RecipeError, StudentError, TeacherError, WorkspaceError
from evokd_data.loop import rounds
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers import Engine
from evokd_data.teachers.scripted import Scripted, ScriptedEngine
from tests.support.example_tagging_task import places
from tests.support.example_task import QUICK, SEEDS, contents, play, quick
from tests.support.published_runs import ROUGH

pytestmark = pytest.mark.slow


class Notes(Progress):
    """Counts how often a teacher is opened."""

    openings = 0

    def waits(self, for_what: str, log: Path) -> None:
        self.openings += for_what == "opening the teacher"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the rounds, from the functions that the commands call."""
    from tests.support.published_runs import write_recipe

    folder = tmp_path_factory.mktemp("expected")
    return contents(play(quick(write_recipe(folder), "rounds.count=2"), folder / "runs", 3))


@pytest.fixture
def rough(recipe_file) -> Recipe:
    """A recipe whose teacher makes errors: there are rejections."""
    recipe_file()
    path = recipe_file(ROUGH)
    return Recipe.load(path, [*QUICK, "rounds.count=2"])


def digests(run: Run) -> list[str]:
    return [row["digest"] for row in run.rounds()]


def test_every_exported_name_is_there_and_no_other_is_promised() -> None:
    assert set(evokd_data.__all__) == {"__version__", *evokd_data._PUBLIC} <= set(dir(evokd_data))
    assert all(getattr(evokd_data, name) is not None for name in evokd_data.__all__)
    with pytest.raises(AttributeError, match="'Runs'"):
        evokd_data.Runs  # noqa: B018 - the access is what is tested


def test_overrides_are_a_mapping_or_lines_as_on_the_command_line(recipe_file) -> None:
    path = recipe_file()
    lines = Recipe.load(path, ["rounds.count=1", "task.description='red: yes'", "card.languages=[de, fr]"])
    mapping = {"rounds.count": 1, "task.description": "red: yes", "card.languages": ["de", "fr"]}
    assert Recipe.load(str(path), mapping).settings == lines.settings
    assert (lines.rounds.count, lines.task.description) == (1, "red: yes")
    with pytest.raises(RecipeError, match=r"rounds\.counts"):
        Recipe.load(path, {"rounds.counts": 1})


def test_round_by_round_the_rows_are_those_of_the_commands(rough, tmp_path, expected) -> None:
    notes = Notes()
    with Run.open(rough, tmp_path / "runs", progress=notes) as run:
        for index in range(3):
            assert run.generate_sync()["round"] == index
            assert run.train_round()["test"]["n"] == 9
        assert digests(run) == expected
    assert notes.openings == 1, "the teacher stays open from round to round"


def test_finish_works_through_all_rounds_and_a_second_time_does_nothing(rough, tmp_path, expected) -> None:
    with Run.open(rough, tmp_path / "runs") as run:
        rows = run.finish_sync()
    assert [row["digest"] for row in rows] == expected
    notes = Notes()
    with Run.open(rough, str(tmp_path / "runs"), progress=notes) as run:
        assert run.finish_sync() == rows
    assert notes.openings == 0


def test_await_and_the_blocking_twins_work_in_a_running_loop_with_one_teacher(rough, tmp_path, expected) -> None:
    notes = Notes()

    async def cells() -> None:
        run = Run.open(rough, tmp_path / "runs", progress=notes)
        run.generate_sync()
        run.train_round()
        await run.generate()
        run.train_round()
        run.generate_sync()
        assert "[0, 1]" in repr(run)
        await run.finish()
        assert digests(run) == expected
        run.close()

    asyncio.run(cells())
    assert notes.openings == 1


def test_a_run_goes_on_from_a_script_into_a_loop_and_back(rough, tmp_path, expected) -> None:
    notes = Notes()
    with Run.open(rough, tmp_path / "runs", progress=notes) as run:
        run.generate_sync()
        run.train_round()
        run.generate_sync()
        run.train_round()
        asyncio.run(run.generate())
        assert run.generate_sync()["round"] == 2
        run.train_round()
        assert digests(run) == expected
    assert notes.openings == 1


def test_without_a_progress_stages_and_waits_are_logged(rough, tmp_path, caplog) -> None:
    caplog.set_level("INFO", "evokd_data.progress")
    with Run.open(rough, tmp_path / "runs") as run:
        run.generate_sync()
        run.train_round()
        run.generate_sync()
    lines = [record.getMessage() for record in caplog.records if record.name == "evokd_data.progress"]
    assert "round 0: train-round is done" in [line.strip() for line in lines]
    assert any(line.startswith("opening the teacher; its log: ") for line in lines)
    assert any(line.startswith("round 1: generate {'texts': 24") for line in lines)


def slow(recipe: Recipe) -> Recipe:
    return Recipe.load(recipe.path, [*QUICK, "rounds.count=2", "teacher.latency_s=0.05", "teacher.window=1"])


def test_the_callers_loop_goes_on_and_a_cancelled_call_ends_in_order(rough, tmp_path, expected) -> None:
    async def program() -> None:
        with Run.open(slow(rough), tmp_path / "runs") as run:
            run.generate_sync()
            run.train_round()
            task = asyncio.create_task(run.generate())
            ticks = 0
            while not list((run.folder / "round-001").glob("journal/*")):
                await asyncio.sleep(0.01)
                ticks += 1
            assert ticks > 2
            with pytest.raises(WorkspaceError, match="another call of this Run is not done"):
                run.train_round()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not (run.folder / "round-001" / "generated.json").exists()
            await run.generate()
            run.train_round()
            await run.finish()
            assert digests(run) == expected

    asyncio.run(program())


def test_ctrl_c_in_a_blocking_call_of_a_running_loop_ends_it_in_order(rough, tmp_path, interrupt_when) -> None:
    async def cell() -> None:
        with Run.open(slow(rough), tmp_path / "runs") as run:
            run.generate_sync()
            run.train_round()
            interrupt_when(lambda: list((run.folder / "round-001").glob("journal/*")))
            with pytest.raises(KeyboardInterrupt):
                run.generate_sync()
            assert not (run.folder / "round-001" / "generated.json").exists()
            assert run.generate_sync()["round"] == 1

    asyncio.run(cell())


def test_after_an_error_of_the_teacher_the_next_call_opens_it_anew(rough, tmp_path) -> None:
    recipe = Recipe.load(
        rough.path, {"rounds.count": 1, "teacher": {"engine": "server", "urls": ["http://127.0.0.1:9"], "model": "m"}}
    )
    notes = Notes()
    with Run.open(recipe, tmp_path / "runs", progress=notes) as run:
        run.generate_sync()
        run.train_round()
        for _ in range(2):
            with pytest.raises(TeacherError):
                run.generate_sync()
    assert notes.openings == 2


@dataclass(frozen=True)
class Napping(Scripted):
    """Says what its engine does."""

    told: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        async with super().serve(log) as engine:
            self.told.append("open")
            yield _NappingEngine(engine.settings, self.told)
            self.told.append("closed")


@dataclass(frozen=True)
class _NappingEngine(ScriptedEngine):
    told: list[str]

    async def sleep(self) -> None:
        self.told.append("asleep")

    async def wake(self) -> None:
        self.told.append("awake")


def test_the_teacher_sleeps_while_the_student_trains_and_is_closed_when_that_fails(
    rough, tmp_path, monkeypatch
) -> None:
    teacher = Napping(wrong_labels=0.3)
    with Run.open(replace(rough, teacher=teacher), tmp_path / "runs") as run:
        run.generate_sync()
        run.train_round()
        run.generate_sync()
        fit = rounds.train

        def fails(*_: object) -> None:
            teacher.told.append("trains")
            raise StudentError("out of memory")

        monkeypatch.setattr(rounds, "train", fails)
        with pytest.raises(StudentError, match="out of memory"):
            run.train_round()
        assert teacher.told == ["open", "asleep", "trains", "closed"]
        monkeypatch.setattr(rounds, "train", fit)
        run.train_round()
        run.generate_sync()
        run.train_round()
    assert teacher.told[4:] == ["open", "asleep", "awake", "closed"]


def test_a_run_is_held_until_it_is_closed_and_can_be_read_afterwards(rough, tmp_path) -> None:
    run = Run.open(rough, tmp_path / "runs")
    with pytest.raises(WorkspaceError, match="another Run of this program: wait for it, close it"):
        Run.open(rough, tmp_path / "runs")
    run.generate_sync()
    run.close()
    run.close()
    with pytest.raises(WorkspaceError, match="this Run is closed"):
        run.train_round()
    assert len(run.samples()) == 3
    with Run.open(rough, tmp_path / "runs") as again:
        again.train_round()


def test_samples_are_a_dataset_with_class_labels_and_rejections_one_with_reasons(rough, tmp_path) -> None:
    from datasets import ClassLabel

    with Run.open(rough, tmp_path / "runs") as run:
        run.finish_sync()
        rows, everything = run.samples(1), run.samples()
        assert rows.features["label"] == ClassLabel(names=["red", "green", "blue"])
        assert set(rows["round"]) == {1} and list(everything["round"]) == sorted(everything["round"])
        assert len(everything) == sum(row["kept"] for row in run.rounds())
        seeds = run.samples(0)
        names = seeds.features["label"].int2str(seeds["label"])
        assert [text in SEEDS[name] for text, name in zip(seeds["text"], names, strict=True)] == [True] * 3
        halves = everything.train_test_split(0.5, stratify_by_column="label", seed=1)
        assert len(halves["train"]) + len(halves["test"]) == len(everything)
        counts = run.rounds()[1]["rejected"]
        assert counts and len(run.rejections(1)) == sum(counts.values())
        assert {reason: len(run.rejections(1, reason)) for reason in counts} == counts
        assert len(run.rejections(0)) == 0
        with pytest.raises(WorkspaceError, match="'duplicates' is no reason; did you mean"):
            run.rejections(reason="duplicates")
        with pytest.raises(WorkspaceError, match="has no round 7; it has 0, 1, 2"):
            run.samples(7)
        assert run.samples(1)._fingerprint == rows._fingerprint != everything._fingerprint


def test_the_types_of_spans_are_class_labels(tmp_path) -> None:
    recipe = places(tmp_path, "teacher_trust=off", "rounds.count=1", "student={kind: linear, buckets: 4096}")
    with Run.open(recipe, tmp_path / "runs") as run:
        run.finish_sync()
        rows = run.samples()
        names = rows.features["spans"].feature["type"].names
        assert tuple(names) == recipe.task.types
        for row in rows:
            for span in row["spans"]:
                assert row["text"][span["start"] : span["end"]] == span["surface"]
                assert names[span["type"]] in recipe.task.types


def test_rounds_are_a_table_and_the_best_student_predicts(rough, tmp_path) -> None:
    with Run.open(rough, tmp_path / "runs") as run:
        run.finish_sync()
        rows = run.rounds()
        assert [row["round"] for row in rows] == [0, 1, 2] and rows[0]["adopted"] is True
        assert {row["metric"] for row in rows} == {"macro_f1"}
        for row in rows:
            low, high = row["interval"]
            assert 0 <= low <= row["score"] <= high <= 1
        student = run.best_student()
        adopted = [row["round"] for row in rows if row["adopted"]]
        assert student.checkpoint == run.folder / f"round-{adopted[-1]:03d}" / "student"
        texts = ["a red rose", "the deep sea"]
        (first, second) = student.predict(iter(texts))
        assert [first["text"], second["text"]] == texts and first["label"] in rough.task.labels
        assert student.predict([]) == []
        assert run.best_student(0).checkpoint.parent.name == "round-000"


def test_publishing_needs_a_section_and_says_so(rough, tmp_path) -> None:
    with Run.open(rough, tmp_path / "runs") as run:
        run.generate_sync()
        with pytest.raises(WorkspaceError, match="no round is complete"):
            run.publish()
        run.train_round()
        with pytest.raises(WorkspaceError, match="has no publish section"):
            run.publish()


def test_a_run_is_published_and_loaded_in_a_running_loop(rough, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load(rough.path, [*QUICK, "rounds.count=1", "publish={repo: local/colours, endpoint: local}"])

    async def cell() -> None:
        with Run.open(recipe) as run:
            run.generate_sync()
            run.train_round()
            (revision,) = run.publish()
            assert (revision.tag, revision.repo) == ("round-000", "local/colours")
            await run.finish()
            again = run.publish()
            assert [r.tag for r in again] == ["round-000", "round-001"] and again[0].commit == revision.commit
            loaded = evokd_data.load_round("local/colours", 1, endpoint="local", cache_dir=tmp_path / "cache")
            assert len(loaded["train"]) == len(run.samples())
        assert [r["tag"] for r in evokd_data.list_rounds("local/colours", endpoint="local")] == [
            "round-000",
            "round-001",
        ]

    asyncio.run(cell())
    assert contents(Workspace(Path("runs") / "colours"))


@pytest.fixture
def interrupt_when():
    """Presses Ctrl-C, once, as soon as something is true."""
    import signal

    threads: list[threading.Thread] = []

    def start(is_true) -> None:
        def press() -> None:
            deadline = time.monotonic() + 60
            while not is_true() and time.monotonic() < deadline:
                time.sleep(0.01)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        # asyncio.run takes the signal to cancel its task; a kernel of Jupyter leaves it as Python has it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threads.append(threading.Thread(target=press))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()
