"""The Hub as an ASGI application: it recognises the caller, runs the handler in a thread, and logs the request."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

from evokd_data.localhub.auth import Authority, Identity
from evokd_data.localhub.buffered_body import IN_MEMORY, BufferedBody
from evokd_data.localhub.errors import HubError, repo_not_found
from evokd_data.localhub.lfs import LfsStore
from evokd_data.localhub.limits import DEFAULT, Limits
from evokd_data.localhub.names import RepoId, is_name
from evokd_data.localhub.other_sites import refuse_other_sites
from evokd_data.localhub.page_layout import error_page
from evokd_data.localhub.root import Root
from evokd_data.localhub.routes import Route, find_route
from evokd_data.localhub.signing import Signer
from evokd_data.localhub.store import NoSuchRepository, Store
from evokd_data.localhub.wire import (
    BodyStream,
    Call,
    ClientGone,
    Message,
    Receive,
    Reply,
    Scope,
    Send,
    error_reply,
    send_reply,
)
from evokd_data.localhub.xet import Staging

log = logging.getLogger(__name__)


class Hub:
    """The parts of a Hub that handlers need."""

    def __init__(self, root: Root, authority: Authority, limits: Limits = DEFAULT) -> None:
        self.root = root
        self.authority = authority
        self.limits = limits
        self.store = Store(root)
        self.lfs = LfsStore(root)
        self.staging = Staging(root)
        self.signer = Signer(root.secret())

    def require(self, caller: Identity, repo_id: RepoId, *, write: bool) -> None:
        """Raise HubError unless the caller may read the repository, or with `write` change it.

        A repository that the caller may not see answers as a missing one; one that it sees but may not change answers 403.
        """
        if not (is_name(repo_id.namespace) and is_name(repo_id.name)):
            raise repo_not_found(anonymous=caller.anonymous)
        try:
            private = self.store.private(repo_id)
        except NoSuchRepository:
            raise repo_not_found(anonymous=caller.anonymous) from None
        if not caller.may_read(repo_id, private=private):
            raise repo_not_found(anonymous=caller.anonymous)
        if write and not caller.may_write(repo_id):
            if caller.anonymous:
                raise HubError(401, "Invalid credentials in Authorization header")
            raise HubError(403, f"You don't have the rights to write to {repo_id}")


class App:
    """Answers the requests of one server process. `log_file` gets a line of JSON per request; `allow_hosts` as in
    `server.serve`."""

    def __init__(self, hub: Hub, *, log_file: Path | None = None, allow_hosts: Collection[str] = ()) -> None:
        self.hub = hub
        self._allow_hosts = frozenset(host.lower() for host in allow_hosts)
        self._log_file = log_file
        # Two pools, so that readers find free threads while writers wait for a lock.
        self._readers = ThreadPoolExecutor(24, "hub-reader")
        self._writers = ThreadPoolExecutor(16, "hub-writer")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, by the ASGI protocol."""
        assert scope["type"] == "http"
        started = time.perf_counter()
        counts = {"status": 0, "bytes": 0, "received": 0}
        logged = False

        def log_once() -> None:
            nonlocal logged
            if not logged:
                logged = True
                self._log_request(scope, counts, time.perf_counter() - started)

        async def counted_receive() -> Message:
            message = await receive()
            counts["received"] += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                counts["status"] = message["status"]
            else:
                counts["bytes"] += len(message.get("body", b""))
                if not message.get("more_body"):  # a client that has its answer finds the line in the log
                    log_once()
            await send(message)

        try:
            await self._answer(scope, counted_receive, counted_send)
        finally:
            log_once()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        buffered: BufferedBody | None = None
        route: Route | None = None
        body = BodyStream(receive, self.hub.limits.body_pause_s)
        try:
            call = self._call(scope)
            scope["localhub.user"] = call.caller.user
            route, call.args = find_route(call.method, scope["raw_path"].decode("latin-1"))
            loop = asyncio.get_running_loop()
            workers = self._readers if call.method == "GET" else self._writers
            limit = await loop.run_in_executor(self._readers, route.guard, call)
            buffered = call.body = BufferedBody(self.hub.root, limit, on_disk=route.on_disk)
            await body.into(buffered)
            reply = await loop.run_in_executor(workers, route.handler, call)
        except HubError as exc:
            reply = _error(scope, exc)
            if exc.status == 401 and route is not None and route.for_people:
                reply.headers["WWW-Authenticate"] = 'Basic realm="Hub: any user name, the token as password"'
        except NoSuchRepository:  # deleted between the guard and the handler
            log.info("repository vanished during %s", scope["raw_path"], exc_info=True)
            reply = _error(scope, repo_not_found(anonymous=False))
        except ClientGone:
            return
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["raw_path"].decode("latin-1"))
            reply = _error(scope, HubError(500, "Internal error of the local Hub; its log says more"))
        finally:
            if buffered is not None:
                buffered.close()
        if not await body.drain():
            reply.headers["Connection"] = "close"
        try:
            await send_reply(reply, send, head=scope["method"] == "HEAD")
        finally:
            if reply.file is not None and not isinstance(reply.file, Path):
                reply.file.close()

    def _call(self, scope: Scope) -> Call:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        address, port = scope["server"]
        host = headers.get("host") or (f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        allowed = self._allow_hosts if self.hub.authority.needs_no_token() else None
        refuse_other_sites(method, headers, host, allowed)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=100))
        scheme = "https" if headers.get("x-forwarded-proto") == "https" else scope["scheme"]
        authorization = headers.get("authorization")
        # Calls of the data paths carry signed claims; their tokens are not in tokens.json.
        claimed = scope["raw_path"].startswith((b"/_cas/", b"/_lfs/"))
        caller = Identity() if claimed else self.hub.authority.identify(authorization)
        body = BufferedBody(self.hub.root, IN_MEMORY)
        return Call(self.hub, method, {}, query, headers, f"{scheme}://{host}", caller, body)

    def _log_request(self, scope: Scope, counts: dict[str, int], seconds: float) -> None:
        """Write one line, without the query and the headers: they hold signed claims and tokens."""
        if self._log_file is None:
            return
        row = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "status": counts["status"],  # 0: the connection was closed before an answer
            "ms": round(seconds * 1000, 1),
            "bytes": counts["bytes"],
            "received": counts["received"],  # of the request's body
            "user": scope.get("localhub.user") or "-",
        }
        with self._log_file.open("a") as handle:  # opened each time, so that the file can be moved away
            handle.write(json.dumps(row) + "\n")


def _error(scope: Scope, error: HubError) -> Reply:
    """The error as a page for a browser, which asks for text/html by name, and as JSON for every other client."""
    accepted = b",".join(value for key, value in scope["headers"] if key == b"accept")
    reply = error_page(error) if b"text/html" in accepted.lower() else error_reply(error)
    reply.headers["Vary"] = "Accept"
    return reply
