"""The NER task: spans read, stored, shown, labelled, learned and scored."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import DataError
from evokd_data.recipe_sections import Source
from evokd_data.records import Mistake, Origin, Prediction, Sample, Span, TokenExample
from evokd_data.settings import build
from evokd_data.sources import open_source
from evokd_data.tasks import Unreadable, marking, spans
from evokd_data.tasks.ner import NER
from evokd_data.tasks.span_measures import intervals, span_counts, tagging
from evokd_data.templates import Templates

TYPES = ("track", "artist", "place of play")
TASK = NER(TYPES, description="What is played.", type_descriptions={"artist": "who plays"})
FORMS = [replace(TASK, labelling=form) for form in ("grammar", "json", "enum")]
TEXT = "play around the world by daft punk"
TARGET = (Span(5, 21, "track", "around the world"), Span(25, 34, "artist", "daft punk"))
REASONS = {"no_label", "unreadable", "truncated", "text_changed", "unknown_type", *spans.REASONS}

HOSTILE = [
    TEXT,
    "daft punk by daft punk, daft punk!",
    "我爱北京天安门 and 東京 Tower",
    "👨‍👩‍👧 met 🧑🏽‍🚀 in 🇫🇷!",
    "cafe\u0301 au\u0301x fe\u0300ves",
    "שָׁלוֹם ירושלים، مرحبا",
    "a\u200bb c\u200dd \ufeffe",
    "tab\there\nand\r\nthere\u00a0now\u3000wide",
    "[x] [track: y] \\ [[ ]",
    'he said "no", \\"never\\"',
    "A A A",
]
texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=30), st.text('ab 我京\u0301\u200d[]\\🇫👩\n\t"', max_size=20)
)


@st.composite
def samples(draw):
    """A text with a valid annotation."""
    text = draw(texts.filter(str.strip))
    offsets = marking.word_offsets(text)
    edges = sorted(draw(st.sets(st.integers(0, len(offsets)), max_size=8)))
    annotation = []
    for first, last in pairwise(edges):
        start, end = offsets[first][0], offsets[last - 1][1]
        if draw(st.booleans()) and text[start:end] == text[start:end].strip():
            annotation.append(Span(start, end, draw(st.sampled_from(TYPES)), text[start:end]))
    return sample(text, tuple(spans.without_invisible_edges(text, annotation)))


def sample(text=TEXT, target=TARGET, **more):
    return Sample("id", text, target, Origin(0, -1, 0, ""), **more)


def located(text, *surfaces):
    return sample(text, spans.locate(text, surfaces))


def one_hot(tags):
    return np.eye(len(TASK.classes), dtype=np.float32)[list(tags)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "task.types: is required"),
        ({"types": []}, "at least 1"),
        ({"types": ["a", "b", "a"]}, "'a' is given twice"),
        ({"types": [""]}, "'' cannot be a type's name"),
        ({"types": ["a "]}, "'a ' cannot be a type's name"),
        ({"types": ["a:b"]}, "'a:b' cannot be a type's name"),
        ({"types": ["a]"]}, "'a]' cannot be a type's name"),
        ({"types": ["a"], "labelling": "marks"}, "'grammar', 'json' or 'enum'"),
        ({"types": ["a"], "enum_words": 0}, "greater than or equal to 1"),
        ({"types": ["person"], "type_descriptions": {"persn": "x"}}, "did you mean 'person'"),
        ({"types": ["a"], "spans_column": "text"}, "text_column and spans_column are both 'text'"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(wrong, message):
    task, problems = build(NER, wrong, "task")
    assert task is None
    assert message in "\n".join(problems)


def test_no_types_are_refused_in_code_too():
    with pytest.raises(ValueError, match="types"):
        NER(())


@pytest.mark.parametrize(
    "row",
    [
        {"text": TEXT, "spans": [{"start": 25, "end": 34, "type": "artist"}, {"start": 5, "end": 21, "type": "track"}]},
        {
            "text": TEXT,
            "spans": [{"text": "daft punk", "type": "artist"}, {"text": "around the world", "type": "track"}],
        },
        {"text": TEXT, "spans": [{"text": "daft punk", "label": "artist"}, {"start": 5, "end": 21, "label": "track"}]},
        {"text": TEXT, **TASK.to_row(TARGET)},
        {"text": TEXT, "spans": json.dumps(TASK.to_row(TARGET)["spans"])},
        {"text": TEXT, **TASK.to_row(TARGET), "tokens": ["other"], "ner_tags": ["O"]},
        {"tokens": TEXT.split(), "ner_tags": ["O", "B-track", "I-track", "I-track", "O", "B-artist", "I-artist"]},
        {"tokens": TEXT.split(), "ner_tags": ["O", "I-track", "I-track", "I-track", "O", "I-artist", "I-artist"]},
        {"tokens": TEXT.split(), "ner_tags": ["O", "B-track", "I-track", "E-track", "O", "B-artist", "E-artist"]},
        {
            "text": "unused",
            "tokens": [*TEXT.split(), " "],
            "ner_tags": ["O", "B-track", "I-track", "I-track", "O", "B-artist", "I-artist", "O"],
        },
    ],
)
def test_a_users_row_is_read_in_each_of_its_forms(row):
    assert TASK.read_example(row, "seeds.jsonl, row 1") == (TEXT, TARGET)


def test_a_span_that_says_only_its_words_stands_for_all_their_occurrences():
    row = {"text": "daft punk are daft punk", "spans": [{"text": "daft punk", "type": "artist"}]}
    assert [span.start for span in TASK.read_example(row, "")[1]] == [0, 14]


@pytest.mark.parametrize("character", ["\u200b", "\u00ad", "\ufeff", "\u200b\u00ad", "\u200b \u200b"])
def test_words_that_nobody_sees_are_left_out_at_the_edges_of_a_span_and_stay_within_it(character):
    task = NER(("ORG",))
    for before, after in ((character, ""), ("", character), (f"{character} ", f" {character}")):
        text = f"the {before}Foo{character} Bar{after} won"
        begin, end = len("the "), len(text) - len(" won")
        row = {"text": text, "spans": [{"start": begin, "end": end, "type": "ORG"}]}
        read_text, (span,) = task.read_example(row, "x")
        assert (read_text, span.surface) == (text, text[text.index("Foo") : text.index("Bar") + 3])
        assert task.check(text, (span,)) == ""
        assert task.read_label(f"{text[:begin]}[ORG: {text[begin:end]}]{text[end:]}", text) == (span,)


def test_a_token_that_ends_in_what_nobody_sees_is_a_span_without_it():
    row = {"tokens": ["at", "Foo\u200b", "\ufeff", "now"], "ner_tags": ["O", "B-ORG", "I-ORG", "O"]}
    assert [span.surface for span in NER(("ORG",)).read_example(row, "x")[1]] == ["Foo"]
    only = {"tokens": ["at", "\u200b"], "ner_tags": ["O", "B-ORG"]}
    assert [span.surface for span in NER(("ORG",)).read_example(only, "x")[1]] == ["\u200b"]


def test_columns_are_the_recipes():
    task = NER(("a",), text_column="t", spans_column="s", tokens_column="w", tags_column="y")
    assert task.read_example({"t": "hi ho", "s": [{"text": "ho", "type": "a"}]}, "") == (
        "hi ho",
        (Span(3, 5, "a", "ho"),),
    )
    assert task.read_example({"w": ["hi", "ho"], "y": ["O", "B-a"]}, "") == ("hi ho", (Span(3, 5, "a", "ho"),))


def test_a_row_without_spans_is_read():
    assert TASK.read_example({"text": "hi", "spans": []}, "") == ("hi", ())
    assert TASK.read_example({"tokens": ["hi"], "ner_tags": ["O"]}, "") == ("hi", ())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "columns none; a row needs 'text' and 'spans', or 'tokens' and 'ner_tags'"),
        ({"text": "x", "tokens": ["x"]}, "columns text, tokens; a row needs"),
        ({"text": " ", "spans": []}, "'text' holds ' '"),
        ({"text": None, "spans": []}, "'text' holds None"),
        ({"text": "x", "spans": None}, "'spans' holds None; spans are a list"),
        ({"text": "x", "spans": ["x"]}, "'spans' holds ['x']; spans are a list"),
        ({"text": "x", "spans": "[{"}, "'spans' holds '[{': not JSON ("),
        ({"text": "x", "spans": [{"start": 0, "end": 1}]}, "None is no type of the task"),
        (
            {"text": "x", "spans": [{"start": 0, "end": 1, "type": "tracks"}]},
            "'tracks' is no type of the task; did you mean",
        ),
        ({"text": "x", "spans": [{"start": 0, "end": 2, "type": "track"}]}, "within the text's 1 characters"),
        ({"text": "x", "spans": [{"start": "0", "end": 1, "type": "track"}]}, "within the text's 1 characters"),
        ({"text": "x", "spans": [{"start": False, "end": True, "type": "track"}]}, "within the text's 1 characters"),
        ({"text": "x", "spans": [{"start": 0, "type": "track"}]}, "within the text's 1 characters"),
        (
            {"text": "x", "spans": [{"text": "y", "type": "track"}]},
            "a span is not in the text: [('y', 'track')] in 'x'",
        ),
        ({"text": "xy", "spans": [{"text": "x", "type": "track"}]}, "a span begins or ends within a word"),
        ({"tokens": "x", "ner_tags": ["O"]}, "'tokens' holds 'x'"),
        ({"tokens": ["x"], "ner_tags": [0]}, "'ner_tags' holds [0]; tokens, and tags by name, are lists of strings"),
        ({"tokens": ["x", "y"], "ner_tags": ["O"]}, "2 tokens in 'tokens', 1 tags in 'ner_tags'"),
        ({"tokens": [" "], "ner_tags": ["O"]}, "every row needs a text"),
        ({"tokens": ["x"], "ner_tags": ["track"]}, "column 'ner_tags': 'track' is no tag"),
        ({"tokens": ["x"], "ner_tags": ["B-person"]}, "'person' is no type of the task"),
    ],
)
def test_a_users_row_that_cannot_be_read_names_row_and_value(row, message):
    with pytest.raises(DataError) as caught:
        TASK.read_example(row, "seeds.jsonl, row 7")
    assert str(caught.value).startswith("seeds.jsonl, row 7: ")
    assert message in str(caught.value)


def test_spans_of_other_types_are_dropped_where_the_recipe_says_so():
    task = replace(TASK, ignore_other_types=True)
    example = ("x y", (Span(2, 3, "track", "y"),))
    assert task.read_example({"tokens": ["x", "y"], "ner_tags": ["B-person", "B-track"]}, "") == example
    row = {"text": "x y", "spans": [{"start": 0, "end": 3, "type": "z"}, {"start": 2, "end": 3, "type": "track"}]}
    assert task.read_example(row, "") == example


def test_a_conll_file_gives_rows_the_task_reads(tmp_path):
    path = tmp_path / "data.bio"
    path.write_text("play O\nAfrica B-track\n\nhi O\n", encoding="utf-8")
    reading = open_source(Source(path=path), TASK)
    rows = [TASK.read_example(row, "", reading.layout) for row in reading.rows]
    assert rows == [("play Africa", (Span(5, 11, "track", "Africa"),)), ("hi", ())]


def test_a_file_of_unknown_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"unknown format '\.xml'; use"):
        list(open_source(Source(path=tmp_path / "data.xml"), TASK).rows)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (TARGET, ""),
        ((), ""),
        ((Span(25, 34, "singer", "daft punk"),), "'singer' is no type"),
        ((Span(25, 33, "artist", "daft punk"),), "has moved: the text says 'daft pun' there"),
        ((Span(25, 33, "artist", "daft pun"),), "begins or ends within a word"),
        ((Span(26, 34, "artist", "aft punk"),), "begins or ends within a word"),
        ((Span(24, 34, "artist", " daft punk"),), "white space at its edge"),
        ((Span(25, 35, "artist", "daft punk"),), "not within the text's 34 characters"),
        ((Span(-9, 34, "artist", "daft punk"),), "not within the text's"),
        ((Span(25, 25, "artist", ""),), "not within the text's"),
        (TARGET[::-1], "are not in the order of the text"),
        ((Span(25, 34, "artist", "daft punk"), Span(30, 34, "artist", "punk")), "'daft punk' and 'punk' overlap"),
        ((TARGET[0], TARGET[0]), "overlap"),
    ],
)
def test_a_target_that_cannot_be_right_is_found_out(target, message):
    problem = TASK.check(TEXT, target)
    assert message in problem
    assert bool(problem) == bool(message)


def test_a_span_may_end_before_an_apostrophe_but_not_within_a_word():
    assert TASK.check("Paris's", (Span(0, 5, "track", "Paris"),)) == ""
    assert "within a word" in TASK.check("Parisians", (Span(0, 5, "track", "Paris"),))


@given(samples())
def test_a_stored_target_comes_back(annotated):
    row = TASK.to_row(annotated.target)
    assert list(row) == list(TASK.columns())
    assert TASK.from_row(json.loads(json.dumps(row))) == annotated.target


def test_spans_are_stored_as_structs():
    import pyarrow as pa

    column = TASK.columns()["spans"]
    assert str(column) == "list<item: struct<start: int32, end: int32, type: string, surface: string>>"
    stored = pa.RecordBatch.from_pylist([TASK.to_row(TARGET), TASK.to_row(())], pa.schema({"spans": column}))
    assert [TASK.from_row(row) for row in stored.to_pylist()] == [TARGET, ()]


def test_templates_see_plain_values():
    assert TASK.describe() == {
        "types": list(TYPES),
        "names": {"track": "track", "artist": "artist", "place of play": "place of play"},
        "noun": "text",
        "a_noun": "a text",
        "nouns": "texts",
        "description": "What is played.",
        "type_descriptions": {"artist": "who plays"},
        "labelling": "grammar",
    }
    marked = "play [track: around the world] by [artist: daft punk]"
    assert TASK.show(sample()) == {"text": TEXT, "target": marked, "marked": marked, **TASK.to_row(TARGET)}
    listed = '{"entities":[{"text":"around the world","type":"track"},{"text":"daft punk","type":"artist"}]}'
    assert FORMS[1].show(sample())["target"] == FORMS[2].show(sample())["target"] == listed
    json.dumps([TASK.describe(), TASK.show(sample())])


def test_quotas_are_counted_in_types():
    assert TASK.labels == TYPES
    assert TASK.classes == ("O", "B-track", "I-track", "B-artist", "I-artist", "B-place of play", "I-place of play")
    assert TASK.carries(TARGET, "artist")
    assert not TASK.carries(TARGET, "place of play")
    assert TASK.target_of("artist") is None


@pytest.mark.parametrize("task", FORMS, ids=lambda task: task.labelling)
def test_every_prompt_can_be_written(task):
    templates = Templates("ner")
    shown = [task.show(sample()), task.show(sample("nothing [here]", ()))]
    variables = {
        "task": task.describe(),
        "target": "artist",
        "contrast": "track",
        "difficulty": "hard",
        "count": 2,
        "advice": "be bold",
        "demonstrations": shown,
        "text": "a text",
        "codes": {},
        "seed": shown[0],
        "expected": "artist",
        "got": "",
        "missed": 2,
        "seen": 3,
        "wrong": shown,
        "right": shown,
    }
    for template in ("generate", "label", "rephrase", "compose"):
        turns = shown if templates.has_turns(template) else ()
        prompt = "\n".join(message.content for message in templates.render(template, variables, turns))
        assert "daft punk" in prompt
        assert template == "rephrase" or ("who plays" in prompt and "What is played." in prompt)
    analyses = {
        kind: templates.render("analyse", {**variables, "kind": kind, "expected": expected, "got": got})[-1].content
        for kind, expected, got in [
            ("missed", "artist", ""),
            ("spurious", "", "artist"),
            ("wrong_type", "artist", "track"),
            ("wrong_boundary", "artist", ""),
        ]
    }
    assert len(set(analyses.values())) == len(spans.KINDS)
    assert all(
        '"artist"' in prompt and '""' not in prompt and "[artist: daft punk]" in prompt for prompt in analyses.values()
    )


def test_a_text_is_asked_for_as_the_seeds_are_shown():
    task = NER(types=("artist", "timeRange"), noun="request", type_descriptions={"timeRange": "a time or date"})
    shown = [
        {"text": "play Zappa at nine", "spans": [{"type": "artist"}, {"type": "timeRange"}, {"type": "artist"}]},
        {"text": "who sings", "spans": []},
    ]
    variables = {
        "task": task.describe(), "target": "timeRange", "contrast": None, "difficulty": "easy", "advice": "", "count": 1,
    }  # fmt: skip
    messages = Templates("ner").render("generate", variables, shown[:1])
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert [message.content for message in messages[1:]] == [
        "Write a request with: artist, time range (a time or date).",
        "play Zappa at nine",
        "Write a request with: time range (a time or date).",
    ]
    contrasted = Templates("ner").render("generate", {**variables, "contrast": "artist", "difficulty": "hard"}, shown)
    assert contrasted[-1].content == (
        "Write a request with: time range (a time or date). At first sight it could be read as artist, but it clearly is time range. "
        "Make it an unusual one."
    )
    assert not any("tagger" in message.content or "[" in message.content for message in contrasted)


@given(samples())
def test_the_marked_answer_gives_exactly_the_spans_shown(annotated):
    assert TASK.read_label(TASK.show(annotated)["target"], annotated.text) == annotated.target


@given(samples())
def test_the_listed_answer_gives_the_spans_shown_or_says_why_it_cannot(annotated):
    for task in FORMS[1:]:
        try:
            target = task.read_label(task.show(annotated)["target"], annotated.text)
        except Unreadable as reason:
            assert str(reason) in ("ambiguous", "overlap")
        else:
            assert task.check(annotated.text, target) == ""
            surfaces = {(span.surface, span.type) for span in annotated.target}
            assert {(span.surface, span.type) for span in target} <= surfaces


def answers():
    """What a teacher could say: text, entities listed, marks, JSON of another form."""
    surface = st.sampled_from(["daft punk", "around", "A", "北京", "\u200d", ""]) | st.text(max_size=3)
    entity = st.fixed_dictionaries({"text": surface, "type": st.sampled_from([*TYPES, "x"])})
    listed = st.fixed_dictionaries({"entities": st.lists(entity, max_size=4)})
    marks = st.sampled_from(["[track: ", "[x: ", "]", "A", " ", "\\", "[", "daft punk", "\u200d"])
    other = st.recursive(
        st.none() | st.integers(),
        lambda inner: st.dictionaries(
            st.sampled_from(["entities", "text", "type"]), inner | st.lists(inner, max_size=2)
        ),
    )
    return st.one_of(
        st.text(max_size=20), listed.map(json.dumps), st.lists(marks, max_size=8).map("".join), other.map(json.dumps)
    )


@given(texts, answers())
def test_whatever_the_teacher_answers_becomes_possible_spans_or_a_reason(text, answer):
    for task in FORMS:
        try:
            target = task.read_label(answer, text)
        except Unreadable as reason:
            assert str(reason) in REASONS
        else:
            problem = task.check(text, target)
            assert problem == "" or "white space at its edge" in problem


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no_label"),
        (" \n", "no_label"),
        ("play around the world by daft", "truncated"),
        ("play around the world by [artist: daft punk", "truncated"),
        ("play around the globe by daft punk", "text_changed"),
        ("play around the world by [singer: daft punk]", "unknown_type"),
        ("play [track: around the [track: world]] by daft punk", "overlap"),
        ("play around the world by daft pun[artist: k]", "misaligned"),
        ("play [track: ]around the world by daft punk", "unreadable"),
    ],
)
def test_marks_that_cannot_be_believed_have_a_reason(answer, reason):
    with pytest.raises(Unreadable) as caught:
        TASK.read_label(answer, TEXT)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("text", "entities", "reason"),
    [
        ("play jazz", [("rock", "track")], "span_not_in_text"),
        ("play jazz", [("Jazz", "track")], "span_not_in_text"),
        ("play jazz", [("", "track")], "span_not_in_text"),
        ("play jazz", [("jaz", "track")], "misaligned"),
        ("play jazz", [("jazz", "genre")], "unknown_type"),
        ("play jazz", [("jazz", "track"), ("jazz", "artist")], "ambiguous"),
        ("new york city", [("new york", "track"), ("york city", "artist")], "overlap"),
        ("play jazz", [("jazz", 1)], "unreadable"),
        ("play jazz", [("jazz", None)], "unreadable"),
    ],
)
def test_listed_entities_that_cannot_be_placed_have_a_reason(text, entities, reason):
    answer = json.dumps({"entities": [{"text": surface, "type": type_} for surface, type_ in entities]})
    with pytest.raises(Unreadable) as caught:
        FORMS[1].read_label(answer, text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "answer",
    ["[]", "{}", "null", '{"entities": 3}', '{"entities": [3]}', '{"entities": [{"text": "x"}]}', '{"ent', "\ud800"],
)
def test_an_answer_of_another_form_is_unreadable(answer):
    with pytest.raises(Unreadable, match=r"^unreadable$"):
        FORMS[1].read_label(answer, "x")


@pytest.mark.parametrize(
    ("text", "surfaces", "offsets"),
    [
        ("A b A", ["A"], [(0, 1), (4, 5)]),
        ("A A A", ["A A"], [(0, 3)]),
        ("art in start", ["art"], [(0, 3)]),
        ("the New York Times in New York", ["New York", "New York Times"], [(4, 18), (22, 30)]),
        ("the New York Times", ["New York", "New York Times"], [(4, 18)]),
        ("京東京", ["京"], [(0, 1), (2, 3)]),
        ("x", [], []),
    ],
)
def test_an_entity_stands_for_all_its_occurrences_and_the_longest_comes_first(text, surfaces, offsets):
    placed = spans.locate(text, [(surface, "track") for surface in surfaces])
    assert [(span.start, span.end) for span in placed] == offsets


@given(texts)
def test_an_enumeration_holds_runs_of_the_texts_words_and_each_can_be_read(text):
    task = replace(FORMS[2], enum_words=2)
    items = task.label_constraint(text).json_schema["properties"]["entities"]["items"]
    surfaces = items["properties"]["text"].get("enum", [])
    assert bool(surfaces) == bool(text.strip())
    assert len(set(surfaces)) == len(surfaces) <= 2 * len(marking.word_offsets(text))
    for surface in surfaces:
        answer = json.dumps({"entities": [{"text": surface, "type": "track"}]})
        placed = spans.without_invisible_edges(text, spans.locate(text, [(surface, "track")]))
        assert task.read_label(answer, text) == tuple(placed) != ()


def test_a_free_list_may_hold_any_text_but_only_known_types():
    entity = FORMS[1].label_constraint(TEXT).json_schema["properties"]["entities"]["items"]["properties"]
    assert entity == {"text": {"type": "string"}, "type": {"enum": list(TYPES)}}


def test_the_default_constraint_is_the_texts_own_grammar():
    assert TASK.label_constraint(TEXT).grammar == marking.grammar(TEXT, TYPES)
    assert all(task.label_constraint("").choices is None for task in FORMS)


@given(samples())
def test_what_a_student_learns_decodes_to_what_it_was_made_from(annotated):
    example = TASK.supervise(replace(annotated, weight=0.5))
    assert example.weight == 0.5
    assert [annotated.text[start:end] for start, end in example.offsets] == list(example.words)
    decoded, confidence = TASK.decode(example, one_hot(example.targets))
    assert [(s.start, s.end, s.type) for s in decoded] == [(s.start, s.end, s.type) for s in annotated.target]
    assert confidence == 1.0
    assert TASK.mistakes(Prediction("id", annotated.target, decoded, confidence)) == []


def test_a_decoded_surface_has_blanks_for_white_space():
    annotated = located("play  daft\tpunk", ("daft\tpunk", "artist"))
    example = TASK.supervise(annotated)
    assert TASK.decode(example, one_hot(example.targets))[0] == (Span(6, 15, "artist", "daft punk"),)


def test_illegal_tags_are_mended():
    example = TASK.supervise(sample("a b c d", ()))
    decoded, _ = TASK.decode(example, one_hot([2, 2, 4, 0]))  # I-track I-track I-artist O
    assert decoded == (Span(0, 3, "track", "a b"), Span(4, 5, "artist", "c"))


def test_confidence_is_the_mean_of_the_best_tags_probabilities():
    probabilities = np.array([[0.6, 0.4, 0, 0, 0, 0, 0], [0.2, 0.8, 0, 0, 0, 0, 0]], dtype=np.float32)
    decoded, confidence = TASK.decode(TASK.supervise(sample("a b", ())), probabilities)
    assert decoded == (Span(2, 3, "track", "b"),)
    assert confidence == pytest.approx(0.7)
    assert type(confidence) is float


def test_words_without_probabilities_are_outside():
    example = TASK.supervise(sample("a b c", ()))
    assert TASK.decode(example, one_hot([1])) == ((Span(0, 1, "track", "a"),), 1.0)
    assert TASK.decode(example, np.zeros((0, 7), dtype=np.float32)) == ((), 1.0)
    assert TASK.decode(TokenExample((), (), ()), np.zeros((0, 7), dtype=np.float32)) == ((), 1.0)


def at(*spans):
    return tuple(Span(start, end, type_, "x" * (end - start)) for start, end, type_ in spans)


@pytest.mark.parametrize(
    ("expected", "got", "mistakes"),
    [
        ([(0, 3, "a")], [(0, 3, "a")], []),
        ([(0, 3, "a")], [], [("missed", "a", "")]),
        ([], [(0, 3, "a")], [("spurious", "", "a")]),
        ([(0, 3, "a")], [(0, 3, "b")], [("wrong_type", "a", "b")]),
        ([(0, 3, "a")], [(0, 9, "a")], [("wrong_boundary", "a", "")]),
        ([(0, 3, "a")], [(0, 9, "b")], [("wrong_type", "a", "b")]),
        ([(0, 3, "a")], [(5, 9, "a")], [("missed", "a", ""), ("spurious", "", "a")]),
        ([(0, 3, "a"), (4, 7, "a")], [(0, 7, "a")], [("wrong_boundary", "a", ""), ("missed", "a", "")]),
        ([(0, 9, "a")], [(0, 3, "a"), (4, 9, "b")], [("wrong_type", "a", "b"), ("spurious", "", "a")]),
        ([(0, 9, "a")], [(0, 4, "b"), (5, 9, "a")], [("wrong_boundary", "a", ""), ("spurious", "", "b")]),
        ([(0, 3, "a"), (4, 7, "b")], [(0, 3, "a"), (4, 7, "a")], [("wrong_type", "b", "a")]),
    ],
)
def test_mistakes_have_their_kind(expected, got, mistakes):
    prediction = Prediction("id", at(*expected), at(*got), 0.9)
    assert TASK.mistakes(prediction) == [Mistake(*each) for each in mistakes]


def flat(chance):
    spans, position = [], 0
    while position < 20:
        length = chance.randint(1, 4)
        if chance.random() < 0.5:
            spans.append((position, position + length, chance.choice("abc")))
        position += length
    return at(*spans)


@given(st.randoms(use_true_random=False))
def test_mistakes_account_for_every_span_that_is_not_right(chance: random.Random):
    expected, got = flat(chance), flat(chance)
    kinds = Counter(mistake.kind for mistake in spans.mistakes(expected, got))
    right = len(set(expected) & set(got))
    paired = kinds["wrong_type"] + kinds["wrong_boundary"]
    assert len(expected) == right + paired + kinds["missed"]
    assert len(got) == right + paired + kinds["spurious"]


def random_rows(chance, texts, types, legal):
    rows = []
    for _ in range(texts):
        row = []
        for _ in range(chance.randint(0, 12)):
            tag = chance.choice([0, 0, 0, *range(1, 2 * types + 1)])
            if legal and tag and tag % 2 == 0 and (not row or row[-1] not in (tag, tag - 1)):
                tag -= 1
            row.append(tag)
        rows.append(row)
    return rows


def by_seqeval(expected, predicted, classes, average):
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    named = [[[classes[tag] for tag in row] for row in rows] for rows in (expected, predicted)]
    return precision_recall_fscore_support(*named, average=average, scheme=IOB2, zero_division=0)


@pytest.mark.slow
def test_span_f1_equals_seqevals_strict_mode():
    """1,200 texts in 120 corpora: the tags predicted are random, illegal I- included, or the right ones with errors."""
    chance = random.Random(3)
    classes = ("O", "B-a", "I-a", "B-b", "I-b", "B-c", "I-c")
    compared = illegal = 0
    for corpus in range(120):
        expected = random_rows(chance, 10, 3, legal=corpus % 3 > 0)
        predicted = [
            [tag if corpus % 2 and chance.random() < 0.8 else chance.choice(range(7)) for tag in row]
            for row in expected
        ]
        metrics = tagging(expected, predicted, "abc", seed=1)
        precision, recall, f1, support = by_seqeval(expected, predicted, classes, "micro")
        assert (metrics["precision"], metrics["recall"], metrics["micro_f1"]) == pytest.approx((precision, recall, f1))
        assert metrics["spans"] == support
        counts = span_counts(expected, predicted, 3).sum(axis=0)
        occurring = [type_ for index, type_ in enumerate("abc") if counts[1:, index].any()]
        if occurring:
            for index, figures in enumerate(zip(*by_seqeval(expected, predicted, classes, None), strict=True)):
                ours = metrics["per_class"][occurring[index]]
                assert tuple(ours.values()) == pytest.approx(figures)
        illegal += sum(
            tag > 0 and tag % 2 == 0 and (position == 0 or row[position - 1] not in (tag, tag - 1))
            for row in predicted
            for position, tag in enumerate(row)
        )
        compared += len(expected)
    assert (compared, illegal > 500) == (1200, True)


def test_scores_are_of_the_tags_as_they_are_and_errors_of_the_spans_they_are_mended_to():
    classes = TASK.classes
    annotated = [
        located("play jazz now", ("jazz", "track")),
        located("abba sings", ("abba", "artist")),
        located("daft punk in rome", ("daft punk", "artist"), ("rome", "place of play")),
        sample("nothing", ()),
    ]
    predicted = [[0, 2, 0], [3, 0], [3, 0, 0, 1], [1]]  # O I-track O | B-artist O | B-artist O O B-track | B-track
    expected = [list(TASK.supervise(each).targets) for each in annotated]
    metrics = TASK.score(annotated, [one_hot(row) for row in predicted], seed=4)
    assert (metrics["n"], metrics["spans"]) == (4, 4)
    assert metrics["micro_f1"] == pytest.approx(by_seqeval(expected, predicted, classes, "micro")[2])
    assert metrics["micro_f1"] == pytest.approx(2 * 1 / (4 + 4))
    assert metrics["repaired_micro_f1"] == pytest.approx(2 * 2 / (4 + 5))
    assert metrics["errors"] == {"missed": 0, "spurious": 1, "wrong_type": 1, "wrong_boundary": 1}
    assert list(metrics["per_class"]) == list(TYPES)
    assert metrics["per_class"]["artist"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert metrics["macro_f1"] == pytest.approx(sum(each["f1"] for each in metrics["per_class"].values()) / 3)
    assert metrics["calibration_error"] == pytest.approx(4 / 10)
    assert metrics == TASK.score(annotated, [one_hot(row) for row in predicted], seed=4)
    json.dumps(metrics, allow_nan=False)


def test_a_perfect_student_scores_one_and_a_cut_one_less():
    annotated = [sample(), located("abba in rome", ("abba", "artist"), ("rome", "place of play"))]
    perfect = [one_hot(TASK.supervise(each).targets) for each in annotated]
    metrics = TASK.score(annotated, perfect, seed=0)
    assert metrics["micro_f1"] == metrics["macro_f1"] == metrics["repaired_micro_f1"] == 1.0
    assert metrics["intervals"]["micro_f1"] == [0.0, 1.0]  # of two texts, and both may be drawn wrong
    assert metrics["notes"] == [
        (
            "The test set has fewer than 5 spans of track, artist, place of play: how often they go wrong is for the most part taken "
            "from all of them together."
        )
    ]
    assert metrics["calibration_error"] == 0.0
    cut = TASK.score(annotated, [perfect[0][:5], perfect[1]], seed=0)
    assert cut["recall"] == 0.75
    assert cut["errors"]["missed"] == 1


def test_texts_without_spans_can_be_scored():
    metrics = TASK.score([sample("nothing", ())], [one_hot([0])], seed=0)
    assert metrics["micro_f1"] == metrics["macro_f1"] == metrics["repaired_micro_f1"] == 0.0
    assert metrics["intervals"] == {"micro_f1": [0.0, 0.0], "macro_f1": [0.0, 0.0]}
    assert metrics["notes"] == [
        (
            "The test set has no example of track, artist, place of play: macro-F1 counts these classes as 0, so it is 0.000 at most; add "
            "texts of each of them to the test set."
        )
    ]
    json.dumps(metrics, allow_nan=False)


def test_no_interval_of_spans_leaves_out_its_own_estimate_though_few_texts_hold_any():
    chance = random.Random(2)
    for texts in [2, 3, 5, 12] * 6:
        expected = random_rows(chance, texts, 3, legal=True)
        predicted = [[tag if chance.random() < 0.8 else 0 for tag in row] for row in expected]
        expected = [row if chance.random() < 0.5 else [0] * len(row) for row in expected]
        metrics = tagging(expected, predicted, "abc", seed=texts)
        for name, (low, high) in metrics["intervals"].items():
            assert low <= metrics[name] <= high
            assert low < high or not metrics["spans"]
    all_right = [[1, 0], [3, 4], [5, 0, 5], [0], [0, 0]]
    metrics = tagging(all_right, all_right, "abc", seed=0)
    for low, high in metrics["intervals"].values():
        assert (low < 0.8, high) == (True, 1.0)


def test_rows_that_do_not_match_word_for_word_cannot_be_scored():
    with pytest.raises(ValueError, match="word for word"):
        tagging([[0, 1]], [[0]], ("a",), 0)
    with pytest.raises(ValueError, match="cannot score"):
        tagging([], [], ("a",), 0)


def test_intervals_are_those_of_drawing_texts_again():
    chance = random.Random(1)
    expected = random_rows(chance, 60, 2, legal=True)
    predicted = [[tag if chance.random() < 0.8 else 0 for tag in row] for row in expected]
    counts = span_counts(expected, predicted, 2)
    generator = np.random.default_rng(0)
    naive = []
    for _ in range(1000):
        chosen = generator.integers(0, 60, 60)
        metrics = counts[chosen].sum(axis=(0, 2))
        naive.append(2 * metrics[0] / (metrics[1] + metrics[2]))
    assert intervals(counts, 5)[0] == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.02)
    assert intervals(counts, 5) == intervals(counts, 5) != intervals(counts, 6)


def test_intervals_do_not_depend_on_how_many_resamples_are_drawn_at_a_time(monkeypatch):
    counts = span_counts(random_rows(random.Random(1), 9, 2, True), random_rows(random.Random(1), 9, 2, True), 2)
    whole = intervals(counts, 5)
    monkeypatch.setattr("evokd_data.tasks.bootstrap.BLOCK_CELLS", 50)
    assert intervals(counts, 5) == whole
