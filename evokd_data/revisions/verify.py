"""Verify a published round and all rounds before it against their manifests. Reports every problem, with the file's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data import repo_layout
from evokd_data.digest import digest
from evokd_data.errors import VerificationError
from evokd_data.publishers.open_hub import open_hub
from evokd_data.revisions.corrections import correction_problems
from evokd_data.revisions.load import ROWS, find_round
from evokd_data.scratch import scratch_folder
from evokd_data.storage import parquet
from evokd_data.storage.shards import ContentDigest, target_text
from evokd_data.storage.snapshot import PublishedRound, Snapshot, altered_files, load_task, of_known_form, read_snapshot
from evokd_data.tasks import sample_id

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub
    from evokd_data.tasks import Task

MAX_EXAMPLES = 5  # rows with problems that are reported one by one


@dataclass(frozen=True)
class Report:
    """The counts of what was checked, for a revision without problems. `digest` is that of the newest round's identity."""

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
        """All fields as a table for JSON."""
        return asdict(self)


def verify(
    repo: str,
    round: int | str | None = None,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    cached: bool = False,
    on_file: Callable[[str], None] | None = None,
) -> Report:
    """Check a round's whole revision; `round` as in `load_round`. `on_file` is called with each file that is checked.

    It checks that
    - the tag names the commit, and no round changed after it was published;
    - no file is missing, additional, or different from its manifest (sha256, size, rows);
    - manifests have the right checksum and form a chain to round 0;
    - content digests and sample ids follow from the rows, the identity digest from the identity, prompt digests from the
      prompts;
    - the probe holds one prediction for each row, in their order;
    - the rows that corrections withdraw are there, and missing in the files that were written without them.

    Everything is downloaded again, unless `cached`: the content of the cache says nothing about what the Hub serves now.

    Raises VerificationError with one line for each problem, PublishError when there is no such round.
    """
    cache = Path(cache_dir) if cache_dir is not None else None
    with (
        open_hub(endpoint, token, cache_dir=cache) as hub,
        scratch_folder("verify") as download,
    ):
        index, revision = find_round(hub, repo, round)
        commit, folder = hub.fetch(repo, revision, ["*"], None if cached else download)
        examined = examine(repo, revision, commit, folder, index, on_file)
        problems = examined.problems
        notes = []
        if not cached:
            tags = hub.refs(repo).rounds()
            problems += _history_problems(hub, examined.snapshot, tags)
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
    """The files of a revision, examined without a Hub: `problems`, a line each, and `counts` of what was read."""

    snapshot: Snapshot
    problems: list[str]
    counts: dict[str, int]


def examine(
    repo: str, revision: str, commit: str, folder: Path, index: int, on_file: Callable[[str], None] | None = None
) -> Examined:
    """Everything that `verify` checks without a Hub, for the whole revision of round `index` in `folder`.

    Raises VerificationError when a manifest is missing or is none, because then nothing else can be checked.
    """
    snapshot, problems = read_snapshot(repo, revision, commit, folder, index)
    problems += _file_problems(snapshot, on_file)
    counts = {"rows": 0, "rejections": 0, "answers": 0, "predictions": 0}
    broken = {problem.split(":", 1)[0] for problem in problems}
    intact = [published for published in snapshot.rounds if not published.broken]
    if repo_layout.RECIPE not in broken:
        try:
            task = load_task(folder / repo_layout.RECIPE)
        except VerificationError as error:
            problems.append(f"{repo_layout.RECIPE}: {error}")
        else:
            for published in intact:
                problems += _in_known_form(
                    published.tag, _round_problems(snapshot, published, task, broken, counts, on_file)
                )
            if len(intact) == len(snapshot.rounds):
                problems += _in_known_form("corrections", correction_problems(snapshot, task, broken))
    if intact:
        problems += _in_known_form(repo_layout.PROMPTS, _prompt_problems(snapshot, intact[-1], broken))
    return Examined(snapshot, problems, counts)


