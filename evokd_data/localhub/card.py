"""Card metadata: the YAML block at the top of a README, checked in every commit and served as `cardData`."""

from __future__ import annotations

import datetime
import math
import re
from functools import lru_cache
from typing import Any

from evokd_data.localhub.limits import DEFAULT
from evokd_data.yaml_files import load_yaml

_BLOCK = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)


@lru_cache(maxsize=256)
def read_card(readme: str) -> tuple[dict[str, Any], str | None]:
    """The metadata as JSON values, and the problem with it or None. A README without a block has empty metadata."""
    if len(readme) > DEFAULT.card:
        return {}, f"README.md is larger than {DEFAULT.card} bytes"
    block = _BLOCK.match(readme)
    if block is None:
        return {}, None
    try:
        card = _json_value(load_yaml(block[1]), [DEFAULT.card_nodes])
    except (ValueError, RecursionError) as exc:
        return {}, f"invalid YAML in README.md: {exc}"
    if card is None:
        return {}, None
    if not isinstance(card, dict):
        return {}, "the YAML block of README.md must be a mapping"
    return card, None


def card_tags(card: dict[str, Any]) -> list[str]:
    """The tags that the Hub derives from card metadata, such as `license:mit`."""
    tags = [str(tag) for tag in _as_list(card.get("tags"))]
    for key in ("license", "language", "task_categories", "size_categories"):
        tags += [f"{key}:{value}" for value in _as_list(card.get(key))]
    return tags


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _json_value(value: Any, nodes_left: list[int]) -> Any:
    nodes_left[0] -= 1
    if nodes_left[0] < 0:
        raise ValueError(f"more than {DEFAULT.card_nodes} values")
    if isinstance(value, dict):
        return {str(key): _json_value(item, nodes_left) for key, item in value.items()}
    if isinstance(value, list | set | tuple):
        return [_json_value(item, nodes_left) for item in value]
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has neither infinities nor NaN
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
