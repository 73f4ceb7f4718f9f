"""A pool of real texts: chosen where the student doubts, labelled with an explanation, never of the test set."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from evokd_data import localhub
from evokd_data.errors import DataError, RecipeError
from evokd_data.generation.filters import REASONS
from evokd_data.generation.tally import Tally
from evokd_data.loop.preview import preview
from evokd_data.loop.rounds import generate_next
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.records import Completion, Origin, Prompt, Quota
from evokd_data.revisions.replay import replay
from evokd_data.seeds import load_splits
from evokd_data.stages.first_texts import first_requests
from evokd_data.stages.pool import margins
from evokd_data.storage import journal
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies import Brief
from evokd_data.strategies.pooling import WithPool
from evokd_data.strategies.quotas import RequestPlan
from tests.support.example_tagging_task import SAMPLES, TAGGING, tagging_brief
from tests.support.example_task import TASK, TEST, brief, contents, cut_down, labelling, play, quick, sample
from tests.support.published_runs import ROUGH, published
from tests.support.written_drafts import HOSTILE, RecordingTeacher, build_strategy, plan, write

pytestmark = pytest.mark.slow

TEXTS = [
    f"{who} {did} a {thing} near the {place} on day {number}"
    for number, (who, did, thing, place) in enumerate(
        (who, did, thing, place)
        for who in ("she", "nobody", "my uncle")
        for did in ("painted", "sold", "forgot")
        for thing, place in (("boat", "lighthouse"), ("gate", "orchard"), ("jumper", "cupboard"), ("kettle", "canal"))
    )
]
WITH_POOL = {"strategy:": "pool: {path: pool.jsonl, share: 0.25}\nstrategy:"}


@pytest.fixture
def pool(tmp_path):
    """A pool with texts of the test set in it, one of them with other punctuation."""
    leaks = [TEST["red"][0], TEST["blue"][1].upper() + "!"]
    rows = [json.dumps({"text": text, "label": "a label nobody reads"}) for text in (*leaks, *TEXTS, TEXTS[0])]
    (tmp_path / "pool.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "pool.jsonl"


def from_pool(run: Workspace, index: int) -> list:
    samples = ShardedSamples(TASK, run.round(index).shard_files())
    return [sample for sample in samples if sample.origin.strategy == "pool"]


def test_a_share_of_each_round_is_real_texts_the_teacher_explained(recipe, pool, tmp_path):
    run = play(recipe(**WITH_POOL), tmp_path / "runs", 3)
    for index in (1, 2):
        real = from_pool(run, index)
        assert len(real) == 6 == round(0.25 * 24)
        assert {sample.text for sample in real} <= set(TEXTS)
        assert all(s.origin.intended == "" and s.soft is None and s.target in TASK.labels for s in real)
        assert read_json(run.round(index).generated)["asked"] == 24
        answers = {
            row["key"]: row for row in journal.read_answers(run.round(index).journal) if row["stage"] == "explain"
        }
        assert len(answers) == 6
        for labelled in real:
            row = answers[f"explain/{labelled.origin.request:06d}/000000"]
            assert row["messages"][-1]["content"] == labelled.text
            assert json.loads(row["text"])["label"] == labelled.target
    assert not {s.text for s in from_pool(run, 1)} & {s.text for s in from_pool(run, 2)}


def test_the_texts_chosen_are_those_the_last_student_is_least_sure_of(recipe, pool, tmp_path):
    pool_recipe = recipe(**WITH_POOL)
    run = play(pool_recipe, tmp_path / "runs", 2)
    chosen = [quota["text"] for quota in read_json(run.round(1).plan)["cells"] if "text" in quota]
    doubts = dict(zip(TEXTS, margins(pool_recipe, run, 1, TEXTS), strict=True))
    assert chosen == sorted(TEXTS, key=lambda text: (doubts[text], text))[:6]
    examples = [TASK.supervise(sample) for sample in from_pool(run, 1)]
    sure = np.sort(np.stack(list(pool_recipe.student.predict(examples, run.round(0).student))), axis=1)
    assert [doubts[e.text] for e in examples] == pytest.approx((sure[:, -1] - sure[:, -2]).tolist(), abs=1e-5)


def test_no_text_of_the_test_set_in_the_pool_is_ever_shown_to_the_teacher(recipe, pool, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = play(recipe(**{"strategy:": "pool: {path: pool.jsonl, share: 1}\nstrategy:"}), tmp_path / "runs", 3)
    secret = {TEST["red"][0], TEST["blue"][1].upper() + "!"}
    for index in (1, 2):
        contents_shown = [
            message["content"] for row in journal.read_answers(run.round(index).journal) for message in row["messages"]
        ]
        assert contents_shown and not any(text in content for text in secret for content in contents_shown)
        assert not any(rejection.text in secret for rejection in read_rejections(run.round(index).rejection_files()))
    assert {s.text for i in (1, 2) for s in from_pool(run, i)} == set(TEXTS)  # 36 of 48: then the rest is written
    assert "2 left out because they resemble test or dev texts" in caplog.text


@pytest.mark.parametrize("keep", [0, 1])
def test_a_round_with_a_pool_taken_up_again_gives_the_same_rows(recipe, pool, tmp_path, keep):
    pool_recipe = recipe(**WITH_POOL)
    play(pool_recipe, tmp_path, 1)
    generate_next(pool_recipe, tmp_path, Progress())
    run = Workspace(tmp_path / "colours")
    rows, answers = (
        list(ShardedSamples(TASK, run.round(1).shard_files())),
        len(list(journal.read_answers(run.round(1).journal))),
    )
    cut_down(run, keep)
    (run.round(0).student / "weights.npz").unlink()  # the plan says what was chosen: nobody is asked to choose again
    generate_next(pool_recipe, tmp_path, Progress())
    assert list(ShardedSamples(TASK, run.round(1).shard_files())) == rows
    assert len(list(journal.read_answers(run.round(1).journal))) == answers


def test_rows_do_not_depend_on_shard_size_and_the_pool_is_part_of_what_a_run_is(recipe_file, pool, tmp_path):
    path = recipe_file(**WITH_POOL)
    run = play(quick(path), tmp_path / "a", 3)
    assert contents(run) == contents(play(quick(path, "rounds.shard_size=3"), tmp_path / "b", 3))
    fingerprints = {load(path, [f"pool.share={share}"]).fingerprint for share in (0.1, 0.2)}
    assert len(fingerprints) == 2
    before = load_splits(load(path)).digests()
    pool.write_text(pool.read_text() + '{"text": "one more"}\n', encoding="utf-8")
    assert load_splits(load(path)).digests()["pool"] != before["pool"]
    assert "pool" not in load_splits(load(recipe_file())).digests()


def test_a_pool_of_nothing_and_one_that_is_not_there_are_refused(recipe_file, tmp_path):
    path = recipe_file(**WITH_POOL)
    with pytest.raises(RecipeError, match=r"pool\.path: 'pool.jsonl' is not a file"):
        load(path)
    (tmp_path / "pool.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"pool: .* is empty"):
        load_splits(load(path))
    (tmp_path / "pool.jsonl").write_text('{"words": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"pool: .*, row 1: no column 'text'"):
        load_splits(load(path))


# The strategy around the strategy

REAL = ("she painted a boat", "nobody sold it")


def with_pool(**changes: object) -> Brief:
    return brief(budget=12, pool=REAL, **changes)


def test_a_text_of_the_pool_says_nothing_of_whether_texts_are_labelled_as_asked():
    """Nobody asked for it. By `relabel` it would count as labelled otherwise, by `reject` as labelled as asked."""
    quotas = [Quota("red", 1), Quota("", 1, text=REAL[0])]
    for rule in ("relabel", "reject"):
        tally = Tally(RequestPlan([quotas], 1, 0, 1), Progress(), TASK, rule)
        tally.add(replace(sample("a rose", "red"), origin=Origin(1, 0, 0, "static", "easy", intended="red")))
        tally.add(replace(sample(REAL[0], "red"), origin=Origin(1, 1, 0, "pool")))
        assert (tally.agreed, tally.disagreed) == (1, 0)


def test_first_texts_are_written_ones_however_much_of_the_round_is_pool():
    strategy = WithPool(build_strategy("static", {}), True)
    planned = RequestPlan([strategy.allot(with_pool())], 1, 0, 1)
    assert planned.written == 12 - len(REAL) == len(first_requests(planned))
    assert not any(request.quota.text for request in first_requests(planned))
    assert RequestPlan([], 1, 0, 1).written == 0 == len(first_requests(RequestPlan([], 1, 0, 1)))


@pytest.mark.parametrize(
    ("labels", "samples", "texts"), [(77, 1, 77), (77, 2, 100), (300, 1, 100), (6, 10, 60), (7, 100, 100)]
)
def test_about_a_hundred_first_texts_are_written_however_many_labels_there_are(labels, samples, texts):
    """With 77 labels and one text of each, twenty requests of one text were too few to tell a teacher from a student."""
    planned = RequestPlan([[Quota(str(label), samples) for label in range(labels)]], 5, 0, 1)
    assert texts <= sum(request.count for request in first_requests(planned)) < texts + 10


def test_a_run_after_a_preview_asks_for_the_same_texts_in_spite_of_the_pool(recipe, pool, tmp_path):
    shown = preview(recipe(**WITH_POOL), tmp_path / "runs", Progress(), 8)
    run = play(recipe(**WITH_POOL), tmp_path / "runs", 2)
    written = {s.text for s in ShardedSamples(TASK, run.round(1).shard_files())}
    assert shown["samples"] and {row["text"] for row in shown["samples"]} <= written


def test_the_budget_that_the_pool_leaves_is_the_strategys():
    strategy = WithPool(build_strategy("static", {}), True)
    quotas = strategy.allot(with_pool())
    assert [quota.text for quota in quotas if quota.text] == list(REAL)
    assert sum(quota.samples for quota in quotas) == 12
    assert strategy.prompt_templates == ("generate", "label", "explain") and strategy.name == "static"


@pytest.mark.parametrize(
    ("votes", "problem", "target"),
    [(["red", "blue", "blue"], "", "blue"), (["red", "blue"], "label_tie", None), (["mauve"], "label_not_allowed", None)],
)  # fmt: skip
def test_the_majority_of_explained_labels_decides(votes, problem, target):
    async def ask(prompt: Prompt) -> Completion:
        label = votes[int(prompt.key[-6:])]
        return Completion(json.dumps({"explanation": "because", "label": label}), "stop", 1, 1)

    strategy, round_brief = (
        WithPool(build_strategy("none", {}), True),
        brief(pool=REAL[:1], labelling=labelling(votes=len(votes))),
    )
    ((draft,),) = write(strategy, round_brief, ask, plan(strategy, round_brief)).values()
    assert (draft.text, draft.problem, draft.target) == (REAL[0], problem, target)


@pytest.mark.parametrize("answer", [*HOSTILE, Completion('{"explanation": "x", "label": 3}', "stop", 1, 1)])
def test_whatever_the_teacher_explains_each_text_ends_as_one_draft(answer):
    async def ask(prompt: Prompt) -> Completion:
        return answer

    strategy, round_brief = WithPool(build_strategy("none", {}), True), brief(pool=REAL)
    drafts = [draft for (draft,) in write(strategy, round_brief, ask, plan(strategy, round_brief)).values()]
    assert [draft.text for draft in drafts] == list(REAL)
    assert {draft.problem for draft in drafts} <= set(REASONS)


def test_tags_are_labelled_under_their_own_constraint():
    round_brief = replace(tagging_brief(), pool=("Jo saw Rome",))
    strategy, teacher = WithPool(build_strategy("none", {}), False), RecordingTeacher()
    ((draft,),) = write(strategy, round_brief, teacher, plan(strategy, round_brief)).values()
    assert [prompt.template for prompt in teacher] == ["label"] and teacher[0].constraint.grammar
    assert TAGGING.check(draft.text, draft.target) == "" and draft.origin.strategy == "pool"
    assert TAGGING.read_text({"tokens": ["Jo", "saw", "Rome", "."], "ner_tags": None}, "here") == "Jo saw Rome ."
    assert TAGGING.read_text({"text": SAMPLES[0].text}, "here") == SAMPLES[0].text


def test_a_published_round_with_a_pool_is_made_again_without_the_pool(pool, tmp_path):
    text = ROUGH.replace("strategy:", WITH_POOL["strategy:"].partition("\n")[0] + "\nstrategy:")
    with localhub.running(tmp_path / "hub") as server:
        run = published(server, tmp_path, "org/pool", 3, "training.boost=2", text=text)
        pool.unlink()
        replayed = replay(run.repo, 2, cache_dir=tmp_path / "cache", **run.at)
    assert replayed.content == read_json(run.workspace.round(2).manifest)["identity"]["content"]
    assert len(from_pool(run.workspace, 2)) > 0
