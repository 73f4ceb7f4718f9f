"""Load the rows of a revision, with every byte verified. It never returns the rows of another round.

`datasets.load_dataset(repo, revision=tag)` reads its cache, with whatever round is there, when the Hub does not answer as
it should. Here a tag is first resolved to a commit. Then the files of this commit are fetched and each is compared with the
round's manifest, and only then are they read. `datasets` converts them to Arrow files, which are memory-mapped; these are cached
with their digests, and made again when they have changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout, settings
from evokd_data.digest import digest
from evokd_data.errors import EvokdError, PublishError, VerificationError
from evokd_data.publishers.open_hub import open_hub
from evokd_data.recipe_file import read_recipe_file
from evokd_data.registry import resolve
from evokd_data.repo_layout import round_tag
from evokd_data.storage import parquet
from evokd_data.storage.row_datasets import sample_features, text_features
from evokd_data.storage.shards import sample_schema
from evokd_data.storage.snapshot import Snapshot, altered_files, of_known_form, read_snapshot
from evokd_data.tasks import TASKS, Task

if TYPE_CHECKING:
    from datasets import DatasetDict, Features, IterableDatasetDict

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
    class_labels: bool = True,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> DatasetDict | IterableDatasetDict:
    """`{"train": rows}` of a round and all rounds before it, in index order, as they were published. Rows that a person withdrew up to
    this round are left out; earlier rounds still have them.

    `round`: a number, a tag or a commit; None for the newest. `rounds` selects some rounds (numbers up to `round`), `only`
    selects `round` alone. Labels, and the types of spans, are ClassLabels, as `load_dataset` has them; without `class_labels` they are
    text, as in the files. `endpoint`: None for the Hub (or HF_ENDPOINT), "local" for the local Hub at ./hub, or
    "local:FOLDER", which runs during this call. A round that was loaded before needs no Hub. With `streaming` every file is fetched and verified, too;
    only the Arrow copy is saved. The bytes are verified here; `verify` also compares the rows with their digests.

    Raises PublishError when there is no such round or the Hub does not answer, VerificationError, which names each file, when
    files are not as published.
    """
    cache = Path(cache_dir) if cache_dir is not None else None
    with open_hub(endpoint, token, cache_dir=cache) as hub:
        select = partial(_selected_rounds, rounds=None if rounds is None else list(rounds), only=only)
        snapshot = fetch_rounds(hub, repo, round, kinds=[repo_layout.LIVE], of=select, also=[repo_layout.RECIPE])
    selected = select(len(snapshot.rounds) - 1)
    files = [str(snapshot.folder / path) for path in snapshot.live_files(selected)]
    if not files:
        raise PublishError(
            f"{snapshot.name}: its rounds {selected} hold no samples; load others, or all: leave `rounds` and `only` out"
        )
    arguments = {"data_files": {repo_layout.SPLIT: files}, "columns": list(columns) if columns is not None else None}
    key = digest([arguments, class_labels])[:16]
    if class_labels and (features := _features(snapshot, files)) is not None:
        arguments["features"] = features if columns is None else _selected(features, columns)
    if streaming:
        from datasets import load_dataset

        return load_dataset("parquet", **arguments, streaming=True)
    from datasets.exceptions import DatasetGenerationError

    try:
        return _memory_mapped(arguments, _arrow_cache(cache) / repo / snapshot.commit / key)
    except DatasetGenerationError as error:
        if "features" in arguments and isinstance(error.__cause__, ValueError):
            raise VerificationError(
                f"{snapshot.name}: holds a label that its recipe does not name ({error.__cause__}); read it as text with "
                "class_labels=False"
            ) from error
        raise


def _features(snapshot: Snapshot, files: Sequence[str]) -> Features | None:
    """The columns with their classes, which the round's recipe names; None where they are not those of the files but for the classes."""
    import pyarrow.parquet as pq

    task = _published_task(snapshot.folder / repo_layout.RECIPE)
    if task is None or not files:
        return None
    in_files = text_features(pq.read_schema(files[0]))
    return sample_features(task) if text_features(sample_schema(task)) == in_files else None


