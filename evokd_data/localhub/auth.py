"""The callers of the Hub, and their rights.

ROOT/tokens.json holds the hashes of tokens. While there is no such file and the server listens on loopback only, every
caller is the user `local`, who may do anything: the quickstart needs no token. Once the file exists, callers need a token,
also when the last one has been revoked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evokd_data.localhub.errors import HubError
from evokd_data.localhub.names import RepoId, check_repo_id, is_name
from evokd_data.localhub.root import Root, write_durably

ROLES = ("read", "write", "admin")


@dataclass(frozen=True)
class Token:
    """The record of a token. `id` names it for `revoke_token`; `sha256` is the hash by which it is recognised."""

    id: str
    user: str
    role: str
    sha256: str
    orgs: tuple[str, ...] = ()
    created: str = ""


@dataclass(frozen=True)
class Identity:
    """A caller. `read` sees private repositories of its namespaces, `write` also changes repositories there.

    `admin` does both in all namespaces. The namespaces of a user are its own name and its `orgs`.
    """

    user: str = ""
    role: str = "anonymous"
    orgs: tuple[str, ...] = field(default=())

    @property
    def anonymous(self) -> bool:
        """Whether the caller sent no token."""
        return self.role == "anonymous"

    def may_read(self, repo: RepoId, *, private: bool) -> bool:
        """Whether the caller sees the repository, which is `private` or not."""
        return not private or self._belongs(repo.namespace)

    def may_write(self, repo: RepoId) -> bool:
        """Whether the caller may create, change and delete the repository."""
        return self.role in ("write", "admin") and self._belongs(repo.namespace)

    def _belongs(self, namespace: str) -> bool:
        return self.role == "admin" or (not self.anonymous and namespace in (self.user, *self.orgs))


ANONYMOUS = Identity()
LOCAL = Identity(user="local", role="admin")


def add_token(path: Path, user: str, role: str = "write", orgs: tuple[str, ...] = ()) -> tuple[str, Token]:
    """A new token for the Hub at `path`: the secret, which is not stored, and its record.

    Raises ValueError for an unknown role, and HubError 400 for a name that is not valid.
    """
    for name in (user, *orgs):
        if not is_name(name):
            check_repo_id("datasets", name, "x")
    if role not in ROLES:
        raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
    root = Root(path).prepare()
    token = f"hub_{secrets.token_urlsafe(32)}"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    record = Token(secrets.token_hex(4), user, role, digest(token), tuple(orgs), created)
    with root.lock("tokens"):
        _write(root, [*list_tokens(path), record])
    return token, record


def list_tokens(path: Path) -> list[Token]:
    """The records of all tokens of the Hub at `path`, oldest first."""
    file = Root(path).tokens
    if not file.exists():
        return []
    return [Token(**{**row, "orgs": tuple(row["orgs"])}) for row in json.loads(file.read_bytes())["tokens"]]


def revoke_token(path: Path, token_id: str) -> Token:
    """Remove the token of that id and return its record. Raises KeyError if there is none."""
    root = Root(path)
    with root.lock("tokens"):
        tokens = list_tokens(path)
        revoked = next((token for token in tokens if token.id == token_id), None)
        if revoked is None:
            raise KeyError(token_id)
        _write(root, [token for token in tokens if token is not revoked])
    return revoked


def digest(token: str) -> str:
    """The sha256 of a token. A plain hash is enough, because 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _write(root: Root, tokens: list[Token]) -> None:
    rows: list[dict[str, Any]] = [asdict(token) for token in tokens]
    write_durably(root, root.tokens, json.dumps({"tokens": rows}, indent=1).encode())


class Authority:
    """Recognises callers by their tokens.

    `implicit`: the server listens on loopback only, so that `local` needs no token until tokens.json exists. `parent_token`
    is one more token of the user `local`.
    """

    def __init__(self, root: Root, *, implicit: bool, parent_token: str | None = None) -> None:
        self._root = root
        self._implicit = implicit
        self._parent = digest(parent_token) if parent_token else None
        self._stamp: tuple[int, int] | None = None
        self._identities: dict[str, Identity] = {}

    def needs_no_token(self) -> bool:
        """Whether every caller is the user `local`."""
        return self._implicit and not self._root.tokens.exists()

    def identify(self, header: str | None) -> Identity:
        """The caller who sent this Authorization header, ANONYMOUS without one. Raises HubError 401 for an unknown token."""
        if self.needs_no_token():
            return LOCAL
        token = _token_of(header) if header else None
        if token and self._parent and secrets.compare_digest(digest(token), self._parent):
            return LOCAL
        if token is None:
            return ANONYMOUS
        identity = self._read_identities().get(digest(token))
        if identity is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return identity

    def _read_identities(self) -> dict[str, Identity]:
        try:
            stat = self._root.tokens.stat()
        except FileNotFoundError:
            return {}
        stamp = (stat.st_mtime_ns, stat.st_ino)  # a change makes a new file: its inode differs where the time does not
        if stamp != self._stamp:
            rows = list_tokens(self._root.path)
            self._identities = {row.sha256: Identity(row.user, row.role, row.orgs) for row in rows}
            self._stamp = stamp
        return self._identities


def _token_of(header: str) -> str | None:
    """The token in an Authorization header: `Bearer` from Hub clients, the password of `Basic` from git."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            pass
    raise HubError(401, "Invalid credentials in Authorization header")
