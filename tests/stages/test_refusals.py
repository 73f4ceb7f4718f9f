"""One prompt that a server refuses costs one text. A server that refuses many, or fails, stops the round, which then goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evokd_data.errors import TeacherError
from evokd_data.generation.filters import REASONS
from evokd_data.loop.rounds import generate_next
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Constraint, Message, Prompt, Rejection, Sample, Sampling, refused
from evokd_data.revisions.rebuild import regenerate
from evokd_data.seeds import load_splits
from evokd_data.stages.generate import make_filter_pipeline
from evokd_data.stages.plan import plan
from evokd_data.storage.journal import Journal, from_rows, read_answers
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies.quotas import RequestPlan
from tests.support.example_task import TASK, contents, cut_down, play, quick
from tests.support.fake_chat_server import FakeServer, Reply, failing
from tests.support.fake_writer import is_label, write_or_label
from tests.support.server_talk import serving_in_thread

pytestmark = pytest.mark.slow

FILTERED = "The response was filtered due to the prompt triggering our content management policy"


def filtered(body: dict[str, Any]) -> Reply:
    error = {"code": "content_filter", "message": FILTERED}
    return 400, {}, json.dumps({"error": error}).encode()


def labels(word: str) -> Callable[[dict[str, Any]], Reply | None]:
    """Refuses to label texts with this word."""

    def rule(body: dict[str, Any]) -> Reply | None:
        return filtered(body) if is_label(body) and word in body["messages"][-1]["content"].split() else None

    return rule


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving_in_thread(FakeServer(rules=[write_or_label])) as fake:
        yield fake


def recipe_of(recipe_file: Any, fake: FakeServer, *changes: str) -> Recipe:
    teacher = f"{{engine: server, model: org/teacher, urls: ['{fake.url}'], retries: 1, concurrency: 4}}"
    path = recipe_file(**{"{engine: scripted}": teacher, "samples: 24": "samples: 60"})
    return quick(path, "teacher_test_texts=0", *changes)


def run(recipe_file: Any, fake: FakeServer, runs: Path, *changes: str) -> Workspace:
    """Rounds 0 and 1, as far as they are not there."""
    finished = len(contents(Workspace(runs / "colours"))) if (runs / "colours").exists() else 0
    return play(recipe_of(recipe_file, fake, *changes), runs, 2 - finished)


def reasons(workspace: Workspace) -> dict[str, int]:
    return dict(read_json(workspace.round(1).generated)["rejected"])


def test_a_refused_prompt_is_a_rejection_with_its_reason(recipe_file, server: FakeServer, tmp_path: Path) -> None:
    server.rules.insert(0, labels("horse"))
    workspace = run(
        recipe_file, server, tmp_path / "runs", "filters.label_disagreement=relabel", "filters.max_refused=0.9"
    )
    totals = read_json(workspace.round(1).generated)
    assert totals["kept"] + sum(totals["rejected"].values()) == totals["asked"] == 60
    assert 5 < totals["rejected"]["refused"] < 40 and totals["kept"] > 15
    rejections = [r for r in read_rejections(workspace.round(1).rejection_files()) if r.reason == "refused"]
    assert all("horse" in r.text.split() and r.detail == f"400 content_filter {FILTERED}" for r in rejections)
    assert "refused" in REASONS
    assert sum(row["finish_reason"].startswith("refused: ") for row in read_answers(workspace.round(1).journal)) == len(
        rejections
    )


def test_a_round_with_refusals_is_made_again_from_its_journal_though_some_were_asked_twice(
    recipe_file, server: FakeServer, tmp_path: Path
) -> None:
    settings = ("filters.label_disagreement=relabel", "filters.max_refused=0.9")
    recipe = recipe_of(recipe_file, server, *settings)
    server.rules.insert(0, labels("horse"))
    workspace = play(recipe, tmp_path / "runs", 1)
    generate_next(recipe, tmp_path / "runs", Progress())
    cut_down(workspace, 2)
    server.rules[0] = labels("night")
    generate_next(recipe, tmp_path / "runs", Progress())
    folder = workspace.round(1)
    splits = load_splits(recipe)
    brief, waves = plan(recipe, workspace, 1, splits)
    planned = RequestPlan(waves, recipe.strategy.per_request, brief.seed, 1)
    pipeline = make_filter_pipeline(recipe, splits, brief.earlier, limit=sum(quota.samples for quota in waves[0]))
    rows = list(read_answers(folder.journal))
    assert len({row["key"] for row in rows}) < len(rows), "nothing was asked twice"

    async def fates() -> list[Any]:
        return [fate async for fate in regenerate(recipe, brief, planned, from_rows(rows), pipeline, lambda: 8, fail)]

    def fail(request: Any, error: Exception) -> None:
        raise error

    again = asyncio.run(fates())
    assert [fate for fate in again if isinstance(fate, Rejection)] == list(read_rejections(folder.rejection_files()))
    samples = ShardedSamples(TASK, folder.shard_files())
    assert [(fate.id, fate.origin) for fate in again if isinstance(fate, Sample)] == [(s.id, s.origin) for s in samples]
    assert any(isinstance(fate, Rejection) and "night" in fate.text.split() for fate in again)


def test_a_server_that_refuses_many_stops_early_with_examples_and_the_round_goes_on_when_it_is_mended(
    recipe_file, server: FakeServer, tmp_path: Path
) -> None:
    undisturbed = run(
        recipe_file, server, tmp_path / "undisturbed", "rounds.samples=300", "filters.label_disagreement=relabel"
    )
    whole = len(server.bodies)
    server.rules.insert(0, filtered)
    server.bodies.clear()
    settings = ("rounds.samples=300", "filters.label_disagreement=relabel")
    for _ in range(2):
        with pytest.raises(
            TeacherError, match=r"refused \d+ of \d+ prompts, more than filters.max_refused \(0.2\).*400 content_filter"
        ):
            run(recipe_file, server, tmp_path / "runs", *settings)
    assert 0 < len(server.bodies) < whole / 3, "it did not stop early"
    server.rules.pop(0)
    assert contents(run(recipe_file, server, tmp_path / "runs", *settings)) == contents(undisturbed)
    assert "refused" not in reasons(Workspace(tmp_path / "runs" / "colours"))


def test_a_server_that_fails_stops_the_round_without_loss(recipe_file, server: FakeServer, tmp_path: Path) -> None:
    undisturbed = run(recipe_file, server, tmp_path / "undisturbed")
    whole = len(server.bodies)
    answered = iter(range(whole // 2))
    server.bodies.clear()
    server.rules.insert(0, lambda _: None if next(answered, None) is not None else failing(503, "down"))
    with pytest.raises(TeacherError, match="503: down"):
        run(recipe_file, server, tmp_path / "runs")
    server.rules.pop(0)
    server.bodies.clear()
    assert contents(run(recipe_file, server, tmp_path / "runs")) == contents(undisturbed)
    assert len(server.bodies) <= whole - whole // 2, "what was answered is not asked again"


def test_an_exam_of_refusals_says_so_and_blames_no_teacher(recipe_file, server: FakeServer, tmp_path: Path) -> None:
    server.rules.insert(0, filtered)
    changes = ("teacher_trust=measured", "seeds.per_class=3")
    with pytest.raises(TeacherError, match=r"the teacher refused 9 of 9 prompts.*400 content_filter"):
        run(recipe_file, server, tmp_path / "runs", *changes)
    server.rules.pop(0)
    workspace = run(recipe_file, server, tmp_path / "runs", *changes)
    assert read_json(workspace.round(1).exam)["questions"] == 9


def test_a_small_round_of_refusals_says_so(recipe_file, server: FakeServer, tmp_path: Path) -> None:
    server.rules.insert(0, filtered)
    with pytest.raises(TeacherError, match=r"the teacher refused 10 of 10 prompts.*400 content_filter"):
        run(recipe_file, server, tmp_path / "runs", "rounds.samples=10")


def test_a_refusal_is_asked_again_unless_many_requests_have_built_on_it(tmp_path: Path) -> None:
    prompts = {
        key: Prompt(
            key, key.split("/")[0], (Message("user", "x"),), 1, Sampling(0.0, 9), Constraint(choices=("a", "b"))
        )
        for key in ("label/000001/0", "generate/000002", "label/exam/red", "analyse/confused:red>blue")
    }
    exam = Prompt("exam/names/red", "label", (Message("user", "x"),), 1, Sampling(0.0, 9))
    with Journal(tmp_path) as journal:
        for prompt in (*prompts.values(), exam):
            journal.add(prompt, refused("400 no"))
    with Journal(tmp_path) as journal:
        assert journal.find(exam) is None
        assert [journal.find(prompt) for prompt in prompts.values()] == [None, None, None, refused("400 no")]
        journal.add(exam, Completion("a", "stop", 1, 1))
    with Journal(tmp_path) as journal:
        assert journal.find(exam) == Completion("a", "stop", 1, 1), "the newest answer counts"
