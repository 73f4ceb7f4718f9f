"""Replay against the local Hub: the rows of a round come from its journal again, or it is told which do not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evokd_data import localhub, repo_layout
from evokd_data.errors import DataError, VerificationError
from evokd_data.localhub.child import RunningHub
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.revisions.replay import replay
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import read_json
from tests.support.example_tagging_task import measured_places
from tests.support.example_task import RECIPE, TEST, contents, play, quick
from tests.support.published_runs import ROUGH, Played, alter, published, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def run(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Rounds 0 to 3, whose test set holds two texts that the teacher writes in round 3."""
    folder = tmp_path_factory.mktemp("run")
    first = play(quick(write_recipe(folder / "first")), folder / "first" / "runs", 4)
    samples = list(ShardedSamples(quick(folder / "first" / "recipe.yaml").task, first.round(3).shard_files()))
    test = {**TEST, "red": [*TEST["red"], samples[3].text, samples[-2].text]}
    return published(server, folder, "org/colours", 4, test=test)


def rejected(run: Played, index: int) -> dict[str, int]:
    return read_json(run.workspace.round(index).generated)["rejected"]


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_every_round_is_made_again_from_its_journal(run: Played, tmp_path: Path, index: int) -> None:
    replayed = replay(run.repo, index, cache_dir=tmp_path, **run.at)
    folder = run.workspace.round(index)
    assert replayed.content == read_json(folder.manifest)["identity"]["content"]
    assert replayed.rows == len(ShardedSamples(run.recipe.task, folder.shard_files()))
    assert replayed.rejections == len(list(read_rejections(folder.rejection_files())))
    assert (replayed.tag, replayed.round, replayed.test_overlap) == (f"round-{index:03d}", index, "published")
    assert (replayed.answers > 0) == (index > 0)
    assert not [note for note in replayed.notes if "answers" in note]


def test_the_newest_round_is_replayed_by_default(run: Played, tmp_path: Path) -> None:
    assert replay(run.repo, cache_dir=tmp_path, **run.at).round == 3


def test_what_repeats_the_test_set_is_found_out_by_whoever_has_it(run: Played, tmp_path: Path) -> None:
    assert rejected(run, 3)["test_overlap"] == 2
    replayed = replay(run.repo, 3, recipe=run.recipe, cache_dir=tmp_path, **run.at)
    assert replayed.test_overlap == "test set"


def test_the_round_was_one_with_weaknesses_rejections_and_several_shards(run: Played) -> None:
    assert read_json(run.workspace.round(3).plan)["weaknesses"]
    assert len(rejected(run, 3)) > 2
    assert len(run.workspace.round(3).shard_files()) > 1


def test_data_that_are_not_the_rounds_are_told(run: Played, tmp_path: Path) -> None:
    other = quick(write_recipe(tmp_path, ROUGH))
    with pytest.raises(DataError, match=r"recipe.yaml: test: are not the data of org/colours@round-003"):
        replay(run.repo, 3, recipe=other, cache_dir=tmp_path / "cache", **run.at)


def test_a_changed_row_is_told_with_what_the_journal_says(run: Played, tmp_path: Path) -> None:
    def relabel(rows: list[dict[str, Any]]) -> None:
        rows[4]["label"] = {"red": "green", "green": "blue", "blue": "red"}[rows[4]["label"]]

    repo = alter(run, "relabelled", 2, repo_layout.DATA, relabel)
    with pytest.raises(VerificationError) as raised:
        replay(repo, 2, cache_dir=tmp_path, **run.at)
    (line,) = str(raised.value).splitlines()
    assert line.startswith("org/relabelled@round-002: request ") and "published" in line and "from the journal" in line


def test_weaknesses_that_the_predictions_do_not_show_are_told(run: Played, tmp_path: Path) -> None:
    def better(rows: list[dict[str, Any]]) -> None:
        wrong = next(row for row in rows if row["predicted"] != row["expected"])
        wrong["predicted"] = wrong["expected"]

    def swapped(rows: list[dict[str, Any]]) -> None:
        rows[:2] = reversed(rows[:2])

    repo = alter(run, "probed", 2, repo_layout.PROBE, better, newest=3)
    with pytest.raises(VerificationError) as raised:
        replay(repo, 3, cache_dir=tmp_path, **run.at)
    (line,) = str(raised.value).splitlines()
    assert re.search(
        r"rounds/round-003/plan.json: its weaknesses are not those of the predictions in probe/round-002: "
        r"confused:\w+>\w+ missed \d+ of \d+, there (none|missed \d+ of \d+)$",
        line,
    )
    repo = alter(run, "swapped", 2, repo_layout.PROBE, swapped, newest=3)
    with pytest.raises(VerificationError, match="probe/round-002: its predictions are not of the rows of round-002"):
        replay(repo, 3, cache_dir=tmp_path, **run.at)


