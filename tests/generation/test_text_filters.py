"""Texts that are dropped before a label is asked for: which, and that it depends on nothing but the texts."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.generation.filters import FilterPipeline
from evokd_data.generation.text_filters import TextFilters
from evokd_data.loop.rounds import generate_next
from evokd_data.progress import Progress
from evokd_data.recipe_sections import Filters
from evokd_data.records import Completion, Draft, GenerationRequest, Origin, Prompt, Quota, Rejection, Sample
from evokd_data.storage.journal import read_answers
from evokd_data.storage.shards import ShardedSamples, read_rejections
from evokd_data.strategies import NO_PROBLEM, POOL
from evokd_data.strategies.labelling import is_unlabelled
from evokd_data.strategies.pooling import WithPool
from tests.support.example_task import SEEDS, TASK, brief, cut_down, labelling, play, quick, sample
from tests.support.written_drafts import RecordingTeacher, build_strategy

TEST_TEXT = "a sapphire ring on the ocean's waves"
EARLIER = [sample(text, label) for label, texts in SEEDS.items() for text in texts]
words = st.sampled_from(["red", "rose", "Rose,", "sea", "the", "fire", "engine", "a", "came", "by", "ripe", "now"])
texts_of_a_request = st.lists(st.lists(words, max_size=7).map(" ".join), min_size=1, max_size=6)


def filters(protected: Sequence[str] = (TEST_TEXT,), **settings: object) -> TextFilters:
    return TextFilters(Filters(**settings), protected, EARLIER)


def origins(count: int, request: int = 0, strategy: str = "static") -> list[Origin]:
    return [Origin(1, request, position, strategy, intended="red") for position in range(count)]


class Writer(RecordingTeacher):
    """Writes these texts, and labels as the scripted teacher does."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self._texts = texts

    async def __call__(self, prompt: Prompt) -> Completion:
        if prompt.template == "generate":  # one text a call, whose number ends the key
            return Completion(self._texts[int(prompt.key.rpartition("/")[2])], "stop", 1, 1)
        return await super().__call__(prompt)


def drafts_of(texts: Sequence[str], teacher: Writer, checks: TextFilters) -> list[Draft]:
    strategy, request = build_strategy("static", {}), GenerationRequest(0, Quota("red", len(texts)), len(texts), 3)
    return list(
        asyncio.run(
            strategy.writer(brief(check_texts=checks.problems, labelling=labelling(rule="relabel")), teacher)(request)
        )
    )


WRITTEN = [
    "A fire engine came by!",
    TEST_TEXT.upper(),
    "cherries hang in the old orchard behind the house",
    "cherries hang in the old orchard behind the house.",
    "a",
    "poppies along the railway line",
]
REASONS_WRITTEN = ["duplicate", "test_overlap", "", "duplicate", "too_short", ""]


def test_no_label_is_asked_for_a_text_that_is_dropped_whatever_its_label():
    checks, teacher = filters(), Writer(WRITTEN)
    drafts = drafts_of(WRITTEN, teacher, checks)
    assert [draft.problem for draft in drafts] == REASONS_WRITTEN
    asked = [prompt.variables["text"] for prompt in teacher if prompt.template == "label"]
    assert asked == [WRITTEN[2], WRITTEN[5]]
    pipeline = FilterPipeline(Filters(), TASK, checks)
    fates = [pipeline.apply(draft) for draft in drafts]
    assert [isinstance(fate, Sample) for fate in fates] == [not reason for reason in REASONS_WRITTEN]
    rejections = [fate for fate in fates if isinstance(fate, Rejection)]
    assert all(map(is_unlabelled, rejections)) and len(rejections) == 4
    assert (
        sample("a fire engine came by").id in rejections[0].detail and "text 2 of the request" in rejections[2].detail
    )
    assert TEST_TEXT not in rejections[1].detail.lower()


def test_what_was_labelled_and_dropped_afterwards_is_not_counted_as_saved():
    pipeline = FilterPipeline(Filters(), TASK, filters())
    draft = Draft("poppies along the railway line", "red", origins(1)[0])
    assert isinstance(pipeline.apply(draft), Sample)
    fate = pipeline.apply(dataclasses.replace(draft, origin=origins(2)[1]))
    assert isinstance(fate, Rejection) and fate.reason == "duplicate" and not is_unlabelled(fate)


