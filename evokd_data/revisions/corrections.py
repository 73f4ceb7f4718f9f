"""Published corrected rounds: whether their rows, and the files without withdrawn rows, follow from their plans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evokd_data import repo_layout
from evokd_data.errors import VerificationError
from evokd_data.stages.correct import corrected_samples
from evokd_data.storage import parquet
from evokd_data.storage.corrected_rounds import withdrawn_by
from evokd_data.storage.shards import ContentDigest, Withdrawn, content_digest
from evokd_data.storage.snapshot import PublishedRound, Snapshot

if TYPE_CHECKING:
    from evokd_data.tasks import Task


def replay_corrections(snapshot: Snapshot, task: Task) -> int:
    """Make the rows of the snapshot's last round, a corrected round, again from its plan. Returns their number.

    Raises VerificationError when they are not the published ones, or a row is corrected that is not there or was withdrawn before.
    """
    published = snapshot.rounds[-1]
    index, corrections = published.index, snapshot.corrections(published.index) or []
    problems = list(_plan_problems(snapshot, published))
    earlier = parquet.read_samples(task, snapshot.paths(repo_layout.DATA, range(index)))
    try:
        samples = corrected_samples(task, index, corrections, earlier)
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"{snapshot.name}: {repo_layout.plan(published.tag)}: {error}") from None
    content, expected = content_digest(task, samples), published.identity["content"]
    if content != expected:
        problems.append(
            f"the rows that its corrections make digest to {content[:12]}, the manifest says {expected[:12]}"
        )
    if problems:
        raise VerificationError("\n".join(f"{snapshot.name}: {problem}" for problem in problems))
    return len(samples)


def correction_problems(snapshot: Snapshot, task: Task, broken: set[str]) -> Iterator[str]:
    """Where the plans of corrections, and the files written without withdrawn rows, contradict the earlier rounds. Files in `broken`
    are skipped."""
    withdrawn: Withdrawn = frozenset()
    for published in snapshot.rounds:
        if "withdrawn" not in published.identity:
            yield from (f"{path}: the round withdraws nothing" for path in published.files(repo_layout.LIVE))
            continue
        if repo_layout.plan(published.tag) in broken:
            continue
        try:
            newly = withdrawn_by(snapshot.corrections(published.index) or ())
        except VerificationError as error:
            yield str(error)
            continue
        yield from _plan_problems(snapshot, published, withdrawn)
        withdrawn |= newly
        yield from _live_problems(snapshot, published, task, newly, withdrawn, broken)


def _plan_problems(snapshot: Snapshot, published: PublishedRound, withdrawn: Withdrawn | None = None) -> Iterator[str]:
    """A plan that withdraws another number of rows than the manifest says, or what was withdrawn before (None: look it up)."""
    plan, corrections = repo_layout.plan(published.tag), snapshot.corrections(published.index) or []
    if withdrawn is None:
        before = (snapshot.corrections(index) or () for index in range(published.index))
        withdrawn = frozenset().union(*map(withdrawn_by, before))
    newly = withdrawn_by(corrections)
    if len(newly) != published.identity["withdrawn"]:
        yield f"{plan}: withdraws {len(newly)} rows, the manifest tells of {published.identity['withdrawn']}"
    if again := sorted(newly & withdrawn):
        yield f"{plan}: withdraws {again[0][1]} of round {again[0][0]}, which was withdrawn before"
    if later := [entry for entry in corrections if not 0 < entry["round"] < published.index]:
        yield f"{plan}: corrects {later[0]['id']} of round {later[0]['round']}, which is no round of samples before it"


def _live_problems(
    snapshot: Snapshot,
    published: PublishedRound,
    task: Task,
    newly: Withdrawn,
    withdrawn: Withdrawn,
    broken: set[str],
) -> Iterator[str]:
    """Rows that are withdrawn and not there, and files that are not the earlier ones without withdrawn rows."""
    missing, expected_files = set(newly), set[str]()
    for index in sorted({round_index for round_index, _ in newly if 0 < round_index < published.index}):
        for path in snapshot.rounds[index].files(repo_layout.DATA):
            version = repo_layout.live_file(published.tag, path)
            if path in broken or version in broken:
                return
            live, is_affected = ContentDigest(), False
            try:
                for sample in parquet.read_samples(task, [snapshot.folder / path]):
                    key = (index, sample.id)
                    is_affected |= key in newly
                    missing.discard(key)
                    if key not in withdrawn:
                        live.add(task, sample)
                if not is_affected:
                    continue
                expected_files.add(version)
                if version not in published.manifest["files"]:
                    yield f"{version}: is missing, though rows of {path} are withdrawn"
                elif content_digest(task, parquet.read_samples(task, [snapshot.folder / version])) != live.hexdigest():
                    yield f"{version}: holds other rows than {path} without those that are withdrawn"
            except VerificationError as error:
                yield f"{path}: {error}"
    if missing:
        round_index, name = min(missing)
        yield f"{repo_layout.plan(published.tag)}: withdraws {name} of round {round_index}, which is not there"
    if surplus := sorted(published.files(repo_layout.LIVE).keys() - expected_files):
        yield f"{surplus[0]}: no row of that file is withdrawn by {published.tag}"
