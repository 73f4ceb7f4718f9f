"""Files of a repository: listing, looking up, preparing an upload, downloading."""

from __future__ import annotations

import base64
import binascii
import io
import re
from itertools import islice
from typing import Any
from urllib.parse import quote

from evokd_data.localhub.attributes import ignore_rule, lfs_rule
from evokd_data.localhub.errors import HubError, bad_request, entry_not_found
from evokd_data.localhub.names import check_path
from evokd_data.localhub.store import Repository, iso_date
from evokd_data.localhub.trees import Entry, Listing
from evokd_data.localhub.wire import Call, Reply, json_reply

_PER_PAGE, _PER_PAGE_EXPANDED = 1000, 50
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def tree(call: Call) -> Reply:
    expand = call.flag("expand")
    per_page = _PER_PAGE_EXPANDED if expand else _PER_PAGE
    limit, cursor = call.query.get("limit", ""), call.query.get("cursor", "")
    if limit.isascii() and limit.isdigit() and limit != "0":
        per_page = min(per_page, int(limit[:9]))
    start = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 10 else 0
    path = call.args.get("path", "").strip("/")
    with call.hub.store.open(call.repo_id) as repo:
        listing = Listing(repo, repo.resolve(call.args["rev"]))
        found = list(islice(listing.entries(path, recursive=call.flag("recursive")), start, start + per_page + 1))
        rows = _expanded(repo, listing, found[:per_page]) if expand else [entry.as_json() for entry in found[:per_page]]
    headers = {}
    if len(found) > per_page:
        # The commit, not the branch: pages of one listing must belong together.
        url = f"{call.endpoint}/api/{call.args['kind']}/{call.repo_id}/tree/{listing.commit.decode()}"
        query = "&".join(
            f"{key}={quote(call.query[key])}" for key in ("recursive", "expand", "limit") if key in call.query
        )
        next_page = f"{url}{'/' + quote(path, safe='') if path else ''}?{query}&cursor={start + per_page}"
        headers["Link"] = f'<{next_page}>; rel="next"'
    return json_reply(rows, headers=headers)


def paths_info(call: Call) -> Reply:
    if call.headers.get("content-type", "").startswith("application/json"):
        request = call.json()
        asked = request.get("paths", [])
        paths = [str(path) for path in asked] if isinstance(asked, list) else [str(asked)]
        expand = bool(request.get("expand"))
    else:
        form = call.form()
        paths = [value for key, value in form if key == "paths"]
        expand = any(key == "expand" and value.lower() in ("true", "1") for key, value in form)
    if len(paths) > call.hub.limits.paths_info:
        raise HubError(413, f"at most {call.hub.limits.paths_info} paths per call")
    with call.hub.store.open(call.repo_id) as repo:
        listing = Listing(repo, repo.resolve(call.args["rev"]))
        found = [entry for path in paths if (entry := listing.get(path.strip("/"))) is not None]
        return json_reply(_expanded(repo, listing, found) if expand else [entry.as_json() for entry in found])


def _expanded(repo: Repository, listing: Listing, entries: list[Entry]) -> list[dict[str, Any]]:
    """With the last commit that changed each entry, found by walking back along first parents."""
    rows = [entry.as_json() for entry in entries]
    waiting = dict(zip((entry.path for entry in entries), rows, strict=True))
    here = listing
    while waiting:
        commit = repo.commit(here.commit)
        older = Listing(repo, commit.parents[0]) if commit.parents else None
        for path, row in list(waiting.items()):
            before = older.get(path) if older else None
            if before is None or before.oid != row["oid"]:
                title = commit.message.decode("utf-8", "replace").partition("\n")[0]
                date = iso_date(commit.commit_time)
                row["lastCommit"] = {"id": commit.id.decode(), "title": title, "date": date}
                del waiting[path]
        if older is None:
            break
        here = older
    for row in rows:
        row["securityFileStatus"] = None
    return rows


def preupload(call: Call) -> Reply:
    """How each file is to be sent. `oid` is what the path holds now: clients drop operations that change nothing."""
    request = call.json()
    files = request.get("files")
    if not isinstance(files, list) or len(files) > 1000:
        raise bad_request("files must be a list of at most 1000")
    with call.hub.store.open(call.repo_id) as repo:
        listing = Listing(repo, repo.resolve(call.args["rev"]))
        is_large = lfs_rule(listing.read(".gitattributes"))
        gitignore = request.get("gitIgnore")
        is_ignored = ignore_rule(gitignore.encode() if isinstance(gitignore, str) else listing.read(".gitignore"))
        rows = []
        for file in files:
            try:
                path, size = check_path(file["path"]), int(file["size"])
                sample = base64.b64decode(file.get("sample", ""))
            except (TypeError, KeyError, ValueError, AttributeError, binascii.Error):
                raise bad_request("each file needs a path, a size and a base64 sample") from None
            row: dict[str, Any] = {
                "path": path,
                "uploadMode": "lfs" if is_large(path, size, sample) else "regular",
                "shouldIgnore": is_ignored(path),
            }
            entry = listing.get(path)
            if entry is not None and not entry.folder:
                row["oid"] = entry.etag
            rows.append(row)
    return json_reply({"files": rows})


def resolve(call: Call) -> Reply:
    """A file's bytes. The headers alone must tell everything: clients ask with HEAD first."""
    path = call.args["path"]
    with call.hub.store.open(call.repo_id) as repo:
        commit = repo.resolve(call.args["rev"])
        entry = Listing(repo, commit).get(path)
        if entry is None or entry.folder:
            raise entry_not_found(f"Entry not found: {path[:200]}", commit.decode())
        regular = None if entry.lfs else repo.read_blob(entry.oid.encode())
    headers = {
        "X-Repo-Commit": commit.decode(),
        "ETag": f'"{entry.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "text/plain; charset=utf-8" if regular is not None else "application/octet-stream",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2], safe='')}",
    }
    reply = Reply(200, headers=headers)
    if entry.lfs:
        headers["X-Linked-Size"], headers["X-Linked-Etag"] = str(entry.size), f'"{entry.etag}"'
        reply.file = call.hub.lfs.path(entry.lfs.oid)
        if call.hub.lfs.size(entry.lfs.oid) != entry.size:
            raise HubError(
                500, f"The content of {path[:200]} (sha256 {entry.lfs.oid}) is missing from this Hub's store"
            )
    else:
        reply.file = io.BytesIO(regular or b"")
    reply.span = (0, entry.size)
    return apply_range(reply, call.headers.get("range"), entry.size)


def apply_range(reply: Reply, wanted: str | None, size: int) -> Reply:
    """Answer one range of bytes; several at once, or a unit we do not know, get the whole file as the standard allows."""
    found = _RANGE.fullmatch(wanted.strip()) if wanted else None
    if found is None or not (found[1] or found[2]):
        return reply
    if found[1]:
        first, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
        if found[2] and int(found[2]) < first:
            return reply
    else:
        first, last = max(0, size - int(found[2])), size - 1
    if first >= size or last < first:
        headers = {key: value for key, value in reply.headers.items() if not key.startswith("Content-")}
        headers["Content-Range"] = f"bytes */{size}"
        raise HubError(416, "Range not satisfiable", headers=headers)
    reply.status, reply.span = 206, (first, last + 1)
    reply.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return reply
