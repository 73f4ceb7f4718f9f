"""The model card: the README of a student's repository, made from the recipe, the student's round and its metrics.

Texts of teachers and users are escaped and quoted as in `dataset_card`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evokd_data.recipe import Recipe
from evokd_data.repo_layout import round_tag
from evokd_data.reporting import dataset_card
from evokd_data.reporting.dataset_card import HUB_ID, Markdown
from evokd_data.reporting.primary_metric import NAMES

KINDS = {"macro_f1": "f1", "micro_f1": "f1", "accuracy": "accuracy"}
"""Metric -> its name on the Hub."""


@dataclass(frozen=True)
class StudentFacts:
    """What the card needs: `manifest` and `metrics` of the student's round, the number of rows of each round up to it, and the
    `revision` of the data: the round's commit, or its tag when it is published after the student."""

    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]
    rows: Sequence[int]
    revision: str

    @property
    def index(self) -> int:
        """The round's number."""
        return self.manifest["round"]


def render(recipe: Recipe, facts: StudentFacts) -> str:
    """The card of one round's student."""
    assert recipe.publish is not None
    identity, test = facts.manifest["identity"], facts.metrics["test"]
    base = identity["student"].get("base", identity["student"])
    return dataset_card.environment(markdown=True).get_template("model.md.j2").render(
        metadata=Markdown(dataset_card.as_yaml(metadata(recipe, facts))),
        title=dataset_card.title(recipe),
        category=Markdown(recipe.task.hub_category),
        description=recipe.task.describe().get("description", ""),
        classes=recipe.task.labels,
        repo=Markdown(recipe.publish.repo),
        model=Markdown(recipe.publish.student or ""),
        samples=sum(facts.rows),
        seeds=facts.rows[0],
        dataset={"revision": facts.revision, "digest": facts.manifest["digest"]},
        student={
            "kind": Markdown(recipe.student.name),
            "learns": recipe.student.learns,
            "needs_base": recipe.student.base_model is not None and not recipe.student.keeps_base,
            "model": dataset_card.model_name(base, recipe.settings.get("student", {})) or "none",
            "revision": dataset_card.model_revision(base),
        },
        teacher={
            "model": dataset_card.model_name(identity["teacher"], recipe.settings.get("teacher", {})),
            "revision": dataset_card.model_revision(identity["teacher"]),
        },
        strategy=recipe.strategy.name,
        seed=recipe.seed,
        fingerprint=identity["recipe"],
        round={"index": facts.index, "tag": round_tag(facts.index), "test": test, "per_class": test.get("per_class", {})},
        scores=[
            {"name": NAMES[key], "value": test[key], "interval": _interval(test, key)}
            for key in KINDS
            if key in test
        ],
        library=recipe.student.library,
        limits=Markdown(recipe.card.limits.strip()),
        version=facts.manifest["environment"]["versions"].get("evokd-data", ""),
    )  # fmt: skip


def metadata(recipe: Recipe, facts: StudentFacts) -> dict[str, Any]:
    """The card's YAML block. The test set is not published; the `model-index` names it by the data set of its recipe."""
    assert recipe.publish is not None
    test = facts.metrics["test"]
    identity = facts.manifest["identity"]["student"]
    base = dataset_card.model_name(identity.get("base", identity), recipe.settings.get("student", {}))
    table: dict[str, Any] = {
        "license": recipe.card.license,
        "language": list(recipe.card.languages),
        "library_name": recipe.student.library,
        "pipeline_tag": recipe.task.hub_category,
        "tags": [*dataset_card.TAGS, recipe.student.name],
        "datasets": [recipe.publish.repo],
    }
    if HUB_ID.match(base):
        table["base_model"] = [base]
    table["metrics"] = list(dict.fromkeys(kind for key, kind in KINDS.items() if key in test))
    task = {"type": recipe.task.hub_category, "name": recipe.task.name}
    data = {
        "name": f"{dataset_card.title(recipe)}: its test set (n = {test['n']}), not published",
        "type": recipe.publish.repo,
        "revision": facts.revision,
        "split": "test",
    }
    scores = [{"type": kind, "name": NAMES[key], "value": test[key]} for key, kind in KINDS.items() if key in test]
    table["model-index"] = [
        {"name": (recipe.publish.student or recipe.name).split("/")[-1],
         "results": [{"task": task, "dataset": data, "metrics": scores}]}
    ]  # fmt: skip
    return table


def _interval(test: Mapping[str, Any], key: str) -> Markdown:
    bounds = test.get("intervals", {}).get(key)
    return Markdown(f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else "")
