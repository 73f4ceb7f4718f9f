from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from evokd_data.errors import StudentError, WorkspaceError
from evokd_data.loop.rounds import generate_next, train_next
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.stages.train import Mapped
from evokd_data.storage.shards import ShardedSamples, read_probe
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.example_task import TASK, TEST, contents, play, write_rows
from tests.support.tiny_encoders import make_base

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_metrics_say_their_split_and_n_and_what_was_learned(recipe, tmp_path):
    write_rows(tmp_path / "dev.jsonl", {label: [f"{text}, again" for text in texts] for label, texts in TEST.items()})
    run = play(recipe(**{"strategy:": "dev: {path: dev.jsonl}\nstrategy:"}), tmp_path, 2)
    first, second = (read_json(run.round(index).metrics) for index in (0, 1))
    assert first["test"]["n"] == first["dev"]["n"] == second["test"]["n"] == 9
    assert first["probe"] is None and second["probe"]["n"] == 24
    assert (first["training"]["fresh"], first["training"]["earlier"]) == (3, 0)
    assert (second["training"]["fresh"], second["training"]["earlier"]) == (24, 3)


def test_the_probe_is_of_the_last_student_before_it_saw_the_samples(recipe, tmp_path):
    loaded = recipe()
    run = play(loaded, tmp_path, 2)
    samples = list(ShardedSamples(TASK, run.round(1).shard_files()))
    predictions = read_probe(TASK, run.round(1).probe)
    assert [p.id for p in predictions] == [s.id for s in samples]
    assert [p.expected for p in predictions] == [s.target for s in samples]
    examples = [TASK.supervise(sample) for sample in samples]
    before = loaded.student.predict(examples, run.round(0).student)
    assert all(p.confidence == float(np.float32(round(p.confidence, 6))) for p in predictions)
    assert [(p.predicted, pytest.approx(p.confidence, abs=1e-6)) for p in predictions] == [
        TASK.decode(example, row) for example, row in zip(examples, before, strict=True)
    ]


def test_training_again_from_the_same_shards_gives_the_same_metrics(recipe, tmp_path):
    loaded = recipe()
    run, again = play(loaded, tmp_path / "a", 2), play(loaded, tmp_path / "b", 2)
    assert contents(run) == contents(again)
    assert read_json(run.round(1).metrics)["test"] == read_json(again.round(1).metrics)["test"]


def test_a_run_taken_up_between_training_and_scoring_trains_no_second_time(recipe, tmp_path):
    loaded = recipe()
    run = play(loaded, tmp_path, 2)
    folder = run.round(1)
    before = read_json(folder.metrics), (folder.student / "evokd.json").stat().st_mtime_ns
    folder.metrics.unlink()
    folder.manifest.unlink()
    after = train_next(loaded, tmp_path, Progress()), (folder.student / "evokd.json").stat().st_mtime_ns
    assert (after[0]["test"], after[1]) == (before[0]["test"], before[1])
    assert folder.manifest.exists()


def test_a_round_without_its_manifest_is_trained_before_a_later_one(recipe, tmp_path):
    loaded = recipe()
    run = play(loaded, tmp_path, 3)
    run.round(1).metrics.unlink()
    run.round(1).manifest.unlink()
    assert train_next(loaded, tmp_path, Progress())["round"] == 1


def test_training_before_anything_is_generated_says_what_comes_first(recipe, tmp_path):
    with pytest.raises(WorkspaceError, match=r"nothing is generated; next: evokd-data generate .*recipe\.yaml"):
        train_next(recipe(), tmp_path, Progress())


def test_a_damaged_student_is_told_with_its_file(recipe, tmp_path):
    loaded = recipe()
    run = play(loaded, tmp_path, 1)
    generate_next(loaded, tmp_path, Progress())
    (run.round(0).student / "weights.npz").write_bytes(b"half")
    with pytest.raises(StudentError, match=r"round-000/student/weights\.npz"):
        train_next(loaded, tmp_path, Progress())
    assert not run.round(1).probe.exists() and not run.round(1).student.exists()


def test_a_sequence_seen_through_a_function_keeps_its_order():
    mapped = Mapped([1, 2, 3], str)
    assert (len(mapped), mapped[1], list(mapped)) == (3, "2", ["1", "2", "3"])


def test_two_processes_learn_what_one_does_and_one_of_them_writes(recipe_file, tmp_path):
    path = recipe_file(
        **{"kind: linear": f"kind: transformer, model: {make_base(tmp_path / 'base')}, precision: float32"}
    )
    few = ["student.min_steps=20", "student.epochs=1", "student.learning_rate=1e-3"]
    run = play(load(path, few), tmp_path / "one", 1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "colours" / "tokens")
    folder = Workspace(tmp_path / "two" / "colours").round(0)
    shutil.rmtree(folder.student)
    folder.metrics.unlink()
    folder.manifest.unlink()
    sets = [word for setting in few for word in ("--set", setting)]
    command = [*TORCHRUN, "-m", "evokd_data", "train-round", str(path), *sets, "--runs", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    metrics, alone = read_json(folder.metrics), read_json(run.round(0).metrics)
    assert json.loads(done.stdout) == {"round": 0, "test": metrics["test"]}
    assert (metrics["training"]["processes"], alone["training"]["processes"]) == (2, 1)
    assert metrics["training"]["losses"] == pytest.approx(alone["training"]["losses"], abs=1e-5)
    assert metrics["test"]["macro_f1"] == alone["test"]["macro_f1"]
    assert sorted(path.name for path in folder.student.iterdir()) == sorted(
        path.name for path in run.round(0).student.iterdir()
    )


ENDS = """
import os, torch
from evokd_data.students import distributed
def learn():
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())  # imports what keeps a group that it finds
    torch.nn.parallel.DistributedDataParallel(layer)(torch.ones(1, 2)).sum().backward()
    optimizer.step()
with distributed.process_group():
    learn()
    distributed.broadcast(None)
names = {open(f"/proc/self/task/{thread}/comm").read().strip() for thread in os.listdir("/proc/self/task")}
assert not any("gloo" in name for name in names), names
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are told by /proc")
def test_no_thread_of_the_group_outlives_it(tmp_path):
    (tmp_path / "ends.py").write_text(ENDS, encoding="utf-8")
    command = [*TORCHRUN, str(tmp_path / "ends.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_torchrun_starts_nothing_else(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(WorkspaceError, match="torchrun starts train-round and nothing else"):
        generate_next(recipe(), tmp_path, Progress())


def test_what_a_round_writes_is_json_that_others_can_read(recipe, tmp_path):
    run = play(recipe(), tmp_path, 2)
    for path in run.root.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert Workspace(run.root).round(1).revision.exists() is False
