"""API calls about repositories, their branches, tags and commits."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from dulwich.objects import ObjectID

from evokd_data.localhub.attributes import DEFAULT_ATTRIBUTES
from evokd_data.localhub.card import card_tags, read_card
from evokd_data.localhub.commit import PULLS, commit
from evokd_data.localhub.errors import HubError, bad_request, repo_not_found, revision_not_found
from evokd_data.localhub.names import RepoId, check_new_ref, check_repo_id
from evokd_data.localhub.store import HEADS, TAGS, NoSuchRepository, ObjectBatch, Repository, iso_date, new_tag
from evokd_data.localhub.trees import Listing
from evokd_data.localhub.wire import Call, Reply, json_reply

_COMMITS_PER_PAGE = 50


def whoami(call: Call) -> Reply:
    """The caller's name, organisations and role."""
    if call.caller.anonymous:
        raise HubError(401, "Invalid credentials in Authorization header")
    role = "read" if call.caller.role == "read" else "write"
    return json_reply(
        {
            "type": "user",
            "id": hashlib.sha256(call.caller.user.encode()).hexdigest()[:24],
            "name": call.caller.user,
            "fullname": call.caller.user,
            "email": None,
            "isPro": False,
            "orgs": [{"type": "org", "name": org, "fullname": org} for org in call.caller.orgs],
            "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": role}},
        }
    )


def create_repo(call: Call) -> Reply:
    """A new repository with a `.gitattributes`; 409 if it exists."""
    request = call.json()
    repo_id = _repo_id(call, request)
    if not call.caller.may_write(repo_id):
        raise HubError(403, f"You don't have the rights to create a repository in the namespace {repo_id.namespace!r}")
    private = request.get("visibility") == "private" or request.get("private") is True
    url = f"{call.endpoint}/{repo_id.url_path}"
    call.hub.root.require_space(0)
    created = call.hub.store.create(
        repo_id, private=private, first_files={".gitattributes": DEFAULT_ATTRIBUTES}, author=call.author
    )
    answer = {"url": url, "name": str(repo_id), "id": str(repo_id)}
    if not created:
        # A client with `exist_ok` reads the url from this answer.
        raise HubError(409, "You already created this repository", fields=answer)
    return json_reply(answer)


def delete_repo(call: Call) -> Reply:
    """Delete a repository."""
    repo_id = _repo_id(call, call.json())
    call.hub.require(call.caller, repo_id, write=True)
    if not call.hub.store.delete(repo_id):
        raise repo_not_found(anonymous=False)
    return json_reply({"success": True})


def _repo_id(call: Call, request: dict[str, Any]) -> RepoId:
    name, namespace = request.get("name"), request.get("organization")
    if not isinstance(name, str) or not isinstance(namespace, str | None):
        raise bad_request("a repository needs a name")
    if call.caller.anonymous:
        raise HubError(401, "Invalid credentials in Authorization header")
    if "/" in name and not namespace:
        namespace, _, name = name.partition("/")
    kind = {"dataset": "datasets", "model": "models", None: "models"}.get(request.get("type"))
    if kind is None:
        raise bad_request("this Hub keeps datasets and models only")
    return check_repo_id(kind, namespace or call.caller.user, name)


def update_settings(call: Call) -> Reply:
    """Make a repository private or public; other settings are ignored."""
    request = call.json()
    private = request["visibility"] == "private" if "visibility" in request else request.get("private")
    if isinstance(private, bool):
        call.hub.store.set_private(call.repo_id, private)
    return json_reply({"private": private})


def list_repos(call: Call) -> Reply:
    """The repositories of a kind that the caller may see."""
    author, text = call.query.get("author"), call.query.get("search", "").lower()
    limit = _number(call, "limit", 1000, 10_000)
    rows: list[dict[str, Any]] = []
    for repo_id in call.hub.store.all(call.args["kind"]):
        if (author and repo_id.namespace != author) or text not in str(repo_id).lower() or len(rows) >= limit:
            continue
        try:
            with call.hub.store.open(repo_id) as repo:
                if call.caller.may_read(repo_id, private=repo.private):
                    rows.append(_info(repo, repo.resolve("main"), siblings=False, blobs=False))
        except (NoSuchRepository, HubError):
            continue  # deleted meanwhile, or without a main branch
    return json_reply(rows)


def repo_info(call: Call) -> Reply:
    """A repository at a revision, with its files."""
    with call.hub.store.open(call.repo_id) as repo:
        commit_id = repo.resolve(call.args.get("rev", "main"))
        return json_reply(_info(repo, commit_id, siblings=True, blobs=call.flag("blobs")))


def _info(repo: Repository, commit_id: bytes, *, siblings: bool, blobs: bool) -> dict[str, Any]:
    listing = Listing(repo, commit_id)
    card, _ = read_card((listing.read("README.md") or b"").decode("utf-8", "replace"))
    name = str(repo.id)
    info: dict[str, Any] = {
        "_id": hashlib.sha256(repo.id.url_path.encode()).hexdigest()[:24],
        "id": name,
        "author": repo.id.namespace,
        "sha": commit_id.decode(),
        "lastModified": iso_date(repo.commit(commit_id).commit_time),
        "createdAt": iso_date(datetime.fromisoformat(repo.meta["created"]).timestamp()),
        "private": repo.private,
        "disabled": False,
        "gated": False,
        "downloads": 0,
        "likes": 0,
        "tags": card_tags(card),
        "cardData": card,
    }
    if repo.id.kind == "models":
        info["modelId"] = name
    if siblings:
        rows = info["siblings"] = []
        for entry in listing.entries(recursive=True):
            if entry.folder:
                continue
            row: dict[str, Any] = {"rfilename": entry.path}
            if blobs:
                row |= {"size": entry.size, "blobId": entry.oid}
                if entry.lfs:
                    size = len(entry.lfs.encode())
                    row["lfs"] = {"sha256": entry.lfs.oid, "size": entry.lfs.size, "pointerSize": size}
            rows.append(row)
    return info


