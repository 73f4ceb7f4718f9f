"""The routes of the Hub: which request goes to which handler, and who may ask.

Routing works on the raw path. A revision arrives as one segment whose slashes are quoted (`refs%2Fpr%2F1`). Web frameworks
decode the path first, and so would split the revision.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from evokd_data.localhub import api_files, api_repos, api_transfer, pages, xet
from evokd_data.localhub.errors import HubError, repo_not_found
from evokd_data.localhub.lfs import DOWNLOAD, UPLOAD
from evokd_data.localhub.limits import Limits
from evokd_data.localhub.wire import Call, Reply

Guard = Callable[[Call], int]
"""Returns the bytes that the body of a call may have. Raises HubError if the caller may not make the call."""


@dataclass(frozen=True)
class Route:
    """A method, a pattern of raw paths, and the handler of the calls that match both.

    `for_people`: git or a browser makes the call; they send a password only after an answer asks for it. `on_disk`: the body
    goes into a file whatever its size, because the handler keeps that file.
    """

    method: str
    pattern: re.Pattern[str]
    handler: Callable[[Call], Reply]
    guard: Guard
    for_people: bool = False
    on_disk: bool = False


def _route(method: str, template: str, handler: Callable[[Call], Reply], guard: Guard, **flags: bool) -> Route:
    """A route whose template has names: `{x}` is one raw segment, `{x*}` all that follow, `{kind}` and `{repo}` a repository."""
    text = re.escape(template).replace(r"\{", "{").replace(r"\}", "}").replace(r"\*", "*")
    text = text.replace("{repo}", r"(?:(?P<kind>datasets|models)/)?(?!api/|datasets/|models/|spaces/|_){ns}/{name}")
    text = text.replace("{kind}", "(?P<kind>datasets|models|spaces)")
    text = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.*)", text)
    text = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", text)
    return Route(method, re.compile(text), handler, guard, **flags)


def _anyone(call: Call) -> int:
    return call.hub.limits.json_body


def _reader(call: Call) -> int:
    call.hub.require(call.caller, call.repo_id, write=False)
    return call.hub.limits.json_body


def _writer(call: Call) -> int:
    call.hub.require(call.caller, call.repo_id, write=True)
    return call.hub.limits.json_body


def _committer(call: Call) -> int:
    _writer(call)
    return call.hub.limits.commit_body


def _linked(purpose: str) -> Guard:
    """For calls whose link carries a signed claim to one object."""

    def guard(call: Call) -> int:
        """Check the claim and set `call.claim`."""
        call.claim = call.hub.signer.open(purpose, call.query.get("claim", ""))
        if call.claim["oid"] != call.args["oid"]:
            raise HubError(403, "This link is for another object")
        return int(call.claim["size"]) if call.method == "PUT" else call.hub.limits.json_body

    return guard


def _cas(limit: Callable[[Limits], int]) -> Guard:
    """For calls of the Xet protocol, whose token is a signed claim to one CAS address."""

    def guard(call: Call) -> int:
        """Check the claim and set `call.claim`."""
        token = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
        try:
            call.claim = call.hub.signer.open(xet.WRITE, token)
        except HubError as exc:
            raise HubError(401, exc.message) from None  # 401 makes hf_xet ask for a new token
        if call.claim["address"] != call.args["address"]:
            raise HubError(403, "This token is for another address")
        return limit(call.hub.limits)

    return guard


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
        _cas(lambda limits: limits.xorb),
        on_disk=True,
    ),
    _route("POST", "/_cas/{address}/v1/shards", api_transfer.xet_shard, _cas(lambda limits: limits.shard)),
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


def find_route(method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
    """The route of a call, and the decoded parts of the path by their names in the route's template.

    Raises HubError 404 for an unknown path, and 405 for a known path with another method.
    """
    allowed = set()
    for route in ROUTES:
        match = route.pattern.fullmatch(raw_path)
        if match is None:
            continue
        if route.method != method:
            allowed.add(route.method)
            continue
        args = {key: unquote(value) for key, value in match.groupdict(default="models").items()}
        if args.get("kind") == "spaces":
            raise repo_not_found(anonymous=False)
        return route, args
    if allowed:
        raise HubError(405, "Method not allowed", headers={"Allow": ", ".join(sorted(allowed))})
    raise HubError(404, "Not found", "RepoNotFound" if raw_path.startswith("/api/") else None)
