"""The loop over its files: killed anywhere, changed in between, run twice; and what may never leak into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evokd_data.errors import DataError, RecipeError, WorkspaceError
from evokd_data.loop import rounds
from evokd_data.loop.rounds import generate_next, open_run, run_all, train_next
from evokd_data.progress import Progress
from evokd_data.reporting.run_summary import summary
from evokd_data.storage import journal
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.teachers.scripted import Scripted
from tests.support import ROOT
from tests.support.example_task import SEEDS, TASK, TEST, contents, play, quick, write_rows

pytestmark = pytest.mark.slow

ROUGH = {
    "engine: scripted": "engine: scripted, wrong_labels: 0.3, broken_answers: 0.1",
    "linear}": "linear, soft_labels: false}",
}


def crash(recipe: Path, runs: Path, *arguments: str) -> int:
    """How many processes kill_loop.py killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_loop", str(recipe), str(runs), *arguments],
        capture_output=True, text=True, timeout=300, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def assert_alike(run: Workspace, undisturbed: Workspace) -> None:
    assert contents(run) == contents(undisturbed)
    for folder, other in zip(run.rounds(), undisturbed.rounds(), strict=True):
        assert read_json(folder.manifest)["digest"] == read_json(other.manifest)["digest"]
        assert read_json(folder.metrics)["test"] == read_json(other.metrics)["test"]
        assert folder.plan.read_bytes() == other.plan.read_bytes()
        assert list(ShardedSamples(TASK, folder.shard_files())) == list(ShardedSamples(TASK, other.shard_files()))
        assert list(read_rejections(folder.rejection_files())) == list(read_rejections(other.rejection_files()))
        keys = Counter(row["key"] for row in journal.read_answers(folder.journal))
        assert keys == Counter(row["key"] for row in journal.read_answers(other.journal))
        assert set(keys.values()) <= {1}
        assert not list(folder.root.rglob(".*"))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_random_moments_comes_out_as_an_undisturbed_one(recipe_file, tmp_path, seed):
    slow = {**ROUGH, "engine: scripted": f"{ROUGH['engine: scripted']}, latency_s: 0.02, window: 4"}
    path = recipe_file(**slow)
    undisturbed = play(quick(path, "teacher.latency_s=0"), tmp_path / "undisturbed", 3)
    assert crash(path, tmp_path / "runs", "moments", str(seed)) >= 1
    assert_alike(Workspace(tmp_path / "runs" / "colours"), undisturbed)


def test_a_run_killed_before_any_file_is_in_its_place_comes_out_as_an_undisturbed_one(recipe_file, tmp_path):
    path = recipe_file(**ROUGH, **{"count: 2, samples: 24, shard_size: 10": "count: 1, samples: 6, shard_size: 3"})
    undisturbed = play(quick(path), tmp_path / "undisturbed", 2)
    killed = crash(path, tmp_path / "runs", "renames")
    assert killed >= 20
    for number in range(killed):
        assert_alike(Workspace(tmp_path / "runs" / f"{number:04d}" / "colours"), undisturbed)


def test_the_order_of_sets_and_dicts_enters_nothing(recipe_file, tmp_path):
    path = recipe_file(**ROUGH)
    script = "import sys, pathlib, tests.support.example_task as c; print(*c.contents(c.play(c.quick(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]), 3)))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(tmp_path / seed)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT,
        )
        for seed in ("1", "2")
    ]  # fmt: skip
    first, second = (process.communicate(timeout=120)[0].split() for process in processes)
    assert first == second and len(first) == 3


def everything(run: Workspace) -> str:
    """All that a run wrote down about texts: prompts, plans, samples, rejections."""
    texts = [path.read_text(encoding="utf-8") for path in (*run.root.rglob("*.jsonl"), *run.root.rglob("plan.json"))]
    for folder in run.rounds():
        texts += [repr(sample) for sample in ShardedSamples(TASK, folder.shard_files())]
        texts += [repr(rejection) for rejection in read_rejections(folder.rejection_files())]
    return "\n".join(texts)


