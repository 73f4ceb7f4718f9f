from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import TeacherError, WorkspaceError
from evokd_data.generation import near_duplicates
from evokd_data.generation.filters import REASONS
from evokd_data.loop.rounds import generate_next
from evokd_data.progress import Progress
from evokd_data.records import GenerationRequest, Quota
from evokd_data.stages.generate import shard_ranges
from evokd_data.stages.plan import plan
from evokd_data.storage import journal
from evokd_data.storage.journal import Journal
from evokd_data.storage.shards import ShardedSamples, read_rejections, shard_entry
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.example_task import TASK, contents, cut_down, play, quick

pytestmark = pytest.mark.slow

ROUGH = {
    "engine: scripted": "engine: scripted, wrong_labels: 0.4, broken_answers: 0.2",
    "linear}": "linear, soft_labels: false}",
}


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 40))
def test_shards_cover_every_request_once_in_order_and_no_shard_is_larger_than_asked(counts, size):
    planned = [GenerationRequest(i, Quota("red", count), count, i) for i, count in enumerate(counts)]
    ranges = shard_ranges(planned, size)
    assert [index for shard in ranges for index in shard] == list(range(len(planned)))
    assert all(len(shard) == 1 or sum(counts[i] for i in shard) <= size for shard in ranges)


def test_round_0_is_the_seeds_and_asks_nobody(recipe, tmp_path):
    totals = generate_next(recipe(), tmp_path / "runs", Progress())
    folder = Workspace(tmp_path / "runs" / "colours").round(0)
    assert (totals["round"], totals["asked"], totals["kept"], totals["requests"]) == (0, 0, 3, 0)
    assert [s.target for s in ShardedSamples(TASK, folder.shard_files())] == ["red", "green", "blue"]
    assert not folder.journal.exists() and not (tmp_path / "runs" / "colours" / "teacher.log").exists()


def test_kept_and_rejected_sum_to_what_was_asked_each_with_its_place(recipe, tmp_path):
    run = play(recipe(**ROUGH), tmp_path, 3)
    for folder in (run.round(1), run.round(2)):
        totals = read_json(folder.generated)
        samples = list(ShardedSamples(TASK, folder.shard_files()))
        rejected = list(read_rejections(folder.rejection_files()))
        assert totals["asked"] == 24 == len(samples) + len(rejected)
        assert totals["kept"] == len(samples) > 0
        assert totals["rejected"] == dict(sorted(Counter(r.reason for r in rejected).items())) and totals["rejected"]
        assert set(totals["rejected"]) <= set(REASONS)
        keys = Counter((fate.origin.request, fate.origin.position) for fate in (*samples, *rejected))
        assert len(keys) == 24
        assert [s.origin.request for s in samples] == sorted(s.origin.request for s in samples)


def test_the_journal_holds_every_prompt_once_and_its_tokens_are_counted(recipe, tmp_path):
    run = play(recipe(), tmp_path, 3)
    for folder in (run.round(1), run.round(2)):
        rows = list(journal.read_answers(folder.journal))
        assert len({row["key"] for row in rows}) == len(rows) > 24
        totals = read_json(folder.generated)
        for name in ("prompt_tokens", "completion_tokens"):
            assert totals[name] == sum(row[name] for row in rows)


def test_shards_say_which_requests_they_cover(recipe, tmp_path):
    run = play(recipe(), tmp_path, 2)
    entries = [shard_entry(path) for path in run.round(1).shard_files()]
    assert [entry.last for entry in entries[:-1]] == [entry.first for entry in entries[1:]]
    assert (entries[0].first, entries[-1].last) == (0, read_json(run.round(1).generated)["requests"])


@pytest.mark.parametrize(
    "change", ["rounds.shard_size=1", "rounds.shard_size=1000", "teacher.window=1", "rounds.count=9"]
)
def test_rows_do_not_depend_on_shard_size_window_or_how_many_rounds_follow(recipe_file, tmp_path, change):
    path = recipe_file()
    plain, changed = play(quick(path), tmp_path / "a", 3), play(quick(path, change), tmp_path / "b", 3)
    assert contents(plain) == contents(changed)


