"""Who asks, and what they may do.

ROOT/tokens.json holds the hashes of tokens. While there is no such file and the server listens on loopback only,
everyone is the user `local`, who may do anything: the quickstart needs no token. Once the file exists it rules,
also when its last token has been revoked.
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
    """What is kept of a token; `id` names it for `revoke`, `sha256` recognises it."""

    id: str
    user: str
    role: str
    sha256: str
    orgs: tuple[str, ...] = ()
    created: str = ""


@dataclass(frozen=True)
class Identity:
    """`read` sees private repositories of its namespaces, `write` also changes them, `admin` does so everywhere."""

    user: str = ""
    role: str = "anonymous"
    orgs: tuple[str, ...] = field(default=())

    @property
    def anonymous(self) -> bool:
        return self.role == "anonymous"

    def may_read(self, repo: RepoId, *, private: bool) -> bool:
        return not private or self._belongs(repo.namespace)

    def may_write(self, repo: RepoId) -> bool:
        return self.role in ("write", "admin") and self._belongs(repo.namespace)

    def _belongs(self, namespace: str) -> bool:
        return self.role == "admin" or (not self.anonymous and namespace in (self.user, *self.orgs))


ANONYMOUS = Identity()
LOCAL = Identity(user="local", role="admin")


def add_token(path: Path, user: str, role: str = "write", orgs: tuple[str, ...] = ()) -> tuple[str, Token]:
    """A new token for the Hub at `path`: the secret, shown this once, and its record."""
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
    file = Root(path).tokens
    if not file.exists():
        return []
    return [Token(**{**row, "orgs": tuple(row["orgs"])}) for row in json.loads(file.read_bytes())["tokens"]]


def revoke_token(path: Path, token_id: str) -> Token:
    """Forget the token of that id. Raises KeyError if there is none."""
    root = Root(path)
    with root.lock("tokens"):
        tokens = list_tokens(path)
        gone = next((token for token in tokens if token.id == token_id), None)
        if gone is None:
            raise KeyError(token_id)
        _write(root, [token for token in tokens if token is not gone])
    return gone


def digest(token: str) -> str:
    """Tokens are 256 random bits: a plain hash of one cannot be searched."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _write(root: Root, tokens: list[Token]) -> None:
    rows: list[dict[str, Any]] = [asdict(token) for token in tokens]
    write_durably(root, root.tokens, json.dumps({"tokens": rows}, indent=1).encode())


class Authority:
    """Recognises callers. `implicit`: loopback only, so `local` needs no token until tokens.json exists."""

    def __init__(self, root: Root, *, implicit: bool, parent_token: str | None = None) -> None:
        self._root = root
        self._implicit = implicit
        self._parent = digest(parent_token) if parent_token else None
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, Identity] = {}

    def open_house(self) -> bool:
        return self._implicit and not self._root.tokens.exists()

    def identify(self, header: str | None) -> Identity:
        """The caller behind an Authorization header; an unknown token is 401, no token is anonymous."""
        if self.open_house():
            return LOCAL
        token = _token_of(header) if header else None
        if token and self._parent and secrets.compare_digest(digest(token), self._parent):
            return LOCAL
        if token is None:
            return ANONYMOUS
        identity = self._tokens().get(digest(token))
        if identity is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return identity

    def _tokens(self) -> dict[str, Identity]:
        try:
            stat = self._root.tokens.stat()
        except FileNotFoundError:
            return {}
        stamp = (stat.st_mtime_ns, stat.st_ino)  # every change is a new file: the inode tells two in one tick apart
        if stamp != self._stamp:
            rows = list_tokens(self._root.path)
            self._known = {row.sha256: Identity(row.user, row.role, row.orgs) for row in rows}
            self._stamp = stamp
        return self._known


def _token_of(header: str) -> str | None:
    """`Bearer` from Hub clients; `Basic` from git, whose password is the token."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            pass
    raise HubError(401, "Invalid credentials in Authorization header")
