"""Any storage that fsspec knows, opened so that a person can act on what goes wrong."""

from __future__ import annotations

import re
from typing import Any

from evokd_data.errors import EvokdError


def open_url(setting: str, url: str, error: type[EvokdError]) -> tuple[Any, str]:
    """The file system of a folder or URL, and the path in it, without "/" at its end. Raises `error`, naming `setting`."""
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(url)
    except Exception as raised:  # no such protocol, its package is missing, or what that raises
        said = " ".join(f"{type(raised).__name__}: {raised}".split())[:300]
        raise error(
            f"{setting} {shown(url)}: cannot be opened ({said}); give a folder or a URL such as s3://bucket/folder"
        ) from None
    return files, path.rstrip("/")


def shown(url: str) -> str:
    """The URL without what only its owner may know."""
    return re.sub("//[^/@]*@", "//", url).rstrip("/")
