"""Words, offsets and tags: whatever can be marked can be learned and comes back; every dialect of tags is read."""

from __future__ import annotations

import random
import string
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.records import Span
from evokd_data.tasks import iob, marking, spans

TYPES = ("person", "place", "B-52")
HOSTILE = [
    "play around the world by daft punk",
    "Paris's mayor didn't say “no”",
    "我爱北京天安门 and 東京 Tower",
    "ผมอยู่กรุงเทพ ครับ",
    "서울에서 부산까지",
    "👨‍👩‍👧 met 🧑🏽‍🚀 in 🇫🇷!",
    "cafe\u0301 au\u0301x fe\u0300ves",
    "שָׁלוֹם ירושלים، مرحبا",
    "a\u200bb c\u200dd \ufeffe",
    "tab\there\nand\r\nthere\u00a0now\u3000wide",
    "[x] [person: y] \\ [[",
    "x  x x   x",
    "a_b-c d.e,f;g 1,000.50$",
    "   ",
    "हिन्दी में दिल्ली",
]

texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=40), st.text("ab 我京ก่\u0301\u200d[]\\🇫👩\n\t", max_size=30)
)


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, tuple[Span, ...]]:
    """A text and a valid annotation of it."""
    text = draw(texts)
    offsets = marking.word_offsets(text)
    edges = sorted(draw(st.sets(st.integers(0, len(offsets)), max_size=8)))
    annotation = []
    for first, last in pairwise(edges):
        if draw(st.booleans()):
            start, end = offsets[first][0], offsets[last - 1][1]
            annotation.append(Span(start, end, draw(st.sampled_from(TYPES)), text[start:end]))
    return text, tuple(span for span in annotation if span.surface == span.surface.strip())


@given(texts)
def test_words_cover_all_but_white_space_in_order(text):
    offsets = marking.word_offsets(text)
    assert "".join("".join(text[start:end] for start, end in offsets).split()) == "".join(text.split())
    assert all(start < end for start, end in offsets)
    assert all(end <= start for (_, end), (start, _) in pairwise(offsets))


@given(annotated())
def test_spans_become_tags_and_come_back(example):
    text, annotation = example
    offsets = marking.word_offsets(text)
    tagged = iob.tags(annotation, offsets)
    assert len(tagged) == len(offsets)
    assert set(tagged) <= set(iob.classes(TYPES))
    assert iob.spans(iob.runs(tagged), offsets, text) == annotation
    assert spans.fault(text, annotation, TYPES) == ""


def test_neighbouring_spans_of_one_type_stay_apart():
    text = "ann bob"
    annotation = (Span(0, 3, "person", "ann"), Span(4, 7, "person", "bob"))
    assert iob.tags(annotation, marking.word_offsets(text)) == ["B-person", "B-person"]


@pytest.mark.parametrize("span", [Span(0, 2, "person", "an"), Span(1, 3, "person", "nn"), Span(3, 3, "person", "")])
def test_a_span_within_a_word_has_no_tags(span):
    with pytest.raises(ValueError, match="where words do"):
        iob.tags([span], marking.word_offsets("ann bob"))


def test_overlapping_spans_have_no_tags():
    with pytest.raises(ValueError, match="'bob' overlaps"):
        iob.tags([Span(0, 7, "person", "ann bob"), Span(4, 7, "person", "bob")], marking.word_offsets("ann bob"))


def encode(runs, length, dialect):
    """Tags of runs of words in a dialect, written from its definition and not from our reader."""
    result = ["O"] * length
    before = {last: type_ for _, last, type_ in runs}
    for first, last, type_ in runs:
        middle = {"BIOES": ("B", "I", "E", "S"), "BILOU": ("B", "I", "L", "U"), "BMEWO": ("B", "M", "E", "W")}
        begin, inside, end, single = middle.get(dialect, ("B", "I", "I", "B"))
        if dialect == "IOB1":
            begin = single = "B" if before.get(first) == type_ else "I"
        names = [begin] + [inside] * (last - first - 2) + [end] if last - first > 1 else [single]
        result[first:last] = [f"{name}-{type_}" for name in names]
    return result


@given(st.randoms(use_true_random=False), st.sampled_from(["IOB1", "IOB2", "BIOES", "BILOU", "BMEWO"]))
def test_every_dialect_is_read(chance: random.Random, dialect: str):
    runs, position = [], 0
    while position < 12:
        length = chance.randint(1, 3)
        if chance.random() < 0.6:
            runs.append((position, position + length, chance.choice(TYPES)))
        position += length
    assert iob.runs(encode(runs, 15, dialect)) == runs


@pytest.mark.parametrize(
    ("tags", "runs"),
    [
        (["O", "I-a", "I-a"], [(1, 3, "a")]),
        (["B-a", "I-b", "I-b"], [(0, 1, "a"), (1, 3, "b")]),
        (["I-a", "O", "I-a"], [(0, 1, "a"), (2, 3, "a")]),
        (["S-a", "I-a"], [(0, 1, "a"), (1, 2, "a")]),
        (["E-a", "E-a"], [(0, 1, "a"), (1, 2, "a")]),
        (["B-B-x", "I-B-x"], [(0, 2, "B-x")]),
        ([], []),
    ],
)
def test_tags_that_go_on_where_nothing_is_open_begin_a_run(tags, runs):
    assert iob.runs(tags) == runs


@pytest.mark.parametrize("tag", ["", "o", "B", "B-", "B- ", "b-per", "PER", "X-per", "B_per", "0"])
def test_what_is_no_tag_is_quoted(tag):
    assert not iob.is_tag(tag)
    with pytest.raises(ValueError, match="is no tag"):
        iob.runs(["O", tag])


def test_o_comes_first_among_the_classes():
    assert iob.classes(("a", "b")) == ("O", "B-a", "I-a", "B-b", "I-b")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["He", "said", ":", "no"], "He said : no"),
        (["我", "爱", "北京", "，", "你", "呢", "？"], "我爱北京，你呢？"),
        (["用", "iPhone", "打", "电话"], "用 iPhone 打电话"),
        (["ผม", "อยู่", "กรุงเทพ"], "ผมอยู่กรุงเทพ"),
        (["서울에서", "부산까지"], "서울에서 부산까지"),
        (["ก", "\u0e48อ"], "ก \u0e48อ"),
        ([" a ", "b c"], "a b c"),
        ([], ""),
    ],
)
def test_tokens_are_joined_as_their_script_is_written(tokens, text):
    assert iob.join_tokens(tokens)[0] == text


tokens = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=6),
        st.text("a我京กอ่\u0301\u200d，😀", min_size=1, max_size=4),
        st.sampled_from([*string.punctuation, "，", "。", "\u200d", "\u200b", "\u0301"]),
    ).filter(str.strip),
    max_size=12,
)


@given(tokens)
def test_joined_tokens_are_where_they_are_said_to_be_and_words_end_where_they_do(given_tokens):
    text, offsets = iob.join_tokens(given_tokens)
    assert [text[start:end] for start, end in offsets] == [token.strip() for token in given_tokens]
    word_offsets = marking.word_offsets(text)
    starts, ends = {start for start, _ in word_offsets}, {end for _, end in word_offsets}
    assert all(start in starts and end in ends for start, end in offsets)
