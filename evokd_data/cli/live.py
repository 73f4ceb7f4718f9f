"""What people see while a command works: a live view on a terminal, calm lines elsewhere, JSON lines for programs, or nothing.

All of it goes to stderr.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evokd_data.cli.console import reasons
from evokd_data.cli.echo import echo_event, is_quiet, logs_json
from evokd_data.printable import printable, printable_line
from evokd_data.progress import Progress, Totals
from evokd_data.redaction import redact
from evokd_data.reporting.primary_metric import primary_metric

LINE_EVERY_S = 10.0
"""Between two lines of one stage when stderr is no terminal."""
HEARTBEAT_S = 30.0
"""After so long without a line another one says that the work goes on."""
SILENCE_S = 60.0
"""An engine that is opening writes into its log more often, but for the reading of very large weights."""
REFRESH_PER_S = 4
RATE_OVER_S = 60.0
"""The rate is that of the last minute: an engine gets faster when it is warm, and slower when prompts get longer."""
WARM_UP_S = 15.0
"""After the first count; before it no rate is shown."""
LEAST_COUNTED = 3
"""A slower growth than this many in RATE_OVER_S says nothing: the answers of a batch come together."""


@contextmanager
def live() -> Iterator[Progress]:
    """The progress of one command."""
    console = Console(stderr=True, highlight=False)
    if is_quiet():
        yield Progress()
    elif logs_json():
        yield JsonLines()
    elif console.is_terminal:
        panel = Panel(console)
        with Live(
            console=console,
            transient=True,
            refresh_per_second=REFRESH_PER_S,
            get_renderable=panel.render,
            redirect_stdout=False,
        ):
            yield panel
    else:
        lines = Lines(console)
        with lines.heartbeat():
            yield lines


class Rate:
    """How fast a count grows, and how long the rest takes at that pace."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()
        self._first = 0.0

    def at(self, now: float, count: int) -> None:
        """The count at a moment. Points of one second are one point."""
        if not self._points:
            self._first = now
        if self._points and now - self._points[-1][0] < 1 and len(self._points) > 1:
            self._points[-1] = (self._points[-1][0], count)
            return
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[1][0] > RATE_OVER_S:
            self._points.popleft()

    def per_second(self, now: float) -> float | None:
        """None as long as nothing has been counted twice, and in the first seconds: an engine's first answers say nothing."""
        if len(self._points) < 2 or now - self._first < WARM_UP_S:
            return None
        (since, before), (_, count) = self._points[0], self._points[-1]
        return (count - before) / max(now - since, 1e-3) if count - before >= LEAST_COUNTED else None

    def left(self, now: float, total: int) -> float | None:
        """Seconds until the total is reached; None when nobody can know."""
        rate = self.per_second(now)
        return None if rate is None else max(total - self._points[-1][1], 0) / rate