def _in_known_form(source: str, problems: Iterable[str]) -> Iterator[str]:
    """The problems, and one more where something has a form that nobody could check."""
    try:
        with of_known_form(source):
            yield from problems
    except VerificationError as error:
        yield str(error)


def _file_problems(snapshot: Snapshot, on_file: Callable[[str], None] | None) -> Iterator[str]:
    """Files that differ from their manifest, and files that no manifest lists."""
    altered = dict(altered_files(snapshot, sorted(snapshot.files), on_file))
    yield from (f"{path}: {problem}" for path, problem in altered.items())
    for path in snapshot.files:
        if path.startswith(ROWS) and path.endswith(".parquet") and path not in altered:
            try:
                parquet.check_expansion(snapshot.folder / path)
            except VerificationError as error:
                yield f"{path}: {error}"
    listed = {*snapshot.files, *(repo_layout.manifest(published.tag) for published in snapshot.rounds)}
    if any(published.broken for published in snapshot.rounds):
        return  # the broken manifest may have listed any file
    for top in (*repo_layout.ROUND_FOLDERS, repo_layout.PROMPTS):
        for file in sorted((snapshot.folder / top).rglob("*")):
            path = file.relative_to(snapshot.folder).as_posix()
            if file.is_file() and path not in listed:
                yield f"{path}: is in no manifest"


def _history_problems(hub: Hub, snapshot: Snapshot, tags: Mapping[int, str]) -> Iterator[str]:
    """Tags that are gone or moved, and files that changed after their round was published: rounds are only ever added."""
    newest = snapshot.rounds[-1]
    if tags.get(newest.index) != snapshot.commit:  # also when the user asked for a commit: the tag defines the round
        yield f"{newest.tag}: its tag sits on {tags.get(newest.index)}, not on {snapshot.commit}"
    blob_ids = hub.round_files(snapshot.repo, snapshot.commit)
    for published in snapshot.rounds[:-1]:
        if published.index not in tags:
            yield f"{published.tag}: its tag is gone"
            continue
        for path, blob_id in hub.round_files(snapshot.repo, tags[published.index]).items():
            if blob_ids.get(path) != blob_id:
                yield f"{path}: is not what it was at {published.tag}"


def _round_problems(
    snapshot: Snapshot,
    published: PublishedRound,
    task: Task,
    broken: set[str],
    counts: dict[str, int],
    on_file: Callable[[str], None] | None,
) -> Iterator[str]:
    """Where the rows of one round contradict its manifest. Files in `broken` are skipped."""
    identity, totals = published.identity, published.manifest["totals"]

    def intact_files(kind: str) -> list[Path] | None:
        paths = published.files(kind)
        return None if broken & paths.keys() else [snapshot.folder / path for path in paths]

    if (files := intact_files(repo_layout.DATA)) is not None:
        if on_file is not None:
            on_file(f"{repo_layout.DATA}/{published.tag}: {identity['rows']} rows")
        yield from _sample_problems(published, task, files, counts)
        if probe_files := intact_files(repo_layout.PROBE):
            yield from _prediction_problems(published, task, probe_files, files, counts)
    if (files := intact_files(repo_layout.REJECTIONS)) is not None:
        reasons = Counter(row["reason"] for file in files for row in parquet.read_rows(file))
        counts["rejections"] += reasons.total()
        source = f"{repo_layout.REJECTIONS}/{published.tag}"
        if dict(reasons) != totals["rejected"] or reasons.total() != identity["rejections"]:
            yield f"{source}: {dict(sorted(reasons.items()))}, the manifest tells of {totals['rejected']}"
    if (files := intact_files(repo_layout.JOURNAL)) is not None:
        counts["answers"] += sum(parquet.count_rows(file) for file in files)
    for kind in (repo_layout.DATA, repo_layout.REJECTIONS, repo_layout.JOURNAL, repo_layout.PROBE, repo_layout.LIVE):
        for path, entry in published.files(kind).items():
            if path not in broken and (rows := parquet.count_rows(snapshot.folder / path)) != entry["rows"]:
                yield f"{path}: has {rows} rows, its manifest says {entry['rows']}"
    plan = repo_layout.plan(published.tag)
    if plan not in broken and published.manifest["files"][plan]["sha256"] != identity["plan"]:
        yield f"{plan}: is not the plan of the round's identity"
    for path in (plan, repo_layout.metrics(published.tag)):
        recorded = published.manifest.get("round_files", {}).get(path.rsplit("/", 1)[1])
        if recorded is not None and recorded != published.manifest["files"][path]["sha256"]:
            yield f"{path}: is not the file with which the round was completed"
    decided = identity["rows"] + sum(totals["rejected"].values())
    is_asked_for = published.index and "withdrawn" not in identity  # neither the seeds nor a person's corrections are
    if is_asked_for and totals["asked"] < decided:
        yield f"{repo_layout.manifest(published.tag)}: {totals['asked']} texts were asked for, and {decided} were decided"


