"""A round written by many workers equals the round that one engine writes, whichever workers die. in_process_cluster.py replaces Ray."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import BudgetSpent, EngineStopped, RecipeError, TeacherError
from evokd_data.generation.budget import Meter
from evokd_data.generation.partitions import Partitioner, StrategyWork
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.loop.rounds import open_run
from evokd_data.recipe import Recipe
from evokd_data.recipe_sections import Budget
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.stages.generate import generate
from evokd_data.storage.journal import Journal, read_answers
from evokd_data.storage.journal_parts import JournalParts
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies.prompts import prompt_key
from evokd_data.teachers.ray import worker
from evokd_data.teachers.ray.coordinator import MAX_DEATHS
from evokd_data.teachers.ray.plug import Ray
from evokd_data.teachers.scripted import Scripted
from evokd_data.teachers.vllm.plug import VLLM
from tests.support.example_tagging_task import measured_places
from tests.support.example_task import brief, play, quick
from tests.support.in_process_cluster import InProcessCluster

ROUGH = {"engine: scripted": "engine: scripted, wrong_labels: 0.4, broken_answers: 0.1"}


@dataclass(frozen=True)
class Mortal(Scripted):
    """A scripted teacher whose engine dies at the prompt number `until`, or at one whose key begins with `poison`. It raises an
    error for prompts whose key begins with `refuse`. `answered` counts the answers of all its engines, by key. A `fickle` one
    never gives the same answer twice."""

    until: int | None = None
    poison: str | None = None
    fickle: bool = False
    refuse: str | None = None
    answered: Counter[str] = field(default_factory=Counter)
    states: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def serve(self, log: Path) -> Iterator[MortalEngine]:
        async with super().serve(log) as engine:
            yield MortalEngine(self, engine)


class MortalEngine:
    def __init__(self, teacher: Mortal, engine) -> None:
        self.teacher, self.engine, self.asked, self.dead = teacher, engine, 0, False
        self.window = engine.window

    async def complete(self, prompt: Prompt) -> Completion:
        teacher = self.teacher
        self.asked += 1
        if self.asked == teacher.until or (teacher.poison is not None and prompt.key.startswith(teacher.poison)):
            self.dead = True
        if self.dead:
            raise EngineStopped("the engine caught fire")
        if teacher.refuse is not None and prompt.key.startswith(teacher.refuse):
            raise TeacherError(f"refused {prompt.key}")
        answer = await self.engine.complete(prompt)
        teacher.answered[prompt.key] += 1
        if teacher.fickle and prompt.template in ("analyse", "generate"):
            mark = f"{next(UNIQUE)}"
            answer = Completion(answer.text.replace(" ", f" {mark} ", 2), *[getattr(answer, name) for name in FIELDS])
        return answer

    async def sleep(self) -> None:
        self.teacher.states.append("asleep")

    async def wake(self) -> None:
        self.teacher.states.append("awake")

    def environment(self):
        return {"engine": "mortal", "window": self.window}


UNIQUE = itertools.count()
FIELDS = ("finish_reason", "prompt_tokens", "completion_tokens", "choice_logprobs")


def always(teacher: Scripted) -> Callable[[int], Scripted]:
    return lambda slot: teacher


def in_turn(*teachers: Scripted) -> Callable[[int], Scripted]:
    """The next of the teachers to each worker that opens; the last one to all further workers."""
    remaining = list(teachers)
    return lambda slot: remaining.pop(0) if len(remaining) > 1 else remaining[0]


def shards(run: Workspace, index: int) -> list[bytes]:
    return [path.read_bytes() for path in run.round(index).shard_files()]


def write_round(
    recipe: Recipe, runs: Path, index: int, teacher, meanwhile=None, timeout_s: float = 60, meter=None
) -> dict:
    """The totals of a round whose earlier ones are complete."""

    async def main() -> dict:
        async with asyncio.timeout(timeout_s), TeacherOnDemand(teacher, runs / "teacher.log") as on_demand:
            on_demand.meter = meter
            task = asyncio.create_task(generate(recipe, run.workspace, index, run.splits, on_demand))
            if meanwhile is not None:
                await meanwhile(run.workspace, task)
            return await task

    with open_run(recipe, runs) as run:
        return asyncio.run(main())


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory):
    """Copies of runs whose first `rounds` rounds are complete. Each run is played once."""
    originals: dict[tuple[str, int], Path] = {}

    def play_once(recipe: Recipe, rounds: int, to: Path) -> Path:
        key = recipe.strategy.name, rounds
        if key not in originals:
            originals[key] = tmp_path_factory.mktemp("played")
            play(recipe, originals[key], rounds)
        shutil.copytree(originals[key], to)
        return to

    return play_once


def rough(recipe, strategy: str = "evokd") -> Recipe:
    """One whose round 2 has weaknesses to analyse; with other strategies, one with soft labels."""
    hard = {"linear}": "linear, soft_labels: false}"} if strategy == "evokd" else {}
    relabel = {"strategy:": "filters: {label_disagreement: relabel}\nstrategy:"}
    return recipe(**ROUGH, **hard, **relabel, **{"name: evokd": f"name: {strategy}", "samples: 24": "samples: 60"})


def mortal_teacher(recipe: Recipe, **settings) -> Mortal:
    """Answers like the recipe's own teacher."""
    own_teacher = recipe.teacher
    return Mortal(wrong_labels=own_teacher.wrong_labels, broken_answers=own_teacher.broken_answers, **settings)