@pytest.mark.parametrize("strategy", ["evokd", "static", "auggpt", "eda", "zerogen"])
def test_no_word_of_test_or_dev_reaches_a_prompt_a_plan_or_a_shard(recipe_file, tmp_path, strategy):
    path = recipe_file(
        **ROUGH,
        **{
            "{name: evokd}": f"{{name: {strategy}}}",
            "strategy:": "dev: {path: dev.jsonl}\nfilters: {label_disagreement: relabel}\nstrategy:",
            "count: 2": "count: 3",
        },
    )
    write_rows(
        tmp_path / "test.jsonl",
        {label: [f"{text} sentineltest{label}" for text in texts] for label, texts in TEST.items()},
    )
    write_rows(
        tmp_path / "dev.jsonl",
        {label: [f"{text} sentineldev{label}" for text in texts] for label, texts in SEEDS.items()},
    )
    run = play(quick(path), tmp_path, 4)
    texts = everything(run)
    assert "sentinel" not in texts
    assert any(seed in texts for seed in ("the rose on the table", "strawberries", "fire engine"))
    if strategy == "evokd":
        assert any(read_json(folder.plan)["weaknesses"] for folder in run.rounds())


def test_a_text_of_the_test_set_that_the_teacher_writes_is_rejected(recipe_file, tmp_path):
    path = recipe_file(**{"{name: evokd}": "{name: eda}", "per_class: 1": "per_class: 2"})
    run = play(quick(path), tmp_path / "a", 2)
    written = [sample for sample in ShardedSamples(TASK, run.round(1).shard_files()) if sample.text not in str(SEEDS)]
    write_rows(tmp_path / "test.jsonl", {**TEST, "red": [written[0].text.upper() + "!"]})
    run = play(quick(path), tmp_path / "b", 2)
    assert written[0].text not in {sample.text for sample in ShardedSamples(TASK, run.round(1).shard_files())}
    assert read_json(run.round(1).generated)["rejected"]["test_overlap"] >= 1


def test_generate_and_train_in_turn_are_the_whole_run(recipe, tmp_path):
    loaded = recipe()
    by_hand = play(loaded, tmp_path / "a", 3)
    (run,) = run_all([loaded], tmp_path / "b", Progress())
    assert_alike(run.workspace, by_hand)
    assert run.complete_rounds() == [0, 1, 2]


def test_a_complete_run_goes_on_when_more_rounds_are_asked_for(recipe_file, tmp_path):
    path = recipe_file()
    play(quick(path), tmp_path / "a", 3)
    longer = quick(path, "rounds.count=3")
    run = play(longer, tmp_path / "a", 1)
    assert contents(run) == contents(play(longer, tmp_path / "b", 4)) and len(contents(run)) == 4


def test_generating_twice_before_training_does_nothing_the_second_time(recipe, tmp_path):
    loaded = recipe()
    play(loaded, tmp_path, 1)
    assert [generate_next(loaded, tmp_path, Progress())["round"] for _ in range(3)] == [1, 1, 1]
    assert train_next(loaded, tmp_path, Progress())["round"] == 1


def test_each_manifest_names_the_one_before(recipe, tmp_path):
    run = play(recipe(), tmp_path, 3)
    manifests = [read_json(folder.manifest) for folder in run.rounds()]
    assert [m["identity"]["parent"] for m in manifests] == [None, *(m["digest"] for m in manifests[:-1])]
    assert [m["identity"]["rows"] for m in manifests] == [sum(s["rows"] for s in m["shards"]) for m in manifests]