@pytest.mark.parametrize("change", ["rounds.shard_size=1", "rounds.shard_size=1000", "teacher.window=1"])
def test_which_texts_are_too_alike_does_not_depend_on_shard_size_or_window(recipe_file, tmp_path, monkeypatch, change):
    path = recipe_file(**{"name: evokd": "name: eda", "samples: 24": "samples: 60"})
    plain = play(quick(path, "filters.near_duplicates=0.7"), tmp_path / "a", 3)
    monkeypatch.setattr(near_duplicates, "MAX_RECENT", 5)  # nearly all texts are stored as those of a million would be
    changed = play(quick(path, "filters.near_duplicates=0.7", change), tmp_path / "b", 3)
    reasons: Counter[str] = Counter()
    for before, after in zip(plain.rounds(), changed.rounds(), strict=True):
        rejections = list(read_rejections(before.rejection_files()))
        assert rejections == list(read_rejections(after.rejection_files()))
        assert list(ShardedSamples(TASK, before.shard_files())) == list(ShardedSamples(TASK, after.shard_files()))
        reasons.update(rejection.reason for rejection in rejections)
    assert reasons["near_duplicate"] > 3 and reasons["duplicate"] > 3


REJECTING = {
    "engine: scripted": "engine: scripted, wrong_labels: 0.4, broken_answers: 0.1",
    "linear}": "linear, soft_labels: false}",
}


def test_a_round_is_filled_with_what_was_asked_for_again(recipe_file, tmp_path):
    path = recipe_file(**REJECTING)
    once = play(quick(path), tmp_path / "once", 2).round(1)
    run = play(quick(path, "rounds.ask_at_most=4"), tmp_path / "filled", 2)
    totals, plan = read_json(run.round(1).generated), read_json(run.round(1).plan)
    assert read_json(once.generated)["kept"] < 24 and read_json(once.plan)["refills"] == []
    assert totals["kept"] == 24 and totals["asked"] > 24 and plan["refills"]
    asked = [quota["samples"] for quotas in (plan["cells"], *plan["refills"]) for quota in quotas]
    assert totals["asked"] == sum(asked) <= 4 * 24
    assert totals["rejected"]["round_full"] > 0, "its last wave asks for more than the filters let through"
    samples = list(ShardedSamples(TASK, run.round(1).shard_files()))
    assert samples[: len(samples)] == sorted(samples, key=lambda s: (s.origin.request, s.origin.position))
    first = [s for s in samples if s.origin.request < read_json(once.generated)["requests"]]
    assert first == list(ShardedSamples(TASK, once.shard_files()))


def test_a_filled_round_asks_once_for_what_its_requests_share(recipe_file, tmp_path):
    """The advice on a weakness is asked for before the first wave of requests, and read by those that fill the round."""
    path = recipe_file(**ROUGH, **{"strategy:": "filters: {label_disagreement: relabel}\nstrategy:"})
    run = play(quick(path, "rounds.ask_at_most=4", "strategy.targeted=1"), tmp_path, 3)
    refilled = [folder for folder in run.rounds() if any(q["weakness"] for q in _refill_quotas(folder))]
    assert refilled
    for folder in refilled:
        rows = list(journal.read_answers(folder.journal))
        assert any(row["stage"] == "analyse" for row in rows)
        assert [key for key, count in Counter(row["key"] for row in rows).items() if count > 1] == []


def _refill_quotas(folder):
    return [quota for quotas in read_json(folder.plan)["refills"] for quota in quotas]


@pytest.mark.parametrize("change", ["rounds.shard_size=1", "rounds.shard_size=1000", "teacher.window=1"])
def test_a_filled_round_does_not_depend_on_shard_size_or_window(recipe_file, tmp_path, change):
    path = recipe_file(**REJECTING)
    filled = "rounds.ask_at_most=4"
    plain, changed = play(quick(path, filled), tmp_path / "a", 3), play(quick(path, filled, change), tmp_path / "b", 3)
    assert contents(plain) == contents(changed)


def test_another_seed_gives_other_rows(recipe_file, tmp_path):
    path = recipe_file()
    first, second = (play(quick(path, f"seed={seed}"), tmp_path / str(seed), 2) for seed in (0, 1))
    assert contents(first)[1] != contents(second)[1]


