"""Values as JSON inside an HTML page: nothing in them can end the script element, or act on a reader's screen."""

from __future__ import annotations

import json
import math
from typing import Any

from evokd_data.printable import printable

ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)  # fmt: skip


def neutralised(value: Any) -> Any:
    r"""The value with every control character of its texts as visible characters, such as \u202e.

    Numbers are rounded to 6 decimals; those that JSON has no form for become None.
    """
    match value:
        case str():
            return printable(value)
        case float():
            return round(value, 6) if math.isfinite(value) else None
        case dict():
            return {printable(str(key)): neutralised(item) for key, item in value.items()}
        case list() | tuple():
            return [neutralised(item) for item in value]
    return value


def script_json(value: Any) -> str:
    """JSON for a script element of type application/json. No character of it is markup."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(ESCAPES)


def encoded_size(value: Any) -> int:
    """The bytes that the value takes on the page."""
    return len(script_json(neutralised(value)).encode()) + 1
