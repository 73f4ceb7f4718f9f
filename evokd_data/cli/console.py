"""What people see: progress on stderr (live on a terminal, plain lines elsewhere), tables on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evokd_data.progress import Progress
from evokd_data.reporting.primary_metric import NAMES, primary_metric

PLAIN_EVERY_S = 10.0  # between two lines of one stage when stderr is no terminal
LIVE_EVERY_S = 0.1


@contextmanager
def live() -> Iterator[Progress]:
    """Progress for the length of a command."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as display:
            yield _Lines(console, display)
    else:
        yield _Lines(console, None)


class _Lines(Progress):
    """One line for each stage's edge; a running line with rates while samples are generated."""

    def __init__(self, console: Console, display: Live | None) -> None:
        self._console = console
        self._display = display
        self._began = self._shown = self._edge = time.monotonic()
        self._before = 0  # texts decided when this process began: they say nothing about its speed

    def _line(self, text: str) -> None:
        if self._display is not None:
            self._display.update(Text(""), refresh=True)
        self._console.print(text, markup=False, soft_wrap=True)

    def stage(self, name: str, round: int, **facts: Any) -> None:
        self._began = self._shown = time.monotonic()
        self._before = -1
        said = ", ".join(f"{value} {key}" for key, value in facts.items())
        self._line(f"round {round}: {name}{': ' + said if said else ''}")

    def generated(self, asked: int, of: int, kept: int, rejected: Mapping[str, int], tokens: int) -> None:
        now = time.monotonic()
        if self._before < 0:
            self._before = asked
        if now - self._shown < (LIVE_EVERY_S if self._display else PLAIN_EVERY_S):
            return
        self._shown = now
        seconds = max(now - self._began, 1e-3)
        rate = (asked - self._before) / seconds
        eta = f"{(of - asked) / rate:.0f} s left" if rate > 0 else "..."
        line = (
            f"  {asked}/{of} texts, {kept} kept, {sum(rejected.values())} rejected, "
            f"{rate:.1f} samples/s, {tokens / seconds:.0f} tokens/s, {eta}"
        )
        if self._display is not None:
            self._display.update(Text(line), refresh=True)
        else:
            self._console.print(line, markup=False, soft_wrap=True)

    def done(self, name: str, round: int, **facts: Any) -> None:
        seconds, self._edge = time.monotonic() - self._edge, time.monotonic()
        if facts.pop("already", False):
            self._line(f"round {round}: {name}: done before")
            return
        if "metrics" in facts:
            test = facts.pop("metrics")
            score = primary_metric(test)
            facts[score.name] = f"{score.value:.3f} (test, n={test['n']})"
        if isinstance(rejected := facts.get("rejected"), Mapping):
            facts["rejected"] = reasons(rejected)
        said = ", ".join(f"{key} {value}" for key, value in facts.items() if value != "")
        self._line(f"round {round}: {name}: {said} ({seconds:.1f} s)")

    def note(self, text: str) -> None:
        self._line(text)


def reasons(rejected: Mapping[str, int]) -> str:
    """ "near_duplicate 4, truncated 1" """
    return ", ".join(f"{reason} {count}" for reason, count in rejected.items()) or "0"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; numbers right-aligned, nothing cut when stdout is no terminal."""
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=160)
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        numeric = all(row[place] is None or isinstance(row[place], int | float) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        shown.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    console.print(shown)


def round_cells(entry: Mapping[str, Any]) -> list[object]:
    """A round as the cells of `rounds_table`."""
    test = (entry["metrics"] or {}).get("test")
    score = primary_metric(test) if test else None
    revision = entry["revision"]
    return [
        entry["round"],
        entry["kept"],
        None if entry["rejected"] is None else reasons(entry["rejected"]),
        f"{score.value:.3f}" if score else None,
        (score and score.within) or None,
        entry["tokens"],
        None if entry["seconds"] is None else round(entry["seconds"]),
        f"{revision['tag']} {revision['commit'][:10]}" if revision else None,
    ]


def score_name(entries: Sequence[Mapping[str, Any]]) -> str:
    """The heading of the column of scores: "macro-F1", "micro-F1"; "F1" before anything was scored."""
    return next((primary_metric(e["metrics"]["test"]).name for e in entries if (e["metrics"] or {}).get("test")), "F1")


def rounds_table(found: Mapping[str, Any]) -> None:
    """A run's rounds."""
    columns = ("round", "kept", "rejected", score_name(found["rounds"]), "95 % interval", "tokens", "s", "revision")
    table(found["name"], columns, [round_cells(entry) for entry in found["rounds"]])


def plan_table(plan: Mapping[str, Any]) -> None:
    """A plan: its weaknesses, then its quotas."""
    weak = [
        [w["name"], w["missed"], w["seen"], "; ".join(s["text"] for s in w["wrong"][:2])] for w in plan["weaknesses"]
    ]
    table(f"round {plan['round']}: weaknesses", ("weakness", "missed", "of", "for example"), weak)
    quotas = [
        [c["target"] or f"(pool) {c['text']}", c["samples"], c["difficulty"], c["contrast"], c["weakness"]]
        for c in plan["cells"]
    ]
    table("texts asked for", ("target", "texts", "difficulty", "to look like", "weakness"), quotas)


def comparison_tables(results: Mapping[str, Any]) -> None:
    """Arms, then paired differences from the first arm."""
    from evokd_data.reporting.significance import spread

    arms = []
    for name, arm in results["arms"].items():
        score = spread(arm[results["metric"]])
        sd = "-" if score.sd is None else f"{score.sd:.4f}"
        arms.append([name, score.n, f"{score.mean:.4f}", sd, round(spread(arm["tokens"]).mean)])
    table(f"{NAMES[results['metric']]} after the last round", ("arm", "seeds", "mean", "sd", "tokens"), arms)
    found = [
        [d["arm"], d["reference"], f"{d['mean']:+.4f}", "-" if d["low"] is None else f"{d['low']:+.4f} to {d['high']:+.4f}",
         "-" if d["p_holm"] is None else f"{d['p_holm']:.3f}", d["verdict"]]
        for d in results["differences"]
    ]  # fmt: skip
    if found:
        table("paired differences", ("arm", "minus", "mean", "95 % interval", "p, Holm", "reading"), found)