def _sample_problems(
    published: PublishedRound, task: Task, files: Sequence[Path], counts: dict[str, int]
) -> Iterator[str]:
    """Samples with a wrong id, round or target, and a content digest that is not that of the rows."""
    content = ContentDigest()
    source = f"{repo_layout.DATA}/{published.tag}"
    wrong = 0
    try:
        for sample in parquet.read_samples(task, files):
            content.add(task, sample)
            problem = ""
            if sample.id != sample_id(task, sample.text, sample.target):
                problem = "its id is not that of its text and target"
            elif sample.origin.round != published.index:
                problem = f"it says it is of round {sample.origin.round}"
            elif reason := task.check(sample.text, sample.target):
                problem = f"its target cannot be right: {reason}"
            if problem:
                wrong += 1
                if wrong <= MAX_EXAMPLES:
                    yield f"{source}: row {content.rows - 1} (id {sample.id}): {problem}"
    except VerificationError as error:
        yield f"{source}: {error}"
        return
    if wrong > MAX_EXAMPLES:
        yield f"{source}: {wrong - MAX_EXAMPLES} more rows like these"
    counts["rows"] += content.rows
    if content.hexdigest() != (expected := published.identity["content"]):
        yield f"{source}: its rows digest to {content.hexdigest()[:12]}, the round's identity says {expected[:12]}"


def _prediction_problems(
    published: PublishedRound,
    task: Task,
    probe_files: Sequence[Path],
    sample_files: Sequence[Path],
    counts: dict[str, int],
) -> Iterator[str]:
    """The first place where the probe does not hold one prediction for each sample, in their order."""
    source = f"{repo_layout.PROBE}/{published.tag}"
    predictions = (row for file in probe_files for row in parquet.read_rows(file))
    samples = (row for file in sample_files for row in parquet.read_rows(file, ["id", *task.columns()]))
    try:
        for number, (row, sample) in enumerate(zip_longest(predictions, samples)):
            if row is None or sample is None:
                yield f"{source}: {'ends' if row is None else 'goes on'} at row {number}, the round's rows do not"
                return
            if (row["id"], row["expected"]) != (sample["id"], target_text(task, task.from_row(sample))):
                yield f"{source}: row {number} (id {row['id']}) is not of the round's sample {sample['id']} and its target"
                return
            counts["predictions"] += 1
    except (VerificationError, KeyError, TypeError, ValueError) as error:
        yield f"{source}: {error}"


def _prompt_problems(snapshot: Snapshot, published: PublishedRound, broken: set[str]) -> Iterator[str]:
    """Prompt templates that are missing or not those of the round's identity."""
    for name, expected in published.identity["prompts"].items():
        path = f"{repo_layout.PROMPTS}/{name}"
        if path in broken:
            continue
        file = snapshot.folder / path
        if not file.is_file():
            yield f"{path}: is missing"
        elif digest(file.read_bytes().decode("utf-8", "replace")) != expected:
            yield f"{path}: is not the prompt the round was made with"
