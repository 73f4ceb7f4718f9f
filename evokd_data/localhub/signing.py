"""Short-lived claims, signed with the root's secret: links and CAS tokens that carry their own permission.

LFS clients upload without a token, and hf_xet sends the token it was given. A signed claim covers both.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from hashlib import sha256
from typing import Any

from evokd_data.localhub.errors import HubError


class Signer:
    """Signs claims and checks them. All servers of a root share the `secret`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, purpose: str, claim: dict[str, Any], ttl_s: int = 3600) -> str:
        """A token that holds the claim, readable by everybody, valid for `ttl_s` seconds and for `purpose` only."""
        expires = int(time.time()) + ttl_s
        body = json.dumps({**claim, "for": purpose, "exp": expires}, separators=(",", ":"), sort_keys=True)
        text = base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")
        return f"{text}.{self._mac(text)}"

    def open(self, purpose: str, token: str) -> dict[str, Any]:
        """The claim in a token. Raises HubError 403 unless this root signed it for `purpose` and it has not expired."""
        text, _, mac = token.partition(".")
        # Compared as bytes: compare_digest refuses text that is not ASCII, and this text comes from outside.
        if not hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(text).encode()):
            raise HubError(403, "This link was not signed by this Hub")
        claim = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if claim["for"] != purpose or claim["exp"] < time.time():
            raise HubError(403, "This link has expired")
        return claim

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8", "replace"), sha256).hexdigest()
