"""The card of a repository as HTML: its Markdown rendered, its pictures inside the page.

A card is a stranger's text. HTML in it stays text, links lead to http or into the repository, and pictures come from the repository
alone, so that to look at a page tells nobody of it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from posixpath import normpath
from urllib.parse import quote, unquote

MAX_CHARACTERS = 200_000
MAX_PICTURE_BYTES = 1_000_000
PICTURES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}

_YAML_BLOCK = re.compile(r"\A\ufeff?---[ \t]*\r?\n.*?^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|//|#|/", re.IGNORECASE)


def rendered_card(readme: str, files_url: str, read: Callable[[str], bytes | None]) -> str:
    """The HTML of a README without its YAML block; at most MAX_CHARACTERS of it.

    `files_url`: the address below which the repository's files are. `read`: a path in the repository -> its content, or None.
    """
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    text = _YAML_BLOCK.sub("", readme, count=1)[:MAX_CHARACTERS]
    tokens = markdown.parse(text)
    for token in (child for block in tokens for child in block.children or ()):
        if token.type == "image":
            token.attrs["src"] = _picture(str(token.attrs.get("src", "")), read)
        elif token.type == "link_open":
            link = str(token.attrs.get("href", ""))
            token.attrs["href"] = link if _ABSOLUTE.match(link) else f"{files_url}/{link}"
            token.attrs["rel"] = "noreferrer"
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def _picture(source: str, read: Callable[[str], bytes | None]) -> str:
    """A picture of the repository as a data URL; "" for any other."""
    path = normpath(unquote(source))
    kind = PICTURES.get(path[path.rfind(".") :].lower())
    if kind is None or _ABSOLUTE.match(source) or path.startswith(".."):
        return ""
    content = read(path)
    if content is None or len(content) > MAX_PICTURE_BYTES:
        return ""
    return f"data:{kind};base64,{quote(base64.b64encode(content).decode(), safe='/+=')}"