def test_a_round_after_one_without_a_probe_says_that_its_weaknesses_were_not_checked(
    server: RunningHub, tmp_path: Path
) -> None:
    run = published(server, tmp_path, "org/unprobed", 1)
    play(run.recipe, tmp_path / "runs", 2)
    run.workspace.round(1).probe.unlink()
    run.publish(2)
    replayed = replay(run.repo, 2, cache_dir=tmp_path / "cache", **run.at)
    assert replayed.notes == ["round-001 was published without its probe: the weaknesses are as the plan lists them"]


def test_a_row_taken_away_and_a_rejection_added_are_told(run: Played, tmp_path: Path) -> None:
    repo = alter(run, "fewer", 2, repo_layout.REJECTIONS, lambda rows: rows.pop())
    with pytest.raises(VerificationError, match=r"published nothing; from the journal .* rejected"):
        replay(repo, 2, cache_dir=tmp_path, **run.at)


def test_a_changed_answer_is_told_and_the_other_requests_still_compared(run: Played, tmp_path: Path) -> None:
    def rewrite(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in rows if row["stage"] == "generate" and row["finish_reason"] == "stop")
        row["text"] = "something else entirely"

    repo = alter(run, "rewritten", 2, repo_layout.JOURNAL, rewrite)
    with pytest.raises(VerificationError, match=r"request \d+: label/\d{6}/\d{6}/\d{6}: the journal holds no answer"):
        replay(repo, 2, cache_dir=tmp_path, **run.at)


def test_a_plan_that_does_not_follow_from_its_weaknesses_is_told(run: Played, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "evokd_data.strategies.evokd.EvoKD.allot", lambda self, brief: [], raising=True
    )  # as if the plan had been another's
    with pytest.raises(VerificationError, match=r"plan.json: does not follow from its weaknesses"):
        replay(run.repo, 3, cache_dir=tmp_path, **run.at)


def test_a_round_without_a_journal_cannot_be_replayed_and_says_so(server: RunningHub, tmp_path: Path) -> None:
    run = published(server, tmp_path, "org/silent", 2, "publish.journal=false", text=RECIPE)
    with pytest.raises(VerificationError, match=r"org/silent@round-001: was published without its journal"):
        replay(run.repo, 1, cache_dir=tmp_path / "cache", **run.at)


@pytest.mark.parametrize("strategy", ["static", "auggpt", "eda", "zerogen", "none", "evokd, separation: false"])
def test_every_strategy_can_be_replayed(server: RunningHub, tmp_path: Path, strategy: str) -> None:
    text = ROUGH.replace("{name: evokd}", f"{{name: {strategy}}}")
    run = published(server, tmp_path, f"org/{strategy.split(',')[0]}", 2, text=text)
    replayed = replay(run.repo, 1, cache_dir=tmp_path / "cache", **run.at)
    assert (replayed.rows > 0) == (strategy != "none")


def test_names_texts_and_second_answers_about_spans_are_replayed(server: RunningHub, tmp_path: Path) -> None:
    teacher = "teacher={engine: scripted, wrong_labels: 0.3, broken_answers: 0.2}"
    addresses = ("publish.repo=org/names", f"publish.endpoint={server.endpoint}")
    recipe = measured_places(tmp_path, teacher, "strategy={name: proggen}", "rounds.ask_at_most=3", *addresses)
    run = Played(server, "org/names", recipe, play(recipe, tmp_path / "runs", 3))
    run.publish(2)
    plans = [read_json(folder.plan) for folder in run.workspace.rounds()]
    assert plans[1]["labelling"]["doubt"] > 0 and plans[1]["labelling"]["rule"] == "reject"
    assert {"name_not_in_text", "label_disagreement"} & rejected(run, 1).keys()
    for index in (1, 2):
        replayed = replay(run.repo, index, cache_dir=tmp_path / "cache", **run.at)
        assert replayed.rows > 0 and replayed.notes == []


