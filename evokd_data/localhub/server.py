"""Serving the Hub: one process with one listening socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from evokd_data.localhub.auth import Authority, list_tokens
from evokd_data.localhub.limits import DEFAULT
from evokd_data.localhub.names import is_loopback
from evokd_data.localhub.root import Root
from evokd_data.localhub.wire import Application


class UnsafeAddress(ValueError):
    """The address can be reached from other machines, and the Hub has no tokens to tell users apart."""


def serve(
    root: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready: Callable[[str], None] | None = None,
    log: Path | None = None,
    until: Callable[[], None] | None = None,
    parent_token: str | None = None,
    wrap: Callable[[Application], Application] | None = None,
    allow_hosts: Collection[str] = (),
    headers_s: float = DEFAULT.headers_s,
) -> None:
    """Serve the Hub in folder `root`. Blocks until interrupted, terminated, or `until` (run in a thread) returns.

    `ready` is called with the endpoint once requests are answered. `log` gets a line of JSON per request. `parent_token`
    acts as the user `local`. `wrap` may put ASGI middleware around the Hub: it gets the application and returns the one
    that is served. While there are no tokens, callers must name a loopback address or one of `allow_hosts` as the Host: a web page
    whose own name was made to lead here names another. A connection whose headers are not there after `headers_s` seconds is
    closed.

    Raises UnsafeAddress for a `host` that others can reach while the Hub has no tokens (see `auth.add_token`), and
    OSError when the address cannot be listened on.
    """
    from evokd_data.localhub.app import App, Hub

    loopback = is_loopback(host)
    if not loopback and not list_tokens(root):
        raise UnsafeAddress(
            f"{host} can be reached by others and this Hub has no tokens; run: evokd-data hub token add"
        )
    hub_root = Root(Path(root).absolute()).prepare()
    authority = Authority(hub_root, implicit=loopback, parent_token=parent_token)
    app = App(Hub(hub_root, authority), log_file=log, allow_hosts=allow_hosts)
    serve_application(app if wrap is None else wrap(app), host, port, ready=ready, until=until, headers_s=headers_s)


def serve_application(
    application: Application,
    host: str,
    port: int,
    *,
    ready: Callable[[str], None] | None = None,
    until: Callable[[], None] | None = None,
    headers_s: float = DEFAULT.headers_s,
) -> None:
    """Serve an ASGI application. Blocks, and calls `ready` and `until`, as `serve` does. Raises OSError when the address cannot be
    listened on."""
    import uvicorn

    listener = _listen(host, port)
    address = listener.getsockname()
    shown_host = f"[{address[0]}]" if listener.family == socket.AF_INET6 else address[0]

    class Server(uvicorn.Server):
        """A server that calls `ready` once it listens."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if ready is not None and self.started:
                ready(f"http://{shown_host}:{address[1]}")

    config = uvicorn.Config(
        application,
        # Not "auto": uvicorn would take httptools where another package brought it.
        http=_patient_protocol(headers_s),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # Longer than clients keep idle connections. A connection that is closed while a client sends a commit loses the
        # commit, because clients do not retry commits.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=3,
    )
    server = Server(config)
    if until is not None:
        threading.Thread(target=_stop_after, args=(until, server), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()


def _patient_protocol(headers_s: float) -> Any:
    """uvicorn's protocol, with a time limit for headers: half-sent ones would keep everybody else out."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        waiting: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            if self.waiting is None and (self.cycle is None or self.cycle.response_complete):
                self._wait()
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self.waiting = self.loop.call_later(headers_s, self.transport.close)

        def _stop_waiting(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

    return PatientProtocol


def _listen(host: str, port: int) -> socket.socket:
    family, socket_type, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket_type, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise OSError(exc.errno, f"cannot listen on {host} port {port}: {exc.strerror}") from None
    listener.listen(1024)
    return listener


def _stop_after(until: Callable[[], None], server: Any) -> None:
    until()
    server.should_exit = True
