"""Short-lived claims signed with the root's secret: links and CAS tokens that carry their own permission.

LFS clients send no token with an upload, and hf_xet sends the one it was given; both are covered by a claim.
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
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, purpose: str, claim: dict[str, Any], ttl_s: int = 3600) -> str:
        expires = int(time.time()) + ttl_s
        body = json.dumps({**claim, "for": purpose, "exp": expires}, separators=(",", ":"), sort_keys=True)
        text = base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")
        return f"{text}.{self._mac(text)}"

    def open(self, purpose: str, token: str) -> dict[str, Any]:
        """The claim, if this root signed it for `purpose` and it has not expired; else 403."""
        text, _, mac = token.partition(".")
        # Compared as bytes: compare_digest refuses strings that are not ASCII, and these come from outside.
        if not hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(text).encode()):
            raise HubError(403, "This link was not signed by this Hub")
        claim = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if claim["for"] != purpose or claim["exp"] < time.time():
            raise HubError(403, "This link has expired")
        return claim

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8", "replace"), sha256).hexdigest()
