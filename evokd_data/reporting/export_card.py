"""The card of an exported student: how it compares with the original, how fast it is, and how it is used. Texts of users are escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evokd_data.recipe import Recipe
from evokd_data.reporting import dataset_card
from evokd_data.reporting.dataset_card import Markdown
from evokd_data.reporting.primary_metric import NAMES
from evokd_data.tasks import Task

TOLERATED_LOSS = 0.01
"""From this loss of a score on the card, and the command, warn."""


def render(task: Task, figures: Mapping[str, Any], max_length: int, recipe: Recipe | None, folder: str) -> str:
    """The card. `figures` are those of `deployment.export`; `folder` is the name of the exported folder, for the commands."""
    metadata: dict[str, Any] = {
        "license": recipe.card.license if recipe is not None else "other",
        "library_name": "onnx",
        "pipeline_tag": task.hub_category,
        "tags": [*dataset_card.TAGS, "onnx", *(["int8"] if figures["precision"] == "int8" else [])],
    }
    if recipe is not None:
        metadata["language"] = list(recipe.card.languages)
        if recipe.publish is not None:
            metadata["datasets"] = [recipe.publish.repo]
    latency, parity, sizes = figures["latency"], figures["parity"], figures["bytes"]
    return dataset_card.environment(markdown=True).get_template("export.md.j2").render(
        metadata=Markdown(dataset_card.as_yaml(metadata)),
        name=figures["from"]["name"],
        kind=Markdown(figures["from"]["kind"]),
        title=dataset_card.title(recipe) if recipe is not None else figures["from"]["name"],
        category=Markdown(task.hub_category),
        classes=task.labels,
        spans=task.target_of(task.labels[0]) is None,
        int8=figures["precision"] == "int8",
        n=parity["n"],
        scores=[
            {"name": NAMES[key], "original": _score(score), "exported": _score(parity["exported"][key])}
            for key, score in parity["original"].items()
        ],
        same=parity["same"],
        largest_difference=Markdown(f"{parity['largest_difference']:.6f}"),
        megabytes={name: Markdown(f"{size / 1e6:.1f} MB") for name, size in sizes.items()},
        latency={
            name: {key: Markdown(f"{latency[name][key]:.2f} ms") for key in ("p50_ms", "p99_ms")}
            for name in ("original", "exported")
        },
        ratio=Markdown(f"{latency['ratio']:.2f}"),
        threads=latency["threads"],
        measurements=latency["measurements"],
        processor=figures["processor"],
        versions=Markdown(", ".join(f"{package} {number}" for package, number in figures["versions"].items())),
        max_length=max_length,
        folder=Markdown(folder),
        loss=loss(figures),
        warned=loss(figures) > TOLERATED_LOSS,
    )  # fmt: skip


def loss(figures: Mapping[str, Any]) -> float:
    """The largest loss of a score of the exported student against the original; negative when every score is better."""
    parity = figures["parity"]
    return max(parity["original"][key]["value"] - parity["exported"][key]["value"] for key in parity["original"])


def _score(score: Mapping[str, Any]) -> Markdown:
    bounds = score["interval"]
    within = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
    return Markdown(f"{score['value']:.3f}{within}")
