"""Marks come back as the spans they were made from, and an answer that is not the text is refused by a word."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evokd_data.records import Span
from evokd_data.tasks import marking

TYPES = ("artist", "music item", "PER")
HOSTILE = st.text(
    st.sampled_from("ab Z_9[]\\:'\"\n\t\r東京서울éं\u0301\u200d👩🏽ไทย\x00\x1c\x85\u2028\u00a0"), max_size=24
) | st.sampled_from(
    [
        "see [artist: x] and [1]",
        "a]]b [[ \\[ \\] \\\\",
        "[artist: ",
        "]",
        "\\",
        " \n ",
        "",
        'say "hi" \\n \\x41',
        "add this to Q: [PER: A\\]",
    ]
)


@st.composite
def marked_texts(draw):
    """A text and spans on some of its words, none within another."""
    text = draw(st.text(max_size=40) | HOSTILE)
    edges = draw(st.lists(st.integers(0, len(marking.word_offsets(text))), max_size=8, unique=True).map(sorted))
    offsets, spans = marking.word_offsets(text), []
    for first, after in zip(edges[::2], edges[1::2], strict=False):
        start, end = offsets[first][0], offsets[after - 1][1]
        spans.append(Span(start, end, draw(st.sampled_from(TYPES)), text[start:end]))
    return text, tuple(spans)


@pytest.mark.slow
@given(marked_texts())
@settings(max_examples=500)
def test_spans_come_back_as_they_were_marked(case):
    text, spans = case
    assert marking.read(marking.mark(text, spans), text, TYPES) == spans


@pytest.mark.slow
@given(marked_texts())
@settings(max_examples=200)
def test_the_grammar_allows_every_marking(case):
    xgrammar = pytest.importorskip("xgrammar")
    text, spans = case
    if not marking.word_offsets(text):
        return
    grammar = xgrammar.Grammar.from_ebnf(marking.grammar(text, TYPES))
    assert xgrammar.testing._is_grammar_accept_string(grammar, marking.mark(text, spans))


@pytest.mark.slow
@given(marked_texts(), st.data())
@settings(max_examples=200)
def test_an_answer_that_the_grammar_forbids_gives_no_span_that_is_not_in_the_text(case, data):
    text, spans = case
    answer = marking.mark(text, spans)
    at = data.draw(st.integers(0, len(answer)))
    broken = answer[:at] + data.draw(HOSTILE) + answer[at + data.draw(st.integers(0, 3)) :]
    try:
        read_spans = marking.read(broken, text, TYPES)
    except ValueError as error:
        assert re.fullmatch("altered|cut|type|nested|empty|word|ambiguous", str(error))
    else:
        assert all(span.surface == text[span.start : span.end] and span.surface.strip() for span in read_spans)
        assert all(left.end <= right.start for left, right in pairwise(read_spans))
        assert marking.read(marking.mark(text, read_spans), text, TYPES) == read_spans


def test_words_are_where_spans_may_end():
    def cut(text: str) -> list[str]:
        return [text[start:end] for start, end in marking.word_offsets(text)]

    assert cut("New York's R&B") == ["New", "York", "'", "s", "R", "&", "B"]
    assert cut("東京 に") == ["東", "京", "に"]
    assert cut("서울에서") == ["서", "울", "에", "서"]
    assert cut("cafe\u0301 नमस्ते") == ["cafe\u0301", "नमस्ते"]
    assert cut("👩\u200d👩 \n") == ["👩\u200d👩"]
    assert cut("") == []


def test_a_marked_text_reads_like_the_text():
    text = "play around the world by daft punk"
    spans = (Span(5, 21, "track", "around the world"), Span(25, 34, "artist", "daft punk"))
    assert marking.mark(text, spans) == "play [track: around the world] by [artist: daft punk]"


def test_white_space_around_the_text_is_left_out_and_does_not_move_spans():
    text = "  daft punk\n"
    spans = (Span(2, 11, "artist", "daft punk"),)
    assert marking.mark(text, spans) == "[artist: daft punk]"
    assert marking.read(" [artist: daft punk]\n", text, ("artist",)) == spans


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("play daft punk", "cut"),
        ("play [artist: daft punk now", "cut"),
        ("play [artist: daft", "cut"),
        ("", "cut"),
        ("play [artist: Daft Punk] now", "altered"),
        ("play [artist: daft punk] now!", "altered"),
        ("Sure! play [artist: daft punk] now", "altered"),
        ("play [singer: daft punk] now", "type"),
        ("play [artist: daft [track: punk]] now", "nested"),
        ("play [artist: ]daft punk now", "empty"),
        ("play [artist: da]ft punk now", "word"),
        ("play[artist:  daft punk] now", "word"),
        ("play [artist: daft punk]] now", "altered"),
    ],
)
def test_an_answer_that_is_not_the_text_is_refused_by_a_word(answer, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        marking.read(answer, "play daft punk now", ("artist", "track"))


def test_bare_brackets_of_a_teacher_without_a_grammar_are_forgiven_when_they_mean_one_thing():
    text = "see [1] by Ann \\o/"
    assert marking.read("see [1] by [PER: Ann] \\o/", text, TYPES) == (Span(11, 14, "PER", "Ann"),)
    for answer in ("see [PER: [1]] by Ann \\o/", "see [PER: [1] by Ann] \\o/"):
        with pytest.raises(ValueError, match="ambiguous"):
            marking.read(answer, text, TYPES)
    with pytest.raises(ValueError, match="ambiguous"):
        marking.read("[PER: Ann]", "[PER: Ann]", TYPES)
    assert marking.read("\\[PER: Ann\\]", "[PER: Ann]", TYPES) == ()


@pytest.mark.parametrize("span", [(0, 5, "word"), (0, 3, "word"), (5, 4, "word")])
def test_a_span_off_the_words_cannot_be_marked(span):
    start, end, reason = span
    text = "play daft punk"
    with pytest.raises(ValueError, match=reason):
        marking.mark(text, (Span(start, end, "artist", text[start:end]),))


def test_spans_that_overlap_or_moved_cannot_be_marked():
    text = "play daft punk"
    with pytest.raises(ValueError, match="overlap"):
        marking.mark(text, (Span(0, 9, "PER", "play daft"), Span(5, 14, "PER", "daft punk")))
    with pytest.raises(ValueError, match="moved"):
        marking.mark(text, (Span(0, 4, "PER", "daft"),))


@pytest.mark.parametrize("type_", ["", " artist", "a:b", "a]b", "a\\", "a\nb"])
def test_a_type_that_could_not_be_told_from_its_mark_is_refused(type_):
    with pytest.raises(ValueError, match="cannot be a type"):
        marking.grammar("play", (type_,))


def test_nothing_can_be_marked_in_an_empty_text():
    with pytest.raises(ValueError, match="empty"):
        marking.grammar(" \n", TYPES)
    assert marking.mark(" ", ()) == ""
    assert marking.read("", " ", TYPES) == ()


def test_the_grammar_grows_with_the_text_and_no_faster():
    short, long = (len(marking.grammar("daft punk " * many, TYPES)) for many in (10, 100))
    assert long < 12 * short
