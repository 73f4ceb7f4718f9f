"""Valid names of repositories, of the paths inside them, and of branches and tags.

The server opens files by object id only. These rules therefore protect clones and clients rather than the server's disk.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass

from evokd_data.localhub.errors import bad_request

KINDS = ("datasets", "models")
RESERVED = ("api", "datasets", "models", "spaces")  # the first segment of other addresses
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
HEX40 = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_DEVICES = frozenset(("con", "prn", "aux", "nul", "conin$", "conout$")) | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789\u00b9\u00b2\u00b3"
}
"""Names that Windows reads as a device, whatever follows their first dot."""
_INVISIBLE_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's controls, invisible and directional marks, halves of pairs, separators of lines."""
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Letters and marks that show nothing."""
_JOINERS = "\u200c\u200d"
"""Invisible, and part of words of some languages and of emoji."""
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(/|$)|(^|/)\.|\.(/|$)|/$|^/|^-")


@dataclass(frozen=True)
class RepoId:
    """The address of a repository. `kind` is `datasets` or `models`, as in the API's paths."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def url_path(self) -> str:
        """The path of the repository below the endpoint; models have no prefix."""
        return str(self) if self.kind == "models" else f"{self.kind}/{self}"


def host_name(header: str) -> str | None:
    """The name in a Host header, in lower case and without port and brackets; None when it is no host name or address."""
    match = _HOST.fullmatch(header)
    return match[1].strip("[]").lower() if match else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address or host name. `127.evil.example` is a name like any other."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_name(text: str) -> bool:
    """Whether a namespace or a repository may have this name; the public Hub's rules."""
    return (
        bool(NAME.fullmatch(text)) and "--" not in text and ".." not in text and not text.endswith((".git", ".", "-"))
    )


def check_repo_id(kind: str, namespace: str, name: str) -> RepoId:
    """The id of a repository that may be created. Raises HubError 400 for a name that is not valid."""
    for part in (namespace, name):
        if not is_name(part):
            raise bad_request(
                f"{part!r} is not a valid name: letters, digits, '-', '_' and '.', at most 96, "
                "no '--' or '..', not ending in '.git'"
            )
    if namespace in RESERVED:
        raise bad_request(f"{namespace!r} cannot be a namespace")
    return RepoId(kind, namespace, name)


def check_path(path: str) -> str:
    """The path, if a clone on any machine can check it out. Raises HubError 400 for one that is not valid."""
    if not isinstance(path, str) or not path or len(path.encode("utf-8", "surrogatepass")) > 4096:
        raise bad_request("a file path must be between 1 and 4096 bytes")
    for part in path.split("/"):
        if part in ("", ".", "..") or part.rstrip(". ").lower() == ".git" or part.lower().startswith("git~"):
            raise bad_request(f"invalid path {path!r}: segment {part!r} is not allowed")
        try:
            raw = part.encode()
        except UnicodeEncodeError:
            raise bad_request(f"invalid path {path!r}: not UTF-8") from None
        if len(raw) > 255 or "\\" in part:
            raise bad_request(f"invalid path {path!r}: segment {part!r} is longer than 255 bytes or holds a backslash")
        if part.partition(".")[0].rstrip(" ").lower() in _DEVICES:
            raise bad_request(f"invalid path {path!r}: {part!r} is the name of a device on Windows; rename it")
        if hidden := _invisible(part):
            raise bad_request(f"invalid path {path!r}: holds the invisible character U+{ord(hidden):04X}; rename it")
    return path


def _invisible(part: str) -> str:
    """The first character of a name that nobody sees, so that two names look alike; "" when there is none."""
    for index, character in enumerate(part):
        neighbours = part[max(0, index - 1) : index] + part[index + 1 : index + 2]
        is_joiner = character in _JOINERS and len(neighbours) == 2 and not any(map(str.isascii, neighbours))
        if not is_joiner and (unicodedata.category(character) in _INVISIBLE_CATEGORIES or character in _FILLERS):
            return character
    return ""


def is_ref(name: str) -> bool:
    """Whether git's rules allow `name` as the name of a branch or tag, or as a `refs/...` path."""
    return (
        bool(name) and len(name.encode("utf-8", "replace")) <= 240 and name != "@" and not _REF_FORBIDDEN.search(name)
    )


def check_new_ref(name: str) -> str:
    """The name, if a new branch or tag may have it. Raises HubError 400 otherwise.

    A full commit id is not allowed: it would hide the commit of that id.
    """
    if (
        not is_ref(name)
        or HEX40.fullmatch(name)
        or name == "HEAD"
        or name.startswith("refs/")
        or not name.isprintable()
    ):
        raise bad_request(f"{name!r} is not a valid branch or tag name")
    return name
