"""Texts and spans that no seed resembles are dropped; real texts are not."""

from __future__ import annotations

import pytest

from evokd_data.generation.filters import FilterPipeline
from evokd_data.generation.seed_form import SeedForm
from evokd_data.generation.text_filters import TextFilters
from evokd_data.recipe_sections import Filters
from evokd_data.records import Draft, Origin, Rejection, Sample, Span, Target
from evokd_data.strategies import POOL
from evokd_data.tasks.ner import NER

QUESTIONS = [
    "Who wrote the book ?", "What is a comet ?", "Where is Oslo ?", "How far is the moon from the earth ?", "What does NATO mean ?",
    "Who was the first man on the moon ?", "Why is the sky blue ?", "Which city has the most bridges ?", "When did it end ?", "What is it?",
]  # fmt: skip
STATEMENTS = ["Дождь идёт весь день.", *(f"{text[:-1].strip()}." for text in QUESTIONS)]


def learned(texts: list[str], target: Target = "any") -> SeedForm:
    form = SeedForm()
    for text in texts:
        form.learn(Sample("", text, target, Origin(0, -1, 0, "seed")))
    return form


@pytest.mark.parametrize(
    ("seeds", "text", "reason"),
    [
        (QUESTIONS, "Where do penguins live ?", ""),
        (QUESTIONS, "Where do penguins live？", ""),
        (QUESTIONS, 'Who said "to be or not to be?"', ""),
        (QUESTIONS, "Penguins live in the south.", "unlike_question"),
        (QUESTIONS, "?", "unlike_length"),
        (QUESTIONS, "Why " * 40 + "?", "unlike_length"),
        (QUESTIONS, "Где живут пингвины ?", "unlike_script"),
        (QUESTIONS, "企鹅住在哪里 ? 企鹅住在哪里 ?", "unlike_script"),
        (QUESTIONS, "12 + 12 = what is it ?", ""),
        (QUESTIONS, "12 + 12 = 24 ?", ""),  # no letters at all are no other script
        (QUESTIONS[:9], "Пингвины.", ""),  # nine seeds do not show what all texts are like
        (STATEMENTS, "Где живут пингвины ?", ""),
        (STATEMENTS, "Is that so ?", ""),
    ],
)
def test_a_text_is_dropped_when_no_seed_resembles_it(seeds, text, reason):
    assert learned(seeds).text_problem(text)[0] == reason


TEXT = "Ada Lovelace met Charles Babbage in London ."
SEED_SPANS = (Span(0, 12, "person", "Ada Lovelace"),)


@pytest.mark.parametrize(
    ("text", "start", "end", "reason"),
    [
        (TEXT, 17, 32, ""),
        (TEXT, 43, 44, "span_punctuation"),
        (TEXT, 0, 42, "span_whole_text"),
        (f"{TEXT} {TEXT} {TEXT}", 0, 37, "span_too_long"),
        (f"{TEXT} {TEXT} {TEXT}", 0, 36, ""),
        ("3M", 0, 2, "span_whole_text"),
    ],
)
def test_a_span_is_dropped_when_it_is_no_part_of_a_text_as_those_of_the_seeds_are(text, start, end, reason):
    spans = (Span(start, end, "person", text[start:end]),)
    assert learned([TEXT], SEED_SPANS).span_problem(text, spans)[0] == reason


def test_a_span_without_letters_is_kept_where_a_seed_of_its_type_has_one():
    form = learned(["nice :-) today"], (Span(5, 8, "emoticon", ":-)"),))
    text = "so late ;-( again"
    assert form.span_problem(text, (Span(8, 11, "emoticon", ";-("),)) == ("", "")
    assert form.span_problem(text, (Span(8, 11, "person", ";-("),))[0] == "span_punctuation"


def test_a_span_of_four_fifths_is_nearly_the_whole_text():
    text = "abcdefgh i"
    assert learned([TEXT], SEED_SPANS).span_problem(text, (Span(0, 8, "person", "abcdefgh"),))[0] == "span_whole_text"


def test_a_span_may_be_the_whole_text_where_a_seed_has_one():
    form = learned(["Oslo"], (Span(0, 4, "place", "Oslo"),))
    assert form.span_problem("Rome", (Span(0, 4, "place", "Rome"),)) == ("", "")


@pytest.mark.parametrize(
    ("settings", "strategy", "reason"),
    [({}, "static", "unlike_length"), ({}, POOL, ""), ({"seed_form": False}, "static", "")],
)
def test_the_pipeline_learns_the_form_from_round_0_alone_and_leaves_real_texts_as_they_are(settings, strategy, reason):
    earlier = [Sample(str(number), text, (), Origin(0, -1, number, "seed")) for number, text in enumerate(QUESTIONS)]
    earlier.append(Sample("long", "long " * 60, (), Origin(1, 0, 0, "static")))
    filters = Filters(**settings)
    pipeline = FilterPipeline(filters, NER(types=("person",)), TextFilters(filters, earlier=earlier))
    fate = pipeline.apply(Draft("word " * 60 + "?", (), Origin(2, 0, 0, strategy)))
    assert (fate.reason if isinstance(fate, Rejection) else "") == reason
