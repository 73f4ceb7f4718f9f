"""Generate a round: plan -> journal, shards, rejections. After a kill at any moment a rerun gives the same rows.

Round 0 has no teacher: its shard holds the seeds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evokd_data.errors import TeacherError
from evokd_data.generation.filters import FilterPipeline
from evokd_data.generation.partitions import StrategyWork, written_by_workers
from evokd_data.generation.scheduler import TeacherOnDemand, in_order
from evokd_data.generation.seed_student import SeedStudent, seed_student, with_student
from evokd_data.generation.tally import Tally, refill_note
from evokd_data.generation.text_filters import Overlaps, TextFilters
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Draft, GenerationRequest, Rejection, Sample
from evokd_data.seeds import Splits, left_out_counts
from evokd_data.stages.correct import write_corrected_round
from evokd_data.stages.exams import take_exams
from evokd_data.stages.opinions import opinions_in_words
from evokd_data.stages.plan import add_refill, plan
from evokd_data.storage.corrected_rounds import corrections_of
from evokd_data.storage.journal import Journal
from evokd_data.storage.shards import (
    ShardedSamples,
    read_rejections,
    shard_entry,
    shard_name,
    write_rejections,
    write_shard,
)
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json, write_checked_json
from evokd_data.strategies import Brief, Write
from evokd_data.strategies.quotas import RequestPlan, refill


async def generate(
    recipe: Recipe,
    workspace: Workspace,
    index: int,
    splits: Splits,
    teacher: TeacherOnDemand,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write all shards of round `index` and return its totals. Does nothing when an earlier process wrote them all. The teacher
    is not asked for round 0, the seeds, nor for a corrected round.

    Raises TeacherError when the teacher stops, or when no text became a sample.
    """
    progress = progress or Progress()
    folder = workspace.round(index)
    if folder.generated.exists():
        totals = read_json(folder.generated)
        progress.done("generate", index, already=True)
        return totals
    started = time.monotonic()
    if index == 0:
        totals = _write_seed_round(recipe, folder, splits)
    elif corrections_of(folder) is not None:
        totals = write_corrected_round(recipe, workspace, index)
    else:
        totals = await _generate_with_teacher(recipe, workspace, index, splits, teacher, progress)
    totals["seconds"] = round(time.monotonic() - started, 3)
    write_checked_json(folder.generated, totals)
    if saved := totals.get("label_prompts_saved"):
        progress.note(f"{saved} label prompts were saved: their texts were dropped before a label was asked for")
    progress.done("generate", index, kept=totals["kept"], rejected=totals["rejected"])
    return totals


def _write_seed_round(recipe: Recipe, folder: RoundFolder, splits: Splits) -> dict[str, Any]:
    folder.root.mkdir(parents=True, exist_ok=True)
    write_checked_json(
        folder.plan, {"round": 0, "budget": 0, "exam": None, "weaknesses": [], "cells": [], "refills": []}
    )
    write_rejections(folder.rejections / shard_name(0), [])
    write_shard(folder.shards / shard_name(0), recipe.task, splits.seeds, 0, 0)
    counts: dict[str, Any] = {"asked": 0, "kept": len(splits.seeds), "rejected": {}}
    if left_out := left_out_counts(splits):
        counts["left_out"] = left_out
    return {**counts, "prompt_tokens": 0, "completion_tokens": 0, "requests": 0}


def shard_ranges(planned: Sequence[GenerationRequest], shard_size: int, wave_ends: Collection[int] = ()) -> list[range]:
    """The request indices of each shard. A shard gets as many requests as ask for at most `shard_size` texts, at least one. It
    ends where a wave ends: the next wave is planned when the shards before it are written."""
    ranges = []
    first, texts = 0, 0
    for request in planned:
        if texts and (texts + request.count > shard_size or request.index in wave_ends):
            ranges.append(range(first, request.index))
            first, texts = request.index, 0
        texts += request.count
    if texts:
        ranges.append(range(first, len(planned)))
    return ranges