@given(st.lists(texts_of_a_request, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_problems_of_a_request_depend_on_no_other_request(requests: list[list[str]], chance: random.Random):
    in_order = filters()
    expected = [in_order.problems(texts, origins(len(texts), index)) for index, texts in enumerate(requests)]
    shuffled = list(enumerate(requests))
    chance.shuffle(shuffled)
    other = filters()
    for index, texts in shuffled:
        assert other.problems(texts, origins(len(texts), index)) == expected[index]


@given(texts_of_a_request)
def test_a_copy_on_another_machine_decides_alike_and_holds_no_test_text(texts: list[str]):
    here = filters()
    pickled = pickle.dumps(here)
    assert b"sapphire" not in pickled
    arrived: TextFilters = pickle.loads(pickled)
    for candidates in (texts, [TEST_TEXT, "A sapphire ring on the ocean's waves", "poppies"], WRITTEN):
        assert arrived.problems(candidates, origins(len(candidates))) == here.problems(
            candidates, origins(len(candidates))
        )


@given(texts_of_a_request)
def test_what_has_no_problem_before_its_label_has_none_of_these_afterwards(texts: list[str]):
    checks = filters()
    pipeline = FilterPipeline(Filters(), TASK, checks)
    for text, origin, problem in zip(
        texts, origins(len(texts)), checks.problems(texts, origins(len(texts))), strict=True
    ):
        if problem == NO_PROBLEM:
            assert isinstance(pipeline.apply(Draft(text, "red", origin)), Sample)


def test_texts_known_to_repeat_the_test_set_stand_for_it_where_it_is_not_known():
    known = TextFilters(Filters(), (), EARLIER, {(0, 1): "poppies along the railway line"})
    texts = ["poppies along the railway line", "poppies along the railway line", "tulips"]
    assert known.problems(texts, origins(3)) == [NO_PROBLEM, ("test_overlap", ""), NO_PROBLEM]


def test_a_real_text_that_repeats_an_earlier_one_is_not_explained():
    strategy, teacher = WithPool(build_strategy("static", {}), explains=True), RecordingTeacher()
    copies = [Quota("", 1, text="a fire engine came by."), Quota("", 1, text="poppies along the railway line")]
    write = strategy.writer(brief(check_texts=filters().problems), teacher)
    drafts = [asyncio.run(write(GenerationRequest(i, quota, 1, i)))[0] for i, quota in enumerate(copies)]
    assert [draft.problem for draft in drafts] == ["duplicate", ""]
    assert [prompt.template for prompt in teacher] == ["explain"]
    assert {draft.origin.strategy for draft in drafts} == {POOL}


COPYING = {"name: evokd": "name: static", "samples: 24": "samples: 60"}
"""Scripted texts begin and end like seeds: with a low threshold many are near-duplicates of them."""


@pytest.mark.parametrize("keep", [0, 2])
def test_a_round_taken_up_again_counts_what_it_saved_and_has_the_same_rows(recipe_file, tmp_path, keep):
    loaded = quick(recipe_file(**COPYING), "filters.near_duplicates=0.45", "filters.label_votes=3")
    run = play(loaded, tmp_path, 1)
    totals = generate_next(loaded, tmp_path, Progress())
    folder = run.round(1)
    rejections, samples = (
        list(read_rejections(folder.rejection_files())),
        list(ShardedSamples(TASK, folder.shard_files())),
    )
    labelled = {tuple(row["key"].split("/")[1:3]) for row in read_answers(folder.journal) if row["stage"] == "label"}
    unlabelled = [rejection for rejection in rejections if is_unlabelled(rejection)]
    assert 5 < len(unlabelled) < len(rejections) + len(samples) == len(unlabelled) + len(labelled)
    assert totals["label_prompts_saved"] == 3 * len(unlabelled)
    assert Counter(rejection.reason for rejection in unlabelled)["near_duplicate"] > 5
    cut_down(run, keep)
    again = generate_next(loaded, tmp_path, Progress())
    assert again["label_prompts_saved"] == totals["label_prompts_saved"]
    assert list(ShardedSamples(TASK, folder.shard_files())) == samples
    assert list(read_rejections(folder.rejection_files())) == rejections
