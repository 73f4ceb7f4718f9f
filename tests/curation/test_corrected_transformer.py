"""A transformer that goes on from its last checkpoint is trained anew after corrections: it has learned the withdrawn rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evokd_data.curation.apply import apply_corrections
from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.generation.boosting import Boosting
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe, load
from evokd_data.records import Sample
from evokd_data.stages.train import training_data
from evokd_data.storage.corrections import open_log
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.student_training import digests

pytestmark = pytest.mark.slow


def go_on(path: Path, encoder: Path, runs: Path, rounds: int, **changes: Any) -> Recipe:
    """Run the recipe up to round `rounds` with a student that goes on from its last checkpoint."""
    student = (
        f"{{kind: transformer, model: {encoder}, from_scratch: false, min_steps: 6, epochs: 1, precision: float32}}"
    )
    overrides = [f"student={student}", f"rounds.count={rounds}", "rounds.samples=8"]
    recipe = load(path, [*overrides, *(f"{key}={value}" for key, value in changes.items())])
    run_all([recipe], runs, Progress())
    return recipe


def decide(workspace: Workspace, decisions: list[tuple[int, int, str]]) -> list[Sample]:
    """Decide about (round, position in the round, action); a relabelled row gets the next label. Returns the rows."""
    rows = []
    with open_log(workspace.root) as log:
        review = ReviewedRun(workspace, log)
        by_round: dict[int, list[Sample]] = {}
        for sample in review.samples:
            by_round.setdefault(sample.origin.round, []).append(sample)
        for index, position, action in decisions:
            sample = by_round[index][position]
            labels = [label for label in review.task.labels if label != sample.target]
            review.decide([(index, sample.id)], action, *([labels[0]] if action == "relabel" else []))
            rows.append(sample)
    return rows


def figures(workspace: Workspace, index: int) -> dict[str, Any]:
    return read_json(workspace.round(index).student / "training.json")


def learned(recipe: Recipe, workspace: Workspace, index: int) -> set[str]:
    data = training_data(recipe, workspace, index, Boosting.up_to(recipe, workspace, index))
    return {example.text for example in (*data.earlier, *data.fresh)}


@pytest.mark.parametrize("boost", [1, 3])
def test_after_corrections_it_begins_anew_and_the_next_round_goes_on_from_there(
    recipe_file: Callable[..., Path], tiny_encoder: Path, tmp_path: Path, boost: int
) -> None:
    path, runs = recipe_file(), tmp_path / "runs"
    recipe = go_on(path, tiny_encoder, runs, 2, **{"training.boost": boost})
    workspace = Workspace(runs / recipe.name)
    assert [figures(workspace, index)["continued"] for index in (0, 1, 2)] == [False, True, True]

    withdrawn = decide(workspace, [(1, 0, "relabel"), (1, 1, "reject"), (2, 0, "reject"), (2, 1, "accept")])[:3]
    assert apply_corrections(workspace, Progress()).round == 3
    corrected = figures(workspace, 3)
    assert (corrected["continued"], corrected["earlier"]) == (False, 0)
    assert corrected["fresh"] == sum(read_json(workspace.round(i).generated)["kept"] for i in range(4)) - 3
    assert not {sample.text for sample in withdrawn[1:]} & learned(recipe, workspace, 3)

    # What it is does not depend on the checkpoint before: the base model, trained on the same rows, is the same.
    data = training_data(recipe, workspace, 3, Boosting.up_to(recipe, workspace, 3))
    assert data.previous is None
    (tmp_path / "anew").mkdir()
    replace(recipe.student, from_scratch=True).fit(replace(data, cache=None), tmp_path / "anew")
    assert weights(workspace.round(3).student) == weights(tmp_path / "anew")

    # Corrections without a row of their own: the round has no text, and its student still learns no withdrawn one.
    rejected = decide(workspace, [(2, 1, "reject")])
    assert apply_corrections(workspace, Progress()).round == 4
    assert read_json(workspace.round(4).generated)["kept"] == 0 and figures(workspace, 4)["continued"] is False
    assert rejected[0].text not in learned(recipe, workspace, 4)

    recipe = go_on(path, tiny_encoder, runs, 5, **{"training.boost": boost})
    assert figures(workspace, 5)["continued"] is True
    gone = {sample.text for sample in (*withdrawn[1:], *rejected)}
    assert not gone & learned(recipe, workspace, 5)
    fresh = read_json(workspace.round(5).generated)["kept"]
    assert figures(workspace, 5)["fresh"] == fresh > 0 and figures(workspace, 5)["earlier"] > 0


def weights(folder: Path) -> str:
    return digests(folder)["model.safetensors"]