async def _generate_with_teacher(
    recipe: Recipe, workspace: Workspace, index: int, splits: Splits, teacher: TeacherOnDemand, progress: Progress
) -> dict[str, Any]:
    folder = workspace.round(index)
    if not folder.plan.exists():
        await take_exams(recipe, workspace, index, splits, teacher, progress)
    brief, waves = plan(recipe, workspace, index, splits)
    student = None
    if brief.labelling.student_weight:
        student = await asyncio.to_thread(seed_student, recipe, workspace, splits.seeds)
    limit = sum(quota.samples for quota in waves[0])
    pipeline = make_filter_pipeline(recipe, splits, brief.earlier, folder.root, limit)
    brief = replace(brief, check_texts=pipeline.text_filters.problems)
    planned = RequestPlan(waves, recipe.strategy.per_request, brief.seed, index)
    ranges = shard_ranges(planned, recipe.rounds.shard_size, planned.wave_ends)
    tally = Tally(planned, progress, recipe.task, brief.labelling.rule)
    finished = _finished_shards(recipe, folder, ranges, pipeline, tally)
    progress.stage("generate", index, texts=tally.asked, requests=len(planned), shards=len(ranges), finished=finished)
    with Journal(folder.journal) as journal:
        writer = _RoundWriter(recipe, brief, folder, journal, teacher, student, pipeline, tally)
        await writer.write(planned, ranges, finished)
        while quotas := refill(waves, tally.accepted_by_kind, recipe.rounds.ask_at_most):
            add_refill(folder, quotas)
            progress.note(refill_note(waves, quotas, tally.accepted_by_kind))
            waves.append(quotas)
            planned, finished = RequestPlan(waves, recipe.strategy.per_request, brief.seed, index), len(ranges)
            ranges = shard_ranges(planned, recipe.rounds.shard_size, planned.wave_ends)
            tally.ask_for_more(planned)
            await writer.write(planned, ranges, finished)
    warning = opinions_in_words(brief, planned, folder.journal) if student is not None else ""
    if warning:
        progress.note(f"warning: {warning}")
    totals = {"asked": tally.asked, "kept": tally.accepted, "rejected": dict(sorted(tally.rejected.items()))}
    totals |= {"warning": warning} if warning else {}
    totals["label_prompts_saved"] = tally.unlabelled * brief.labelling.votes
    totals |= {"prompt_tokens": journal.prompt_tokens, "completion_tokens": journal.completion_tokens}
    totals["requests"] = len(planned)
    if recipe.prices is not None:
        totals["cost_usd"] = round(recipe.prices.of(journal.prompt_tokens, journal.completion_tokens), 6)
    if engine := teacher.engine:
        totals["engine"] = dict(engine.environment())
    _check_not_empty(recipe, folder, totals)
    return totals


@dataclass(frozen=True)
class _RoundWriter:
    """Writes the shards of a round, one after the other; `student` is the seeds-only student, where it is asked."""

    recipe: Recipe
    brief: Brief
    folder: RoundFolder
    journal: Journal
    teacher: TeacherOnDemand
    student: SeedStudent | None
    pipeline: FilterPipeline
    tally: Tally

    async def write(self, planned: RequestPlan, ranges: Sequence[range], finished: int) -> None:
        """Write the shards of `ranges` from the one numbered `finished` on."""
        if finished == len(ranges):
            return
        shard_of_last_request = {shard.stop - 1: number for number, shard in enumerate(ranges)}
        samples: list[Sample] = []
        rejections: list[Rejection] = []
        async with aclosing(self._drafts(planned, ranges, ranges[finished].start)) as results:
            async for request, drafts in results:
                for fate in map(self.pipeline.apply, drafts):
                    if isinstance(fate, Sample):
                        samples.append(fate)
                    else:
                        rejections.append(fate)
                    self.tally.add(fate)
                self.tally.require_agreement(self.recipe)
                _require_few_refusals(self.recipe, self.folder, self.tally)
                if (number := shard_of_last_request.get(request.index)) is not None:
                    self.journal.sync()  # the answers must survive whenever the shard made from them does
                    write_rejections(self.folder.rejections / shard_name(number), rejections)
                    shard = ranges[number]
                    path = self.folder.shards / shard_name(number)
                    write_shard(path, self.recipe.task, samples, shard.start, shard.stop)
                    samples, rejections = [], []
        _require_few_refusals(self.recipe, self.folder, self.tally, whole=not self.tally.accepted)

    def _drafts(
        self, planned: RequestPlan, ranges: Sequence[range], first: int
    ) -> AsyncGenerator[tuple[GenerationRequest, Sequence[Draft]]]:
        """The drafts of every request from index `first` on, in index order."""
        strategy, teacher = self.recipe.strategy, self.teacher
        if teacher.partitioned:
            work = StrategyWork(strategy, self.brief, planned, _parts_url(self.recipe, self.folder), self.student)
            count_tokens = _partition_counter(teacher, self.tally, self.journal)
            return written_by_workers(work, ranges, first, self.journal, teacher.open_partitioned, count_tokens)
        requests = map(planned.__getitem__, range(first, len(planned)))
        return in_order(requests, self._write_request, lambda: teacher.window)

    @cached_property
    def _write_request(self) -> Write:
        """One for all waves of the round: it remembers the answers that many requests share, such as the advice on a weakness."""
        complete = with_student(self.teacher.complete, self.student)
        return self.recipe.strategy.writer(self.brief, self.journal.asker(complete, self.tally.on_answer))


