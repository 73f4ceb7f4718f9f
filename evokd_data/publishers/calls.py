"""Calls to a Hub: time limits, retries where they can help, and error messages without secrets.

huggingface_hub retries uploads and downloads, but not commits, tags and look-ups, and most of its calls have no time limit.
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

from evokd_data.errors import EvokdError, PublishError
from evokd_data.redaction import is_loopback

T = TypeVar("T")
log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 120  # the Hub answers a commit of many files only when the commit is done
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which the same call may succeed."""
LOST_RACE = (409, 412)
"""HTTP statuses that say that another client's commit came first."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try a call, and how long to wait between attempts.

    The waits are `first_wait_s`, twice that, and so on up to `max_wait_s`; half of each is random. When the Hub asks for a
    longer wait, up to `max_retry_after_s`, it is waited for. Eight attempts wait about two minutes in all.
    """

    attempts: int = 8
    first_wait_s: float = 1
    max_wait_s: float = 60
    max_retry_after_s: float = 900
    sleep: Callable[[float], None] = field(default_factory=lambda: time.sleep)
    jitter: Callable[[], float] = random.random

    def run(self, step: Callable[[], T | None], note: Callable[[str], None]) -> T:
        """Call `step` until it returns a result. None means that it made progress: it is called again at once.

        After a transient failure it is called again after a wait, which `note` is told. Any other failure, and that of
        the last attempt, is raised. Raises PublishError when `step` makes progress without end, or when the Hub asks for
        a longer wait than allowed.
        """
        failures = 0
        for _ in range(4 * self.attempts):
            try:
                result = step()
            except EvokdError:
                raise
            except Exception as caught:  # the clients raise dozens of classes; `is_transient` sorts them
                error = root_cause(caught)
                failures += 1
                if not is_transient(error) or failures >= self.attempts:
                    raise
                wait_s = self._wait_s(failures, error)
                note(f"{describe(error)}; attempt {failures} of {self.attempts}, next in {wait_s:.0f} s")
                self.sleep(wait_s)
            else:
                if result is not None:
                    return result
        raise PublishError(
            "the Hub accepts what it is told and then does not show it; look at the repository, then rerun"
        )

    def _wait_s(self, failures: int, error: Exception) -> float:
        wait_s = min(self.max_wait_s, self.first_wait_s * 2 ** (failures - 1)) * (0.5 + 0.5 * self.jitter())
        retry_after = _retry_after_s(error)
        if retry_after is not None and retry_after > self.max_retry_after_s:
            raise PublishError(
                f"the Hub asks to wait {retry_after:.0f} s ({describe(error)}); rerun after that: nothing is done twice"
            ) from None
        return max(wait_s, retry_after or 0)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later. After a lost race (409, 412) it may: the next attempt looks who won."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, LocalEntryNotFoundError):
        return True
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT or status in LOST_RACE
    if isinstance(error, ConnectionError | TimeoutError | json.JSONDecodeError) or _is_transport(error):
        return True
    # hf_xet raises RuntimeError, and hf_hub_download raises OSError without an errno for a file that is too short. An
    # OSError with an errno comes from this machine (disk full, no permission).
    return isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None)


def is_unreachable(error: BaseException) -> bool:
    """Whether the Hub itself gave no answer. Only then may a remembered answer take its place."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = status_of(error)
    if status is not None:
        return status in TRANSIENT
    return isinstance(error, OfflineModeIsEnabled | ConnectionError | TimeoutError) or _is_transport(error)


def root_cause(error: Exception) -> Exception:
    """Why a download failed. The client reports every failed request as a file that is missing in its cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    inner = error.__cause__
    return inner if isinstance(error, LocalEntryNotFoundError) and isinstance(inner, Exception) else error


def status_of(error: BaseException) -> int | None:
    """The HTTP status of the Hub's answer; None when there was no answer."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _is_transport(error: BaseException) -> bool:
    """Whether it is a time-out, network or protocol error of httpx. Compared by name, because the module that holds the
    class depends on huggingface_hub's version."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _retry_after_s(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait: Retry-After, or the end of a used-up rate limit window."""
    response = getattr(error, "response", None)
    if response is None:
        return None
    retry_after = response.headers.get("Retry-After", "")
    if retry_after.isdigit():
        return float(retry_after)
    window = dict(
        part.strip().split("=", 1) for part in response.headers.get("RateLimit", "").split(";") if "=" in part
    )
    if window.get("r") == "0" and window.get("t", "").isdigit():
        return float(window["t"]) + 1
    return None


def describe(error: BaseException) -> str:
    """The error as one line, in the Hub's own words when it sent a message."""
    message = getattr(error, "server_message", None) or str(error) or type(error).__name__
    line = next((line.strip() for line in str(message).splitlines() if line.strip()), type(error).__name__)
    status = status_of(error)
    return f"HTTP {status}: {line}" if status is not None else f"{type(error).__name__}: {line}"


class _Limits:
    """The number of `limited` blocks open now in all threads, and the client factory to restore after the last one."""

    lock = threading.Lock()
    open = 0
    factory: Any = None


@contextmanager
def limited(endpoint: str) -> Iterator[None]:
    """Inside the block, every call of huggingface_hub in this process has a time limit, and none draws a progress bar.

    The user's own client factory, if there is one, still makes the client. After the block everything is restored.
    HF_HUB_OFFLINE is ignored for a Hub on this machine.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http as transport

    with _Limits.lock:
        _Limits.open += 1
        if _Limits.open == 1:
            factory = _Limits.factory = transport._GLOBAL_CLIENT_FACTORY  # there is no public way to ask for it
            set_client_factory(lambda: _with_limits(factory(), endpoint))
    try:
        with _quiet():
            yield
    finally:
        with _Limits.lock:
            _Limits.open -= 1
            if not _Limits.open:
                set_client_factory(_Limits.factory)


def _with_limits(client: Any, endpoint: str) -> Any:
    from huggingface_hub import is_offline_mode

    client.timeout = type(client.timeout)(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    if is_loopback(endpoint) and is_offline_mode():
        client.event_hooks = {**client.event_hooks, "request": []}
    return client


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no warning that open files are uploaded by LFS: we choose that."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    upload_log = logging.getLogger("huggingface_hub._commit_api")
    bars_enabled = not are_progress_bars_disabled()
    if bars_enabled:
        disable_progress_bars()
    upload_log.addFilter(_not_about_buffers)
    try:
        yield
    finally:
        upload_log.removeFilter(_not_about_buffers)
        if bars_enabled:
            enable_progress_bars()


def _not_about_buffers(record: logging.LogRecord) -> bool:
    return "binary IO buffer" not in record.getMessage()
