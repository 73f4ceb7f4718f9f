"""Spans as marks in the text itself, and a grammar under which a teacher can write nothing else.

    text    play around the world by daft punk
    marked  play [track: around the world] by [artist: daft punk]

A teacher that answers with a list of strings can invent them, and "A A" does not say which A is meant. Marks do neither:
under the grammar of one text, each step of the answer is the text's next word, the opening of a mark, or its end.

A mark begins and ends where a word does, holds at least one word, and no other mark. A word is a run of letters, digits
and underscores, or one other character that is not white space; where a script does not part its words (Chinese,
Japanese, Thai, Lao, Burmese, Khmer), or joins particles to them (Korean), each character with its combining marks is a
word. So "New York's" is three words, and 서울에서 four: a span may end before the particle.

Brackets and backslashes of the text itself are written with a backslash before them, so that every marked text has one
reading. White space around the text is left out of the answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from evokd_data.records import Span

_UNPARTED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_JOINED = "\u0300\u200d"  # any combining mark, and the zero-width joiner
_WORD = re.compile(rf"(?:[^\W{_UNPARTED}][{_JOINED}]*)+|\S(?:[{_JOINED}]|(?<=\u200d)\S)*")
_SPECIAL = re.compile(r"[\[\]\\]")
_PLAIN = re.compile(r"[^\[\]\\]+")
_CHARACTER = str.maketrans(
    {
        # A literal ends after a code and another begins: else xgrammar takes the letters that follow for more digits.
        **{chr(code): f'\\x{code:02x}" "' for code in (*range(32), 127)},
        '"': r"\"",
        "\\": r"\\",
    }
)


def words(text: str) -> list[tuple[int, int]]:
    """Where the words of a text are, in order; spans begin at one's start and end at one's end."""
    # `re` knows no class of combining marks: here one of them stands for all.
    marks = text
    if not text.isascii():
        marks = "".join("\u0300" if unicodedata.category(char).startswith("M") else char for char in text)
    return [match.span() for match in _WORD.finditer(marks)]


def grammar(text: str, types: Sequence[str]) -> str:
    """EBNF, in the dialect of xgrammar and llama.cpp, of all the ways to mark `text` with spans of these types.

    Two rules a word: `o7` goes on before word 7 outside a mark, `i7` inside one. Its size is linear in the text's.
    Raises ValueError for an empty text, and for a type that could not be told from what surrounds it in a mark.
    """
    places = words(text)
    if not places:
        raise ValueError("empty")
    if not types:
        raise ValueError("no types")
    _check(types)
    lines = ["root ::= o0", f'open ::= "[" ({" | ".join(_literal(type_) for type_ in types)}) ": "']
    after = places[0][0]
    for index, (start, end) in enumerate(places):
        gap, word = text[after:start], _escape(text[start:end])
        outside, inside = (f" o{index + 1}", f" i{index + 1}") if index + 1 < len(places) else ("", ' "]"')
        before = f"{_literal(gap)} " if gap else ""
        lines.append(f"o{index} ::= {_literal(gap + word)}{outside} | {before}open {_literal(word)}{inside}")
        if index:
            lines.append(f'i{index} ::= "]" o{index} | {_literal(gap + word)}{inside}')
        after = end
    return "\n".join(lines) + "\n"


def mark(text: str, spans: Sequence[Span]) -> str:
    """The text with its spans marked, as the grammar has it.

    Raises ValueError: "moved" when a surface is not what the text says there, "overlap", "word" when a span begins or
    ends elsewhere than a word does.
    """
    _check([span.type for span in spans])
    places = words(text)
    starts, ends = {start for start, _ in places}, {end for _, end in places}
    parts, after = [], places[0][0] if places else len(text)
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if text[span.start : span.end] != span.surface:
            raise ValueError("moved")
        if span.start not in starts or span.end not in ends or span.start >= span.end:
            raise ValueError("word")
        if span.start < after:
            raise ValueError("overlap")
        parts += [_escape(text[after : span.start]), f"[{span.type}: {_escape(span.surface)}]"]
        after = span.end
    return "".join([*parts, _escape(text[after : places[-1][1]] if places else "")])


def read(answer: str, text: str, types: Sequence[str]) -> tuple[Span, ...]:
    """The spans marked in `answer`, in order.

    Whatever the grammar allows is read as it was meant. A teacher without a grammar may leave the text's own brackets
    and backslashes bare; that is forgiven where it can mean one thing only.

    Raises ValueError, one word: "altered" when the answer is not the text, "cut" when it ends too early, "type" for a
    mark of an unknown type, "nested" for a mark in a mark, "empty" for a mark around nothing, "word" for one that begins
    or ends elsewhere than a word does, "ambiguous" for a bare bracket that could be the text's or a mark's.
    """
    places = words(text)
    starts, ends = {start for start, _ in places}, {end for _, end in places}
    opening = re.compile(rf"\[({'|'.join(re.escape(type_) for type_ in sorted(types, key=len, reverse=True))}): ")
    answer, place, last = answer.strip(), 0, 0
    if places:
        place, last = places[0][0], places[-1][1]
    spans: list[Span] = []
    type_, begun, at = "", -1, 0
    while at < len(answer):
        plain = _PLAIN.match(answer, at)
        if plain and text.startswith(plain[0], place, last):  # most of it, at a stride
            at, place = plain.end(), place + len(plain[0])
            continue
        found = opening.match(answer, at) if types else None
        here = text[place] if place < last else ""
        if answer[at] == "\\" and at + 1 < len(answer) and _SPECIAL.match(answer[at + 1]) and answer[at + 1] == here:
            at, place = at + 2, place + 1
        elif found and here == "[" and answer[found.end() : found.end() + 1] != "\\":
            raise ValueError("ambiguous")
        elif found:
            if begun >= 0:
                raise ValueError("nested")
            type_, begun, at = found[1], place, found.end()
        elif answer[at] == "]" and begun >= 0:
            following = opening.match(answer, at + 1)
            if here == "]" and answer[following.end() if following else at + 1 :][:1] != "\\":
                raise ValueError("ambiguous")
            if begun == place:
                raise ValueError("empty")
            if begun not in starts or place not in ends:
                raise ValueError("word")
            spans.append(Span(begun, place, type_, text[begun:place]))
            begun, at = -1, at + 1
        elif answer[at] == here:
            at, place = at + 1, place + 1
        else:
            raise ValueError("type" if re.match(r"\[[^\[\]\\:]+: ", answer[at:]) else "altered")
    if begun >= 0 or place < last:
        raise ValueError("cut")
    return tuple(spans)


def _check(types: Sequence[str]) -> None:
    for type_ in types:
        if not type_ or type_ != type_.strip() or not type_.isprintable() or set(type_) & set("[]\\:"):
            raise ValueError(f"{type_!r} cannot be a type's name in a mark")


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _literal(text: str) -> str:
    """What the teacher must write for `text`, as a terminal of the grammar."""
    return f'"{text.translate(_CHARACTER)}"'
