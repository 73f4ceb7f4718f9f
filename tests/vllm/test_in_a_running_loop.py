"""A real engine whose program has an event loop of its own, as in Jupyter: it lives in the thread of the run's loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from evokd_data import Progress, Recipe, Run
from tests.support import ROOT

pytestmark = pytest.mark.vllm


class Openings(Progress):
    """Counts how often a teacher is opened."""

    count = 0

    def waits(self, for_what: str, log: Path) -> None:
        self.count += 1


def engines() -> list[psutil.Process]:
    """The processes that this one has started and that run, but for the one that multiprocessing keeps for itself."""
    children = psutil.Process().children(recursive=True)
    running = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in running if "multiprocessing.resource_tracker" not in " ".join(child.cmdline())]


def test_one_engine_answers_awaited_and_blocking_calls_between_trainings_and_ends_with_the_run(tmp_path: Path) -> None:
    changes = {"rounds.count": 2, "rounds.samples": 7, "student": {"kind": "linear"}, "publish": None}
    recipe = Recipe.load(ROOT / "recipes" / "quickstart.yaml", changes)
    before, progress = len(engines()), Openings()

    async def program() -> None:
        with Run.open(recipe, tmp_path / "runs", progress=progress) as run:
            await run.generate()
            run.train_round()
            assert (await run.generate())["kept"] == 7
            running = engines()
            assert len(running) > before
            run.train_round()
            assert run.generate_sync()["kept"] == 7
            run.train_round()
            assert engines() == running and progress.count == 1
            assert [row["kept"] for row in run.rounds()] == [7, 7, 7]
        assert len(engines()) == before, [child.cmdline() for child in engines()]

    asyncio.run(program())