def _partition_counter(teacher: TeacherOnDemand, tally: Tally, journal: Journal) -> Callable[[int], None]:
    """Counts the tokens of each partition that a worker brings back: the run's budget is looked at then."""
    meter = teacher.meter
    before = (
        (meter.prompt_tokens - journal.prompt_tokens, meter.completion_tokens - journal.completion_tokens)
        if meter
        else (0, 0)
    )

    def count(tokens: int) -> None:
        tally.add_tokens(tokens)
        if meter is not None:
            meter.count_round(before, journal)

    return count


def _parts_url(recipe: Recipe, folder: RoundFolder) -> str:
    """The folder or URL of the workers' journal parts: below the teacher's URL, else below the round's folder."""
    url = recipe.teacher.parts_url()
    if url is None:
        return str(folder.root.absolute() / ".parts")
    base = url if "://" in url else str(Path(url).absolute())
    return f"{base.rstrip('/')}/{recipe.name}-{recipe.fingerprint[:8]}/{folder.tag}"


def make_filter_pipeline(
    recipe: Recipe,
    splits: Splits,
    earlier: Sequence[Sample],
    scratch: Path | None = None,
    limit: int | None = None,
    overlaps: Overlaps | None = None,
) -> FilterPipeline:
    """The filters of a round, with the test and dev texts that it must not repeat and all samples of earlier rounds.

    `scratch` is a folder for the files of the MinHash indices; the round is full with `limit` texts; `overlaps` as in `TextFilters`.
    """
    protected = (sample.text for sample in (*splits.test, *splits.dev))
    text_filters = TextFilters(recipe.filters, protected, earlier, overlaps, scratch)
    text_filters.read_earlier()
    return FilterPipeline(recipe.filters, recipe.task, text_filters, scratch, limit)


def _finished_shards(
    recipe: Recipe, folder: RoundFolder, ranges: list[range], pipeline: FilterPipeline, tally: Tally
) -> int:
    """The number of shards that an earlier process finished, from the first on. Adds their content to filters and tally.

    Shards of another size, written before `shard_size` was changed, are removed: the journal still has the answers.
    """
    finished = 0
    for number, shard in enumerate(ranges):
        path, rejections = folder.shards / shard_name(number), folder.rejections / shard_name(number)
        if not (path.exists() and rejections.exists()):
            break
        entry = shard_entry(path)
        if (entry.first, entry.last) != (shard.start, shard.stop):
            break
        for sample in ShardedSamples(recipe.task, [path]):
            pipeline.accept(sample)
            tally.add(sample)
        for rejection in read_rejections([rejections]):
            tally.add(rejection)
        finished += 1
    tally.require_agreement(recipe)
    _require_few_refusals(recipe, folder, tally)
    for stale in (*folder.shard_files()[finished:], *folder.rejection_files()[finished:]):
        stale.unlink()
    return finished


def _require_few_refusals(recipe: Recipe, folder: RoundFolder, tally: Tally, whole: bool = False) -> None:
    """Raises as `Refusals.require_few`. The shards with refusals in them are then removed: the next run writes them from the
    journal, and asks again for what was refused."""
    try:
        tally.refusals.require_few(recipe, tally.decided, whole)
    except TeacherError:
        rejections = folder.rejection_files()
        spoilt = [any(r.reason == "refused" for r in read_rejections([path])) for path in rejections]
        first = spoilt.index(True) if any(spoilt) else len(rejections)
        for stale in (*folder.shard_files()[first:], *rejections[first:]):
            stale.unlink()
        raise


UNANSWERED = ("missing", "truncated", "unreadable", "too_long_prompt")
UNLABELLED = ("no_label", "label_not_allowed", "invalid_target")


def _check_not_empty(recipe: Recipe, folder: RoundFolder, totals: dict[str, Any]) -> None:
    """Raises TeacherError for a round without a sample. The message says at which of three points the texts were lost."""
    if totals["kept"] or not totals["asked"]:
        return
    asked, rejected = totals["asked"], totals["rejected"]
    counts = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
    unanswered = sum(rejected.get(reason, 0) for reason in UNANSWERED)
    unlabelled = sum(rejected.get(reason, 0) for reason in UNLABELLED)
    message = f"{folder.root}: none of {asked} texts asked for became a sample ({counts})"
    if unanswered == asked:
        raise TeacherError(f"{message}: no answer held a text; raise teacher.max_tokens or look into {folder.journal}")
    if unanswered + unlabelled == asked:
        raise TeacherError(f"{message}: no text could be labelled; look at the label template and {folder.journal}")
    if rejected.get("label_uncertain", 0) + rejected.get("label_disagreement", 0) > asked / 2:
        raise TeacherError(
            f"{message}: their labels are not to be trusted; take a larger teacher, spell out task.label_names and "
            f"label_descriptions, or lower filters.label_confidence in {recipe.path}"
        )
    raise TeacherError(f"{message}: the filters dropped them all; look at filters in {recipe.path}")
