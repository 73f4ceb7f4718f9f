"""A look at a run before anything is spent: prompts as rendered, the teacher's exam, a few samples, and what the whole run will take.

Every answer goes into the journal of round 1, so a run of the same recipe does not ask again. A preview does not begin the
run: a recipe that is changed afterwards begins anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import write_json
from evokd_data.errors import RecipeError, WorkspaceError
from evokd_data.generation.filters import FilterPipeline
from evokd_data.generation.scheduler import TeacherOnDemand, in_order
from evokd_data.generation.seed_student import seed_student, with_student
from evokd_data.loop.rounds import LockedRun, metered_teacher, open_run
from evokd_data.progress import Progress
from evokd_data.recipe import FORCE, Recipe
from evokd_data.records import Completion, Draft, GenerationRequest, Prompt, Sample
from evokd_data.reporting.exam_words import REFUSED
from evokd_data.runner import Runner
from evokd_data.stages.exam import is_exam, needs_exam
from evokd_data.stages.exams import examine
from evokd_data.stages.generate import generate, make_filter_pipeline
from evokd_data.stages.plan import make_plan
from evokd_data.stages.pool import choose
from evokd_data.stages.second_exam import QUESTIONS, ROUND, WAYS
from evokd_data.storage.journal import Journal, read_answers
from evokd_data.storage.workspace import read_json
from evokd_data.strategies import Ask
from evokd_data.strategies.labelling import STUDENT, can_be_scored
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.tasks.untested import untested_in

SHOWN_OF_A_REQUEST = 2
"""Texts of one request that are shown: so the samples come from several labels."""


def preview(recipe: Recipe, runs: Path, progress: Progress, samples: int = 10) -> dict[str, Any]:
    """{"recipe", "verdict", "exam": content of exam.json or None, "prompts": [...], "samples": [...], "rejected": {reason: count},
    "texts": texts that were asked for, "warnings": [...], "estimate": {...}}, JSON-able; also written into the run's folder.

    `prompts`: one of each template, {"template", "messages", "answer"}. `samples`: {"text", "label", "asked_for", "difficulty",
    "rejected"} with `rejected` "" for what would be kept. `estimate`: see `_estimate`. `verdict`: the exam's, "" without one.

    Raises RecipeError when the recipe asks no teacher, WorkspaceError when the run has begun, TeacherError when the teacher
    cannot be opened, BudgetSpent.
    """
    if recipe.rounds.count == 0 or not recipe.strategy.prompt_templates:
        raise RecipeError(
            f"{recipe.path}: asks no teacher, so there is nothing to preview; next: evokd-data run {recipe.path}"
        )
    with open_run(recipe, runs, progress=progress, preview=True) as run, Runner() as loop:
        if run.workspace.round(1).generated.exists():
            raise WorkspaceError(
                f"{run.workspace.root}: its first round is generated; see it with: evokd-data show {recipe.name}"
            )
        content = loop.run(_preview(run, progress, samples))
        if run.workspace.preview.exists():
            write_json(run.workspace.preview, content)
        return content


def is_refused(recipe: Recipe, content: Mapping[str, Any]) -> bool:
    """Whether a run of the recipe would stop at the exam that the preview showed."""
    return content["verdict"] in REFUSED and recipe.teacher_trust != FORCE


async def _preview(run: LockedRun, progress: Progress, samples: int) -> dict[str, Any]:
    recipe, workspace = run.recipe, run.workspace
    async with metered_teacher(run, progress) as teacher:
        await generate(recipe, workspace, 0, run.splits, teacher, progress)
        exam_watch = _Watch(teacher)
        exam = (
            await examine(recipe, workspace, 1, run.splits, exam_watch.complete, progress, tell=False)
            if needs_exam(recipe, 1)
            else None
        )
        pool = choose(recipe, workspace, 1, run.splits, rank=False) if recipe.pool else []
        # As many texts of the pool as in the run, so that each request keeps its place.
        brief, quotas = make_plan(recipe, workspace, 1, pool)
        pipeline = make_filter_pipeline(recipe, run.splits, brief.earlier)
        brief = replace(brief, check_texts=pipeline.text_filters.problems)
        planned = RequestPlan([quotas], recipe.strategy.per_request, brief.seed, 1)
        chosen = spread(planned, samples)
        progress.stage("preview", 1, texts=sum(request.count for request in chosen), requests=len(chosen))
        watch = _Watch(teacher)
        complete: Ask = watch.complete
        if brief.labelling.student_weight:
            complete = with_student(
                complete, await asyncio.to_thread(seed_student, recipe, workspace, run.splits.seeds)
            )
        with Journal(workspace.round(1).journal) as journal:
            write = recipe.strategy.writer(brief, journal.asker(complete, watch.on_answer))
            results = in_order(chosen, write, lambda: teacher.window)
            async with aclosing(results):
                drafts = [(request, request_drafts) async for request, request_drafts in results]
    rows, rejected = _fates(recipe, pipeline, drafts, samples)
    # Where every answer was in the journal, the preview that asked has measured the time.
    earlier = _earlier_estimate(run)
    if not watch.seconds:
        watch.take_over(earlier)
    if not exam_watch.seconds:
        exam_watch.take_over(earlier.get("exam") or {})
    return {
        "recipe": str(recipe.path), "verdict": exam["verdict"] if exam else "", "exam": exam and dict(exam),
        "prompts": list(watch.prompts.values()), "samples": rows, "rejected": rejected,
        "texts": sum(request.count for request in chosen), "warnings": list(filter(None, [untested_in(recipe.task, run.splits.test)])),
        "estimate": _estimate(run, watch, exam_watch, chosen, sum(rejected.values())),
    }  # fmt: skip


def spread(planned: RequestPlan, samples: int) -> list[GenerationRequest]:
    """Requests of a round that show `samples` texts, SHOWN_OF_A_REQUEST of each, evenly over the plan and so over the labels."""
    written = planned.written or len(planned)  # the whole round may be texts of the pool
    wanted = min(written, max(1, -(-samples // SHOWN_OF_A_REQUEST)))
    return [planned[position * written // wanted] for position in range(wanted)]


@dataclass
class _Watch:
    """Sees each prompt of the preview and its answer, and measures the time of those that the journal did not answer."""

    teacher: TeacherOnDemand
    prompts: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    timed_calls: int = 0
    _began: float | None = None

    async def complete(self, prompt: Prompt) -> Completion:
        await self.teacher.open()  # opening takes half a minute or more, and happens once a run
        if self._began is None:
            self._began = time.monotonic()
        answer = await self.teacher.complete(prompt)
        self.timed_calls += 1
        self.seconds = time.monotonic() - self._began
        return answer

    def on_answer(self, prompt: Prompt, answer: Completion, _: bool) -> None:
        if prompt.template == STUDENT:
            return
        self.calls[prompt.template] += 1
        self.tokens[prompt.template, "prompt"] += answer.prompt_tokens
        self.tokens[prompt.template, "completion"] += answer.completion_tokens
        if prompt.template not in self.prompts:
            messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
            self.prompts[prompt.template] = {"template": prompt.template, "messages": messages, "answer": answer.text}

    @property
    def measured(self) -> dict[str, Any]:
        """The time, as `take_over` reads it."""
        return {"measured_seconds": round(self.seconds, 3), "measured_requests": self.timed_calls}

    def take_over(self, estimate: Mapping[str, Any]) -> None:
        """The time that an earlier preview of the same recipe measured."""
        self.seconds, self.timed_calls = estimate.get("measured_seconds", 0.0), estimate.get("measured_requests", 0)


def _earlier_estimate(run: LockedRun) -> Mapping[str, Any]:
    stored = read_json(run.workspace.preview) if run.workspace.preview.exists() else {}
    estimate: Mapping[str, Any] = stored.get("estimate", {})
    return estimate


def _fates(
    recipe: Recipe,
    pipeline: FilterPipeline,
    drafts: Sequence[tuple[GenerationRequest, Sequence[Draft]]],
    samples: int,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The rows to show, and the rejections of all drafts by reason."""
    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    for request, request_drafts in drafts:
        for position, fate in enumerate(map(pipeline.apply, request_drafts)):
            row = {"text": fate.text, "label": "", "asked_for": request.quota.target,
                   "difficulty": request.quota.difficulty or "", "rejected": ""}  # fmt: skip
            if isinstance(fate, Sample):
                row["label"] = fate.target if isinstance(fate.target, str) else ""
                row["text"] = recipe.task.show(fate).get("marked", fate.text)
            else:
                rejected[fate.reason] += 1
                row["rejected"] = f"{fate.reason}: {fate.detail}" if fate.detail else fate.reason
            if position < SHOWN_OF_A_REQUEST and len(rows) < samples:
                rows.append(row)
    return rows, dict(sorted(rejected.items()))


