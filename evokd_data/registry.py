"""Names to classes: each family has one table of its plugs, and a plug's module is imported only when it is used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module

from evokd_data.errors import RecipeError


def resolve(table: Mapping[str, str], name: str) -> type:
    """The class that the table's "module:Class" names. Raises RecipeError with the nearest name when `name` is not in the table."""
    if name not in table:
        raise RecipeError(f"{name!r} is unknown{nearest(name, table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)


def nearest(word: str, valid: Iterable[str]) -> str:
    """The end of an error message about a wrong word: the nearest valid word, or else the list of valid words."""
    names = sorted(valid)
    close = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names)}"
