"""Other web sites must not use a visitor's browser against a server on this machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from evokd_data.localhub.errors import HubError, bad_request
from evokd_data.localhub.names import host_name, is_loopback


def refuse_other_sites(method: str, headers: Mapping[str, str], host: str, allowed: Collection[str] | None) -> None:
    """Raises HubError 403 for a change that a page of another site asks for, 400 for a `host` that is none and, where only loopback
    names and those `allowed` are answered to (None: any name is), 403 for another: a page whose own name was made to lead here."""
    if method != "GET":
        origin = headers.get("origin")
        other_site = origin is not None and urlsplit(origin).netloc != host
        if other_site or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise HubError(403, "Requests from other web sites are refused")
    name = host_name(host)
    if name is None:
        raise bad_request(f"{host[:80]!r} is no host")
    if allowed is not None and not is_loopback(name) and name not in allowed:
        raise HubError(403, f"Without tokens this server answers to loopback addresses only, not to {name!r}")
