"""Pages for a browser: the repositories of the Hub; and of each one its card, rows, commits and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from evokd_data.localhub.card import read_card
from evokd_data.localhub.card_page import rendered_card
from evokd_data.localhub.errors import HubError
from evokd_data.localhub.names import KINDS
from evokd_data.localhub.page_layout import page
from evokd_data.localhub.row_page import PER_PAGE, read_page, row_files, table_html
from evokd_data.localhub.store import HEADS, TAGS, NoSuchRepository, Repository, iso_date
from evokd_data.localhub.trees import Entry, Listing
from evokd_data.localhub.wire import Call, Reply

_MAX_FILES, _MAX_COMMITS = 1000, 100


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
                    commit = repo.commit(repo.resolve("main"))
                    tags = len(repo.refs.as_dict(TAGS))
                    private = " <small>private</small>" if repo.private else ""
            except (NoSuchRepository, HubError):
                continue
            rows.append(
                f'<tr><td><a href="/{repo_id.url_path}">{escape(str(repo_id))}</a>{private}</td>'
                f"<td>{_title(commit.message)}</td><td>{_minute(commit.commit_time)}</td><td>{tags} tags</td></tr>"
            )
        parts.append(f"<h2>{kind}</h2>" + (_table(rows) if rows else "<p class=muted>none yet</p>"))
    parts.append(f"<p><small>Clients: <code>export HF_ENDPOINT={escape(call.endpoint)}</code></small></p>")
    return page("Local Hub", "".join(parts))


def repository(call: Call) -> Reply:
    """The page of a repository at a revision. The query may name a config of the card, and the first of its rows to show."""
    revision, repo_id = call.args.get("rev", "main"), call.repo_id
    with call.hub.store.open(repo_id) as repo:
        commit = repo.resolve(revision)
        listing = Listing(repo, commit)
        readme = (listing.read("README.md") or b"").decode("utf-8", "replace")
        files = [entry for entry in islice(listing.entries(recursive=True), _MAX_FILES + 1) if not entry.folder]
        files_url = f"/{repo_id.url_path}/resolve/{commit.decode()}"
        sections = {
            "Card": f"<div class=card>{rendered_card(readme, files_url, listing.read)}</div>" if readme else "",
            "Rows": _rows_section(call, repo, row_files(read_card(readme)[0], files), revision),
            "Commits": _commits_section(call, repo, commit),
            "Files": _files_section(files, files_url),
        }
    shown = {title: html for title, html in sections.items() if html}
    links = "".join(f'<a href="#{title.lower()}">{title}</a>' for title in shown)
    parts = [f'<p><a href="/">Local Hub</a></p><h1>{escape(str(repo_id))}</h1>']
    parts.append(
        f"<p class=muted>{escape(repo_id.kind)} at {escape(revision)}, commit <code>{commit.decode()}</code></p>"
    )
    parts.append(f"<nav>{links}</nav>")
    parts += [f'<section id="{title.lower()}"><h2>{title}</h2>{html}</section>' for title, html in shown.items()]
    return page(str(repo_id), "".join(parts))


def _rows_section(call: Call, repo: Repository, configs: Mapping[str, Sequence[Entry]], revision: str) -> str:
    if not configs:
        return ""
    wanted = call.query.get("config", "")
    chosen = wanted if wanted in configs else next(iter(configs))
    start = call.query.get("from", "")
    first = int(start) if start.isascii() and start.isdigit() and len(start) < 10 else 0

    def link(config: str, row: int, words: str, current: bool = False) -> str:
        address = f"/{call.repo_id.url_path}/tree/{quote(revision, safe='')}?config={quote(config)}&from={row}#rows"
        return f'<a href="{escape(address)}"{" aria-current=page" if current else ""}>{escape(words)}</a>'

    choices = "".join(link(config, 0, config, config == chosen) for config in configs)
    result = read_page(
        (_content(call, repo, entry) for entry in configs[chosen]), first
    )  # one content in memory at a time
    if result.problem:
        return f"<p class=choices>{choices}</p><p class=muted>{escape(result.problem)}</p>"
    last = first + len(result.rows)
    steps = [link(chosen, max(0, first - PER_PAGE), "earlier rows")] if first else []
    steps += [link(chosen, last, "later rows")] if last < result.total else []
    place = f"<p class=choices><span class=muted>rows {first + 1:,} to {last:,} of {result.total:,}</span> {' '.join(steps)}</p>"
    return f"<p class=choices>{choices}</p>{table_html(result)}{place if result.rows else '<p class=muted>no rows here</p>'}"


def _content(call: Call, repo: Repository, entry: Entry) -> Path | bytes:
    return call.hub.lfs.path(entry.lfs.oid) if entry.lfs else repo.read_blob(entry.oid.encode())


def _commits_section(call: Call, repo: Repository, newest: bytes) -> str:
    """The commits from a revision back along first parents, each with its tags and branches."""
    names: dict[str, list[str]] = {}
    for prefix in (TAGS, HEADS):
        for name, target in repo.names(prefix).items():
            names.setdefault(target, []).append(name)
    rows: list[str] = []
    sha: bytes | None = newest
    while sha is not None and len(rows) < _MAX_COMMITS:
        commit = repo.commit(sha)
        tree = f"/{call.repo_id.url_path}/tree"
        refs = ", ".join(
            f'<a href="{tree}/{quote(name, safe="")}">{escape(name)}</a>' for name in names.get(sha.decode(), ())
        )
        rows.append(
            f'<tr><td><a href="{tree}/{sha.decode()}"><code>{sha.decode()[:7]}</code></a></td><td>{_title(commit.message)}</td>'
            f"<td>{refs}</td><td>{_minute(commit.commit_time)}</td></tr>"
        )
        sha = commit.parents[0] if commit.parents else None
    more = f"<p class=muted>the newest {_MAX_COMMITS}; git clone shows all</p>" if sha is not None else ""
    return _table(rows) + more


def _files_section(files: Sequence[Entry], files_url: str) -> str:
    rows = [
        f'<tr><td><a href="{files_url}/{quote(entry.path)}">{escape(entry.path)}</a></td><td>{entry.size:,} bytes</td></tr>'
        for entry in files[:_MAX_FILES]
    ]
    more = f"<p class=muted>the first {_MAX_FILES:,}; the API lists all</p>" if len(files) > _MAX_FILES else ""
    return _table(rows) + more


def _table(rows: Sequence[str]) -> str:
    return f"<div class=scroll><table>{''.join(rows)}</table></div>"


def _title(message: bytes) -> str:
    return f"<span class=foreign>{escape(message.decode('utf-8', 'replace').partition(chr(10))[0][:200])}</span>"


def _minute(timestamp: float) -> str:
    date = iso_date(timestamp)
    return f"{date[:10]} {date[11:16]}"