def test_the_teacher_says_nothing_of_use_is_an_error_with_counts(recipe, tmp_path):
    loaded = recipe(
        **{"engine: scripted": "engine: scripted, broken_answers: 1.0", "name: evokd": "name: evokd, per_request: 1"}
    )
    play(loaded, tmp_path, 1)
    for _ in range(2):  # and it stays one when tried again
        with pytest.raises(
            TeacherError, match=r"none of 24 texts asked for became a sample \(truncated 24\): no answer held a text"
        ):
            generate_next(loaded, tmp_path, Progress())
    assert not Workspace(tmp_path / "colours").round(1).generated.exists()


def test_everything_filtered_away_is_an_error_that_names_the_filters(recipe_file, tmp_path):
    path = recipe_file(**{"strategy:": "filters: {min_characters: 3000}\nstrategy:"})
    play(quick(path), tmp_path, 1)
    with pytest.raises(
        TeacherError, match=r"\(too_short 24\): the filters dropped them all; look at filters in .*recipe.yaml"
    ):
        generate_next(quick(path), tmp_path, Progress())


def test_a_finished_round_is_not_touched_again(recipe, tmp_path):
    loaded = recipe()
    run = play(loaded, tmp_path, 3)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.root.rglob("*") if path.is_file()}
    totals = generate_next(loaded, tmp_path, Progress())
    assert totals["round"] == 2
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


@pytest.mark.parametrize("keep", [0, 1, 3])
@pytest.mark.parametrize(("size", "strategy"), [(10, "evokd"), (7, "evokd"), (10, "eda")])
def test_a_round_taken_up_again_asks_nobody_twice_and_gives_the_same_rows(recipe_file, tmp_path, keep, size, strategy):
    path = recipe_file(**ROUGH, **{"name: evokd": f"name: {strategy}"})  # eda repeats itself: filters must remember
    loaded = quick(path)
    play(loaded, tmp_path, 1)
    first = generate_next(loaded, tmp_path, Progress())
    run = Workspace(tmp_path / "colours")
    rows = list(ShardedSamples(TASK, run.round(1).shard_files()))
    lines = len(list(journal.read_answers(run.round(1).journal)))
    cut_down(run, keep)
    again = generate_next(quick(path, f"rounds.shard_size={size}"), tmp_path, Progress())
    assert list(ShardedSamples(TASK, run.round(1).shard_files())) == rows
    assert len(list(journal.read_answers(run.round(1).journal))) == lines
    same = ("asked", "kept", "rejected", "prompt_tokens", "completion_tokens", "requests")
    assert {name: again[name] for name in same} == {name: first[name] for name in same}


def test_the_brief_of_a_plan_just_made_is_the_brief_of_the_plan_read_again(recipe, tmp_path):
    from evokd_data.loop.rounds import open_run

    loaded = recipe(**ROUGH, **{"strategy:": "filters: {label_disagreement: relabel}\nstrategy:"})
    play(loaded, tmp_path, 2)
    with open_run(loaded, tmp_path) as run:
        fresh, waves = plan(loaded, run.workspace, 2, run.splits)
        stored, same = plan(loaded, run.workspace, 2, run.splits)
    assert fresh.weaknesses == stored.weaknesses and fresh.weaknesses
    first, second = (
        {label: list(samples) for label, samples in brief.demonstrations.items()} for brief in (fresh, stored)
    )
    assert (waves, first, fresh.seed) == (same, second, stored.seed)
    assert all(sample.target == label for label, samples in first.items() for sample in samples)
    assert any(quota.weakness for quota in waves[0])


def test_a_plan_a_person_changed_is_what_is_asked_for(recipe, tmp_path):
    loaded = recipe()
    play(loaded, tmp_path, 1)
    folder = Workspace(tmp_path / "colours").round(1)
    folder.root.mkdir()
    quotas = [{"target": "blue", "samples": 4, "difficulty": "hard", "contrast": "", "weakness": ""}]
    folder.plan.write_text(json.dumps({"round": 1, "budget": 4, "weaknesses": [], "cells": quotas}))
    totals = generate_next(loaded, tmp_path, Progress())
    assert totals["asked"] == 4
    assert {s.origin.intended for s in ShardedSamples(TASK, folder.shard_files())} == {"blue"}


