"""Remote storage: any folder or URL that fsspec can open, with errors that tell a user what to do."""

from __future__ import annotations

from typing import Any

from evokd_data.errors import EvokdError
from evokd_data.redaction import redact


def open_url(setting: str, url: str, error: type[EvokdError]) -> tuple[Any, str]:
    """The fsspec file system of a folder or URL, and the path in it without a final "/".

    Raises `error`, which names `setting`, when the URL cannot be opened.
    """
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(url)
    except Exception as raised:  # an unknown protocol, a missing package, or any error of that package
        reason = redact(" ".join(f"{type(raised).__name__}: {raised}".split()))[:300]
        raise error(
            f"{setting} {without_credentials(url)}: cannot be opened ({reason}); "
            "give a folder or a URL such as s3://bucket/folder"
        ) from None
    return files, path.rstrip("/")


def without_credentials(url: str) -> str:
    """The URL without secrets and final "/", for messages."""
    return redact(url).rstrip("/")
