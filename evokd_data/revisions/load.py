"""Reload: a revision -> its rows, every byte of them checked. Never another round's.

`datasets.load_dataset(repo, revision=tag)` answers out of its cache, with whatever round is there, when the Hub does not
answer as it should. Here a tag is resolved to a commit first, that commit's files are fetched, each is compared with
the round's manifest, and only then are they read. What `datasets` makes of them, Arrow files that are mapped into memory,
is kept with its digests, and made again when it is not what it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.atomic_files import whole_file
from evokd_data.digest import digest
from evokd_data.errors import DataError, PublishError, VerificationError
from evokd_data.publishers.open_hub import open_hub
from evokd_data.repo_layout import round_tag
from evokd_data.storage.snapshot import Snapshot, altered_files, read_snapshot

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDatasetDict

    from evokd_data.publishers.hub import Hub

log = logging.getLogger(__name__)
COMMIT = re.compile("[0-9a-f]{40}")


def load_round(
    repo: str,
    round: int | str | None = None,
    *,
    rounds: Iterable[int] | None = None,
    only: bool = False,
    columns: Sequence[str] | None = None,
    streaming: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> DatasetDict | IterableDatasetDict:
    """`{"train": rows}` of a round and all before it, in index order, as they were published.

    `round` is a number, a tag, or a commit, None the newest. `rounds` takes some of them (numbers up to `round`), `only` the round
    alone. `endpoint` None is the Hub (or HF_ENDPOINT), "local" the local Hub at ./hub for as long as this call takes.
    A round that was loaded before needs no Hub. `streaming` too fetches and checks every file first; what it saves is the
    Arrow copy. The bytes are checked here; that rows and digests agree was checked when
    they were published, and `verify` does it again.

    Raises PublishError when there is no such round or no Hub, VerificationError naming each file that is not as published.
    """
    cache = Path(cache_dir) if cache_dir is not None else None
    with open_hub(endpoint, token, cache_dir=cache) as hub:
        chosen = partial(_chosen, rounds=None if rounds is None else list(rounds), only=only)
        snapshot = fetch_rounds(hub, repo, round, kinds=[repo_layout.DATA], of=chosen)
    files = [str(path) for path in snapshot.paths(repo_layout.DATA, chosen(len(snapshot.rounds) - 1))]
    wanted = {"data_files": {repo_layout.SPLIT: files}, "columns": list(columns) if columns is not None else None}
    if streaming:
        from datasets import load_dataset

        return load_dataset("parquet", **wanted, streaming=True)
    return _mapped(wanted, _arrow_cache(cache) / repo / snapshot.commit / digest(wanted)[:16])


MADE = "made.json"


def _mapped(wanted: Mapping[str, Any], folder: Path) -> DatasetDict:
    """The rows of Parquet files by way of Arrow files in `folder`, which holds nothing else."""
    from datasets import load_dataset

    with _alone(folder):
        if not _as_made(folder):
            shutil.rmtree(folder, ignore_errors=True)
        rows = load_dataset("parquet", **wanted, cache_dir=str(folder))
        if not (folder / MADE).exists():
            # Not synced, as the Arrow files are not: waiting for the disk is for what cannot be made again.
            (folder / MADE).write_text(json.dumps(_contents(folder), indent=1), encoding="utf-8")
    return rows


def _as_made(folder: Path) -> bool:
    """Whether the files are there that were there when they were made, unchanged and whole."""
    try:
        made = json.loads((folder / MADE).read_text(encoding="utf-8"))
        return made == _contents(folder)
    except (OSError, ValueError):
        return False


def _contents(folder: Path) -> dict[str, str]:
    """A digest of each file, against accidents: whoever alters both a file and its digest is stopped by neither kind, and
    this one costs a tenth of sha256."""
    from xxhash import xxh3_128

    def short(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, xxh3_128).hexdigest()

    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MADE and path.suffix != ".lock"
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip((path.relative_to(folder).as_posix() for path in files), pool.map(short, files), strict=True))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Others of this machine who load the same rows wait."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_rows(rows: Dataset, out: Path) -> None:
    """All rows as one file, whole or not at all; `out` ends in .jsonl, .csv, .parquet or .arrow."""
    writers = {
        ".jsonl": lambda draft: rows.to_json(draft, force_ascii=False),
        ".csv": lambda draft: rows.to_csv(draft),
        ".parquet": lambda draft: rows.to_parquet(draft),
        ".arrow": lambda draft: _write_arrow(rows, draft),
    }
    write = writers.get(out.suffix.lower())
    if write is None:
        raise DataError(f"{out}: unknown format {out.suffix!r}; use {', '.join(writers)}")
    with whole_file(out) as draft:
        write(draft)


def _write_arrow(rows: Dataset, out: Path) -> None:
    import pyarrow as pa

    table = rows.data.table
    with pa.OSFile(str(out), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def list_rounds(
    repo: str, *, endpoint: str | None = None, token: str | None = None, cache_dir: Path | str | None = None
) -> list[dict[str, Any]]:
    """Each round of a repository: round, tag, commit, rows, rejected, test metrics, bytes its commit added, digest, date."""
    with open_hub(endpoint, token, cache_dir=Path(cache_dir) if cache_dir is not None else None) as hub:
        commits = hub.refs(repo).rounds()
        if not commits:
            raise PublishError(f"{repo}: holds no rounds at {hub.address}; the first one: evokd-data publish RECIPE")
        snapshot = fetch_rounds(hub, repo, max(commits), kinds=[repo_layout.ROUNDS])
    return [
        {
            "round": one.index,
            "tag": one.tag,
            "commit": commits.get(one.index),
            "rows": one.identity["rows"],
            "rejected": one.manifest["totals"]["rejected"],
            "metrics": {"test": snapshot.metrics(one.index)["test"]},
            "bytes": one.bytes,
            "digest": one.manifest["digest"],
            "date": one.manifest["environment"]["finished"],
        }
        for one in snapshot.rounds
    ]


def newest(hub: Hub, repo: str) -> int:
    """The highest round there is a tag for."""
    rounds = hub.refs(repo).rounds()
    if not rounds:
        raise PublishError(f"{repo}: holds no rounds at {hub.address}; the first one: evokd-data publish RECIPE")
    return max(rounds)


def fetch_rounds(
    hub: Hub,
    repo: str,
    round: int | str | None = None,
    *,
    kinds: Sequence[str] = repo_layout.ROUND_FOLDERS,
    of: Callable[[int], Sequence[int]] | None = None,
    also: Sequence[str] = (),
    into: Path | None = None,
) -> Snapshot:
    """A round's revision on disk, checked: the manifests of all rounds, the files of `kinds` (`repo_layout.DATA`, ...;
    `repo_layout.ROUNDS` are plans and metrics) of the rounds that `of` chooses by the newest (None: all), and what begins with
    one of `also`.

    `round` as in `load_round`. Files are asked for by name and commit: nothing a client remembers of a tag or of a
    listing can bring in another's. A file that is not as published is asked for once more, a download may have been cut.
    Raises VerificationError when it comes back the same, PublishError when the round is not there.
    """
    index, revision = find_round(hub, repo, round)
    commit = hub.resolve(repo, revision)
    names = [repo_layout.manifest(round_tag(one)) for one in range(index + 1)]
    folder = hub.fetch_files(repo, commit, names, into)
    try:
        snapshot = _sound(repo, revision, commit, folder, index)
    except VerificationError as error:
        log.warning("%s; fetching the manifests again", str(error).splitlines()[0])
        _forget(folder, names)
        hub.fetch_files(repo, commit, names, into)
        snapshot = _sound(repo, revision, commit, folder, index)
    wanted = [
        path
        for one in (of(index) if of else range(index + 1))
        for kind in kinds
        for path in snapshot.rounds[one].files(kind)
    ]
    wanted += [path for path in snapshot.files if path.startswith(tuple(also))] if also else []
    wanted = list(dict.fromkeys(wanted))
    hub.fetch_files(repo, commit, wanted, into)
    found = dict(altered_files(snapshot, wanted))
    if found:
        log.warning("%s: %d files are not as published; fetching them again", snapshot.name, len(found))
        _forget(folder, found)
        hub.fetch_files(repo, commit, list(found), into)
        found = dict(altered_files(snapshot, list(found)))
    if found:
        raise VerificationError("\n".join(f"{snapshot.name}: {path}: {problem}" for path, problem in found.items()))
    hub.remember_tag(repo, revision, commit)
    return snapshot


def _sound(repo: str, revision: str, commit: str, folder: Path, index: int) -> Snapshot:
    """The manifests, when there is nothing wrong with them."""
    snapshot, problems = read_snapshot(repo, revision, commit, folder, index)
    if problems:
        raise VerificationError("\n".join(f"{snapshot.name}: {problem}" for problem in problems))
    return snapshot


def _forget(folder: Path, paths: Iterable[str]) -> None:
    """Remove damaged files from the cache, and what they are links to."""
    for path in paths:
        file = folder / path
        if file.is_symlink():
            file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def find_round(hub: Hub, repo: str, round: int | str | None) -> tuple[int, str]:
    """A round's number, and the revision that names it: its tag, or the commit that was given. Raises PublishError."""
    if isinstance(round, str) and COMMIT.fullmatch(round):
        rounds = [
            found for path in hub.round_files(repo, round) if (found := repo_layout.manifest_round(path)) is not None
        ]
        if not rounds:
            raise PublishError(f"{repo}@{round}: holds no rounds")
        return max(rounds), round
    index = newest(hub, repo) if round is None else round_number(repo, round)
    return index, round_tag(index)


def round_number(repo: str, round: int | str) -> int:
    """A round given by number or tag, as a number. Raises PublishError."""
    index = repo_layout.round_index(round) if isinstance(round, str) else round
    if index is None or index < 0:
        raise PublishError(
            f"{repo}: {round!r} names no round; give a number from 0, a tag such as 'round-003', or a commit"
        )
    return index


def _chosen(index: int, rounds: Sequence[int] | None, only: bool) -> list[int]:
    if rounds is None:
        return [index] if only else list(range(index + 1))
    chosen = sorted(set(rounds))
    if not chosen or chosen[0] < 0 or chosen[-1] > index:
        raise PublishError(f"rounds {chosen}: the revision {round_tag(index)} holds rounds 0 to {index}")
    return chosen


def _arrow_cache(cache: Path | None) -> Path:
    """One folder for each commit: rows of two commits cannot meet in it."""
    if cache is not None:
        return cache / "arrow"
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "evokd-data"
