"""Transfer of content outside of the API: LFS links, uploads by Xet, git clone."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import time
import zlib
from collections.abc import Callable
from typing import IO, Any, BinaryIO

from dulwich.errors import GitProtocolError, HangupException
from dulwich.protocol import ReceivableProtocol
from dulwich.repo import Repo
from dulwich.server import Backend, UploadPackHandler

from evokd_data.localhub import xet
from evokd_data.localhub.api_files import apply_range
from evokd_data.localhub.errors import HubError, bad_request, entry_not_found
from evokd_data.localhub.lfs import answer_batch
from evokd_data.localhub.names import SHA256, RepoId
from evokd_data.localhub.wire import Call, Reply, json_reply

_LFS_JSON = "application/vnd.git-lfs+json"


# --- LFS ---------------------------------------------------------------------------------------------------------


def lfs_batch(call: Call) -> Reply:
    """Links to upload or download large files."""
    hub, request = call.hub, call.json()
    if request.get("operation") == "upload":
        hub.require(call.caller, call.repo_id, write=True)
    with hub.store.open(call.repo_id) as repo:
        answer = answer_batch(request, repo, hub.lfs, hub.signer, call.endpoint, hub.limits)
    return json_reply(answer, headers={"Content-Type": _LFS_JSON})


def lfs_upload(call: Call) -> Reply:
    """Store the body as a large file of the repository that the link names."""
    oid = call.args["oid"]
    if call.body.size != call.claim["size"] or call.body.sha256 != oid:
        raise bad_request(
            f"received {call.body.size} bytes with sha256 {call.body.sha256}, not {call.claim['size']} bytes with sha256 {oid} as announced"
        )
    call.hub.lfs.adopt(call.body.take_file(), oid)
    with call.hub.store.open(_claimed_repo_id(call)) as repo:
        repo.add_large_file(oid)
    return Reply(200, headers={"ETag": f'"{oid}"'})


def lfs_verify(call: Call) -> Reply:
    """Whether an upload arrived."""
    if call.hub.lfs.size(call.args["oid"]) != call.claim["size"]:
        raise HubError(404, "the object did not arrive")
    return json_reply({}, headers={"Content-Type": _LFS_JSON})


def lfs_download(call: Call) -> Reply:
    """The bytes of a large file."""
    oid = call.args["oid"]
    size = call.hub.lfs.size(oid)
    if size is None:
        raise entry_not_found("no such object")
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": f'"{oid}"'}
    reply = Reply(headers=headers, file=call.hub.lfs.path(oid), span=(0, size))
    return apply_range(reply, call.headers.get("range"), size)


def _claimed_repo_id(call: Call) -> RepoId:
    return RepoId(call.claim["kind"], call.claim["ns"], call.claim["name"])


# --- Xet ---------------------------------------------------------------------------------------------------------


def xet_token(call: Call) -> Reply:
    """The CAS address of the caller and a token for it, in the headers and in the body."""
    hub, repo_id = call.hub, call.repo_id
    address = hub.staging.address(call.caller.user)
    claim = {"address": address, "kind": repo_id.kind, "ns": repo_id.namespace, "name": repo_id.name}
    token = hub.signer.sign(xet.WRITE, claim, xet.TOKEN_TTL_S)
    url, expires = f"{call.endpoint}/_cas/{address}", int(time.time()) + xet.TOKEN_TTL_S
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
    return json_reply({"casUrl": url, "accessToken": token, "exp": expires}, headers=headers)


def xet_xorb(call: Call) -> Reply:
    """Stage a xorb."""
    if not SHA256.fullmatch(call.args["xorb"]):
        raise bad_request("a xorb is named by 64 hex digits")
    fresh = call.hub.staging.add(call.args["address"], call.args["xorb"], call.body.take_file())
    return json_reply({"was_inserted": fresh})


def xet_shard(call: Call) -> Reply:
    """Store the files of a shard in the repository that the token names."""
    hub = call.hub
    with call.body.open() as body:
        oids = xet.store_files(body, hub.staging, call.args["address"], hub.lfs, hub.limits)
    with hub.store.open(_claimed_repo_id(call)) as repo:
        for oid in oids:
            repo.add_large_file(oid)
    return json_reply({"result": 1})


# --- git clone and fetch -------------------------------------------------------------------------------------------
# A push is refused, because it would avoid the checks of a commit. A clone gets large files as pointers; `git lfs` downloads
# them by the batch call above, whose address it derives from the address of the clone.


class _SingleRepository(Backend):
    """The one repository that dulwich serves in a call, whatever path it asks for."""

    def __init__(self, git: Repo) -> None:
        self._git = git

    def open_repository(self, path: str) -> Any:
        """The repository."""
        return self._git


def git_refs(call: Call) -> Reply:
    """The first call of git clone and fetch: the refs of the repository."""
    if call.query.get("service") != "git-upload-pack":
        raise HubError(403, "This Hub takes commits through its API only: clone and fetch, but do not push")
    with call.hub.store.open(call.repo_id) as repo:
        out = io.BytesIO()
        protocol = _protocol(io.BytesIO().read, out)
        handler = UploadPackHandler(
            _SingleRepository(repo.git), [""], protocol, stateless_rpc=True, advertise_refs=True
        )
        protocol.write_pkt_line(b"# service=git-upload-pack\n")
        protocol.write_pkt_line(None)
        handler.handle()
    headers = {"Content-Type": "application/x-git-upload-pack-advertisement", "Cache-Control": "no-cache"}
    return Reply(200, out.getvalue(), headers)


def git_upload_pack(call: Call) -> Reply:
    """The second call of git clone and fetch: a pack with the objects that the client lacks."""
    limit = call.hub.limits.git_request
    with call.body.open() as body, call.hub.store.open(call.repo_id) as repo:
        request: IO[bytes] = body
        if call.headers.get("content-encoding") == "gzip":
            try:
                with gzip.GzipFile(fileobj=body) as packed:
                    plain = packed.read(limit + 1)
            except (OSError, EOFError, zlib.error) as exc:
                raise bad_request(f"the body is not gzip: {exc}") from None
            if len(plain) > limit:
                raise HubError(413, f"a git request may have at most {limit} bytes")
            request = io.BytesIO(plain)
        # On disk, because the pack may be large. The application closes the file after it has sent the reply.
        out: Any = tempfile.TemporaryFile(dir=call.hub.root.tmp)  # noqa: SIM115
        try:
            protocol = _protocol(request.read, out)
            UploadPackHandler(_SingleRepository(repo.git), [""], protocol, stateless_rpc=True).handle()
        except (GitProtocolError, HangupException, AssertionError, ValueError) as exc:
            out.close()
            raise bad_request(f"not a git request: {exc}") from None
    headers = {"Content-Type": "application/x-git-upload-pack-result", "Cache-Control": "no-cache"}
    return Reply(200, headers=headers, file=out, span=(0, out.tell()))


def git_push(call: Call) -> Reply:
    """Refuse a push."""
    raise HubError(403, "This Hub takes commits through its API only: clone and fetch, but do not push")


def _protocol(read: Callable[[int], bytes], out: BinaryIO) -> ReceivableProtocol:
    return ReceivableProtocol(read, out.write)


def ignore(call: Call) -> Reply:
    """Answer telemetry and drop it."""
    return Reply(200, json.dumps({}).encode(), {"Content-Type": "application/json"})
