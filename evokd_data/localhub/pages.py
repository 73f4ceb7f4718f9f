"""Pages for a browser: the repositories of the Hub, and the tags, README and files of each."""

from __future__ import annotations

from html import escape
from itertools import islice
from urllib.parse import quote

from evokd_data.localhub.errors import HubError
from evokd_data.localhub.names import KINDS
from evokd_data.localhub.store import HEADS, TAGS, NoSuchRepository, iso_date
from evokd_data.localhub.trees import Listing
from evokd_data.localhub.wire import Call, Reply

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "pre{background:#f6f6f6;padding:1rem;overflow:auto;white-space:pre-wrap}td{padding:.1rem 1rem .1rem 0}"
    "a{color:#0550ae;text-decoration:none}small{color:#777}"
)
_MAX_FILES = 1000


def index(call: Call) -> Reply:
    """The page of the Hub: the repositories that the caller may see."""
    parts = ["<h1>Local Hub</h1>"]
    for kind in KINDS:
        rows = []
        for repo_id in call.hub.store.all(kind):
            try:
                with call.hub.store.open(repo_id) as repo:
                    if not call.caller.may_read(repo_id, private=repo.private):
                        continue
                    head = repo.resolve("main")
                    changed, tags = iso_date(repo.commit(head).commit_time), len(repo.refs.as_dict(TAGS))
                    private = " <small>private</small>" if repo.private else ""
            except (NoSuchRepository, HubError):
                continue
            rows.append(
                f'<tr><td><a href="/{repo_id.url_path}">{escape(str(repo_id))}</a>{private}</td>'
                f"<td>{head.decode()[:7]}</td><td>{changed[:10]} {changed[11:16]}</td><td>{tags} tags</td></tr>"
            )
        parts.append(f"<h2>{kind}</h2>" + (f"<table>{''.join(rows)}</table>" if rows else "<p>none yet</p>"))
    parts.append(f"<p><small>Clients: <code>export HF_ENDPOINT={escape(call.endpoint)}</code></small></p>")
    return _page("Local Hub", "".join(parts))


def repository(call: Call) -> Reply:
    """The page of a repository at a revision."""
    revision, repo_id = call.args.get("rev", "main"), call.repo_id
    base = f"/{repo_id.url_path}"
    with call.hub.store.open(repo_id) as repo:
        commit = repo.resolve(revision)
        listing = Listing(repo, commit)
        readme = (listing.read("README.md") or b"").decode("utf-8", "replace")
        files = [entry for entry in islice(listing.entries(recursive=True), _MAX_FILES + 1) if not entry.folder]
        refs = {"branches": repo.names(HEADS), "tags": repo.names(TAGS)}
        message = repo.commit(commit).message.decode("utf-8", "replace")
    parts = [f'<p><a href="/">Local Hub</a></p><h1>{escape(str(repo_id))}</h1>']
    parts.append(f"<p><small>{escape(repo_id.kind)} at {escape(revision)}, commit {commit.decode()}</small></p>")
    parts.append(f"<p>{escape(message.partition(chr(10))[0])}</p>")
    for title, names in refs.items():
        links = (f'<a href="{base}/tree/{quote(name, safe="")}">{escape(name)}</a>' for name in names)
        parts.append(f"<p>{title}: {', '.join(links) or 'none'}</p>")
    rows = (
        f'<tr><td><a href="{base}/resolve/{commit.decode()}/{quote(entry.path)}">{escape(entry.path)}</a></td>'
        f"<td>{entry.size:,}</td></tr>"
        for entry in files[:_MAX_FILES]
    )
    parts.append(f"<table>{''.join(rows)}</table>")
    parts.append(f"<pre>{escape(readme[:200_000])}</pre>" if readme else "<p>no README.md</p>")
    return _page(str(repo_id), "".join(parts))


def _page(title: str, body: str) -> Reply:
    text = f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>{body}"
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return Reply(200, text.encode(), headers)