def _estimate(
    run: LockedRun, watch: _Watch, exam_watch: _Watch, chosen: Sequence[GenerationRequest], rejected: int
) -> dict[str, Any]:
    """What the whole run takes, in proportion to what the preview asked: {"rounds", "texts", "requests", "prompt_tokens",
    "completion_tokens", "seconds_at_most", "measured_seconds", "measured_requests", "cost_usd", "exam"}.

    Counted are the rounds, with what is asked for again because the filters reject it, both exams, and the teacher's own test
    after the loop; not the advice on weaknesses, a few prompts a round. `exam` is the first exam's part of all this, which the
    preview has asked and the run does not ask again: {"requests", "prompt_tokens", "completion_tokens", "measured_seconds",
    "measured_requests"}. `seconds_at_most`: of the exam as measured, of all else at the preview's speed; a run has more in flight.
    None where nothing was measured, or has no price.
    """
    recipe = run.recipe
    texts = sum(request.count for request in chosen)
    kept_share = (texts - rejected + 1) / (texts + 2)
    asked = recipe.rounds.count * recipe.rounds.samples * min(recipe.rounds.ask_at_most, 1 / kept_share)
    factor = asked / texts
    requests = factor * watch.calls.total()
    prompt_tokens = factor * sum(count for (_, kind), count in watch.tokens.items() if kind == "prompt")
    completion_tokens = factor * sum(count for (_, kind), count in watch.tokens.items() if kind == "completion")
    tested = 2 * min(recipe.teacher_test_texts, len(run.splits.test))
    if recipe.rounds.count >= ROUND and needs_exam(recipe, 1) and can_be_scored(recipe.task):
        tested += WAYS * min(QUESTIONS, recipe.rounds.samples)
    if tested and watch.calls["label"]:
        requests += tested
        prompt_tokens += tested * watch.tokens["label", "prompt"] / watch.calls["label"]
        completion_tokens += tested * watch.tokens["label", "completion"] / watch.calls["label"]
    exam = _exam_part(run, exam_watch)
    seconds = requests * watch.seconds / watch.timed_calls if watch.timed_calls else None
    if seconds is not None and exam["requests"]:
        measured = exam_watch if exam_watch.timed_calls else watch
        seconds += exam["requests"] * measured.seconds / measured.timed_calls
    requests += exam["requests"]
    prompt_tokens += exam["prompt_tokens"]
    completion_tokens += exam["completion_tokens"]
    return {
        "rounds": recipe.rounds.count, "texts": recipe.rounds.count * recipe.rounds.samples, "requests": round(requests),
        "prompt_tokens": round(prompt_tokens), "completion_tokens": round(completion_tokens),
        "seconds_at_most": None if seconds is None else round(seconds), **watch.measured,
        "cost_usd": None if recipe.prices is None else round(recipe.prices.of(prompt_tokens, completion_tokens), 4),
        "exam": exam,
    }  # fmt: skip


def _exam_part(run: LockedRun, watch: _Watch) -> dict[str, Any]:
    """The exam's requests and tokens, from its journal, and what was measured of its time."""
    answers = [row for row in read_answers(run.workspace.round(1).journal) if is_exam(row["key"])]
    tokens = {key: sum(row[key] for row in answers) for key in ("prompt_tokens", "completion_tokens")}
    return {"requests": len(answers), **tokens, **watch.measured}
