"""Experiment trackers: the numbers of each complete round, as `show` prints them, in the tool that a team looks at anyway.

A tracker is a guest: a run whose tracker fails goes on, and says so once a round. The round is told when it is complete; what was told
lies in tracked.json of the run's folder, so no round is told twice, nor left out after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.redaction import redact
from evokd_data.reporting.primary_metric import NAMES
from evokd_data.reporting.run_summary import summary
from evokd_data.storage.workspace import Workspace, read_json, write_json

Values = Mapping[str, float]
Log = Callable[[int, Values], None]
"""(round, name -> value)."""


def track(recipe: Recipe, workspace: Workspace, progress: Progress) -> None:
    """Tell the tracker of the recipe every complete round that it was not told yet. Does nothing without one."""
    if recipe.tracking is None:
        return
    told = read_json(workspace.tracked) if workspace.tracked.exists() else {}
    last = told.get("round", -1) if told.get("to") == recipe.tracking.to else -1
    fresh = [entry for entry in summary(workspace)["rounds"] if entry["digest"] and entry["round"] > last]
    if not fresh:
        return
    try:
        with TRACKERS[recipe.tracking.to](recipe, workspace) as log:
            for entry in fresh:
                log(entry["round"], values(entry))
    except Exception as error:  # of a service, a package, a network
        reason = redact((str(error).strip().splitlines() or [type(error).__name__])[0])
        progress.note(
            f"tracking: {recipe.tracking.to} was not told of round {fresh[-1]['round']}: {reason}; the run goes on"
        )
    else:
        write_json(workspace.tracked, {"to": recipe.tracking.to, "round": fresh[-1]["round"]})


def lacks(recipe: Recipe) -> list[str]:
    """What this machine lacks for the tracker."""
    if recipe.tracking is None or find_spec(recipe.tracking.to) is not None:
        return []
    return [f"tracking: {recipe.tracking.to} is not installed; run: pip install 'evokd-data[{recipe.tracking.to}]'"]


def values(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a round, an entry of a run's summary: "test/macro_f1", "test/f1/CLASS", "kept", "rejected/REASON" ..."""
    metrics = entry["metrics"] or {}
    numbers: dict[str, float] = {
        key: entry[key] for key in ("asked", "kept", "tokens", "seconds") if entry[key] is not None
    }
    numbers |= {f"rejected/{reason}": count for reason, count in (entry["rejected"] or {}).items()}
    for split in ("test", "dev", "seeds_only"):
        if scores := metrics.get(split):
            numbers |= {f"{split}/{key}": scores[key] for key in NAMES if key in scores}
            numbers |= {f"{split}/f1/{name}": row["f1"] for name, row in scores.get("per_class", {}).items()}
    if adoption := metrics.get("adoption"):
        numbers["adopted"] = float(adoption["adopted"])
    return numbers


def _config(recipe: Recipe) -> dict[str, Any]:
    """What a tracker shows as the run's settings: the ones that can change a row."""
    return {**recipe.identity(), "fingerprint": recipe.fingerprint}


@contextmanager
def _tensorboard(recipe: Recipe, workspace: Workspace) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(workspace.root / "tensorboard")) as writer:

        def log(step: int, numbers: Values) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        yield log


@contextmanager
def _trackio(recipe: Recipe, workspace: Workspace) -> Iterator[Log]:
    import trackio

    assert recipe.tracking is not None
    trackio.init(project=recipe.tracking.project, name=recipe.name, config=_config(recipe), resume="allow")
    try:
        yield lambda step, numbers: trackio.log(dict(numbers), step=step)
    finally:
        trackio.finish()


@contextmanager
def _wandb(recipe: Recipe, workspace: Workspace) -> Iterator[Log]:
    import wandb

    assert recipe.tracking is not None
    run = wandb.init(
        project=recipe.tracking.project, name=recipe.name, config=_config(recipe), dir=str(workspace.root),
        id=f"{recipe.name}-{recipe.fingerprint[:12]}", resume="allow",
    )  # fmt: skip
    with run:
        yield lambda step, numbers: run.log(dict(numbers), step=step)


@contextmanager
def _mlflow(recipe: Recipe, workspace: Workspace) -> Iterator[Log]:
    import mlflow

    assert recipe.tracking is not None
    mlflow.set_experiment(recipe.tracking.project)
    known = mlflow.search_runs(
        filter_string=f"tags.fingerprint = '{recipe.fingerprint}'", output_format="list", max_results=1
    )
    with mlflow.start_run(
        run_id=known[0].info.run_id if known else None, run_name=None if known else recipe.name
    ) as run:
        if not known:
            mlflow.set_tag("fingerprint", recipe.fingerprint)
            mlflow.log_dict(_config(recipe), "recipe.json")
        yield lambda step, numbers: mlflow.log_metrics(dict(numbers), step=step, run_id=run.info.run_id)


TRACKERS = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb, "mlflow": _mlflow}
