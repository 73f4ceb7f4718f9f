"""The report: one or several runs as one self-contained HTML page, for whoever was not there.

The page lies in `page/` as HTML, CSS and JavaScript. Here the runs become one JSON text, and all of it one file. The page's own
policy allows the scripts and styles in it, by their digests, and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import evokd_data
from evokd_data.atomic_files import write_text
from evokd_data.errors import WorkspaceError
from evokd_data.generation.filters import REASONS
from evokd_data.printable import printable
from evokd_data.reporting.report_sections.browser import browser
from evokd_data.reporting.report_sections.comparison import arms, side_by_side
from evokd_data.reporting.report_sections.embedding import neutralised, script_json
from evokd_data.reporting.report_sections.lineage import lineage
from evokd_data.reporting.report_sections.outcome import curve, outcome, rounds_table
from evokd_data.reporting.report_sections.run_files import RunFiles, read_run
from evokd_data.reporting.report_sections.spending import rejections, spending, variety
from evokd_data.reporting.report_sections.student import student
from evokd_data.reporting.report_sections.teacher import teacher
from evokd_data.reporting.report_sections.weaknesses import untargeted, weaknesses
from evokd_data.storage.workspace import RESTORE, Workspace

PAGE = Path(__file__).with_name("page")
STYLES = ("uPlot.min.css", "report.css")
LIBRARY = "uPlot.iife.min.js"
SCRIPTS = ("dom.js", "plots.js", "matrices.js", "sections.js", "details.js", "browser.js", "report.js")
"""Parts of one script, in this order."""
MAX_BYTES = 3_000_000
"""Of the page. Rows and prompts of the sample browser that do not fit are left out, and the page says so."""
RESERVE = 20_000
MOST_DAMAGES = 5
"""Damaged lines of a run's journals that are named; the others are counted."""
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
REPORT = "report.html"
"""The page of a run, in its folder."""
PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


def report(
    workspaces: Sequence[Workspace],
    into: Path,
    comparison: Path | None = None,
    on_damage: Callable[[str], None] | None = None,
) -> Path:
    """Write the page and return its path. What of a journal is damaged is left out, and said on the page; `on_damage` is called with
    each line of that. `comparison` is the results.json of `evokd-data compare`, whose arms the page then shows;
    without it that which the first run's recipe names in its `card` section.

    Raises WorkspaceError when a folder holds no run, or files of it are damaged, and DataError for another `comparison`.
    """
    runs = [read_run(workspace) for workspace in workspaces]
    write_text(into, page(payload(runs, comparison)))
    for line in (line for run in runs for line in _damages(run)):
        if on_damage is not None:
            on_damage(line)
    return into


def renew(workspace: Workspace) -> str:
    """Write the page in a run's folder anew, where there is one. Returns what was done, as a line for the user; "" without a page.

    A page that shows other runs or a comparison, too, stays as it is: which files these came from is not on it. Raises as `report` does.
    """
    into = workspace.root / REPORT
    if not into.exists():
        return ""
    data = DATA.search(into.read_text(encoding="utf-8", errors="replace"))
    try:
        content = json.loads(data[1]) if data else {}
        names, has_arms = [run["name"] for run in content["runs"]], content["arms"] is not None
    except (ValueError, KeyError, TypeError):
        return (
            f"{into}: is no page of this version, and stays as it is; write it anew: evokd-data report {workspace.root}"
        )
    if names != [workspace.root.name] or (has_arms and read_run(workspace).comparison is None):
        return (
            f"{into}: shows other runs or a comparison, too, and stays as it is; write it anew with: evokd-data report"
        )
    report([workspace], into)
    return f"{into}: written anew"


def _damages(run: RunFiles) -> list[str]:
    """What of a run's journals is not on the page, because it cannot be read."""
    lines = list(run.damages)
    if len(lines) > MOST_DAMAGES:
        lines[MOST_DAMAGES:] = [f"{len(lines) - MOST_DAMAGES} more damaged lines"]
    return [f"left out of the report: {run.summary['name']}/{line}" for line in lines]


def payload(runs: Sequence[RunFiles], comparison: Path | None = None) -> dict[str, Any]:
    """All that the page shows, as plain values. Raises as `report` does."""
    shown = [_whole(run, sections) for run in runs]
    content: dict[str, Any] = {
        "version": evokd_data.__version__,
        "title": ", ".join(run.summary["name"] for run in runs),
        "reasons": REASONS,
        "side_by_side": side_by_side(runs),
        "arms": arms(comparison or runs[0].comparison),
        "runs": shown,
    }
    free = MAX_BYTES - RESERVE - len(page(content).encode())
    for run, entry in zip(runs, shown, strict=True):
        entry["browser"] = _whole(run, browser, max(0, free // len(runs)))
        entry["outcome"]["remarks"] = [*_damages(run), *entry["outcome"]["remarks"]]
    return content


def sections(run: RunFiles) -> dict[str, Any]:
    """The sections of one run, without its sample browser."""
    return {
        "name": run.summary["name"],
        "task": {
            "kind": "spans" if run.has_spans else "labels",
            "labels": run.labels,
            "description": str((run.inputs["settings"].get("task") or {}).get("description", "")),
        },
        "outcome": outcome(run),
        "curve": curve(run),
        "rounds": rounds_table(run),
        "teacher": teacher(run),
        "student": student(run),
        "weaknesses": weaknesses(run),
        "untargeted": untargeted(run),
        "rejections": rejections(run),
        "spending": spending(run),
        "variety": variety(run),
        "lineage": lineage(run),
    }


def _whole(run: RunFiles, gather: Any, *arguments: Any) -> dict[str, Any]:
    """What a section gathers. A file of a form that no check has seen, such as one of an earlier version, is an error with a remedy."""
    try:
        return gather(run, *arguments)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise WorkspaceError(
            f"{run.workspace.root}: a file does not hold what the report reads ({type(error).__name__}: {error}); {RESTORE}"
        ) from error


def page(content: dict[str, Any]) -> str:
    """The file's text. No character of foreign text is markup in it, or acts on a reader's screen."""
    styles = "\n".join(map(_asset, STYLES))
    script = "(function () {\n'use strict';\n" + "\n".join(map(_asset, SCRIPTS)) + "\n})();\n"
    library = _asset(LIBRARY)
    policy = (
        f"default-src 'none'; script-src {_digest(library)} {_digest(script)}; style-src {_digest(styles)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(printable(content["title"])),
        "styles": styles,
        "library": library,
        "script": script,
        "data": script_json(neutralised(content)),
    }
    pieces = PLACEHOLDER.split(
        _asset("report.html")
    )  # text, name, text, ..., text: what is put in is not looked at again
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _asset(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source of a policy that allows exactly this inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
