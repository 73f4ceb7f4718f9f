"""What mkdocs does with the pages: README.md is the first page, and links to files that are no pages become plain words."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
IMAGE = re.compile(r"(!\[[^\]]*\]\()docs/")


def on_files(files: Any, config: Any) -> Any:
    """Add README.md as index.md."""
    from mkdocs.structure.files import File

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=IMAGE.sub(r"\1", LINK.sub(_from_root, text))))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that leave docs/, or name a folder or a file of another kind, keep their words alone."""
    folder = PurePosixPath(page.file.src_uri).parent

    def rewritten(match: re.Match[str]) -> str:
        path, _, _ = match[2].partition("#")
        target = _normal(folder / path)
        is_page = target.endswith(".md")  # one that is not there stays a link, which fails the build
        return match[0] if is_page or files.get_file_from_path(target) is not None else _words(match)

    return LINK.sub(rewritten, markdown)


def _from_root(match: re.Match[str]) -> str:
    """A link of README.md as one of docs/index.md."""
    path = match[2]
    return f"[{match[1]}]({path.removeprefix('docs/')})" if path.startswith("docs/") else _words(match)


def _words(match: re.Match[str]) -> str:
    words = match[1]
    return words if "`" in words or " " in words else f"`{words}`"


def _normal(path: PurePosixPath) -> str:
    """The path below docs/ without `..`; "" for one that leaves it."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
