"""vLLM engines in actors write the same round as one engine in this process. Takes two minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from evokd_data.errors import TeacherError
from evokd_data.recipe import Recipe
from evokd_data.storage.journal import read_answers
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.vllm.names import version
from tests.support.ray_workers import alive, opened, pids, round_1

pytestmark = [pytest.mark.ray, pytest.mark.vllm]


def answers(run: Workspace) -> dict[str, str]:
    return {row["key"]: row["text"] for row in read_answers(run.round(1).journal)}


def test_two_workers_one_of_them_killed_write_what_one_engine_writes(recipe: Callable[..., Recipe], tmp_path: Path):
    try:
        version()
    except TeacherError as error:
        pytest.skip(str(error))
    from tests.support.tiny_model import build

    # The model has random weights: it writes meaningless texts of some hundred characters, and labels by chance.
    model = build(tmp_path / "model", max_length=4096)
    settings = f"model: {model}, dtype: float32, kv_cache_gib: 0.2, max_num_seqs: 4, max_tokens: 300"
    changes = {
        "evokd}": "static, per_request: 1}",
        "shard_size: 10": "shard_size: 7",
        "strategy:": "filters: {label_disagreement: relabel}\nstrategy:",
    }
    one_engine = recipe(**changes, **{"engine: scripted": f"engine: vllm, {settings}"})
    alone, expected = round_1(one_engine, tmp_path / "alone", one_engine.teacher)
    two_workers = recipe(**changes, **{"engine: scripted": f"engine: ray, workers: 2, {settings}"})
    engine_processes: list[int] = []

    def kill_one(run: Workspace) -> None:
        victim = psutil.Process(opened(run, 2)[0])
        assert victim.pid in pids()
        engine_processes.extend(child.pid for child in victim.children(recursive=True))
        while not answers(run):
            time.sleep(0.05)
        victim.kill()

    many, totals = round_1(two_workers, tmp_path / "many", two_workers.teacher, kill_one)
    assert engine_processes and alive(engine_processes, 10) == [], "engine processes that outlive their actor"
    runs = [Workspace(tmp_path / name / "colours") for name in ("alone", "many")]
    assert answers(runs[1]) == answers(runs[0])
    assert many == alone, "the shards are not the same, byte for byte"
    same = ("asked", "kept", "rejected", "requests", "prompt_tokens", "completion_tokens")
    assert {name: totals[name] for name in same} == {name: expected[name] for name in same}
    assert (totals["engine"]["workers"], totals["engine"]["deaths"]) == (2, 1)
    samples = list(ShardedSamples(one_engine.task, runs[0].round(1).shard_files()))
    assert len(samples) > 12 and any(sample.soft for sample in samples)
