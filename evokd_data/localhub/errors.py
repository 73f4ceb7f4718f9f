"""Errors as the clients of the Hub understand them.

`X-Error-Code` decides which exception `huggingface_hub` raises. It must be a header, because the answer to HEAD has no body.
"""

from __future__ import annotations

from typing import Any


class HubError(Exception):
    """Answers a request with an error. `code` becomes `X-Error-Code`; `fields` are added to the JSON body."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}
        self.fields = fields or {}


def disk_full() -> HubError:
    """The answer when the disk has too little space left."""
    return HubError(507, "The Hub's disk is full: run `evokd-data hub gc` or free some space")


def bad_request(message: str, **fields: Any) -> HubError:
    """Status 400; `fields` are added to the JSON body."""
    return HubError(400, message, fields=fields)


def repo_not_found(*, anonymous: bool) -> HubError:
    """The same error for a missing repository and for a private one of others, so that nobody learns what exists."""
    return HubError(401 if anonymous else 404, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    """No branch, tag or commit of that name."""
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(message: str, commit: str | None = None) -> HubError:
    """No such file or folder. With `commit`, clients remember that the file does not exist at that commit."""
    return HubError(404, message, "EntryNotFound", headers={"X-Repo-Commit": commit} if commit else None)
