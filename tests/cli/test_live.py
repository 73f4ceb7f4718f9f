"""What people, and programs, see while a command works."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from evokd_data.cli import cli, live
from evokd_data.cli.live import Lines, Panel, duration
from evokd_data.progress import Totals
from tests.support.example_task import QUICK, sample

FAST = [part for override in QUICK for part in ("--set", override)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    result = Clock()
    monkeypatch.setattr(live.time, "monotonic", result)
    return result


def steady(second: int) -> int:
    return 10 * second


def slow_start(second: int) -> int:
    return 12 * max(second - 25, 0)


def bursts(second: int) -> int:
    return 90 * (second // 9)


def slower_and_slower(second: int) -> int:
    return round(4000 * (1 - 0.999**second))


@pytest.mark.parametrize("decided_at", [steady, slow_start, bursts, slower_and_slower])
def test_after_a_minute_the_time_left_is_right_within_half_of_it(
    decided_at: Callable[[int], int], clock: Clock
) -> None:
    total = decided_at(400)
    end = next(second for second in range(401) if decided_at(second) >= total)
    lines = Lines(Console(file=io.StringIO()))
    lines.stage("generate", 1, texts=total)
    begin = clock.now
    for second in range(300):
        clock.now = begin + second
        for decided in range(decided_at(second - 1) + 1 if second else 1, decided_at(second) + 1):
            lines.generated(Totals(decided, total, decided, {}, 0))
        if second >= 60:
            left = lines._rate.left(clock.now, total)
            assert left is not None and (end - second) / 1.5 <= left <= 1.5 * (end - second), f"at {second} s"


def test_the_time_that_an_engine_takes_to_open_is_none_of_its_pace(clock: Clock) -> None:
    """Two texts come from the journal, the engine opens for 90 s, then a text comes each second."""
    lines = Lines(Console(file=io.StringIO()))
    lines.stage("generate", 1, texts=100)
    for decided in (1, 2):
        lines.generated(Totals(decided, 100, decided, {}, 0))
    lines.waits("opening the teacher", Path("teacher.log"))
    assert lines._rate.left(clock.now + 90, 100) is None
    for second in range(90, 121):
        clock.now = 1000.0 + second
        lines.generated(Totals(second - 87, 100, second - 87, {}, 0))
    assert lines._rate.left(clock.now, 100) == pytest.approx(67)


def test_no_time_left_is_told_from_a_few_slow_answers(clock: Clock) -> None:
    """Two of twelve answers in a minute once said 7 minutes; the other ten came a second later."""
    lines = Lines(Console(file=io.StringIO()))
    lines.stage("label", 1)
    for second, count in ((0, 1), (58, 2), (60, 3)):
        clock.now = 1000.0 + second
        lines.answered(count, 12)
    assert lines._rate.left(clock.now, 12) is None
    clock.now += 1
    lines.answered(4, 12)
    assert lines._rate.left(clock.now, 12) is not None


def hostile_totals() -> Totals:
    newest = [
        sample(text, label)
        for text, label in (("first", "red"), ("\x1b[2Jowned " + "long " * 60, "green"), ("last", "blue"))
    ]
    return Totals(40, 120, 31, {"near_duplicate": 7, "label_disagreement": 2}, 800, 27, 33, newest)


def test_the_view_shows_where_the_round_stands_and_fits_the_terminal(clock: Clock) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    panel = Panel(console)
    panel.done("train-round", 1, metrics={"macro_f1": 0.612, "accuracy": 0.63, "n": 90})
    panel.stage("generate", 2, texts=120)
    panel.generated(hostile_totals()._replace(decided=1, tokens=0))
    clock.now += 78
    panel.generated(hostile_totals())
    with console.capture() as capture:
        console.print(panel.render())
    view = capture.get()
    assert "\x1b[2J" not in view and max(map(len, view.splitlines())) <= 80
    rows = view.splitlines()
    assert rows[0].strip() == "round 2 · generate · 1 min 18 s"
    assert "40 of 120 texts" in rows[1] and "0.5 texts/s" in rows[1] and "2 min 40 s left" in rows[1]
    assert rows[2].strip() == "kept 31, rejected near_duplicate 7, label_disagreement 2"
    assert rows[3].strip() == "labelled as asked for: 82% of 33"
    assert [row.split()[0] for row in rows[4:7]] == ["blue", "green", "red"] and "owned" in rows[5]
    assert rows[7].strip() == "macro-F1 0.612 after round 1"


def test_while_nothing_is_told_a_line_says_how_long_and_none_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.5)
    written = io.StringIO()
    log = tmp_path / "teacher.log"
    log.write_bytes(b"INFO 11-29 engine.py: starting\nLoading weights: 10%\rLoading weights: 60%\r\n\n")
    lines = Lines(Console(file=written))
    with lines.heartbeat():
        lines.waits("opening the teacher", log)
        wait_for(lambda: re.search(r"  opening the teacher: \d s; its log: .*teacher\.log", written.getvalue()))
        assert "weights" not in written.getvalue() and "engine.py" not in written.getvalue()
        lines.stage("train", 1)
        wait_for(lambda: re.search(r"round 1: train: \d s so far", written.getvalue()))
        lines.done("train", 1)
        length = len(written.getvalue())
        time.sleep(1.6)
        assert len(written.getvalue()) == length, "between two stages there is nothing to tell"


def test_a_wait_whose_log_stands_still_is_told(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "teacher.log"
    log.write_text("loading weights\n")
    wall = log.stat().st_mtime
    monkeypatch.setattr(live.time, "time", lambda: wall + clock.now - 1000.0)
    lines = Lines(Console(file=io.StringIO()))
    lines.waits("opening the teacher", log)
    clock.now += 59
    assert lines.state() == f"opening the teacher: 59 s; its log: {log}"
    clock.now += 41
    assert lines.state() == f"opening the teacher: 1 min 40 s, nothing new in its log for 1 min 40 s; its log: {log}"
    os.utime(log, (wall + 95, wall + 95))
    assert lines.state() == f"opening the teacher: 1 min 40 s; its log: {log}"


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")]
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def run(
    recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    monkeypatch.chdir(tmp_path)
    path = recipe_file()
    yield lambda *words: CliRunner().invoke(cli, ["run", str(path), *FAST, *words])


@pytest.mark.slow
def test_quiet_prints_the_result_and_errors_alone(run: Callable[..., Result]) -> None:
    done = run("--quiet")
    assert done.exit_code == 0 and done.stderr == "" and re.fullmatch(r"colours \w{12,} not published\n", done.stdout)
    wrong = run("-q", "--set", "rounds.samples=7")
    assert wrong.exit_code == 1 and wrong.stderr.startswith("Error: ") and wrong.stdout == ""


@pytest.mark.slow
def test_a_program_reads_one_object_a_line(run: Callable[..., Result]) -> None:
    done = run("--log-json")
    assert done.exit_code == 0 and done.stdout.startswith("colours ")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(list(event)[:2] == ["time", "event"] for event in events)
    assert {event["event"] for event in events} == {"stage", "generated", "answered", "waits", "done", "message"}
    last = [event for event in events if event["event"] == "generated"][-1]
    assert last["decided"] == last["asked"] == 24 == last["kept"] + sum(last["rejected"].values())
    scores = [event["metrics"]["macro_f1"] for event in events if event["event"] == "done" and "metrics" in event]
    assert len(scores) == 3
    wrong = run("--log-json", "--set", "rounds.samples=7")
    assert wrong.exit_code == 1
    assert [json.loads(line)["event"] for line in wrong.stderr.splitlines()] == ["error"]


def test_the_view_can_be_drawn_while_counts_grow() -> None:
    """The terminal's thread draws what the run's thread changes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    panel, rejected, newest = Panel(console), Counter[str](), deque([sample("a", "red")], maxlen=3)
    panel.stage("generate", 1)
    ended = threading.Event()
    errors: list[Exception] = []

    drawn = 0

    def draw() -> None:
        nonlocal drawn
        while not ended.is_set():
            try:
                panel.render()
            except Exception as error:
                errors.append(error)
            drawn += 1

    drawer = threading.Thread(target=draw)
    drawer.start()
    number = 0
    while drawn < 2000:
        number += 1
        rejected[f"reason {number % 97}"] += 1
        if number % 97 == 96:
            rejected.clear()
        newest.append(sample(f"text {number}", "green"))
        panel.generated(Totals(number, 20_000, 0, rejected, number, 0, 0, newest))
    ended.set()
    drawer.join()
    sys.setswitchinterval(before)
    assert errors == []