@pytest.mark.parametrize(
    "change", ["seed=1", "strategy.easy=0.1", "teacher.wrong_labels=0.1", "student.decay=0.5", "task.description=other"]
)
def test_a_recipe_changed_after_round_0_is_refused_with_the_difference(recipe_file, tmp_path, change):
    path = recipe_file()
    play(quick(path), tmp_path, 1)
    with pytest.raises(WorkspaceError, match="begun with another recipe") as caught:
        generate_next(quick(path, change), tmp_path, Progress())
    name, value = change.rpartition("=")[0].rpartition(".")[2], change.rpartition("=")[2]
    assert any(
        line.startswith("+") and f'"{name}"' in line and value in line for line in str(caught.value).splitlines()
    )


def test_data_changed_after_round_0_is_refused(recipe, tmp_path):
    loaded = recipe()
    play(loaded, tmp_path, 1)
    write_rows(tmp_path / "test.jsonl", {**TEST, "red": ["a new one"]})
    with pytest.raises(WorkspaceError, match="other data"):
        generate_next(loaded, tmp_path, Progress())


def test_a_template_changed_after_round_0_is_refused(recipe_file, tmp_path):
    path = recipe_file(**{"strategy:": "prompts: words\nstrategy:"})
    (tmp_path / "words").mkdir()
    template = tmp_path / "words" / "label.j2"
    template.write_text("{% block user %}{{ text }}{% endblock %}")
    play(quick(path), tmp_path, 1)
    template.write_text("{% block user %}{{ text }}?{% endblock %}")
    with pytest.raises(WorkspaceError, match=r"label\.j2"):
        generate_next(quick(path), tmp_path, Progress())


def test_nothing_is_written_for_data_that_cannot_be_used(recipe, tmp_path):
    loaded = recipe()
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty"):
        generate_next(loaded, tmp_path / "runs", Progress())
    assert not (tmp_path / "runs").exists()


def test_two_recipes_of_one_name_are_refused_before_anything_is_written(recipe, tmp_path):
    loaded = recipe()
    with pytest.raises(RecipeError, match="'colours' is that of"):
        run_all([loaded, loaded], tmp_path / "runs", Progress())
    assert not (tmp_path / "runs").exists()


def test_show_says_what_is_there_and_null_for_what_is_not(recipe, tmp_path):
    loaded = recipe()
    run = play(loaded, tmp_path, 2)
    generate_next(loaded, tmp_path, Progress())
    content = json.loads(json.dumps(summary(run)))
    assert [entry["round"] for entry in content["rounds"]] == [0, 1, 2] and content["name"] == "colours"
    assert content["rounds"][1]["digest"] == contents(run)[1] and content["rounds"][1]["kept"] == 24
    assert (content["rounds"][2]["metrics"], content["rounds"][2]["digest"]) == (None, None)
    with pytest.raises(WorkspaceError, match="no run; give a folder"):
        summary(Workspace(tmp_path / "nothing"))


def test_a_run_is_held_for_as_long_as_it_is_open(recipe, tmp_path):
    loaded = recipe()
    with open_run(loaded, tmp_path), pytest.raises(WorkspaceError, match="another evokd-data process"):
        generate_next(loaded, tmp_path, Progress())


def test_the_teacher_sleeps_while_the_student_trains_and_at_no_other_time(recipe, tmp_path, monkeypatch):
    asleep: list[bool] = [False]

    @dataclass(frozen=True)
    class Napping(Scripted):
        @asynccontextmanager
        async def serve(self, log):
            async with super().serve(log) as engine:

                class Engine:
                    window, environment = engine.window, engine.environment

                    async def complete(self, prompt):
                        assert not asleep[0]
                        return await engine.complete(prompt)

                    async def sleep(self):
                        asleep[0] = True

                    async def wake(self):
                        asleep[0] = False

                yield Engine()

    trained = []
    train = rounds.train
    monkeypatch.setattr(rounds, "train", lambda *arguments: trained.append(asleep[0]) or train(*arguments))
    run_all([replace(recipe(), teacher=Napping())], tmp_path / "runs", Progress())
    assert trained == [False, True, True], "before round 1 there is no engine that could sleep"
    assert asleep == [False]
