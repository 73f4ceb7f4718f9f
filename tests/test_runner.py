"""Ctrl-C: what the first, its echo and a later one do, to a program that uses the library and to a command."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from evokd_data import interrupts
from evokd_data.interrupts import Interrupts
from evokd_data.runner import Runner


async def interrupted(steps: list[str], press: Callable[[], None]) -> None:
    """A task that waits for another one. Ctrl-C comes `press` times in the midst of a step."""

    async def other() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            steps.append("closed")

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    press()
    steps.append("the step went on")
    await task


def twice() -> None:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def test_an_echo_of_ctrl_c_raises_nothing_inside_a_task_and_the_signal_is_given_back():
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), Runner() as loop:
        loop.run(interrupted(steps, twice))
    assert steps == ["the step went on", "closed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_later_ctrl_c_is_raised_in_a_program_that_uses_the_library(monkeypatch):
    monkeypatch.setattr(interrupts, "ECHO_S", 0)
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), Runner() as loop:
        loop.run(interrupted(steps, twice))
    assert steps == ["closed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_programs_own_stays():
    steps: list[str] = []
    before = signal.signal(signal.SIGINT, lambda *_: steps.append("its own"))
    try:
        with Runner() as loop, pytest.raises(asyncio.TimeoutError):
            loop.run(asyncio.wait_for(interrupted(steps, twice), 0.1))
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["its own", "its own", "the step went on", "closed"]


def test_several_coroutines_run_on_one_loop_and_none_leaves_its_task_to_the_next(monkeypatch):
    handler = Interrupts(ends_process=False)
    before = signal.signal(signal.SIGINT, handler)
    try:
        with Runner() as loop:
            assert [loop.run(asyncio.sleep(0, number)) for number in range(3)] == [0, 1, 2]
            assert handler.first is None and signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_a_loop_runs_already_all_coroutines_still_share_one_loop_of_their_own():
    async def loop_and_thread() -> tuple[asyncio.AbstractEventLoop, str]:
        return asyncio.get_running_loop(), threading.current_thread().name

    async def cell() -> None:
        callers = asyncio.get_running_loop()
        with Runner() as runner:
            first, thread = runner.run(loop_and_thread())
            second, _ = await runner.call(runner.run, loop_and_thread())
            assert first is second is not callers and thread.startswith("evokd-data")
            assert await runner.call(int, "7", base=8) == 7
        assert first.is_closed() and asyncio.get_running_loop() is callers

    asyncio.run(cell())


def test_an_error_and_a_result_come_back_from_the_other_thread():
    async def fails() -> None:
        raise ValueError("its own")

    async def cell() -> None:
        with Runner() as runner:
            with pytest.raises(ValueError, match="its own"):
                runner.run(fails())
            with pytest.raises(ValueError, match="its own"):
                await runner.call(runner.run, fails())
            assert runner.run(asyncio.sleep(0, "a result")) == "a result"

    asyncio.run(cell())


def test_a_cancelled_call_ends_with_its_coroutine_and_one_between_two_coroutines_at_the_next():
    steps: list[str] = []
    pause = threading.Event()

    async def work(name: str) -> None:
        try:
            steps.append(name)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            steps.append(f"{name} closed")

    async def cancelled(runner: Runner, function: Callable[[], None], ready: Callable[[], bool]) -> None:
        task = asyncio.create_task(runner.call(function))
        while not ready():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        pause.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def cell() -> None:
        with Runner() as runner:
            await cancelled(runner, lambda: runner.run(work("first")), lambda: steps == ["first"])
            assert steps == ["first", "first closed"]
            pause.clear()

            def trains() -> None:
                steps.append("trains")
                pause.wait(60)
                runner.run(work("never"))

            await cancelled(runner, trains, lambda: steps[-1] == "trains")
            assert steps == ["first", "first closed", "trains"]
            assert runner.run(asyncio.sleep(0, "works on")) == "works on"

    asyncio.run(cell())


def test_ctrl_c_in_a_call_that_waits_inside_a_loop_closes_first():
    steps: list[str] = []

    async def cell() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a kernel of Jupyter
        with Runner() as runner:
            main = threading.get_ident()
            press = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT))
            press.start()
            with pytest.raises(KeyboardInterrupt):
                runner.run(interrupted(steps, lambda: None))
            assert steps == ["the step went on", "closed"]

    asyncio.run(cell())


STUCK = """
import asyncio, signal, sys, time
from evokd_data.interrupts import Interrupts
from evokd_data.runner import Runner
signal.signal(signal.SIGINT, Interrupts(ends_process=True))
async def work():
    try:
        print("ready", flush=True)
        await asyncio.sleep(60)
    finally:
        print("closes", flush=True)
        await asyncio.sleep(60)  # a teacher that does not end
with Runner() as loop:
    loop.run(work())
"""


@pytest.mark.slow
def test_a_later_ctrl_c_ends_a_command_that_does_not_close():
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "closes\n"
            process.send_signal(signal.SIGINT)  # an echo
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == interrupts.INTERRUPTED
        finally:
            process.kill()


@pytest.mark.slow
def test_a_command_in_a_shells_background_ignores_ctrl_c_as_any_other():
    code = "import signal, evokd_data.cli as c; c.cli.main = lambda: print(signal.getsignal(signal.SIGINT)); c.main()"
    shell = ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, code]
    assert subprocess.run(shell, capture_output=True, text=True, timeout=60).stdout == f"{signal.SIG_IGN!s}\n"