class RecipeCluster(InProcessCluster):
    """A cluster whose driver has the recipe's own teacher."""

    def __init__(self, recipe: Recipe, *arguments, **settings) -> None:
        super().__init__(*arguments, **settings)
        self._identity = recipe.teacher.identity()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 9), st.integers(1, 80), st.data())
def test_partitions_cover_what_is_left_in_order_and_stay_within_a_shard(sizes, workers, window, data):
    ends = list(itertools.accumulate(sizes))
    ranges = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    first = data.draw(st.integers(0, ends[-1] - 1))
    partitions = list(Partitioner(ranges, first).ranges(lambda: workers, lambda: window))
    assert [index for partition in partitions for index in partition] == list(range(first, ends[-1]))
    worker_window = max(1, window // workers)
    assert all(0 < len(partition) <= 2 * worker_window for partition in partitions)
    inner = [partition for partition in partitions if not any(partition.stop == shard.stop for shard in ranges)]
    assert all(len(partition) >= worker_window // 8 for partition in inner)
    assert all(
        any(partition.start >= shard.start and partition.stop <= shard.stop for shard in ranges)
        for partition in partitions
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["evokd", "static", "attrprompt", "auggpt", "eda", "zerogen"])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_round_of_many_workers_is_the_round_of_one_engine(recipe, played, tmp_path, strategy, slots):
    rough_recipe = rough(recipe, strategy)
    alone, many = (played(rough_recipe, 2, tmp_path / name) for name in ("alone", "many"))
    expected = write_round(rough_recipe, alone, 2, rough_recipe.teacher)
    cluster = RecipeCluster(
        rough_recipe, always(mortal_teacher(rough_recipe, window=6 * slots)), slots, tmp_path / "log"
    )
    totals = write_round(rough_recipe, many, 2, cluster)
    assert shards(Workspace(many / "colours"), 2) == shards(Workspace(alone / "colours"), 2)
    same = ("asked", "kept", "rejected", "requests", "prompt_tokens", "completion_tokens")
    assert {name: totals[name] for name in same} == {name: expected[name] for name in same}
    keys = [
        sorted(row["key"] for row in read_answers(Workspace(runs / "colours").round(2).journal))
        for runs in (alone, many)
    ]
    assert keys[0] == keys[1]
    if strategy != "eda":
        assert len({slot for _, slot in cluster.rows}) == slots
        assert totals["engine"] == {"engine": "mortal", "window": 6 * slots, "workers": slots, "deaths": 0}


@pytest.mark.slow
def test_names_are_listed_once_for_all_workers_and_their_round_is_the_one_of_one_engine(tmp_path):
    teacher = "teacher={engine: scripted, wrong_labels: 0.2, broken_answers: 0.2}"
    names = measured_places(tmp_path, teacher, "strategy={name: proggen, names: 30}", "rounds.samples=40")
    for folder in ("alone", "many"):
        play(names, tmp_path / folder, 1)
    write_round(names, tmp_path / "alone", 1, names.teacher)
    first = mortal_teacher(names, window=6, latency_s=0.002, until=150)  # dies after the exam
    cluster = RecipeCluster(names, in_turn(first, mortal_teacher(names, window=6)), 2, tmp_path / "log")
    write_round(names, tmp_path / "many", 1, cluster)
    runs = [Workspace(tmp_path / folder / "places") for folder in ("alone", "many")]
    assert shards(runs[0], 1) == shards(runs[1], 1)
    keys = [sorted(row["key"] for row in read_answers(run.round(1).journal)) for run in runs]
    assert keys[0] == keys[1] and len(set(keys[0])) == len(keys[0])
    assert sum(key.startswith("names/") for key in keys[0]) == 6


@pytest.mark.slow
def test_a_round_that_workers_fill_is_the_one_that_one_engine_fills(recipe, tmp_path):
    changes = {"name: evokd": "name: static", "samples: 24": "samples: 60", "ask_at_most: 1": "ask_at_most: 4"}
    filled = recipe(**ROUGH, **changes)
    totals = []
    for name in ("alone", "many"):
        play(filled, tmp_path / name, 1)
        first = mortal_teacher(filled, window=6, latency_s=0.002, until=70)  # dies in the second wave
        cluster = RecipeCluster(filled, in_turn(first, mortal_teacher(filled, window=6)), 2, tmp_path / "log")
        totals.append(write_round(filled, tmp_path / name, 1, filled.teacher if name == "alone" else cluster))
    runs = [Workspace(tmp_path / name / "colours") for name in ("alone", "many")]
    plans = [json.loads(run.round(1).plan.read_bytes()) for run in runs]
    assert plans[0] == plans[1] and plans[0]["refills"]
    assert shards(runs[0], 1) == shards(runs[1], 1)
    assert [(total["asked"], total["kept"]) for total in totals] == [(totals[0]["asked"], 60)] * 2


@pytest.mark.slow
def test_workers_drop_the_same_texts_before_they_label_them(recipe_file, tmp_path):
    path = recipe_file(**ROUGH, **{"name: evokd": "name: static", "samples: 24": "samples: 60"})
    copying = quick(path, "filters.near_duplicates=0.45")
    totals = []
    for name in ("alone", "many"):
        play(copying, tmp_path / name, 2)
        first = mortal_teacher(copying, window=6, latency_s=0.002, until=30)
        cluster = RecipeCluster(copying, in_turn(first, mortal_teacher(copying, window=6)), 2, tmp_path / "log")
        totals.append(write_round(copying, tmp_path / name, 2, copying.teacher if name == "alone" else cluster))
    runs = [Workspace(tmp_path / name / "colours") for name in ("alone", "many")]
    assert shards(runs[0], 2) == shards(runs[1], 2)
    assert totals[0]["label_prompts_saved"] == totals[1]["label_prompts_saved"] > 5
    assert totals[0]["rejected"] == totals[1]["rejected"]
    keys = [sorted(row["key"] for row in read_answers(run.round(2).journal)) for run in runs]
    assert keys[0] == keys[1]


@pytest.mark.slow
@pytest.mark.parametrize("chance", range(6))
def test_whoever_dies_whenever_the_rows_are_the_same(recipe, played, tmp_path, chance):
    import random

    draw = random.Random(chance)
    rough_recipe = rough(recipe)
    alone, many = (played(rough_recipe, 2, tmp_path / name) for name in ("alone", "many"))
    write_round(rough_recipe, alone, 2, rough_recipe.teacher)
    mortals = [
        mortal_teacher(rough_recipe, until=draw.randint(1, 25), latency_s=0.002, window=8)
        for _ in range(draw.randint(1, 2))
    ]
    cluster = RecipeCluster(
        rough_recipe, in_turn(*mortals, mortal_teacher(rough_recipe, latency_s=0.002, window=8)), 3, tmp_path / "log"
    )
    totals = write_round(rough_recipe, many, 2, cluster)
    assert shards(Workspace(many / "colours"), 2) == shards(Workspace(alone / "colours"), 2)
    assert totals["engine"]["deaths"] == len(mortals)
    assert sum("caught fire" in line for line in cluster.log_lines) == len(mortals)


@pytest.mark.slow
def test_an_answer_that_is_no_requests_own_is_asked_once_and_a_fickle_teachers_round_can_be_replayed(
    recipe, played, tmp_path
):
    rough_recipe = rough(recipe)
    runs = played(rough_recipe, 2, tmp_path / "runs")
    teacher = mortal_teacher(rough_recipe, fickle=True, window=6, latency_s=0.002)
    mortal = mortal_teacher(rough_recipe, fickle=True, window=6, latency_s=0.002, until=20, answered=teacher.answered)
    write_round(rough_recipe, runs, 2, RecipeCluster(rough_recipe, in_turn(mortal, teacher), 3, tmp_path / "log"))
    run = Workspace(runs / "colours")
    analyses = {key: count for key, count in teacher.answered.items() if key.startswith("analyse/")}
    journalled = Counter(row["key"] for row in read_answers(run.round(2).journal))
    assert len(analyses) >= 2 and all(journalled[key] == 1 for key in analyses)
    assert sum(analyses.values()) <= len(analyses) + 1, "one may have died with its worker"
    before = shards(run, 2)
    for path in (*run.round(2).shard_files(), run.round(2).generated):
        path.unlink()

    class Nobody(RecipeCluster):
        def serve(self, log=None):
            raise AssertionError("opened, though the journal has everything")

    write_round(rough_recipe, runs, 2, Nobody(rough_recipe, always(teacher), 1, tmp_path / "log"))
    assert shards(run, 2) == before


def test_what_all_requests_need_travels_once_to_each_worker(recipe, played, tmp_path):
    rough_recipe = rough(recipe)
    runs = played(rough_recipe, 1, tmp_path / "runs")
    cluster = RecipeCluster(
        rough_recipe, always(mortal_teacher(rough_recipe, window=4, latency_s=0.002)), 3, tmp_path / "log"
    )
    fetched = []
    fetch_work = cluster.coordinator.fetch_work

    async def counted(key: int) -> StrategyWork:
        fetched.append(key)
        await asyncio.sleep(0.01)
        return await fetch_work(key)

    cluster.coordinator.fetch_work = counted
    write_round(rough_recipe, runs, 1, cluster)
    assert len(cluster.rows) > 3 and len(fetched) == len({slot for _, slot in cluster.rows}) == 3


@pytest.mark.slow
def test_a_budget_ends_a_round_of_many_workers_and_a_larger_one_makes_the_same_rows(recipe, played, tmp_path):
    rough_recipe = rough(recipe)
    alone, runs = (played(rough_recipe, 2, tmp_path / name) for name in ("alone", "runs"))
    totals = write_round(rough_recipe, alone, 2, rough_recipe.teacher)
    tokens = totals["prompt_tokens"] + totals["completion_tokens"]
    workers = always(mortal_teacher(rough_recipe, window=4))
    with pytest.raises(BudgetSpent, match=r"budget\.tokens"):
        write_round(
            rough_recipe, runs, 2, RecipeCluster(rough_recipe, workers, 2, tmp_path / "log"),
            meter=Meter(Budget(tokens=tokens // 2)),
        )  # fmt: skip
    run = Workspace(runs / "colours")
    assert not run.round(2).generated.exists() and any(True for _ in read_answers(run.round(2).journal))
    larger = Meter(Budget(tokens=2 * tokens))
    write_round(rough_recipe, runs, 2, RecipeCluster(rough_recipe, workers, 2, tmp_path / "log"), meter=larger)
    assert shards(run, 2) == shards(Workspace(alone / "colours"), 2)


@pytest.mark.slow
def test_a_run_that_was_cut_off_asks_for_the_rest_alone(recipe, played, tmp_path):
    rough_recipe = rough(recipe)
    alone, runs = (played(rough_recipe, 2, tmp_path / name) for name in ("alone", "runs"))
    write_round(rough_recipe, alone, 2, rough_recipe.teacher)
    answered: Counter[str] = Counter()
    cluster = RecipeCluster(
        rough_recipe,
        always(mortal_teacher(rough_recipe, window=4, latency_s=0.01, answered=answered)),
        2,
        tmp_path / "log",
    )

    async def cut_off(run: Workspace, task: asyncio.Task) -> None:
        while not run.round(2).journal.exists() or sum(1 for _ in read_answers(run.round(2).journal)) < 12:
            await asyncio.sleep(0.005)
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        write_round(rough_recipe, runs, 2, cluster, cut_off)
    run = Workspace(runs / "colours")
    journalled = {row["key"] for row in read_answers(run.round(2).journal)}
    assert journalled and not run.round(2).generated.exists()
    answered.clear()
    write_round(
        rough_recipe,
        runs,
        2,
        RecipeCluster(
            rough_recipe, always(mortal_teacher(rough_recipe, window=4, answered=answered)), 2, tmp_path / "log"
        ),
    )
    assert shards(run, 2) == shards(Workspace(alone / "colours"), 2)
    assert journalled and not journalled & answered.keys(), "asked again"


@pytest.mark.slow
def test_what_a_killed_worker_was_answered_is_not_asked_again(recipe, played, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "PART_INTERVAL_S", 0.02)
    rough_recipe = rough(recipe)
    alone, runs = (played(rough_recipe, 2, tmp_path / name) for name in ("alone", "runs"))
    write_round(rough_recipe, alone, 2, rough_recipe.teacher)
    answered: Counter[str] = Counter()
    cluster = RecipeCluster(
        rough_recipe,
        always(mortal_teacher(rough_recipe, window=24, latency_s=0.06, answered=answered)),
        2,
        tmp_path / "log",
    )
    left_keys: set[str] = set()

    async def kill_one(run: Workspace, task: asyncio.Task) -> None:
        parts = JournalParts(str(run.round(2).root.absolute() / ".parts"))
        while not left_keys:
            await asyncio.sleep(0.005)
            lines = [line for part in parts.read() for line in part.splitlines(keepends=True)]
            rows = [line for line in lines if b'"key"' in line and line.endswith(b"\n")]  # a part may be on its way
            if len(rows) >= 8:
                left_keys.update(orjson.loads(line)["key"] for line in rows)
        cluster.kill(0)

    write_round(rough_recipe, runs, 2, cluster, kill_one)
    run = Workspace(runs / "colours")
    assert shards(run, 2) == shards(Workspace(alone / "colours"), 2)
    assert cluster.engine.deaths == 1
    assert all(answered[key] == 1 for key in left_keys), "asked again, though the answer lay there"
    assert not (run.round(2).root / ".parts").exists(), "what has arrived is removed"


@pytest.mark.slow
@pytest.mark.parametrize("shared", [None, "memory://parts"])
def test_what_a_killed_drivers_workers_were_answered_is_not_asked_again(recipe, played, tmp_path, monkeypatch, shared):
    monkeypatch.setattr(worker, "PART_INTERVAL_S", 0.02)
    rough_recipe = rough(recipe)
    alone, runs = (played(rough_recipe, 2, tmp_path / name) for name in ("alone", "runs"))
    write_round(rough_recipe, alone, 2, rough_recipe.teacher)
    run = Workspace(runs / "colours")
    parts_url = (
        f"memory://parts/colours-{rough_recipe.fingerprint[:8]}/round-002"
        if shared
        else str(run.round(2).root.absolute() / ".parts")
    )
    if shared:
        monkeypatch.setattr(type(rough_recipe.teacher), "parts_url", lambda self: shared)
    answered: Counter[str] = Counter()
    cluster = RecipeCluster(
        rough_recipe,
        always(mortal_teacher(rough_recipe, window=24, latency_s=0.06, answered=answered)),
        2,
        tmp_path / "log",
    )

    async def cut_off(run: Workspace, task: asyncio.Task) -> None:
        # More than are asked for below: on a busy machine no more come, and tearing a part loses one.
        while sum(part.count(b'"key"') for part in JournalParts(parts_url).read()) < 10:
            await asyncio.sleep(0.005)
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        write_round(rough_recipe, runs, 2, cluster, cut_off)
    if not shared:
        torn = max((run.round(2).root / ".parts").iterdir())
        torn.write_bytes(torn.read_bytes()[:-5])  # the machine died while it was written
    left_keys = {row["key"] for row in read_answers(run.round(2).journal)}
    for part in JournalParts(parts_url).read():
        rows = [orjson.loads(line) for line in part.splitlines(keepends=True) if line.endswith(b"\n")]
        left_keys |= {row["key"] for row in rows if "key" in row}
    answered.clear()
    write_round(
        rough_recipe,
        runs,
        2,
        RecipeCluster(
            rough_recipe, always(mortal_teacher(rough_recipe, window=24, answered=answered)), 2, tmp_path / "log"
        ),
    )
    assert shards(run, 2) == shards(Workspace(alone / "colours"), 2)
    assert len(left_keys) >= 8
    assert not {key for key in left_keys if not key.startswith("analyse/")} & answered.keys()
    assert list(JournalParts(parts_url).read()) == [] and not (run.round(2).root / ".parts").exists()


def test_requests_that_kill_every_worker_are_given_up(recipe, played, tmp_path):
    rough_recipe = rough(recipe)
    runs = played(rough_recipe, 1, tmp_path / "runs")
    cluster = RecipeCluster(
        rough_recipe, always(mortal_teacher(rough_recipe, poison="generate/000003", window=4)), 3, tmp_path / "log"
    )
    with pytest.raises(TeacherError, match=rf"{MAX_DEATHS} workers died .* caught fire"):
        write_round(rough_recipe, runs, 1, cluster)
    assert MAX_DEATHS <= cluster.engine.deaths <= 3 * MAX_DEATHS


def test_an_error_of_the_teachers_is_told_as_it_is(recipe, played, tmp_path):
    rough_recipe = rough(recipe)
    runs = played(rough_recipe, 1, tmp_path / "runs")
    cluster = RecipeCluster(
        rough_recipe, always(mortal_teacher(rough_recipe, refuse="label/000002")), 2, tmp_path / "log"
    )
    with pytest.raises(TeacherError, match=r"^refused label/000002"):
        write_round(rough_recipe, runs, 1, cluster)


def prompt(number: int) -> Prompt:
    schema = Constraint(json_schema={"required": ["advice"]})
    variables = {"target": f"red {number}", "got": "blue"}
    return Prompt(
        f"analyse/{number:06}", "analyse", (Message("user", "x"),), number, Sampling(1.0, 64), schema, variables
    )


PROMPTS = [prompt(number) for number in range(60)]


def ask(cluster: InProcessCluster, prompts=PROMPTS, meanwhile=None) -> list:
    async def main():
        async with asyncio.timeout(30), cluster.serve() as engine:
            if meanwhile is not None:
                await meanwhile(engine)
            return await asyncio.gather(*map(engine.complete, prompts), return_exceptions=True)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[Completion]:
    return ask(InProcessCluster(always(Scripted()), 1, tmp_path_factory.mktemp("alone") / "log"))


@pytest.mark.parametrize("slots", [2, 7])
def test_single_prompts_are_answered_by_any(slots, expected, tmp_path):
    assert ask(InProcessCluster(always(Scripted(window=16)), slots, tmp_path / "log")) == expected
    assert len({answer.text for answer in expected}) == 60


def test_an_error_of_one_prompt_is_that_prompts_alone(expected, tmp_path):
    answers = ask(InProcessCluster(always(Mortal(refuse="analyse/000003")), 2, tmp_path / "log"))
    assert str(answers[3]) == "refused analyse/000003"
    assert answers[:3] + answers[4:] == expected[:3] + expected[4:]


def test_what_keeps_the_first_workers_from_opening_is_told_at_once(tmp_path):
    class Wrong(Scripted):
        def serve(self, log: Path):
            raise RecipeError("teacher.engine_args.block_sise: no such argument")

    with pytest.raises(RecipeError, match="block_sise"):
        ask(InProcessCluster(always(Wrong()), 3, tmp_path / "log"))


class Closed(Scripted):
    def serve(self, log: Path):
        raise TeacherError("no memory here")


def test_when_none_of_the_first_workers_opens_it_is_told(tmp_path):
    with pytest.raises(TeacherError, match="no memory here"):
        ask(InProcessCluster(always(Closed()), 3, tmp_path / "log"))


def test_one_place_that_cannot_be_filled_leaves_the_others_at_work(expected, tmp_path):
    cluster = InProcessCluster(lambda slot: Closed() if slot == 1 else Scripted(), 3, tmp_path / "log")
    assert ask(cluster) == expected
    assert any("worker 1 did not open" in line and "no memory here" in line for line in cluster.log_lines)


def test_another_model_on_a_workers_machine_is_refused(tmp_path):
    cluster = InProcessCluster(always(Scripted()), 1, tmp_path / "log")
    cluster._identity = {"digest": "0123"}
    with pytest.raises(TeacherError, match=r"teacher.model: here it is .*, at the driver {'digest': '0123'}"):
        ask(cluster)


def test_all_sleep_and_wake_and_one_that_opens_meanwhile_does_too(tmp_path):
    teacher = Mortal()

    async def sleep(engine) -> None:
        while engine.workers_opened < 3:
            await asyncio.sleep(0.005)
        await engine.sleep()
        assert teacher.states == ["asleep"] * 3
        cluster.kill(1)
        while engine.workers_opened < 4:
            await asyncio.sleep(0.005)
        while len(teacher.states) < 4:
            await asyncio.sleep(0.005)
        assert teacher.states == ["asleep"] * 4
        await engine.wake()
        assert teacher.states[4:] == ["awake"] * 3

    cluster = InProcessCluster(always(teacher), 3, tmp_path / "log")
    assert all(isinstance(answer, Completion) for answer in ask(cluster, meanwhile=sleep))


def test_a_worker_of_whom_nothing_is_heard_is_dead_and_its_rows_are_others(expected, tmp_path, monkeypatch):
    """As when its machine is gone: nobody opens it again, and nobody reports it."""
    cluster = InProcessCluster(
        lambda slot: Mortal(latency_s=30 if slot == 0 else 0.001, window=8), 2, tmp_path / "log", 0.5
    )

    async def silence(engine) -> None:
        while engine.workers_opened < 2:
            await asyncio.sleep(0.005)
        workers, poll = cluster.coordinator._workers, cluster.coordinator.poll

        async def poll_without_heartbeat(name, version, running):
            before = workers[name].last_heartbeat
            state = await poll(name, version, running)
            if name == "slot 0":
                workers[name].last_heartbeat = before
            return state

        monkeypatch.setattr(cluster.coordinator, "poll", poll_without_heartbeat)
        monkeypatch.setattr("evokd_data.teachers.ray.coordinator.POLL_S", 0.05)

    assert ask(cluster, meanwhile=silence) == expected
    assert any("no heartbeat for" in line for line in cluster.log_lines)


def test_a_result_that_never_arrives_is_made_again_by_whoever_has_a_row(expected, tmp_path, monkeypatch):
    """As when Ray repeats a row whose first result it has delivered already: it drops the second."""
    cluster = InProcessCluster(always(Scripted(window=8)), 2, tmp_path / "log")
    monkeypatch.setattr("evokd_data.teachers.ray.coordinator.POLL_S", 0.05)
    monkeypatch.setattr("evokd_data.teachers.ray.coordinator.RESULT_TIMEOUT_S", 0.1)
    deliver, dropped = cluster.engine.deliver, []

    def drop_the_first(number, result) -> None:
        if dropped:
            deliver(number, result)
        dropped.append(number)

    monkeypatch.setattr(cluster.engine, "deliver", drop_the_first)
    assert ask(cluster) == expected
    assert dropped.count(dropped[0]) == 2


@given(st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 3)), max_size=40), st.integers(1, 4))
def test_slots_go_to_whoever_was_begun_first_and_none_is_lost(visits, count):
    inside: list[int] = []
    order: list[int] = []

    async def visit(semaphore: worker.PrioritySemaphore, number: int, steps: int) -> None:
        async with semaphore.acquire(number):
            order.append(number)
            inside.append(number)
            assert len(inside) <= count
            for _ in range(steps):
                await asyncio.sleep(0)
            inside.remove(number)

    async def main() -> None:
        semaphore = worker.PrioritySemaphore(count)
        tasks = [asyncio.create_task(visit(semaphore, number, steps)) for number, steps in visits]
        cancelled = [task for task, (_, steps) in zip(tasks, visits, strict=True) if steps == 3]
        for _ in range(4):
            await asyncio.sleep(0)
        for task in cancelled[::2]:
            task.cancel()
        cancelled_inside = [task for task in cancelled[::2] if not task.done()]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert semaphore._free == count and not semaphore._waiters and all(task.done() for task in cancelled_inside)

    asyncio.run(main())


def test_labels_come_before_texts_that_were_begun_later():
    order: list[int] = []

    async def visit(semaphore: worker.PrioritySemaphore, number: int) -> None:
        async with semaphore.acquire(number):
            order.append(number)
            await asyncio.sleep(0)

    async def main() -> None:
        semaphore = worker.PrioritySemaphore(1)
        await asyncio.gather(*(visit(semaphore, number) for number in (5, 7, 6, 1, 7, -1, 1)))

    asyncio.run(main())
    assert order == [5, -1, 1, 1, 6, 7, 7]


@pytest.mark.slow
def test_a_work_is_whole_where_the_files_are_not(recipe, played, tmp_path):
    from evokd_data.stages.plan import plan

    rough_recipe = rough(recipe)
    runs = played(rough_recipe, 2, tmp_path / "runs")
    with open_run(rough_recipe, runs) as run:
        round_brief, _ = plan(rough_recipe, run.workspace, 2, run.splits)
        demonstrations = {label: list(samples) for label, samples in round_brief.demonstrations.items()}
        pickled = pickle.dumps(StrategyWork(rough_recipe.strategy, round_brief, [], None))
    shutil.rmtree(runs)
    arrived = pickle.loads(pickled).brief
    assert {label: list(samples) for label, samples in arrived.demonstrations.items()} == demonstrations
    assert sum(map(len, demonstrations.values())) > 20
    assert arrived.templates.sources(rough_recipe.strategy.prompt_templates) == round_brief.templates.sources(
        rough_recipe.strategy.prompt_templates
    )
    assert (arrived.weaknesses, arrived.seed) == (round_brief.weaknesses, round_brief.seed)


def test_a_name_of_digits_is_no_requests_number():
    assert prompt_key("label", 12, 3) == "label/000012/000003"
    assert prompt_key("topics", "12") == "topics/=12" != prompt_key("topics", 12)
    assert brief().task.labels == ("red", "green", "blue")


def test_answers_from_parts_are_found_and_counted_once(tmp_path):
    answer = Completion("a", "stop", 2, 3)
    with Journal(tmp_path / "elsewhere") as journal:
        for asked in PROMPTS[:3]:
            journal.add(asked, answer)
    lines = (tmp_path / "elsewhere/00000.jsonl").read_bytes()
    with Journal(tmp_path / "here") as journal:
        journal.add(PROMPTS[0], answer)
    with Journal(tmp_path / "here") as journal:
        assert not journal.empty
        journal.merge(lines + b'{"key": "torn')
        assert [journal.find(asked) == answer for asked in PROMPTS[:4]] == [True, True, True, False]
        assert (journal.prompt_tokens, journal.completion_tokens) == (6, 9)
    assert [row["key"] for row in read_answers(tmp_path / "here")] == [asked.key for asked in PROMPTS[:3]]


def test_how_many_workers_there_are_is_no_part_of_what_the_teacher_is():
    model = {"model": "org/name", "revision": "0123456789" * 4}
    assert Ray(**model, workers=8, address="auto", parts="s3://a/b").identity() == VLLM(**model).identity()


def test_rays_client_protocol_is_refused():
    with pytest.raises(ValueError, match="address: auto"):
        Ray(model="org/name", address="ray://head:10001")
