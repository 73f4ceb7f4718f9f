"""The report: one or several runs as one self-contained HTML page with curves, tables, plans, samples and rejections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import write_text
from evokd_data.generation.filters import REASONS
from evokd_data.printable import printable
from evokd_data.reporting.primary_metric import primary_metric
from evokd_data.reporting.run_summary import bars, summary
from evokd_data.reporting.shown_rows import rejections, samples
from evokd_data.storage.workspace import Workspace, read_json

EXAMPLES = 12  # samples of a round on the page, spread evenly over the round
COLOURS = ("#1f5fa8", "#c4541c", "#3b7d3b", "#7a4fa3", "#8c6d1f", "#1f8c8c")
LEFT, RIGHT, TOP, BOTTOM = 48, 620, 16, 260


def report(workspaces: Sequence[Workspace], into: Path) -> Path:
    """Write the page and return its path. Raises WorkspaceError when a folder holds no run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from evokd_data.reporting.dataset_card import templates

    runs = [_run(workspace) for workspace in workspaces]
    environment = Environment(
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    page = environment.get_template("report.html.j2").render(runs=runs, curve=_curve(runs), reasons=REASONS)
    write_text(into, printable(page))
    return into


def _run(workspace: Workspace) -> dict[str, Any]:
    run = summary(workspace)
    settings = read_json(workspace.inputs)["settings"]
    rounds = []
    for entry in run["rounds"]:
        folder = workspace.round(entry["round"])
        plan = read_json(folder.plan) if folder.plan.exists() else {"weaknesses": [], "cells": []}
        score = primary_metric(entry["metrics"]["test"]) if entry["metrics"] else None
        rounds.append(
            {
                **entry,
                "score": score,
                "plan": plan,
                "samples": samples(folder, EXAMPLES),
                "dropped": rejections(workspace, folder, EXAMPLES),
            }
        )
    scored = [entry for entry in rounds if entry["metrics"]]
    return {
        "bars": bars(run),
        "exam": next((entry["plan"]["exam"] for entry in reversed(rounds) if entry["plan"].get("exam")), None),
        "name": run["name"],
        "strategy": settings["strategy"]["name"],
        "seed": settings["seed"],
        "rounds": rounds,
        "first": scored[0] if scored else None,
        "last": scored[-1] if scored else None,
    }


def _curve(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The score on the test set by round, one line for each run, as coordinates of an SVG."""
    longest = max((len(run["rounds"]) for run in runs), default=1)
    step = (RIGHT - LEFT) / max(1, longest - 1)

    def y(score: float) -> float:
        return round(BOTTOM - score * (BOTTOM - TOP), 1)

    lines = []
    for run, colour in zip(runs, COLOURS * len(runs), strict=False):
        scored = [entry for entry in run["rounds"] if entry["metrics"]]
        points = [(round(LEFT + step * e["round"], 1), y(e["score"].value)) for e in scored]
        lines.append({"name": run["name"], "colour": colour, "points": points})
    return {
        "lines": lines,
        "score": next((run["last"]["score"] for run in runs if run["last"]), None),
        "grid": [{"y": y(tenth / 10), "label": f"{tenth / 10:.1f}"} for tenth in range(0, 11, 2)],
        "rounds": [{"x": round(LEFT + step * index, 1), "label": str(index)} for index in range(longest)],
        "left": LEFT,
        "right": RIGHT,
        "bottom": BOTTOM,
    }