class Lines(Progress):
    """Prints a line when a stage begins or ends, and now and then one of a stage that lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._round = 0
        now = time.monotonic()
        self._began = self._last_line = self._last_stage_end = now
        self._wait: tuple[str, Path, float] | None = None
        self._totals: Totals | None = None
        self._tokens_before = 0
        self._answers = (0, 0)
        self._rate = Rate()
        self._score = ""

    def stage(self, name: str, round: int, **facts: Any) -> None:
        self._stage, self._round, self._began = name, round, time.monotonic()
        self._totals, self._answers, self._rate, self._wait = None, (0, 0), Rate(), None
        counts = ", ".join(f"{value} {key}" for key, value in facts.items())
        self._line(f"round {round}: {name}{': ' + counts if counts else ''}")

    def generated(self, totals: Totals) -> None:
        now = time.monotonic()
        if self._totals is None:
            self._tokens_before = totals.tokens
        self._totals, self._wait = totals, None
        self._rate.at(now, totals.decided)
        self._perhaps_a_line(now)

    def answered(self, count: int, total: int) -> None:
        now = time.monotonic()
        self._answers, self._wait = (count, total), None
        self._rate.at(now, count)
        self._perhaps_a_line(now)

    def waits(self, for_what: str, log: Path) -> None:
        self._line(f"{for_what}; its log: {log}")
        self._wait = for_what, log, time.monotonic()
        self._rate = (
            Rate()
        )  # answers from the journal came before the engine began to open: they say nothing of its pace

    def done(self, name: str, round: int, **facts: Any) -> None:
        seconds, self._last_stage_end = time.monotonic() - self._last_stage_end, time.monotonic()
        self._stage, self._totals, self._wait = "", None, None
        if facts.pop("already", False):
            self._line(f"round {round}: {name}: done before")
            return
        if "metrics" in facts:
            test = facts.pop("metrics")
            score = primary_metric(test)
            facts[score.name] = f"{score.value:.3f} (test, n={test['n']})"
            self._score = f"{score.name} {score.value:.3f} after round {round}"
        if isinstance(rejected := facts.get("rejected"), Mapping):
            facts["rejected"] = reasons(rejected)
        results = ", ".join(f"{key} {value}" for key, value in facts.items() if value != "")
        self._line(f"round {round}: {name}: {results} ({seconds:.1f} s)")

    def note(self, text: str) -> None:
        self._line(text)

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Meanwhile there is a line at least every HEARTBEAT_S while a stage or a wait lasts."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(1.0):
                if time.monotonic() - self._last_line >= HEARTBEAT_S and (line := self.state()):
                    self._line(f"  {line}")

        thread = threading.Thread(target=beat, name="evokd-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def state(self) -> str:
        """Where the work stands, on one line; "" between two stages."""
        now = time.monotonic()
        if self._wait is not None:
            for_what, log, since = self._wait
            return f"{for_what}: {duration(now - since)}{_silence(log, now - since)}; its log: {log}"
        if self._totals is not None:
            return self._generating(self._totals, now)
        if self._answers[1]:
            count, total = self._answers
            rate = self._rate.per_second(now)
            pace = f", {rate:.1f} a second, {self._left(now, total)}" if rate else ""
            return f"{count}/{total} answers{pace}"
        return f"round {self._round}: {self._stage}: {duration(now - self._began)} so far" if self._stage else ""

    def _generating(self, totals: Totals, now: float) -> str:
        parts = [
            f"{totals.decided}/{totals.asked} texts",
            f"{totals.kept} kept",
            f"{sum(totals.rejected.values())} rejected",
        ]
        if totals.compared:
            parts.append(f"{totals.agreed / totals.compared:.0%} labelled as asked for")
        if rate := self._rate.per_second(now):
            tokens = (totals.tokens - self._tokens_before) / max(now - self._began, 1e-3)
            parts += [f"{rate:.1f} texts/s", f"{tokens:.0f} tokens/s", self._left(now, totals.asked)]
        return ", ".join(parts)

    def _left(self, now: float, total: int) -> str:
        left = self._rate.left(now, total)
        return "..." if left is None else f"{duration(left)} left"

    def _perhaps_a_line(self, now: float) -> None:
        if now - self._last_line >= LINE_EVERY_S:
            self._line(f"  {self.state()}")

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(printable(redact(text)), markup=False, soft_wrap=True)


def _silence(log: Path, waited: float) -> str:
    """How long nothing was written into the log of a wait: a sign that what writes it may hang. "" in the first SILENCE_S."""
    try:
        silent = min(time.time() - log.stat().st_mtime, waited)
    except OSError:  # there is no log yet
        silent = waited
    return f", nothing new in its log for {duration(silent)}" if silent >= SILENCE_S else ""


class Panel(Lines):
    """The same lines, and below them a view of the stage that is at work."""

    def _perhaps_a_line(self, now: float) -> None:
        """Nothing: the view is drawn again by itself."""

    def render(self) -> RenderableType:
        """The view at this moment. Another thread than the one that reports calls it, so counts are copied before they are read."""
        line = self.state()
        totals, now = self._totals, time.monotonic()
        if not line:
            return Text("")
        head = Text(f"round {self._round} · {self._stage} · {duration(now - self._began)}", style="bold")
        if totals is None and self._wait is None and not self._answers[1]:
            return head
        if totals is None or self._wait is not None:
            return Group(head, Text(f"  {printable_line(redact(line))}", overflow="ellipsis", no_wrap=True))
        rows: list[RenderableType] = [
            head,
            self._bar(totals, now),
            Text(f"  kept {totals.kept}, rejected {reasons(dict(totals.rejected))}"),
        ]
        if totals.compared:
            rows.append(Text(f"  labelled as asked for: {totals.agreed / totals.compared:.0%} of {totals.compared}"))
        for sample in [*totals.newest][::-1]:
            target = (
                sample.target
                if isinstance(sample.target, str)
                else ", ".join(f"{span.surface} ({span.type})" for span in sample.target)
            )
            row = Text(f"  {printable_line(str(target))}  ", style="cyan", overflow="ellipsis", no_wrap=True)
            rows.append(row.append(printable_line(sample.text), style="default"))
        if self._score:
            rows.append(Text(f"  {self._score}"))
        return Group(*rows)

    def _bar(self, totals: Totals, now: float) -> RenderableType:
        rate = self._rate.per_second(now)
        pace = f"{rate:.1f} texts/s, {self._left(now, totals.asked)}" if rate else ""
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            "", ProgressBar(totals.asked, totals.decided, width=30), f"{totals.decided} of {totals.asked} texts", pace
        )
        return grid


class JsonLines(Progress):
    """One JSON object a line: `time`, `event`, and what the event tells."""

    def __init__(self) -> None:
        self._last = -LINE_EVERY_S

    def stage(self, name: str, round: int, **facts: Any) -> None:
        echo_event("stage", stage=name, round=round, **facts)

    def generated(self, totals: Totals) -> None:
        if self._is_time(totals.decided == totals.asked):
            counts = {key: value for key, value in totals._asdict().items() if key != "newest"}
            echo_event("generated", **{**counts, "rejected": dict(totals.rejected)})

    def answered(self, count: int, total: int) -> None:
        if self._is_time(count == total):
            echo_event("answered", count=count, total=total)

    def waits(self, for_what: str, log: Path) -> None:
        echo_event("waits", for_what=for_what, log=str(log))

    def done(self, name: str, round: int, **facts: Any) -> None:
        echo_event("done", stage=name, round=round, **facts)

    def note(self, text: str) -> None:
        echo_event("note", text=text)

    def _is_time(self, last: bool) -> bool:
        now = time.monotonic()
        if not last and now - self._last < LINE_EVERY_S:
            return False
        self._last = now
        return True


def duration(seconds: float) -> str:
    """Such as "42 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
