"""Spans in a user's row, in the forms that files have them: read, located in the text, their offsets turned into characters.

[{"start": 0, "end": 2, "type": "ORG", "surface": "EU"}]      ours; the keys `label`, `text` are read like `type`, `surface`
[{"text": "EU", "type": "ORG"}]                               all occurrences of these words, see `spans.locate`
[[0, 2, "ORG"]], [{"start_offset": 0, "end_offset": 2, "label": "ORG"}]      doccano
[{"start": 0, "end": 2, "text": "EU", "labels": ["ORG"]}]     Label Studio
{"start": [0], "end": [2], "type": ["ORG"]}                   a list of structs as `datasets` stores it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evokd_data import strict_json
from evokd_data.records import Span
from evokd_data.tasks import UnknownClass, offsets, spans

FORMS = 'spans are a list of {"start", "end", "type"} or {"text", "type"}, empty when the text has none'


def as_list(value: Any) -> Any:
    """The list that the JSON in a cell of a csv file stands for; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return strict_json.loads(value)
        except ValueError:
            return value
    return value


def is_list(value: Any) -> bool:
    """Whether a cell holds a list, perhaps as JSON."""
    return isinstance(as_list(value), list)


def is_tag_like(value: Any) -> bool:
    """Whether an element of a list may be a tag, by name or number, rather than a span."""
    return not isinstance(value, Mapping | list | tuple)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One span as the row has it. `start` and `end` are unchecked; `written` is what messages quote."""

    type: Any
    start: Any
    end: Any
    surface: str | None
    written: Any


def parse(value: Any) -> list[Annotation]:
    """The annotations in a cell. An empty cell of a csv file has none. Raises ValueError with what is wrong."""
    if isinstance(value, str):
        if not value.strip():
            return []
        try:
            cell = strict_json.loads(value)
        except ValueError as error:
            remedy = "; write a list of spans" if str(error).startswith("not JSON") else ""
            raise ValueError(f"holds {value!r}: {error}{remedy}") from None
        return parse(cell)
    if isinstance(value, Mapping) and _is_columns(value):
        return parse([dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)])
    if not isinstance(value, list):
        raise ValueError(f"holds {value!r}; {FORMS}")
    return [_annotation(item, value) for item in value]


def _is_columns(value: Mapping[str, Any]) -> bool:
    """Whether this is a list of structs, stored as a struct of lists."""
    return bool(value) and all(isinstance(c, list) for c in value.values()) and len(set(map(len, value.values()))) == 1


def _annotation(item: Any, cell: Any) -> Annotation:
    if isinstance(item, list | tuple) and len(item) == 3 and isinstance(item[2], str):
        return Annotation(item[2], _whole(item[0]), _whole(item[1]), None, item)
    if not isinstance(item, Mapping):
        raise ValueError(f"holds {cell!r}; {FORMS}")
    type_ = item.get("type", item.get("label"))
    if type_ is None and isinstance(labels := item.get("labels"), list):
        if len(labels) != 1:
            raise ValueError(f"holds {dict(item)!r}; a span has one type here, keep one of its labels")
        type_ = labels[0]
    start, end = item.get("start", item.get("start_offset")), item.get("end", item.get("end_offset"))
    surface = item.get("surface", item.get("text"))
    return Annotation(type_, _whole(start), _whole(end), surface if isinstance(surface, str) else None, dict(item))


def _whole(offset: Any) -> Any:
    """An offset as an int where it is a whole number: a table with gaps in it makes floats of them."""
    return int(offset) if isinstance(offset, float) and offset.is_integer() else offset


def place(text: str, annotations: Sequence[Annotation], unit: offsets.Unit | None, types: Sequence[str]) -> list[Span]:
    """The annotations as spans of the text, whose types are the task's. `unit` is that of the offsets; None: characters, or what the spans' texts tell.

    Faults of spans that lie within the text are left to `spans.fault`. Raises ValueError with what is wrong.
    """
    surfaces = [(a.surface, a.type) for a in annotations if a.start is None and a.end is None and a.surface is not None]
    located = [a for a in annotations if not (a.start is None and a.end is None and a.surface is not None)]
    for annotation in located:
        if type(annotation.start) is not int or type(annotation.end) is not int:
            raise ValueError(_outside(annotation, text, unit or "characters"))
    pairs = [(annotation.start, annotation.end) for annotation in located]
    chosen = unit or _unit(text, located, pairs, types)
    converted = offsets.in_characters(text, pairs, chosen)
    wrong = converted is None or (unit is not None and not _fits(text, located, converted, types))
    if wrong and (hint := _other_unit(text, located, pairs, types, chosen)):
        raise ValueError(hint)
    if converted is None:
        for annotation, pair in zip(located, pairs, strict=True):
            if offsets.in_characters(text, [pair], chosen) is None:
                raise ValueError(_outside(annotation, text, chosen))
    result = _spans(text, located, converted or ())
    try:
        return [*result, *spans.locate(text, surfaces)]
    except ValueError as error:
        raise ValueError(
            f"{spans.REASONS[str(error)]}: {surfaces!r} in {text!r}; give start and end to say what is meant"
        ) from None


def _unit(
    text: str, located: Sequence[Annotation], pairs: Sequence[offsets.Pair], types: Sequence[str]
) -> offsets.Unit:
    """The unit of a row that does not say it: characters, unless the spans' own texts fit another.

    Raises ValueError where the spans fit in characters and in UTF-16 units, differ, and have no texts to tell.
    """
    with_surfaces = all(annotation.surface is not None for annotation in located)
    if not located or text.isascii():
        return "characters"
    if (with_surfaces or not offsets.may_differ(text)) and _fits(text, located, pairs, types):
        return "characters"  # the common case, without a look at other units
    units = offsets.fitting(text, pairs, lambda converted: _fits(text, located, converted, types))
    if "characters" in units:
        other = offsets.in_characters(text, pairs, "utf-16")
        if "utf-16" not in units or _spans(text, located, other or ()) == _spans(text, located, pairs):
            return "characters"
        raise ValueError(
            f"the offsets of {located[-1].written!r} may count characters ({_words(text, pairs)}) or UTF-16 units "
            f"({_words(text, other or ())}); set `offsets` to characters or utf-16 where the file is named, or give each "
            "span its text"
        )
    if units and with_surfaces:
        return units[0]
    if hint := _other_unit(text, located, pairs, types, "characters"):
        raise ValueError(hint)
    return "characters"


def _other_unit(
    text: str,
    located: Sequence[Annotation],
    pairs: Sequence[offsets.Pair],
    types: Sequence[str],
    unit: offsets.Unit,
) -> str:
    """The message for offsets that do not fit in `unit` and do in another one; "" when they fit in none."""
    if text.isascii():
        return ""
    units = offsets.fitting(text, pairs, lambda converted: _fits(text, located, converted, types))
    if not units or unit in units:
        return ""
    right = offsets.in_characters(text, pairs, units[0]) or ()
    return (
        f"the offsets of {located[-1].written!r} do not fit the text when they count {_plural(unit)}, and do when they count "
        f"{_plural(units[0])} ({_words(text, right)}); set `offsets: {units[0]}` where the file is named"
    )


def _fits(text: str, located: Sequence[Annotation], pairs: Sequence[offsets.Pair], types: Sequence[str]) -> bool:
    placed = {replace(span, type=types[0]) for span in _spans(text, located, pairs)}
    return not spans.fault(text, sorted(placed, key=lambda span: (span.start, span.end)), types)


def _spans(text: str, located: Sequence[Annotation], pairs: Sequence[offsets.Pair]) -> list[Span]:
    """The annotations as spans at these offsets, in characters. White space at their edges is left out: a mouse takes it along."""
    result = []
    for annotation, (start, end) in zip(located, pairs, strict=True):
        found = text[start:end]
        if annotation.surface in (None, found) and found.strip():
            start += len(found) - len(found.lstrip())
            end -= len(found) - len(found.rstrip())
            result.append(Span(start, end, annotation.type, text[start:end]))
        else:
            result.append(
                Span(start, end, annotation.type, found if annotation.surface is None else annotation.surface)
            )
    return result


def _outside(annotation: Annotation, text: str, unit: offsets.Unit) -> str:
    return f"span {annotation.written!r} needs start and end within the text's {offsets.length(text, unit)} {_plural(unit)}"


def _words(text: str, pairs: Sequence[offsets.Pair]) -> str:
    return ", ".join(repr(text[start:end]) for start, end in pairs)


def _plural(unit: offsets.Unit) -> str:
    return {"utf-16": "UTF-16 units", "bytes": "bytes of UTF-8", "graphemes": "grapheme clusters"}.get(unit, unit)


def first_wrong(values: Any) -> str:
    """A column that should hold a list of strings: what it holds, and what to do."""
    advice = "tokens, and tags by name, are lists of strings"
    if not isinstance(values, list):
        return f"{values!r}; {advice}"
    index, wrong = next((index, value) for index, value in enumerate(values) if not isinstance(value, str))
    if isinstance(wrong, UnknownClass):
        advice = "name a split that has labels"
    elif type(wrong) is int:
        advice += f"; say which tag each number is with label_map, e.g. {{{wrong}: O}}, where the file is named"
    shown = repr(values) if len(values) == 1 else f"{wrong!r} at place {index + 1} of {len(values)}"
    return f"{shown}; {advice}"
