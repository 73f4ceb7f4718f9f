"""The servers that share the requests: which is asked next, and how long a failed one is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

MAX_BACKOFF_S = 60.0
MAX_RETRY_AFTER_S = 300.0
LONG_BACKOFF_S = 10.0
"""A wait that a user would wonder about."""


@dataclass(eq=False)
class Endpoint:
    """One server. `busy`: our requests to it in flight. `backoff_until`: no request before this time of the loop's clock.
    `failures`: failed requests since the last answer. `announced_until`: the user knows that it is left alone until then."""

    url: str
    busy: int = 0
    backoff_until: float = 0.0
    failures: int = 0
    announced_until: float = 0.0

    @property
    def root(self) -> str:
        """The URL without /v1, below which vLLM has its other routes."""
        return self.url.removesuffix("/v1")

    def at(self, route: str) -> str:
        """The address of a route, which begins with /v1 where it lies below the URL."""
        return f"{self.url}{route.removeprefix('/v1')}" if route.startswith("/v1/") else f"{self.root}{route}"


class EndpointPool:
    """Gives each request the least busy endpoint that is not left alone, at most `concurrency` requests to one."""

    def __init__(self, endpoints: Sequence[Endpoint], concurrency: int) -> None:
        self.endpoints = endpoints
        self._concurrency = concurrency
        self._released = asyncio.Event()

    async def acquire(self) -> Endpoint:
        """An endpoint that may be asked now. The caller must `release` it."""
        clock = asyncio.get_running_loop().time
        while (endpoint := self._least_busy(now := clock())) is None:
            self._released.clear()
            # An endpoint becomes free when a request ends. When all back off, also when the first backoff ends.
            next_end = min(waiting.backoff_until for waiting in self.endpoints) - now
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), next_end if next_end > 0 else None)
        endpoint.busy += 1
        return endpoint

    def release(self, endpoint: Endpoint) -> None:
        """The request is over, whatever came of it."""
        endpoint.busy -= 1
        self._released.set()

    def back_off(self, endpoint: Endpoint, attempt: int, status: int, retry_after_s: float | None) -> float:
        """Leave the endpoint alone after a failed request; returns for how many seconds.

        The server may have said how long (`retry_after_s`). Otherwise the time doubles with each failure; a first attempt
        whose connection was lost (`status` 0) is repeated at once.
        """
        endpoint.failures += 1
        backoff_s = retry_after_s
        if backoff_s is None:
            first_loss = not attempt and not status
            backoff_s = 0.0 if first_loss else min(0.5 * 2 ** min(endpoint.failures - 1, attempt), MAX_BACKOFF_S)
        endpoint.backoff_until = max(endpoint.backoff_until, asyncio.get_running_loop().time() + backoff_s)
        return backoff_s

    def must_announce(self, endpoint: Endpoint, backoff_s: float) -> bool:
        """Whether the user should be told that the endpoint is left alone: for long, and once for all requests that wait."""
        now = asyncio.get_running_loop().time()
        if backoff_s < LONG_BACKOFF_S or now < endpoint.announced_until:
            return False
        endpoint.announced_until = now + backoff_s
        return True

    def _least_busy(self, now: float) -> Endpoint | None:
        chosen = None
        for endpoint in self.endpoints:
            if endpoint.busy < (chosen.busy if chosen else self._concurrency) and endpoint.backoff_until <= now:
                chosen = endpoint
        return chosen


def retry_after(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds a number of seconds or a date; at most 300. None: it says nothing."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None