@pytest.mark.parametrize("strategy", ["static", "eda", "evokd"])
def test_a_round_that_was_filled_is_replayed_with_its_refills(
    server: RunningHub, tmp_path: Path, strategy: str
) -> None:
    text = ROUGH.replace("{name: evokd}", f"{{name: {strategy}}}").replace("relabel", "reject")
    run = published(server, tmp_path, f"org/filled-{strategy}", 3, "rounds.ask_at_most=3", text=text)
    plans = [read_json(folder.plan) for folder in run.workspace.rounds()]
    assert any(plan["refills"] for plan in plans)
    for index in (1, 2):
        replayed = replay(run.repo, index, cache_dir=tmp_path / "cache", **run.at)
        assert 0 < replayed.rows <= 24 and replayed.notes == []


def test_a_round_that_a_second_exam_decided_is_replayed(server: RunningHub, tmp_path: Path) -> None:
    text = RECIPE.replace("teacher_trust: off", "teacher_trust: force")
    run = published(server, tmp_path, "org/examined-twice", 3, text=text)
    again = read_json(run.workspace.round(2).plan)["exam"]["again"]
    assert again["round"] == 1 and again["texts"] > 5
    replayed = replay(run.repo, 2, cache_dir=tmp_path / "cache", **run.at)
    assert replayed.rows > 0 and replayed.notes == []


def test_a_refill_that_does_not_follow_from_what_was_kept_is_told(
    server: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ROUGH.replace("{name: evokd}", "{name: static}").replace("relabel", "reject")
    run = published(server, tmp_path, "org/refilled", 2, "rounds.ask_at_most=3", text=text)
    monkeypatch.setattr("evokd_data.revisions.replay.refill", lambda *_: [])  # as if nothing had been lacking
    with pytest.raises(VerificationError, match=r"plan.json: refill 1 does not follow from the texts that were kept"):
        replay(run.repo, 1, cache_dir=tmp_path / "cache", **run.at)


SPANS = """\
name: places
task: {type: ner, types: [person, place]}
seeds: {path: spans.jsonl}
test: {path: held.jsonl}
teacher: {engine: scripted, wrong_labels: 0.2, broken_answers: 0.2}
strategy: {name: static}
rounds: {count: 3, samples: 24, shard_size: 10, ask_at_most: 1}
student: {kind: linear}
filters: {label_disagreement: relabel}
"""


def test_spans_can_be_replayed_and_gone_on_from(server: RunningHub, tmp_path: Path, monkeypatch) -> None:
    def row(person: str, city: str, middle: str) -> str:
        text = f"{person} {middle} {city}"
        ends = (0, len(person), "person"), (len(text) - len(city), len(text), "place")
        return json.dumps({"text": text, "spans": [{"start": s, "end": e, "type": t} for s, e, t in ends]})

    tmp_path.joinpath("spans.jsonl").write_text(
        f"{row('Ada', 'Oslo', 'went by train to')}\n{row('Bob', 'Rome', 'lives near')}\n", encoding="utf-8"
    )
    tmp_path.joinpath("held.jsonl").write_text(f"{row('Cleo', 'Lima', 'dreams of')}\n", encoding="utf-8")
    run = published(server, tmp_path, "org/places", 3, text=SPANS)
    assert read_json(run.workspace.round(2).plan)["weaknesses"]
    replayed = replay(run.repo, 2, cache_dir=tmp_path / "cache", **run.at)
    assert replayed.rows and replayed.rejections and replayed.notes == []
    assert replay(run.repo, 2, recipe=run.recipe, cache_dir=tmp_path / "cache", **run.at).content == replayed.content
    monkeypatch.setenv("HF_TOKEN", server.token)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (there,) = run_all([run.recipe], tmp_path / "elsewhere", Progress(), "org/places@round-002")
    whole = play(run.recipe, tmp_path / "runs", 1)
    assert contents(there.workspace) == contents(whole)


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "vllm", "transformers", "accelerate"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from evokd_data.cli import main
main()
"""


def test_the_command_needs_neither_torch_nor_vllm(run: Played, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "replay", run.repo, "--round", "3", "--endpoint", run.server.endpoint, "--json"],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": run.server.token},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["content"] == read_json(run.workspace.round(3).manifest)["identity"]["content"]