def auth_check(call: Call) -> Reply:
    """Success; the route's guard has checked the caller's rights."""
    return json_reply({"success": True})


def list_refs(call: Call) -> Reply:
    """Branches and tags, and pull requests if asked for."""

    def rows(prefix: bytes) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"{prefix.decode()}{name}", "targetCommit": commit_id}
            for name, commit_id in repo.names(prefix).items()
        ]

    with call.hub.store.open(call.repo_id) as repo:
        answer = {"branches": rows(HEADS), "converts": [], "tags": rows(TAGS)}
        if call.flag("include_prs"):
            answer["pullRequests"] = rows(PULLS)
        return json_reply(answer)


def list_commits(call: Call) -> Reply:
    """One page of the commits of a revision, newest first."""
    per_page = _number(call, "limit", _COMMITS_PER_PAGE, 1000)
    page = _number(call, "p", 0, 1_000_000)
    with call.hub.store.open(call.repo_id) as repo:
        start = repo.resolve(call.args["rev"])
        walk = repo.git.get_walker(include=[ObjectID(start)], max_entries=(page + 1) * per_page + 1)
        commits = [entry.commit for entry in walk][page * per_page :]
        rows = []
        for git_commit in commits[:per_page]:
            title, _, message = git_commit.message.decode("utf-8", "replace").partition("\n")
            user = git_commit.author.decode("utf-8", "replace").partition(" <")[0]
            rows.append(
                {
                    "id": git_commit.id.decode(),
                    "title": title,
                    "message": message.strip("\n"),
                    "date": iso_date(git_commit.commit_time),
                    "authors": [{"user": user}],
                }
            )
    headers = {}
    if len(commits) > per_page:
        # The link names the commit, not the branch: a new commit must not shift the pages.
        url = f"{call.endpoint}/api/{call.args['kind']}/{call.repo_id}/commits/{start.decode()}"
        headers["Link"] = f'<{url}?p={page + 1}&limit={per_page}>; rel="next"'
    return json_reply(rows, headers=headers)


def create_branch(call: Call) -> Reply:
    """A new branch at a revision, `main` by default; 409 if it exists."""
    name = check_new_ref(call.args["rev"])
    start = call.json().get("startingPoint") or "main"
    with call.hub.store.writing(call.repo_id) as repo:
        if not repo.set_ref(HEADS + name.encode(), None, repo.resolve(str(start))):
            raise HubError(409, f"Reference already exists: refs/heads/{name}")
    return json_reply({"success": True}, 201)


def delete_branch(call: Call) -> Reply:
    """Delete a branch other than `main`."""
    if call.args["rev"] == "main":
        raise HubError(403, "The branch main cannot be deleted")
    return _delete_ref(call, HEADS)


def create_tag(call: Call) -> Reply:
    """A new tag at a revision, annotated if it has a message; 409 if it exists."""
    request = call.json()
    name, message = check_new_ref(str(request.get("tag", ""))), request.get("message")
    with call.hub.store.writing(call.repo_id) as repo:
        target = repo.resolve(call.args["rev"])
        ref = TAGS + name.encode()
        if ref in repo.refs:
            raise HubError(409, f"Tag reference exists already: refs/tags/{name}")
        if message:
            batch = ObjectBatch(repo)
            target = batch.add(new_tag(name.encode(), target, call.author, f"{message}\n".encode("utf-8", "replace")))
            batch.flush()
        if not repo.set_ref(ref, None, target):
            raise HubError(409, f"Tag reference exists already: refs/tags/{name}")
    return json_reply({"success": True}, 201)


def delete_tag(call: Call) -> Reply:
    """Delete a tag."""
    return _delete_ref(call, TAGS)


def _delete_ref(call: Call, prefix: bytes) -> Reply:
    name = call.args["rev"]
    with call.hub.store.writing(call.repo_id) as repo:
        if not repo.delete_ref(prefix + name.encode("utf-8", "replace")):
            raise revision_not_found(name)
    return Reply(204)


def make_commit(call: Call) -> Reply:
    """A commit on a branch, or a pull request; see `commit`."""
    hub = call.hub
    hub.root.require_space(call.body.size)
    with call.body.open() as body:
        result = commit(
            hub.store,
            hub.lfs,
            call.repo_id,
            call.args["rev"],
            body,
            call.author,
            hub.limits,
            pull=call.flag("create_pr"),
        )
    url = f"{call.endpoint}/{call.repo_id.url_path}"
    answer: dict[str, Any] = {
        "success": True,
        "commitOid": result.commit,
        "commitUrl": f"{url}/commit/{result.commit}",
        "hookOutput": "",
    }
    if result.pull is not None:
        answer["pullRequestUrl"] = f"{url}/discussions/{result.pull}"
    return json_reply(answer)


def validate_yaml(call: Call) -> Reply:
    """Whether a README's metadata can be committed."""
    content = call.json().get("content")
    if not isinstance(content, str):
        raise bad_request("content must be text", errors=[{"message": "content must be text"}], warnings=[])
    _, problem = read_card(content)
    errors = [{"message": problem}] if problem else []
    return json_reply({"errors": errors, "warnings": []}, 400 if errors else 200)


def _number(call: Call, name: str, default: int, maximum: int) -> int:
    text = call.query.get(name, "")
    return min(int(text), maximum) if text.isascii() and text.isdigit() and len(text) < 10 else default
