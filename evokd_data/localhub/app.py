"""The Hub as an ASGI application: which request goes where, who may ask, what is written to the log.

Routing works on the raw path. A revision arrives as one segment with its slashes quoted (`refs%2Fpr%2F1`); decoding
first, as web frameworks do, would tear it apart.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from evokd_data.localhub import api_files, api_repos, api_transfer, pages, xet
from evokd_data.localhub.auth import Authority, Identity
from evokd_data.localhub.buffered_body import IN_MEMORY, BufferedBody
from evokd_data.localhub.errors import HubError, repo_not_found
from evokd_data.localhub.lfs import DOWNLOAD, UPLOAD, LfsStore
from evokd_data.localhub.limits import DEFAULT, Limits
from evokd_data.localhub.names import RepoId, is_name
from evokd_data.localhub.root import Root
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

_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Hub:
    """Everything a handler needs."""

    def __init__(self, root: Root, authority: Authority, limits: Limits = DEFAULT) -> None:
        self.root = root
        self.authority = authority
        self.limits = limits
        self.store = Store(root)
        self.lfs = LfsStore(root)
        self.staging = Staging(root)
        self.signer = Signer(root.secret())

    def require(self, who: Identity, repo_id: RepoId, *, write: bool) -> None:
        """An invisible repository answers as a missing one; a visible one that may not be written answers 403."""
        if not (is_name(repo_id.namespace) and is_name(repo_id.name)):
            raise repo_not_found(anonymous=who.anonymous)
        try:
            private = self.store.private(repo_id)
        except NoSuchRepository:
            raise repo_not_found(anonymous=who.anonymous) from None
        if not who.may_read(repo_id, private=private):
            raise repo_not_found(anonymous=who.anonymous)
        if write and not who.may_write(repo_id):
            if who.anonymous:
                raise HubError(401, "Invalid credentials in Authorization header")
            raise HubError(403, f"You don't have the rights to write to {repo_id}")


Guard = Callable[[Call], int]  # raises what forbids the call, else returns how many bytes its body may have


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Callable[[Call], Reply]
    guard: Guard
    for_people: bool = False  # asked by git or a browser: they send a password once told to
    on_disk: bool = False


def _route(method: str, template: str, handler: Callable[[Call], Reply], guard: Guard, **more: bool) -> Route:
    """`{x}` is one raw segment, `{x*}` the rest; `{kind}` and `{repo}` stand for what addresses a repository."""
    text = re.escape(template).replace(r"\{", "{").replace(r"\}", "}").replace(r"\*", "*")
    text = text.replace("{repo}", r"(?:(?P<kind>datasets|models)/)?(?!api/|datasets/|models/|spaces/|_){ns}/{name}")
    text = text.replace("{kind}", "(?P<kind>datasets|models|spaces)")
    text = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.*)", text)
    text = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", text)
    return Route(method, re.compile(text), handler, guard, **more)


def _anyone(call: Call) -> int:
    return call.hub.limits.json_body


def _reader(call: Call) -> int:
    call.hub.require(call.who, call.repo_id, write=False)
    return call.hub.limits.json_body


def _writer(call: Call) -> int:
    call.hub.require(call.who, call.repo_id, write=True)
    return call.hub.limits.json_body


def _committer(call: Call) -> int:
    _writer(call)
    return call.hub.limits.commit_body


def _linked(purpose: str) -> Guard:
    def guard(call: Call) -> int:
        call.claim = call.hub.signer.open(purpose, call.query.get("claim", ""))
        if call.claim["oid"] != call.args["oid"]:
            raise HubError(403, "This link is for another object")
        return int(call.claim["size"]) if call.method == "PUT" else call.hub.limits.json_body

    return guard


def _cas(most: Callable[[Limits], int]) -> Guard:
    def guard(call: Call) -> int:
        token = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
        try:
            call.claim = call.hub.signer.open(xet.WRITE, token)
        except HubError as exc:
            raise HubError(401, exc.message) from None  # 401 makes hf_xet ask for a new token
        if call.claim["address"] != call.args["address"]:
            raise HubError(403, "This token is for another address")
        return most(call.hub.limits)

    return guard


def _nothing_here(call: Call) -> Reply:
    raise HubError(404, "Not found")


_API = "/api/{kind}/{ns}/{name}"
ROUTES = [
    _route("GET", "/", pages.index, _anyone, for_people=True),
    _route("GET", "/api/whoami-v2", api_repos.whoami, _anyone),
    _route("POST", "/api/repos/create", api_repos.create_repo, _anyone),
    _route("DELETE", "/api/repos/delete", api_repos.delete_repo, _anyone),
    _route("POST", "/api/validate-yaml", api_repos.validate_yaml, _anyone),
    _route("GET", "/api/{kind}", api_repos.list_repos, _anyone),
    _route("GET", _API, api_repos.repo_info, _reader),
    _route("GET", _API + "/revision/{rev}", api_repos.repo_info, _reader),
    _route("PUT", _API + "/settings", api_repos.update_settings, _writer),
    _route("GET", _API + "/tree/{rev}", api_files.tree, _reader),
    _route("GET", _API + "/tree/{rev}/{path*}", api_files.tree, _reader),
    _route("POST", _API + "/paths-info/{rev}", api_files.paths_info, _reader),
    _route("GET", _API + "/refs", api_repos.list_refs, _reader),
    _route("GET", _API + "/commits/{rev}", api_repos.list_commits, _reader),
    _route("POST", _API + "/branch/{rev}", api_repos.create_branch, _writer),
    _route("DELETE", _API + "/branch/{rev}", api_repos.delete_branch, _writer),
    _route("POST", _API + "/tag/{rev}", api_repos.create_tag, _writer),
    _route("DELETE", _API + "/tag/{rev}", api_repos.delete_tag, _writer),
    _route("POST", _API + "/preupload/{rev}", api_files.preupload, _writer),
    _route("POST", _API + "/commit/{rev}", api_repos.make_commit, _committer),
    _route("GET", _API + "/auth-check", api_repos.auth_check, _reader),
    _route("GET", _API + "/auth-check/write", api_repos.auth_check, _writer),
    _route("GET", _API + "/xet-write-token/{rev}", api_transfer.xet_token, _writer),
    _route(
        "POST",
        "/_cas/{address}/v1/xorbs/default/{xorb}",
        api_transfer.xet_xorb,
        _cas(lambda most: most.xorb),
        on_disk=True,
    ),
    _route("POST", "/_cas/{address}/v1/shards", api_transfer.xet_shard, _cas(lambda most: most.shard)),
    _route("PUT", "/_lfs/{oid}", api_transfer.lfs_upload, _linked(UPLOAD), on_disk=True),
    _route("POST", "/_lfs/{oid}/verify", api_transfer.lfs_verify, _linked(UPLOAD)),
    _route("GET", "/_lfs/{oid}", api_transfer.lfs_download, _linked(DOWNLOAD)),
    _route("GET", "/{repo}/resolve/{rev}/{path*}", api_files.resolve, _reader),
    _route("POST", "/{repo}.git/info/lfs/objects/batch", api_transfer.lfs_batch, _reader, for_people=True),
    _route("GET", "/{repo}.git/info/refs", api_transfer.git_refs, _reader, for_people=True),
    _route("GET", "/{repo}/info/refs", api_transfer.git_refs, _reader, for_people=True),
    _route("POST", "/{repo}.git/git-upload-pack", api_transfer.git_upload_pack, _reader, for_people=True),
    _route("POST", "/{repo}/git-upload-pack", api_transfer.git_upload_pack, _reader, for_people=True),
    _route("POST", "/{repo}.git/git-receive-pack", api_transfer.git_push, _reader, for_people=True),
    _route("POST", "/{repo}/git-receive-pack", api_transfer.git_push, _reader, for_people=True),
    _route("GET", "/{repo}", pages.repository, _reader, for_people=True),
    _route("GET", "/{repo}/tree/{rev}", pages.repository, _reader, for_people=True),
    _route("GET", "/{repo}/commit/{rev}", pages.repository, _reader, for_people=True),
    _route("GET", "/api/telemetry/{rest*}", api_transfer.ignore, _anyone),
    _route("POST", "/v1/telemetry", api_transfer.ignore, _anyone),
    _route("POST", "/_cas/{address}/v1/telemetry", api_transfer.ignore, _anyone),
]


class App:
    """Answers the requests of one server process. `log_file` gets a line of JSON per request."""

    def __init__(self, hub: Hub, *, log_file: Path | None = None) -> None:
        self.hub = hub
        self._log_file = log_file
        # Writers may wait for a lock; readers must find threads free meanwhile.
        self._readers = ThreadPoolExecutor(24, "hub-reader")
        self._writers = ThreadPoolExecutor(16, "hub-writer")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        started = time.perf_counter()
        seen = {"status": 0, "bytes": 0, "received": 0}
        noted = False

        def note() -> None:
            nonlocal noted
            if not noted:
                noted = True
                self._note(scope, seen, time.perf_counter() - started)

        async def receiving() -> Message:
            message = await receive()
            seen["received"] += len(message.get("body", b""))
            return message

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            else:
                seen["bytes"] += len(message.get("body", b""))
                if not message.get("more_body"):  # who has the answer finds its line in the log
                    note()
            await send(message)

        try:
            await self._answer(scope, receiving, counting)
        finally:
            note()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        buffered: BufferedBody | None = None
        route: Route | None = None
        body = BodyStream(receive, self.hub.limits.body_pause_s)
        try:
            call = self._call(scope)
            scope["localhub.user"] = call.who.user
            route = self._find(scope["raw_path"].decode("latin-1"), call)
            loop = asyncio.get_running_loop()
            workers = self._readers if call.method == "GET" else self._writers
            most = await loop.run_in_executor(self._readers, route.guard, call)
            buffered = call.body = BufferedBody(self.hub.root, most, on_disk=route.on_disk)
            await body.into(buffered)
            reply = await loop.run_in_executor(workers, route.handler, call)
        except HubError as exc:
            reply = error_reply(exc)
            if exc.status == 401 and route is not None and route.for_people:
                reply.headers["WWW-Authenticate"] = 'Basic realm="Hub: any user name, the token as password"'
        except NoSuchRepository:  # deleted between the guard and the handler
            log.info("repository vanished during %s", scope["raw_path"], exc_info=True)
            reply = error_reply(repo_not_found(anonymous=False))
        except ClientGone:
            return
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["raw_path"].decode("latin-1"))
            reply = error_reply(HubError(500, "Internal error of the local Hub; its log says more"))
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
        host = headers.get("host", "")
        if not _HOST.fullmatch(host):
            host = "{}:{}".format(*scope["server"])
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        self._same_site(method, headers, host)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=100))
        scheme = "https" if headers.get("x-forwarded-proto") == "https" else scope["scheme"]
        authorization = headers.get("authorization")
        # The data paths carry their own signed claims; their tokens are none of tokens.json.
        own = not scope["raw_path"].startswith((b"/_cas/", b"/_lfs/"))
        who = self.hub.authority.identify(authorization) if own else Identity()
        body = BufferedBody(self.hub.root, IN_MEMORY)
        return Call(self.hub, method, {}, query, headers, f"{scheme}://{host}", who, body)

    def _same_site(self, method: str, headers: dict[str, str], host: str) -> None:
        """A web page of somebody else must not use the visitor's browser to change, or read, a Hub without tokens."""
        if method != "GET":
            origin = headers.get("origin")
            elsewhere = origin is not None and urlsplit(origin).netloc != host
            if elsewhere or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                raise HubError(403, "Requests from other web sites are refused")
        name = re.sub(r":\d+$", "", host)
        if self.hub.authority.open_house() and name not in _LOOPBACK_NAMES and not name.startswith("127."):
            raise HubError(403, f"A Hub without tokens answers to loopback addresses only, not to {name!r}")

    def _find(self, raw_path: str, call: Call) -> Route:
        methods = set()
        for route in ROUTES:
            found = route.pattern.fullmatch(raw_path)
            if found is None:
                continue
            if route.method != call.method:
                methods.add(route.method)
                continue
            call.args = {key: unquote(value) for key, value in found.groupdict(default="models").items()}
            if call.args.get("kind") == "spaces":
                raise repo_not_found(anonymous=False)
            return route
        if methods:
            raise HubError(405, "Method not allowed", headers={"Allow": ", ".join(sorted(methods))})
        raise HubError(404, "Not found", "RepoNotFound" if raw_path.startswith("/api/") else None)

    def _note(self, scope: Scope, seen: dict[str, int], seconds: float) -> None:
        """One line per request. Never the query or the headers: they hold signed claims and tokens."""
        if self._log_file is None:
            return
        row = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "status": seen["status"],  # 0: the connection was cut before an answer
            "ms": round(seconds * 1000, 1),
            "bytes": seen["bytes"],
            "received": seen["received"],  # of the request's body
            "user": scope.get("localhub.user") or "-",
        }
        with self._log_file.open("a") as handle:  # opened each time, so that the file can be moved away
            handle.write(json.dumps(row) + "\n")
