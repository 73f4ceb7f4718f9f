"""API calls about the files of a repository: listing, looking up, preparing an upload, downloading."""

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
    """One page of the entries of a folder."""
    expand = call.flag("expand")
    per_page = _PER_PAGE_EXPANDED if expand else _PER_PAGE
    limit, cursor = call.query.get("limit", ""), call.query.get("cursor", "")
    if limit.isascii() and limit.isdigit() and limit != "0":
        per_page = min(per_page, int(limit[:9]))
    start = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 10 else 0
    path = call.args.get("path", "").strip("/")
    with call.hub.store.open(call.repo_id) as repo:
        listing = Listing(repo, repo.resolve(call.args["rev"]))
        entries = list(islice(listing.entries(path, recursive=call.flag("recursive")), start, start + per_page + 1))
        rows = _rows(repo, listing, entries[:per_page], expand)
    headers = {}
    if len(entries) > per_page:
        # The link names the commit, not the branch: all pages must list the same commit.
        url = f"{call.endpoint}/api/{call.args['kind']}/{call.repo_id}/tree/{listing.commit.decode()}"
        query = "&".join(
            f"{key}={quote(call.query[key])}" for key in ("recursive", "expand", "limit") if key in call.query
        )
        next_page = f"{url}{'/' + quote(path, safe='') if path else ''}?{query}&cursor={start + per_page}"
        headers["Link"] = f'<{next_page}>; rel="next"'
    return json_reply(rows, headers=headers)


def paths_info(call: Call) -> Reply:
    """The entries of given paths; paths that do not exist are left out."""
    if call.headers.get("content-type", "").startswith("application/json"):
        request = call.json()
        value = request.get("paths", [])
        paths = [str(path) for path in value] if isinstance(value, list) else [str(value)]
        expand = bool(request.get("expand"))
    else:
        form = call.form()
        paths = [value for key, value in form if key == "paths"]
        expand = any(key == "expand" and value.lower() in ("true", "1") for key, value in form)
    if len(paths) > call.hub.limits.paths_info:
        raise HubError(413, f"at most {call.hub.limits.paths_info} paths per call")
    with call.hub.store.open(call.repo_id) as repo:
        listing = Listing(repo, repo.resolve(call.args["rev"]))
        entries = [entry for path in paths if (entry := listing.get(path.strip("/"))) is not None]
        return json_reply(_rows(repo, listing, entries, expand))


def _rows(repo: Repository, listing: Listing, entries: list[Entry], expand: bool) -> list[dict[str, Any]]:
    """Entries as the API lists them; with `expand`, each with the last commit that changed it."""
    rows = [entry.as_json() for entry in entries]
    if expand:
        _add_last_commits(repo, listing, {entry.path: row for entry, row in zip(entries, rows, strict=True)})
        for row in rows:
            row["securityFileStatus"] = None
    return rows


def _add_last_commits(repo: Repository, listing: Listing, row_by_path: dict[str, dict[str, Any]]) -> None:
    """Walk back along first parents. An entry that the parent lacks, or has with another content, changed in the commit."""
    while row_by_path:
        commit = repo.commit(listing.commit)
        older = Listing(repo, commit.parents[0]) if commit.parents else None
        for path, row in list(row_by_path.items()):
            older_entry = older.get(path) if older else None
            if older_entry is None or older_entry.oid != row["oid"]:
                title = commit.message.decode("utf-8", "replace").partition("\n")[0]
                date = iso_date(commit.commit_time)
                row["lastCommit"] = {"id": commit.id.decode(), "title": title, "date": date}
                del row_by_path[path]
        if older is None:
            break
        listing = older


def preupload(call: Call) -> Reply:
    """Whether each file is sent as a large or a regular file, or ignored.

    `oid` is the content that the path has now, so that clients can drop operations that change nothing.
    """
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
    """The bytes of a file. Clients ask with HEAD first, so the headers alone name the commit, the content and its size."""
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


def apply_range(reply: Reply, header: str | None, size: int) -> Reply:
    """The reply, cut to the one range of bytes that a Range header names.

    Several ranges, or an unknown unit, get the whole file, as the standard allows. Raises HubError 416 for a range outside
    of the file.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return reply
    if match[1]:
        first, last = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
        if match[2] and int(match[2]) < first:
            return reply
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first >= size or last < first:
        headers = {key: value for key, value in reply.headers.items() if not key.startswith("Content-")}
        headers["Content-Range"] = f"bytes */{size}"
        raise HubError(416, "Range not satisfiable", headers=headers)
    reply.status, reply.span = 206, (first, last + 1)
    reply.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return reply
