"""Offsets of spans in units other than characters (code points), and which unit a row's offsets are in.

JavaScript and Java count UTF-16 units: a character beyond U+FFFF, an emoji or a rare Chinese one, is two. Some programs count
the bytes of UTF-8, some grapheme clusters, of which a flag is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from evokd_data.tasks import Unit

UNITS: tuple[Unit, ...] = ("characters", "utf-16", "bytes", "graphemes")

Pair = tuple[int, int]
"""Start and end of a span."""


def in_characters(text: str, pairs: Sequence[Pair], unit: Unit) -> list[Pair] | None:
    """Offsets that count `unit`, as offsets that count characters; None when one lies outside the text or in a character."""
    if unit == "characters":
        return list(pairs) if all(0 <= start < end <= len(text) for start, end in pairs) else None
    characters = {offset: index for index, offset in enumerate(_offsets(text, unit))}
    if unit == "graphemes":
        characters = dict(enumerate(_offsets(text, unit)))
    converted = [(characters.get(start, -1), characters.get(end, -1)) for start, end in pairs]
    return converted if all(0 <= start < end for start, end in converted) else None


def _offsets(text: str, unit: Unit) -> Iterator[int]:
    """In UTF-16 units and bytes: the offset of each character, and of the text's end. For graphemes: the character at which
    each begins, and the text's length."""
    match unit:
        case "utf-16":
            yield from accumulate((2 if character > "\uffff" else 1 for character in text), initial=0)
        case "bytes":
            yield from accumulate((len(character.encode()) for character in text), initial=0)
        case _:
            import regex

            yield from (match.start() for match in regex.finditer(r"\X", text))
            yield len(text)


def length(text: str, unit: Unit) -> int:
    """The length of the text in the unit."""
    offsets = list(_offsets(text, unit)) if unit != "characters" else [len(text)]
    return len(offsets) - 1 if unit == "graphemes" else offsets[-1]


def may_differ(text: str) -> bool:
    """Whether offsets in characters and in UTF-16 units, the two units in common use, differ in this text."""
    return any(character > "\uffff" for character in text)


def fitting(text: str, pairs: Sequence[Pair], fits: Callable[[Sequence[Pair]], bool]) -> list[Unit]:
    """The units in which the offsets lie within the text and the spans fit, in the order of UNITS."""
    result: list[Unit] = []
    for unit in UNITS:
        converted = in_characters(text, pairs, unit)
        if converted is not None and fits(converted):
            result.append(unit)
    return result
