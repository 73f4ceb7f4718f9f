"""Foreign text as a terminal may show it. Standard library only.

A teacher, a server or a stranger's repository can send escape sequences that move the cursor, change the window's title or hide
what stands before them, and marks that reverse the order of letters. Printed, each of them becomes its escape, as in JSON.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but for tab and line feed
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # directions, invisible characters, line separators
    "\ud800-\udfff"  # halves of pairs, which no terminal can show
    "\U000e0000-\U000e007f]"  # tags, which are invisible
)


def printable(text: str) -> str:
    r"""The text with each control character as its JSON escape, such as \u001b. In JSON text the meaning stays the same."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(_escape, text)


def printable_line(text: str) -> str:
    """The same on one line: also line feeds and tabs are escaped."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
