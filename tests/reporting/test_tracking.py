"""Experiment trackers are told the numbers that `show` prints, once for each round, and never stop a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from evokd_data.loop.checks import check
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.reporting import tracking
from evokd_data.reporting.run_summary import summary
from evokd_data.storage.workspace import Workspace
from tests.support.example_task import quick

pytestmark = pytest.mark.slow

Told = Mapping[str, list[tuple[int, float]]]
"""Name of a number -> (round, value), as the tracker's own reader gives it."""


def tensorboard(workspace: Workspace, recipe: Recipe) -> Told:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workspace.root / "tensorboard"))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def mlflow(workspace: Workspace, recipe: Recipe) -> Told:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("evokd-data")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == recipe.name and run.data.tags["fingerprint"] == recipe.fingerprint
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def trackio(workspace: Workspace, recipe: Recipe) -> Told:
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs("evokd-data", recipe.name)
    names = {name for row in rows for name in row} - {"step", "timestamp"}
    return {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}


READERS: dict[str, Callable[[Workspace, Recipe], Told]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "trackio": trackio,
}


@pytest.fixture
def tracked(
    recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Recipe]:
    """A recipe with a tracker that keeps everything on this machine."""
    monkeypatch.chdir(tmp_path)
    for variable, value in {
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true", "TRACKIO_DIR": str(tmp_path / "trackio"), "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path), "GRADIO_ANALYTICS_ENABLED": "False", "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    return lambda to: quick(recipe_file(**{"strategy:": f"tracking: {{to: {to}}}\nstrategy:"}))


def run(recipe: Recipe, runs: Path, progress: Progress | None = None) -> Workspace:
    run_all([recipe], runs, progress or Progress())
    return Workspace(runs / recipe.name)


@pytest.mark.parametrize("to", READERS)
def test_a_tracker_is_told_the_numbers_of_each_round_once(
    to: str, tracked: Callable[[str], Recipe], tmp_path: Path
) -> None:
    pytest.importorskip(to)
    recipe = tracked(to)
    workspace = run(recipe, tmp_path / "runs")
    run(recipe, tmp_path / "runs")
    told = READERS[to](workspace, recipe)
    rounds = summary(workspace)["rounds"]
    for name, wanted in {
        "kept": [entry["kept"] for entry in rounds],
        "test/macro_f1": [entry["metrics"]["test"]["macro_f1"] for entry in rounds],
        "test/f1/red": [entry["metrics"]["test"]["per_class"]["red"]["f1"] for entry in rounds],
    }.items():
        assert told[name] == [(index, pytest.approx(value, abs=1e-6)) for index, value in enumerate(wanted)]
    workspace.tracked.unlink()  # killed between the two
    run(recipe, tmp_path / "runs")
    assert {step for step, _ in READERS[to](workspace, recipe)["kept"]} == {0, 1, 2}


def test_wandb_without_a_network_writes_a_run_that_can_be_synced(
    tracked: Callable[[str], Recipe], tmp_path: Path
) -> None:
    pytest.importorskip("wandb")
    workspace = run(tracked("wandb"), tmp_path / "runs")
    (file, *_) = workspace.root.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    assert b"test/macro_f1" in content and b"evokd-data" in content


def test_a_tracker_that_fails_does_not_stop_the_run_and_is_told_later(
    tracked: Callable[[str], Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    class Notes(Progress):
        def note(self, text: str) -> None:
            lines.append(text)

    def broken(*_: Any) -> Any:
        raise ConnectionError("https://bob:secret@tracker.example does not answer")

    pytest.importorskip("tensorboard")
    recipe = tracked("tensorboard")
    with monkeypatch.context() as patch:
        patch.setitem(tracking.TRACKERS, "tensorboard", broken)
        workspace = run(recipe, tmp_path / "runs", Notes())
    complaints = [line for line in lines if line.startswith("tracking: ")]
    assert len(complaints) == 3 and "secret" not in complaints[0] and complaints[0].endswith("the run goes on")
    assert len(summary(workspace)["rounds"]) == 3 and not workspace.tracked.exists()
    run(recipe, tmp_path / "runs")
    assert [step for step, _ in tensorboard(workspace, recipe)["kept"]] == [0, 1, 2]


def test_check_says_which_package_a_tracker_needs(
    tracked: Callable[[str], Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tracked("mlflow")
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    assert "tracking: mlflow is not installed; run: pip install 'evokd-data[mlflow]'" in check(recipe).remarks


def test_a_tracker_enters_no_digest(tracked: Callable[[str], Recipe]) -> None:
    assert tracked("wandb").fingerprint == tracked("mlflow").fingerprint
