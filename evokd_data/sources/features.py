"""Class numbers in the columns of a data set, as the names of the classes.

`datasets` describes columns as JSON, on the Hub and in the metadata of Arrow and Parquet files that it writes:

    {"label": {"names": ["negative", "positive"], "_type": "ClassLabel"},
     "ner_tags": {"feature": {"names": ["O", "B-PER", ...], "_type": "ClassLabel"}, "_type": "List"},
     "spans": [{"start": {"dtype": "int32", "_type": "Value"}, "type": {"names": [...], "_type": "ClassLabel"}}]}

A list is also a list with one element, or a "Sequence"; a struct is an object without "_type".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evokd_data.tasks import UnknownClass

Decode = Callable[[Any], Any]

IGNORED = -100
"""The number that training code gives to words without a tag of their own."""


def decoder(features: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function that puts names in place of class numbers in a row, at every depth.

    A number without a class becomes an UnknownClass, because a column whose labels nobody reads may hold anything. Among the
    tags of a text, -100 becomes "O" where "O" is a class.
    """
    columns = {name: decode for name, feature in features.items() if (decode := _decode(feature)) is not None}
    return lambda row: {name: columns[name](value) if name in columns else value for name, value in row.items()}


def _decode(feature: Any, in_list: bool = False) -> Decode | None:
    """The function for values of a feature; None when it holds no classes."""
    if isinstance(feature, list) and len(feature) == 1:
        return _of_list(feature[0])
    if not isinstance(feature, Mapping):
        return None
    match feature.get("_type"):
        case "ClassLabel":
            return _of_class(feature.get("names") or (), in_list)
        case "List" | "LargeList" | "Sequence":
            return _of_list(feature.get("feature"))
        case str():
            return None
    fields = {name: decode for name, inner in feature.items() if (decode := _decode(inner, in_list)) is not None}
    if not fields:
        return None

    def struct(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: fields[name](item) if name in fields else item for name, item in value.items()}

    return struct


def _of_class(names: Sequence[str], in_list: bool) -> Decode:
    classes = tuple(names)
    ignored = in_list and "O" in classes

    def name(value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if 0 <= value < len(classes):
            return classes[value]
        return "O" if ignored and value == IGNORED else UnknownClass(value, classes)

    return name


def _of_list(inner: Any) -> Decode | None:
    decode = _decode(inner, in_list=True)
    if decode is None:
        return None

    def items(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if isinstance(value, Mapping) and isinstance(
            inner, Mapping
        ):  # `Sequence` of a struct: stored as a struct of lists
            columns = {name: _of_list(field) for name, field in inner.items()}
            return {name: column(items) if (column := columns.get(name)) else items for name, items in value.items()}
        return value

    return items
