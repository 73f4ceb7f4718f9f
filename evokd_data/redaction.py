"""Secrets in texts and settings: how they are recognised, blanked out, and kept off the wire. Standard library only.

A recipe is published with its rounds, and an error message ends up in a log. So a recipe that holds a secret is refused, and
errors, log lines, progress lines and the published recipe pass through `redact`.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

BLANK = "***"
PLAIN_HTTP = "EVOKD_PLAIN_HTTP_HOSTS"
"""The variable with the hosts, separated by commas, that get access tokens over plain http."""
SHAPES = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bgh[opsu]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w-]{16,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bxox[abprs]-[\w-]{10,}|\bhub_[\w-]{30,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|(?<=\bBearer )[^\s\"',]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*"
)
"""What keys and tokens of well-known services look like."""
SECRET_NAME = re.compile(
    r"(?:^key|(?:^|[_-])(?:(?:api|access|secret|private|auth)[_-]?key|apikey|secret|password|passwd|pwd|token|credentials?"
    r"|authorization|auth|sig|signature))$",
    re.IGNORECASE,
)
MARKER = re.compile(r"<[^>]*>|\[[A-Z]+\]|.{0,3}", re.DOTALL)
"""A token of a vocabulary, such as <pad>, is no secret."""
USER_IN_URL = re.compile(r"(?<=://)[^/\s@\"']*@")
SECRET_IN_QUERY = re.compile(r"(?<=[?&])([\w.-]+)=([^&\s#\"']+)")
RANDOM_LENGTH = 24
RANDOM_BITS = 3.7
"""From this many characters, and bits of entropy in each, a word of letters and digits looks drawn at random. A commit or a
digest in hex has at most 4 bits a character and is recognised by its form."""
RANDOM_WORD = re.compile(rf"[A-Za-z0-9+/_=-]{{{RANDOM_LENGTH},}}")
RANDOM = "it looks drawn at random"
DIGEST = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}")


def redact(text: str, *secrets: str | None) -> str:
    """The text without secrets: the given ones, users in addresses, secret parameters of addresses, and well-known tokens."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, BLANK)
    text = USER_IN_URL.sub("", SHAPES.sub(BLANK, text))
    return SECRET_IN_QUERY.sub(lambda match: f"{match[1]}={BLANK}" if SECRET_NAME.search(match[1]) else match[0], text)


def secret_settings(value: Any, path: str = "", *, entropy: bool = True) -> Iterator[tuple[str, str]]:
    """(path, reason) of each string in a table of settings that looks like a secret. The value itself is never part of a message.

    `entropy`: also report words that look drawn at random.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            below = f"{path}.{key}" if path else str(key)
            if isinstance(item, str) and SECRET_NAME.search(str(key)) and not MARKER.fullmatch(item):
                yield below, "its name is that of a secret"
            else:
                yield from secret_settings(item, below, entropy=entropy)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from secret_settings(item, f"{path}.{index}", entropy=entropy)
    elif isinstance(value, str) and (reason := _reason(value, entropy)):
        yield path, reason


def _reason(text: str, entropy: bool) -> str:
    if redact(text) != text:
        return "it holds a user, a key or a token"
    if entropy and any(map(_looks_random, RANDOM_WORD.findall(text))):
        return RANDOM
    return ""


def _looks_random(word: str) -> bool:
    if DIGEST.fullmatch(word) or not (re.search(r"[0-9]", word) and re.search(r"[A-Za-z]", word)) or "/" in word:
        return False
    shares = [count / len(word) for count in Counter(word).values()]
    return -sum(share * math.log2(share) for share in shares) >= RANDOM_BITS


def is_loopback(url: str) -> bool:
    """Whether an address names this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_receive_tokens(url: str) -> bool:
    """Whether an access token may be sent there: over https, on this machine, or to a host that the user named in PLAIN_HTTP."""
    if urlsplit(url).scheme == "https" or is_loopback(url):
        return True
    return urlsplit(url).hostname in {host.strip().lower() for host in os.environ.get(PLAIN_HTTP, "").split(",")}


def plain_http_refusal(url: str) -> str:
    """The message for a token that is not sent."""
    host = urlsplit(url).hostname
    return (
        f"{redact(url)}: an access token would go there unencrypted, for everybody on the way to read; use https, or allow it: "
        f"export {PLAIN_HTTP}={host}"
    )
