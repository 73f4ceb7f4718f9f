"""Calls to a Hub that end: with time limits, repeated where repeating can help, and errors without secrets.

huggingface_hub retries uploads and downloads, but neither commits nor tags nor look-ups, and sets most of its calls no
time limit at all.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from evokd_data.errors import EvokdError, PublishError

T = TypeVar("T")
log = logging.getLogger(__name__)

CONNECT_S = 10
SILENCE_S = 120  # a commit of many files is answered when it is done
AGAIN = (408, 425, 429, 500, 502, 503, 504)
LOST_RACE = (409, 412)


@dataclass(frozen=True)
class Patience:
    """How often and how long to wait: 1, 2, 4 ... `longest_s` seconds, half of each by chance, or what the Hub asks for
    up to `asked_s`. Eight attempts wait about two minutes in all."""

    attempts: int = 8
    first_s: float = 1
    longest_s: float = 60
    asked_s: float = 900
    sleep: Callable[[float], None] = field(default_factory=lambda: time.sleep)
    chance: Callable[[], float] = random.random

    def persist(self, step: Callable[[], T | None], note: Callable[[str], None]) -> T:
        """`step` until it returns something. None means: progress was made, go on at once.

        A failure that may pass is waited out; the last one, and any other, is raised.
        """
        failures = 0
        for _ in range(4 * self.attempts):
            try:
                done = step()
            except EvokdError:
                raise
            except Exception as caught:  # the clients raise dozens of kinds, sorted below
                error = reason(caught)
                failures += 1
                if not may_pass(error) or failures >= self.attempts:
                    raise
                wait_s = self._wait_s(failures, error)
                note(f"{describe(error)}; attempt {failures} of {self.attempts}, next in {wait_s:.0f} s")
                self.sleep(wait_s)
            else:
                if done is not None:
                    return done
        raise PublishError(
            "the Hub accepts what it is told and then does not show it; look at the repository, then rerun"
        )

    def _wait_s(self, failures: int, error: Exception) -> float:
        grown = min(self.longest_s, self.first_s * 2 ** (failures - 1)) * (0.5 + 0.5 * self.chance())
        asked = _asked_s(error)
        if asked is not None and asked > self.asked_s:
            raise PublishError(
                f"the Hub asks to wait {asked:.0f} s ({describe(error)}); rerun after that: nothing is done twice"
            ) from None
        return max(grown, asked or 0)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later. A lost race (409, 412) may: the next attempt looks who won."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, LocalEntryNotFoundError):
        return True
    status = status_of(error)
    if status is not None:
        return status in AGAIN or status in LOST_RACE
    if isinstance(error, ConnectionError | TimeoutError | json.JSONDecodeError) or _is_transport(error):
        return True
    # hf_xet reports its failures as RuntimeError, hf_hub_download a short file as OSError without a number; an OSError
    # with one is this machine's (disk full, no permission).
    return isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None)


def is_unreachable(error: BaseException) -> bool:
    """Whether the Hub gave no answer of its own: then, and only then, what is known from before may be used."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = status_of(error)
    if status is not None:
        return status in AGAIN
    return isinstance(error, OfflineModeIsEnabled | ConnectionError | TimeoutError) or _is_transport(error)


def reason(error: Exception) -> Exception:
    """What a download failed of: the client tells of any failure to ask as of a file that is not in the cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    inner = error.__cause__
    return inner if isinstance(error, LocalEntryNotFoundError) and isinstance(inner, Exception) else error


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, when the Hub answered with one."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _is_transport(error: BaseException) -> bool:
    """httpx's time-outs, network and protocol errors, by name: which httpx it is depends on huggingface_hub's version."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _asked_s(error: BaseException) -> float | None:
    """Seconds the Hub asks to wait: Retry-After, or the end of a used-up rate limit window."""
    response = getattr(error, "response", None)
    if response is None:
        return None
    after = response.headers.get("Retry-After", "")
    if after.isdigit():
        return float(after)
    window = dict(
        part.strip().split("=", 1) for part in response.headers.get("RateLimit", "").split(";") if "=" in part
    )
    if window.get("r") == "0" and window.get("t", "").isdigit():
        return float(window["t"]) + 1
    return None


def describe(error: BaseException) -> str:
    """One line: the Hub's own words when it said any."""
    said = getattr(error, "server_message", None) or str(error) or type(error).__name__
    line = next((line.strip() for line in str(said).splitlines() if line.strip()), type(error).__name__)
    status = status_of(error)
    return f"HTTP {status}: {line}" if status is not None else f"{type(error).__name__}: {line}"


def scrub(text: str, *secrets: str | None) -> str:
    """The text without access tokens."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


def is_loopback(endpoint: str) -> bool:
    return urlsplit(endpoint).hostname in ("127.0.0.1", "::1", "localhost")


class _Limits:
    """Blocks open now, in whichever threads, and what to put back when the last one closes."""

    lock = threading.Lock()
    open = 0
    before: Any = None


@contextmanager
def limited(endpoint: str) -> Iterator[None]:
    """Inside, every call of huggingface_hub in this process has a time limit and none draws a progress bar.

    The user's own client factory, if any, still makes the client; afterwards all is as it was. HF_HUB_OFFLINE does not
    keep us from a Hub on this very machine.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http as transport

    with _Limits.lock:
        _Limits.open += 1
        if _Limits.open == 1:
            before = _Limits.before = transport._GLOBAL_CLIENT_FACTORY  # there is no public way to ask for it
            set_client_factory(lambda: _with_limits(before(), endpoint))
    try:
        with _quiet():
            yield
    finally:
        with _Limits.lock:
            _Limits.open -= 1
            if not _Limits.open:
                set_client_factory(_Limits.before)


def _with_limits(client: Any, endpoint: str) -> Any:
    from huggingface_hub import is_offline_mode

    client.timeout = type(client.timeout)(SILENCE_S, connect=CONNECT_S)
    if is_loopback(endpoint) and is_offline_mode():
        client.event_hooks = {**client.event_hooks, "request": []}
    return client


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars, and no warning about the way of uploading we chose."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    chosen = logging.getLogger("huggingface_hub._commit_api")
    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    chosen.addFilter(_not_about_buffers)
    try:
        yield
    finally:
        chosen.removeFilter(_not_about_buffers)
        if shown:
            enable_progress_bars()


def _not_about_buffers(record: logging.LogRecord) -> bool:
    return "binary IO buffer" not in record.getMessage()