def test_an_error_while_writing_shards_leaves_no_request_running(recipe, tmp_path):
    loaded = recipe(
        **{"engine: scripted": "engine: scripted, latency_s: 0.05, window: 2", "shard_size: 10": "shard_size: 1"}
    )
    play(loaded, tmp_path, 1)
    folder = Workspace(tmp_path / "colours").round(1)
    folder.root.mkdir()
    folder.rejections.write_text("a file where a folder should be")

    async def main() -> list[str]:
        from evokd_data.generation.scheduler import TeacherOnDemand
        from evokd_data.loop.rounds import open_run
        from evokd_data.stages.generate import generate

        with open_run(loaded, tmp_path) as run:
            async with TeacherOnDemand(loaded.teacher, tmp_path / "log") as teacher:
                with pytest.raises(OSError):
                    await generate(loaded, run.workspace, 1, run.splits, teacher)
                return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(main()) == []
    with Journal(folder.journal) as opened:
        assert opened is not None


class Recorder(Progress):
    def __init__(self):
        self.counts = []

    def generated(self, totals):
        self.counts.append((totals.decided, totals.asked, totals.kept, sum(totals.rejected.values())))
        self.totals = totals


def test_what_is_asked_for_again_is_told_before_its_first_text(recipe_file, tmp_path):
    """That text may take a minute, in which nothing would be left to do."""
    loaded, recorder = quick(recipe_file(**REJECTING), "rounds.ask_at_most=4"), Recorder()
    play(loaded, tmp_path, 1)
    generate_next(loaded, tmp_path, recorder)
    waits = [(before, after) for before, after in pairwise(recorder.counts) if before[0] == before[1]]
    assert waits and all(after[0] == before[0] and after[1] > before[1] for before, after in waits)


def test_progress_tells_counts_that_end_at_the_totals(recipe, tmp_path):
    loaded = recipe(**ROUGH)
    play(loaded, tmp_path, 1)
    recorder = Recorder()
    totals = generate_next(loaded, tmp_path, recorder)
    assert [asked for asked, *_ in recorder.counts] == list(range(1, 25))
    assert recorder.counts[-1] == (24, 24, totals["kept"], sum(totals["rejected"].values()))
    shards = ShardedSamples(loaded.task, Workspace(tmp_path / loaded.name).round(1).shard_files())
    assert [*recorder.totals.newest] == [*shards][-3:]
    assert recorder.totals.compared >= recorder.totals.agreed == sum(s.target == s.origin.intended for s in shards) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "rde"}, "target \"rde\" is no label; did you mean 'red'?"),
        ({"samples": -3}, "samples: -3: a quota asks for at least one text"),
        ({"contrast": "mauve"}, 'contrast "mauve" is no label; valid: blue, green, red'),
        ({"weakness": "red-as-blue"}, 'weakness "red-as-blue" is none of the plan\'s'),
        ({"difficulty": "medium"}, 'difficulty: "medium" is neither easy nor hard'),
    ],
)
def test_a_plan_that_a_person_wrote_is_checked(recipe, tmp_path, change, message):
    workspace = play(recipe(), tmp_path / "runs", 1)
    workspace.round(1).root.mkdir(exist_ok=True)
    quotas = [{"target": "red", "samples": 4}, {"target": "blue", "samples": 4, **change}]
    workspace.round(1).plan.write_text(json.dumps({"weaknesses": [], "cells": quotas}))
    with pytest.raises(WorkspaceError, match=re.escape(f"plan.json: {message}")) as caught:
        play(recipe(), tmp_path / "runs", 1)
    assert str(caught.value).endswith("; correct it there, or remove the file to have the round planned again")


def test_a_plans_labelling_of_another_form_is_named(recipe, tmp_path):
    workspace = play(recipe(), tmp_path / "runs", 1)
    workspace.round(1).root.mkdir(exist_ok=True)
    plan = {"weaknesses": [], "cells": [{"target": "red", "samples": 4}], "labelling": {"rul": "reject"}}
    workspace.round(1).plan.write_text(json.dumps(plan))
    with pytest.raises(WorkspaceError, match=r"plan\.json: 'labelling' is .*; drop it there$"):
        play(recipe(), tmp_path / "runs", 1)
