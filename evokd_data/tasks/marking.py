"""Spans as marks in the text itself, and a grammar that lets a teacher write nothing else.

    text    play around the world by daft punk
    marked  play [track: around the world] by [artist: daft punk]

A teacher that answers with a list of strings can invent them, and "A A" does not say which A is meant. Marks avoid both:
under the grammar of one text, each step of the answer is the text's next word, the opening of a mark, or its end.

A mark begins and ends where a word does. It holds at least one word, and no other mark. A word is a run of letters, digits
and underscores, or one other character that is not white space. Where a script does not separate its words (Chinese,
Japanese, Thai, Lao, Burmese, Khmer), or joins particles to them (Korean), each character with its combining marks is a
word. So "New York's" is four words, and 서울에서 is four words: a span may end before the particle.

Brackets and backslashes of the text itself are written with a backslash before them, so that every marked text can be read
in one way only. White space around the text is left out of the answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from evokd_data.records import Span
from evokd_data.writing_systems import CHARACTER_IS_WORD

_COMBINING = "\u0300"  # stands for every combining mark, because `re` has no class for them
_JOINED = f"{_COMBINING}\u200d"  # a combining mark, and the zero-width joiner
_WORD = re.compile(rf"(?:[^\W{CHARACTER_IS_WORD}][{_JOINED}]*)+|\S(?:[{_JOINED}]|(?<=\u200d)\S)*")
_SPECIAL = re.compile(r"[\[\]\\]")
_PLAIN = re.compile(r"[^\[\]\\]+")
_UNKNOWN_MARK = re.compile(r"\[[^\[\]\\:]+: ")
_CHARACTER = str.maketrans(
    {
        # After a code the literal ends and another begins: otherwise xgrammar reads the next letters as further digits.
        **{chr(code): f'\\x{code:02x}" "' for code in (*range(32), 127)},
        '"': r"\"",
        "\\": r"\\",
    }
)


def word_offsets(text: str) -> list[tuple[int, int]]:
    """The characters [start, end) of each word of the text, in order. Spans begin at a word's start and end at a word's end."""
    characters = text
    if not text.isascii():
        characters = "".join(_COMBINING if unicodedata.category(char).startswith("M") else char for char in text)
    return [match.span() for match in _WORD.finditer(characters)]


def grammar(text: str, types: Sequence[str]) -> str:
    """EBNF, in the dialect of xgrammar and llama.cpp, of all the ways to mark `text` with spans of these types.

    Two rules per word: `o7` continues before word 7 outside a mark, `i7` inside one. The grammar's size is linear in the
    text's. Raises ValueError for an empty text, and for a type whose name could not be distinguished from the mark's syntax.
    """
    offsets = word_offsets(text)
    if not offsets:
        raise ValueError("empty")
    if not types:
        raise ValueError("no types")
    _check(types)
    lines = ["root ::= o0", f'open ::= "[" ({" | ".join(_literal(type_) for type_ in types)}) ": "']
    previous_end = offsets[0][0]
    for index, (start, end) in enumerate(offsets):
        gap, word = text[previous_end:start], _escape(text[start:end])
        outside, inside = (f" o{index + 1}", f" i{index + 1}") if index + 1 < len(offsets) else ("", ' "]"')
        before = f"{_literal(gap)} " if gap else ""
        lines.append(f"o{index} ::= {_literal(gap + word)}{outside} | {before}open {_literal(word)}{inside}")
        if index:
            lines.append(f'i{index} ::= "]" o{index} | {_literal(gap + word)}{inside}')
        previous_end = end
    return "\n".join(lines) + "\n"


def mark(text: str, spans: Sequence[Span]) -> str:
    """The text with its spans marked, in the form that the grammar allows.

    Raises ValueError: "moved" when a surface differs from the text at its offsets, "overlap", "word" when a span does not
    begin and end where words do.
    """
    _check([span.type for span in spans])
    offsets = word_offsets(text)
    starts, ends = {start for start, _ in offsets}, {end for _, end in offsets}
    parts, previous_end = [], offsets[0][0] if offsets else len(text)
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if text[span.start : span.end] != span.surface:
            raise ValueError("moved")
        if span.start not in starts or span.end not in ends or span.start >= span.end:
            raise ValueError("word")
        if span.start < previous_end:
            raise ValueError("overlap")
        parts += [_escape(text[previous_end : span.start]), f"[{span.type}: {_escape(span.surface)}]"]
        previous_end = span.end
    return "".join([*parts, _escape(text[previous_end : offsets[-1][1]] if offsets else "")])


def read(answer: str, text: str, types: Sequence[str]) -> tuple[Span, ...]:
    """The spans marked in `answer`, in order; see `read_marks`."""
    return tuple(span for span, _ in read_marks(answer, text, types))


def read_marks(answer: str, text: str, types: Sequence[str]) -> list[tuple[Span, tuple[int, int]]]:
    """The spans marked in `answer`, in order, each with the characters [start, end) of its mark in the answer.

    Every answer that the grammar allows is read back as the same spans. A teacher without a grammar may write the text's
    own brackets and backslashes without a backslash; this is accepted where it has one meaning only.

    Raises ValueError with one word: "altered" when the answer is not the text, "cut" when it ends too early, "type" for a
    mark of an unknown type, "nested" for a mark in a mark, "empty" for a mark around nothing, "word" for a mark that does
    not begin and end where words do, "ambiguous" for a bare bracket that could be the text's or a mark's.
    """
    offsets = word_offsets(text)
    starts, ends = {start for start, _ in offsets}, {end for _, end in offsets}
    opening = re.compile(rf"\[({'|'.join(re.escape(type_) for type_ in sorted(types, key=len, reverse=True))}): ")
    stripped = len(answer) - len(answer.lstrip())
    answer = answer.strip()
    position, text_end = (offsets[0][0], offsets[-1][1]) if offsets else (0, 0)  # in `text`
    index = 0  # in `answer`
    marks: list[tuple[Span, tuple[int, int]]] = []
    open_type, open_start, open_index = "", -1, 0
    while index < len(answer):
        plain = _PLAIN.match(answer, index)
        if plain and text.startswith(plain[0], position, text_end):  # most of the text, in long steps
            index, position = plain.end(), position + len(plain[0])
            continue
        mark_open = opening.match(answer, index) if types else None
        character = text[position] if position < text_end else ""
        escaped = answer[index + 1 : index + 2] if answer[index] == "\\" else ""
        if escaped and _SPECIAL.match(escaped) and escaped == character:
            index, position = index + 2, position + 1
        elif mark_open and character == "[" and answer[mark_open.end() : mark_open.end() + 1] != "\\":
            raise ValueError("ambiguous")
        elif mark_open:
            if open_start >= 0:
                raise ValueError("nested")
            open_type, open_start, open_index, index = mark_open[1], position, index, mark_open.end()
        elif answer[index] == "]" and open_start >= 0:
            next_open = opening.match(answer, index + 1)
            if character == "]" and answer[next_open.end() if next_open else index + 1 :][:1] != "\\":
                raise ValueError("ambiguous")
            if open_start == position:
                raise ValueError("empty")
            if open_start not in starts or position not in ends:
                raise ValueError("word")
            span = Span(open_start, position, open_type, text[open_start:position])
            marks.append((span, (open_index + stripped, index + 1 + stripped)))
            open_start, index = -1, index + 1
        elif answer[index] == character:
            index, position = index + 1, position + 1
        else:
            raise ValueError("type" if _UNKNOWN_MARK.match(answer, index) else "altered")
    if open_start >= 0 or position < text_end:
        raise ValueError("cut")
    return marks


def _check(types: Sequence[str]) -> None:
    for type_ in types:
        if not type_ or type_ != type_.strip() or not type_.isprintable() or set(type_) & set("[]\\:"):
            raise ValueError(f"{type_!r} cannot be a type's name in a mark")


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _literal(text: str) -> str:
    """What the teacher must write for `text`, as a terminal of the grammar."""
    return f'"{text.translate(_CHARACTER)}"'