def _published_task(recipe: Path) -> Task | None:
    """The task of a revision's recipe. None when this version does not know it: its rows are read as they are in the files."""
    try:
        table = dict(read_recipe_file(recipe).table["task"])
        task, problems = settings.build(resolve(TASKS, table.pop("type")), table, "task")
    except (EvokdError, KeyError, TypeError, ValueError) as error:
        log.info("%s: names no task: %s", recipe, error)
        return None
    return None if problems else task


def _selected(features: Features, columns: Sequence[str]) -> Features:
    from datasets import Features

    return Features({column: features[column] for column in columns if column in features})


DIGESTS = "made.json"
"""The file beside cached Arrow files with their digests."""


def _memory_mapped(arguments: Mapping[str, Any], folder: Path) -> DatasetDict:
    """The rows of Parquet files, through Arrow files in `folder`, which holds nothing else."""
    from datasets import load_dataset
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # other processes that load the same rows wait
        if not _is_intact(folder):
            shutil.rmtree(folder, ignore_errors=True)
        rows = load_dataset("parquet", **arguments, cache_dir=str(folder))
        if not (folder / DIGESTS).exists():
            # Not synced, and neither are the Arrow files: both can be made again.
            (folder / DIGESTS).write_text(json.dumps(_file_digests(folder), indent=1), encoding="utf-8")
    return rows


def _is_intact(folder: Path) -> bool:
    """Whether the cached Arrow files are those that were made, unchanged and complete."""
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        return digests == _file_digests(folder)
    except (OSError, ValueError):
        return False


def _file_digests(folder: Path) -> dict[str, str]:
    """A digest of each file. They detect accidents, not attacks: an attacker could change the digests, too. xxh3 costs a
    tenth of sha256."""
    from xxhash import xxh3_128

    def file_digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, xxh3_128).hexdigest()

    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != DIGESTS and path.suffix != ".lock"
    ]
    names = (path.relative_to(folder).as_posix() for path in files)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(file_digest, files), strict=True))


def list_rounds(
    repo: str, *, endpoint: str | None = None, token: str | None = None, cache_dir: Path | str | None = None
) -> list[dict[str, Any]]:
    """Facts about each round of a repository: round, tag, commit, rows, rejected, test metrics, bytes of its commit, digest, date.

    Raises PublishError when the repository holds no rounds or the Hub does not answer.
    """
    with open_hub(endpoint, token, cache_dir=Path(cache_dir) if cache_dir is not None else None) as hub:
        commits = hub.refs(repo).rounds()
        if not commits:
            raise PublishError(f"{repo}: holds no rounds at {hub.place}; the first one: evokd-data publish RECIPE")
        snapshot = fetch_rounds(hub, repo, max(commits), kinds=[repo_layout.ROUNDS])
    with of_known_form(snapshot.name):
        return [
            {
                "round": published.index,
                "tag": published.tag,
                "commit": commits.get(published.index),
                "rows": published.identity["rows"],
                "rejected": published.manifest["totals"]["rejected"],
                "metrics": {"test": snapshot.metrics(published.index)["test"]},
                "bytes": published.bytes,
                "digest": published.manifest["digest"],
                "date": published.manifest["environment"]["finished"],
            }
            for published in snapshot.rounds
        ]


