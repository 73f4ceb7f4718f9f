"""Verify: is a published round what it says it is, back to round 0? Collects every problem, and names the file."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.digest import digest
from evokd_data.errors import VerificationError
from evokd_data.publishers.open_hub import open_hub
from evokd_data.revisions.load import find_round
from evokd_data.storage import parquet
from evokd_data.storage.shards import ContentDigest, target_text
from evokd_data.storage.snapshot import PublishedRound, Snapshot, altered_files, load_task, read_snapshot
from evokd_data.tasks import sample_id

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub
    from evokd_data.tasks import Task

SHOWN = 5  # rows of one kind of problem told one by one


@dataclass(frozen=True)
class Report:
    """What was checked, for a revision in which nothing was wrong."""

    repo: str
    round: int
    tag: str
    commit: str
    digest: str
    rounds: int
    files: int
    bytes: int
    rows: int
    rejections: int
    answers: int
    predictions: int
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    repo: str,
    round: int | str | None = None,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    cached: bool = False,
    seen: Callable[[str], None] | None = None,
) -> Report:
    """Check all of a round's revision; `round` as in `load_round`, `seen` is told of each file as its turn comes.

    The tag sits on the commit; no file is missing, extra, or other than its manifest says (sha256, size, rows); manifests
    are as they were with_checksum and form a chain to round 0; content digests and sample ids follow from the rows, the
    identity digest from the identity, prompt digests from the prompts; predictions are of the rows, one each; and no round
    changed after it was published.
    Everything is downloaded anew, unless `cached`: what lies in the cache says nothing about what the Hub serves now.

    Raises VerificationError, one line a problem; PublishError when the round is not there.
    """
    cache = Path(cache_dir) if cache_dir is not None else None
    with (
        open_hub(endpoint, token, cache_dir=cache) as hub,
        tempfile.TemporaryDirectory(prefix="evokd-verify-") as fresh,
    ):
        index, revision = find_round(hub, repo, round)
        commit, folder = hub.fetch(repo, revision, ["*"], None if cached else Path(fresh))
        examined = examine(repo, revision, commit, folder, index, seen)
        problems = examined.problems
        notes = []
        if not cached:
            tags = hub.refs(repo).rounds()
            problems += _history(hub, examined.snapshot, tags)
            if index != max(tags, default=index):
                notes.append(f"the newest round is {max(tags)}")
    snapshot = examined.snapshot
    if problems:
        raise VerificationError("\n".join(f"{snapshot.name}: {problem}" for problem in problems))
    return Report(
        repo=repo,
        round=index,
        tag=snapshot.rounds[-1].tag,
        commit=commit,
        digest=snapshot.rounds[-1].manifest["digest"],
        rounds=len(snapshot.rounds),
        files=len(snapshot.files) + len(snapshot.rounds),
        bytes=sum(entry["size"] for entry in snapshot.files.values()),
        notes=notes,
        **examined.counts,
    )


@dataclass(frozen=True)
class Examined:
    """What the files of a revision say of themselves; `counts` of what was read, `problems` a line each."""

    snapshot: Snapshot
    problems: list[str]
    counts: dict[str, int]


def examine(
    repo: str, revision: str, commit: str, folder: Path, index: int, seen: Callable[[str], None] | None = None
) -> Examined:
    """All that `verify` checks without a Hub, for the whole revision of round `index` in `folder`.

    Raises VerificationError when a manifest is missing or none at all: nothing could be said of the rest.
    """
    snapshot, problems = read_snapshot(repo, revision, commit, folder, index)
    problems += _files(snapshot, seen)
    counts = {"rows": 0, "rejections": 0, "answers": 0, "predictions": 0}
    broken = {problem.split(":", 1)[0] for problem in problems}
    sound = [one for one in snapshot.rounds if not one.broken]
    if repo_layout.RECIPE not in broken:
        try:
            task = load_task(folder / repo_layout.RECIPE)
        except VerificationError as error:
            problems.append(f"{repo_layout.RECIPE}: {error}")
        else:
            for one in sound:
                problems += _rows(snapshot, one, task, broken, counts, seen)
    if sound:
        problems += _prompts(snapshot, sound[-1], broken)
    return Examined(snapshot, problems, counts)


def _files(snapshot: Snapshot, seen: Callable[[str], None] | None) -> Iterator[str]:
    """Files that are not what their manifest says, and files of which none speaks."""
    for path, problem in altered_files(snapshot, sorted(snapshot.files), seen):
        yield f"{path}: {problem}"
    known = {*snapshot.files, *(repo_layout.manifest(one.tag) for one in snapshot.rounds)}
    if any(one.broken for one in snapshot.rounds):
        return  # what it spoke of is not known
    for top in (*repo_layout.ROUND_FOLDERS, repo_layout.PROMPTS):
        for file in sorted((snapshot.folder / top).rglob("*")):
            path = file.relative_to(snapshot.folder).as_posix()
            if file.is_file() and path not in known:
                yield f"{path}: is in no manifest"


def _history(hub: Hub, snapshot: Snapshot, tags: Mapping[int, str]) -> Iterator[str]:
    """Rounds are only ever added: what an earlier tag holds must be here, unchanged."""
    if tags.get(snapshot.rounds[-1].index) != snapshot.commit:
        # Also when a commit was asked for by its own name: a round is what its tag says.
        yield f"{snapshot.rounds[-1].tag}: its tag sits on {tags.get(snapshot.rounds[-1].index)}, not on {snapshot.commit}"
    here = hub.round_files(snapshot.repo, snapshot.commit)
    for one in snapshot.rounds[:-1]:
        if one.index not in tags:
            yield f"{one.tag}: its tag is gone"
            continue
        for path, blob in hub.round_files(snapshot.repo, tags[one.index]).items():
            if here.get(path) != blob:
                yield f"{path}: is not what it was at {one.tag}"


def _rows(
    snapshot: Snapshot,
    one: PublishedRound,
    task: Task,
    broken: set[str],
    counts: dict[str, int],
    seen: Callable[[str], None] | None,
) -> Iterator[str]:
    """What the rows of one round say against its manifest; files known to be broken are passed over."""
    identity, totals = one.identity, one.manifest["totals"]

    def whole(kind: str) -> list[Path] | None:
        paths = one.files(kind)
        return None if broken & paths.keys() else [snapshot.folder / path for path in paths]

    if (files := whole(repo_layout.DATA)) is not None:
        if seen is not None:
            seen(f"{repo_layout.DATA}/{one.tag}: {identity['rows']} rows")
        yield from _samples(one, task, files, counts)
        if probed := whole(repo_layout.PROBE):
            yield from _predictions(one, task, probed, files, counts)
    if (files := whole(repo_layout.REJECTIONS)) is not None:
        reasons = Counter(row["reason"] for file in files for row in parquet.read_rows(file))
        counts["rejections"] += reasons.total()
        where = f"{repo_layout.REJECTIONS}/{one.tag}"
        if dict(reasons) != totals["rejected"] or reasons.total() != identity["rejections"]:
            yield f"{where}: {dict(sorted(reasons.items()))}, the manifest tells of {totals['rejected']}"
    if (files := whole(repo_layout.JOURNAL)) is not None:
        counts["answers"] += sum(parquet.count_rows(file) for file in files)
    for kind in (repo_layout.DATA, repo_layout.REJECTIONS, repo_layout.JOURNAL, repo_layout.PROBE):
        for path, entry in one.files(kind).items():
            if path not in broken and (rows := parquet.count_rows(snapshot.folder / path)) != entry["rows"]:
                yield f"{path}: has {rows} rows, its manifest says {entry['rows']}"
    plan = repo_layout.plan(one.tag)
    if plan not in broken and snapshot.files[plan]["sha256"] != identity["plan"]:
        yield f"{plan}: is not the plan of the round's identity"


def _samples(one: PublishedRound, task: Task, files: Sequence[Path], counts: dict[str, int]) -> Iterator[str]:
    content = ContentDigest()
    where = f"{repo_layout.DATA}/{one.tag}"
    wrong = 0
    try:
        for sample in parquet.read_samples(task, files):
            content.add(task, sample)
            problem = ""
            if sample.id != sample_id(task, sample.text, sample.target):
                problem = "its id is not that of its text and target"
            elif sample.origin.round != one.index:
                problem = f"it says it is of round {sample.origin.round}"
            elif reason := task.check(sample.text, sample.target):
                problem = f"its target cannot be right: {reason}"
            if problem:
                wrong += 1
                if wrong <= SHOWN:
                    yield f"{where}: row {content.rows - 1} (id {sample.id}): {problem}"
    except VerificationError as error:
        yield f"{where}: {error}"
        return
    if wrong > SHOWN:
        yield f"{where}: {wrong - SHOWN} more rows like these"
    counts["rows"] += content.rows
    if content.hexdigest() != one.identity["content"]:
        yield (
            f"{where}: its rows digest to {content.hexdigest()[:12]}, the round's identity says {one.identity['content'][:12]}"
        )


def _predictions(
    one: PublishedRound, task: Task, probed: Sequence[Path], files: Sequence[Path], counts: dict[str, int]
) -> Iterator[str]:
    """Where a round's predictions are not of its rows, one each, in their order."""
    where = f"{repo_layout.PROBE}/{one.tag}"
    predictions = (row for file in probed for row in parquet.read_rows(file))
    samples = (row for file in files for row in parquet.read_rows(file, ["id", *task.columns()]))
    try:
        for number, (row, sample) in enumerate(zip_longest(predictions, samples)):
            if row is None or sample is None:
                yield f"{where}: {'ends' if row is None else 'goes on'} at row {number}, the round's rows do not"
                return
            if (row["id"], row["expected"]) != (sample["id"], target_text(task, task.from_row(sample))):
                yield f"{where}: row {number} (id {row['id']}) is not of the round's sample {sample['id']} and its target"
                return
            counts["predictions"] += 1
    except (VerificationError, KeyError, TypeError, ValueError) as error:
        yield f"{where}: {error}"


def _prompts(snapshot: Snapshot, one: PublishedRound, broken: set[str]) -> Iterator[str]:
    for name, expected in one.identity["prompts"].items():
        path = f"{repo_layout.PROMPTS}/{name}"
        if path in broken:
            continue
        file = snapshot.folder / path
        if not file.is_file():
            yield f"{path}: is missing"
        elif digest(file.read_bytes().decode("utf-8", "replace")) != expected:
            yield f"{path}: is not the prompt the round was made with"
