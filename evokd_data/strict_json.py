"""JSON that means one thing: an object that has a key twice is refused, because every reader would take another one."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, which says in one line what is wrong."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    except RecursionError:
        raise ValueError("nested too deep; flatten it") from None


def elements(text: str) -> list[Any]:
    """The elements of the array that the text consists of. Raises ValueError, which names the element by its number from 1."""
    values: list[Any] = []
    position = _after_space(text, text.index("[") + 1)
    try:
        while not text.startswith("]", position):
            value, position = _DECODER.raw_decode(text, position)
            values.append(value)
            position = _after_space(text, position)
            if text.startswith(",", position):
                position = _after_space(text, position + 1)
                if not text.startswith("]", position):
                    continue
            elif text.startswith("]", position):
                break
            raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
    except json.JSONDecodeError as error:
        raise ValueError(f"element {len(values) + 1}: not JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"element {len(values) + 1}: nested too deep; flatten it") from None
    except ValueError as error:
        raise ValueError(f"element {len(values) + 1}: {error}") from None
    if text[position + 1 :].strip():
        raise ValueError(f"not JSON (more text after the array: {text[position + 1 :].strip()[:40]!r})")
    return values


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice; keep one")
    return table


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