def newest(hub: Hub, repo: str) -> int:
    """The newest round that has a tag. Raises PublishError when the repository holds no rounds."""
    rounds = hub.refs(repo).rounds()
    if not rounds:
        raise PublishError(f"{repo}: holds no rounds at {hub.place}; the first one: evokd-data publish RECIPE")
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
    """Fetch a round's revision and verify it: the manifests of all rounds, and selected files.

    Selected are the files of `kinds` (`repo_layout.DATA`, ...; `repo_layout.ROUNDS` for plans and metrics;
    `repo_layout.LIVE` for the data without withdrawn rows) of some rounds,
    and all files whose paths begin with one of `also`. `of` selects the rounds, given the newest; None selects all.

    `round` as in `load_round`. Files are asked for by name and commit, so that a tag or listing in the client's cache cannot
    bring in another round. A file that is not as published is fetched once more, because the download may have been cut.
    Raises VerificationError when it is the same again, PublishError when there is no such round.
    """
    index, revision = find_round(hub, repo, round)
    commit = hub.resolve(repo, revision)
    manifests = [repo_layout.manifest(round_tag(number)) for number in range(index + 1)]
    folder = hub.fetch_files(repo, commit, manifests, into)
    try:
        snapshot = _verified_snapshot(repo, revision, commit, folder, index)
    except VerificationError as error:
        log.warning("%s; fetching the manifests again", str(error).splitlines()[0])
        _remove_cached(folder, manifests)
        hub.fetch_files(repo, commit, manifests, into)
        snapshot = _verified_snapshot(repo, revision, commit, folder, index)
    paths = [
        path
        for number in (of(index) if of else range(index + 1))
        for kind in kinds
        for path in (snapshot.live_files([number]) if kind == repo_layout.LIVE else snapshot.rounds[number].files(kind))
    ]
    paths += [path for path in snapshot.files if path.startswith(tuple(also))] if also else []
    paths = list(dict.fromkeys(paths))
    hub.fetch_files(repo, commit, paths, into)
    problems = dict(altered_files(snapshot, paths))
    if problems:
        log.warning("%s: %d files are not as published; fetching them again", snapshot.name, len(problems))
        _remove_cached(folder, problems)
        hub.fetch_files(repo, commit, list(problems), into)
        problems = dict(altered_files(snapshot, list(problems)))
    if problems:
        raise VerificationError("\n".join(f"{snapshot.name}: {path}: {problem}" for path, problem in problems.items()))
    for path in paths:
        if path.startswith(ROWS) and path.endswith(".parquet"):
            parquet.check_expansion(snapshot.folder / path)
    hub.remember_tag(repo, revision, commit)
    return snapshot


ROWS = tuple(f"{kind}/" for kind in (repo_layout.DATA, repo_layout.REJECTIONS, repo_layout.PROBE, repo_layout.LIVE))
"""Files whose rows differ. In a journal one message may stand in every row, and nothing reads it but row by row."""


def _verified_snapshot(repo: str, revision: str, commit: str, folder: Path, index: int) -> Snapshot:
    """The snapshot in `folder`. Raises VerificationError when its manifests have problems."""
    snapshot, problems = read_snapshot(repo, revision, commit, folder, index)
    if problems:
        raise VerificationError("\n".join(f"{snapshot.name}: {problem}" for problem in problems))
    return snapshot


def _remove_cached(folder: Path, paths: Iterable[str]) -> None:
    """Remove damaged files from the cache, and the blobs to which they link."""
    for path in paths:
        file = folder / path
        if file.is_symlink():
            file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def find_round(hub: Hub, repo: str, round: int | str | None) -> tuple[int, str]:
    """A round's number, and the revision that names it: its tag, or the commit that was given.

    Raises PublishError when `round` names no round of the repository.
    """
    if isinstance(round, str) and COMMIT.fullmatch(round):
        numbers = map(repo_layout.manifest_round, hub.round_files(repo, round))
        rounds = [number for number in numbers if number is not None]
        if not rounds:
            raise PublishError(f"{repo}@{round}: holds no rounds")
        return max(rounds), round
    index = newest(hub, repo) if round is None else round_number(repo, round)
    return index, round_tag(index)


def round_number(repo: str, round: int | str) -> int:
    """The number of a round given by number or tag. Raises PublishError for anything else."""
    index = repo_layout.round_index(round) if isinstance(round, str) else round
    if index is None or index < 0:
        raise PublishError(
            f"{repo}: {round!r} names no round; give a number from 0, a tag such as 'round-003', or a commit"
        )
    return index


def _selected_rounds(index: int, rounds: Sequence[int] | None, only: bool) -> list[int]:
    if rounds is None:
        return [index] if only else list(range(index + 1))
    selected = sorted(set(rounds))
    if not selected or selected[0] < 0 or selected[-1] > index:
        raise PublishError(f"rounds {selected}: the revision {round_tag(index)} holds rounds 0 to {index}")
    return selected


def _arrow_cache(cache: Path | None) -> Path:
    """The folder of cached Arrow files. Each commit has a folder in it, so that rows of two commits cannot be mixed."""
    if cache is not None:
        return cache / "arrow"
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "evokd-data"
