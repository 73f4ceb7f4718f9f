"""A short part of `make faults`: runs killed, disks that fail, answers that no teacher should give."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import pytest

from evokd_data.records import Origin, Sample, Span
from tests.support import crash_points, hostile_completions, storage_faults
from tests.support.hostile_completions import TAGGING, TASKS, invalid, reply

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def process() -> Iterator[Pool]:
    """Another process, of one thread: the scenarios fork, and a fork of pytest may wait for ever for threads of earlier tests."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5, 39])
def test_a_run_killed_before_any_change_of_the_disk_loses_and_repeats_nothing(
    seed: int, folder: Path, process: Pool
) -> None:
    outcome = process.apply(crash_points.play_in, (folder, seed))
    assert outcome.violations == []
    assert outcome.points >= 1


@pytest.mark.parametrize("seed", range(8))
def test_a_run_on_a_failing_disk_ends_with_a_message_and_comes_out_the_same(
    seed: int, folder: Path, process: Pool
) -> None:
    outcome = process.apply(storage_faults.play_in, (folder, seed))
    assert (outcome.violations, outcome.wrong) == ([], 0)


def test_a_message_without_a_file_is_seen() -> None:
    named = "Error: [Errno 28] No space left on device: '/elsewhere/x'; make room"
    assert storage_faults.problems(1, "Error: [Errno 28] No space left on device", Path("/runs"))
    assert storage_faults.problems(70, "KeyError: 1", Path("/runs"))
    assert storage_faults.problems(1, named, Path("/runs")) == []


def test_no_hostile_answer_becomes_a_sample_that_cannot_be_used() -> None:
    outcomes = [hostile_completions.play(seed) for seed in range(10)]
    assert [violation for outcome in outcomes for violation in outcome.violations] == []
    assert sum(outcome.accepted for outcome in outcomes) > 100


def test_hostile_answers_are_hostile_and_what_cannot_be_used_is_seen() -> None:
    chance = random.Random(0)
    raws = [reply(chance) for _ in range(2000)]
    assert len(set(raws)) > 1500
    broken = 0
    for raw in raws:
        try:
            json.loads(raw)
        except (ValueError, RecursionError):
            broken += 1
    assert 20 < broken < 1000
    origin = Origin(1, 0, 0, "evokd")
    wrong = [
        (Sample("id", "\ud800", "red", origin), TASKS[0]),
        (Sample("id", "fine", "mauve", origin), TASKS[0]),
        (Sample("id", "play jazz", (Span(5, 9, "track", "jass"),), origin), TAGGING),
        (Sample("id", "play jazz", (Span(5, 99, "track", "jazz"),), origin), TAGGING),
    ]
    assert all(invalid(sample, task) for sample, task in wrong)
