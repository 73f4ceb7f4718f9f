"""LLM-DA on a small task of places and people, with a scripted teacher."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.records import Completion, Draft, Prompt, Span
from evokd_data.strategies import Brief
from evokd_data.strategies.llmda import LLMDA, REWRITINGS, disturb, exchange
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.teachers.scripted import Scripted, ScriptedEngine
from tests.support.example_tagging_task import SAMPLES, TAGGING, tagging_brief
from tests.support.example_task import TASK


class Teacher(list[Prompt]):
    """The scripted teacher. Asked for entities, it names two, and a third item that is no string."""

    async def __call__(self, prompt: Prompt) -> Completion:
        self.append(prompt)
        if prompt.template == "entities":
            return Completion(orjson.dumps({"entities": ["Quito", "  El  Paso ", 7]}).decode(), "stop", 1, 1)
        return await ScriptedEngine(Scripted()).complete(prompt)


def write(strategy: LLMDA, teacher: Teacher, round_brief: Brief) -> list[Draft]:
    async def main() -> list[Draft]:
        writer = strategy.writer(round_brief, teacher)
        planned = RequestPlan([strategy.allot(round_brief)], strategy.per_request, round_brief.seed, round_brief.round)
        return [draft for drafts in await asyncio.gather(*map(writer, planned)) for draft in drafts]

    return asyncio.run(main())


def test_every_text_asked_for_becomes_one_draft_whose_spans_are_where_they_say():
    teacher = Teacher()
    drafts = write(LLMDA(noise=0.3), teacher, tagging_brief())
    assert len(drafts) == 36
    assert [draft.problem or TAGGING.check(draft.text, draft.target) for draft in drafts] == [""] * 36
    assert {prompt.template for prompt in teacher} == {"rewrite", "label", "entities"} == set(LLMDA().prompt_templates)
    assert len({prompt.key for prompt in teacher}) == len({prompt.seed for prompt in teacher}) == len(teacher)


def test_entities_are_asked_for_once_a_type_and_told_which_are_known():
    teacher = Teacher()
    write(LLMDA(levels=("entity",)), teacher, tagging_brief())
    assert sorted(prompt.key for prompt in teacher) == ["entities/person", "entities/place"]
    (place_prompt,) = (prompt for prompt in teacher if prompt.key.endswith("place"))
    assert "Oslo; New York; Rome" in place_prompt.messages[-1].content


def test_exchanged_entities_keep_their_type_and_the_rest_of_the_text_stays():
    drafts = write(LLMDA(levels=("entity",), noise=0), Teacher(), tagging_brief(60))
    allowed = {"place": {"Oslo", "New York", "Rome", "Quito", "El Paso"}, "person": {"Anna Berg", "Jo", "Li Wei"}}
    allowed["person"] |= {"Quito", "El Paso"}  # this teacher answers alike whatever it is asked for
    used = set()
    for draft in drafts:
        for span in draft.target:
            assert span.surface in allowed[span.type]
            used.add(span.surface)
    assert used >= {"Quito", "El Paso"}
    gaps = {tuple(piece for piece in _gaps(s.text, s.target)) for s in SAMPLES}
    assert {tuple(_gaps(draft.text, draft.target)) for draft in drafts} <= gaps


def _gaps(text: str, spans: Sequence[Span]) -> list[str]:
    ends = [0, *(span.end for span in spans)]
    starts = [*(span.start for span in spans), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def test_one_surface_is_exchanged_for_one_everywhere():
    text, spans = exchange(SAMPLES[2].text, SAMPLES[2].target, {"place": ["Rome", "Oslo", "Bonn"]}, random.Random(1))
    places = {span.surface for span in spans if span.type == "place"}
    assert len(places) == 1 and "Rome" not in places
    assert text.startswith(f"{places.pop()}'s mayor") and text.endswith("Li Wei")


def test_without_a_teacher_entities_are_exchanged_among_those_seen():
    drafts = write(LLMDA(levels=("entity",), entities=0), teacher := Teacher(), tagging_brief())
    assert teacher == [] and LLMDA(levels=("entity",), entities=0).prompt_templates == ()
    assert {span.surface for draft in drafts for span in draft.target} == {
        "Oslo", "New York", "Rome", "Anna Berg", "Jo", "Li Wei"
    }  # fmt: skip


def test_all_fourteen_ways_of_rewriting_are_told_in_words():
    assert len(REWRITINGS) == 14
    teacher = Teacher()
    write(LLMDA(levels=("context",), per_request=1), teacher, tagging_brief(300))
    rewritings = {prompt.variables["rewriting"] for prompt in teacher if prompt.template == "rewrite"}
    assert rewritings == set(REWRITINGS.values())
    assert all(p.variables["rewriting"] in p.messages[-1].content for p in teacher if p.template == "rewrite")


@given(st.floats(0, 1), st.integers(0, 2**32), st.sampled_from(SAMPLES))
def test_noise_leaves_entities_alone_and_every_span_valid(share, seed, original):
    text, spans = disturb(original.text, original.target, share, random.Random(seed))
    assert TAGGING.check(text, spans) == ""
    assert [(s.surface, s.type) for s in spans] == [(s.surface, s.type) for s in original.target]
    if share == 0:
        assert text == original.text


@pytest.mark.parametrize(
    "answer", ["", "null", '{"entities": "Oslo"}', '{"entities": [["x"], null, ""]}', '{"texts": 3}']
)
def test_whatever_the_teacher_answers_each_text_ends_as_one_draft(answer):
    class Hostile(Teacher):
        async def __call__(self, prompt: Prompt) -> Completion:
            return Completion(answer, "stop", 1, 1)

    drafts = write(LLMDA(), Hostile(), tagging_brief(18))
    assert len(drafts) == 18
    assert all(draft.problem or TAGGING.check(draft.text, draft.target) == "" for draft in drafts)


def test_texts_without_entities_are_refused_in_words():
    assert LLMDA().accepts(TAGGING) is None
    assert "have none; use auggpt" in (LLMDA().accepts(TASK) or "")
