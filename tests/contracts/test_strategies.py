"""What every strategy promises (`strategies.Strategy`), on every task that it accepts, whatever the teacher answers."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from evokd_data import settings
from evokd_data.generation.filters import REASONS
from evokd_data.records import Completion, Prompt, Weakness
from evokd_data.registry import resolve
from evokd_data.storage.journal import prompt_digest
from evokd_data.strategies import DEFAULT_LABELLING, STRATEGIES, Brief, Strategy
from tests.support.example_tagging_task import SAMPLES, TAGGING, tagging_brief
from tests.support.example_task import TASK, brief, labelling, sample
from tests.support.written_drafts import HOSTILE, RecordingTeacher, build_strategy, plan, write

WEAKNESSES = (
    Weakness("confused", "red", "blue", 5, 9, (sample("a red sea"),), (sample("a blue sea", "blue"),), 0.5),
    Weakness("confused", "green", "red", 2, 9, (sample("red grass", "green"),), rate=0.2),
)
TAGGING_WEAKNESSES = (
    Weakness("wrong_type", "place", "person", 5, 9, (SAMPLES[0],), (SAMPLES[1],), 0.5),
    Weakness("missed", "person", "", 2, 9, (SAMPLES[2],), rate=0.2),
)
BRIEFS = {
    "classification": {
        "round 1": brief(),
        "weaknesses": brief(round=2, weaknesses=WEAKNESSES),
        "soft labels": brief(round=2, weaknesses=WEAKNESSES, soft_labels=True, labelling=labelling(scored=True)),
        "three votes": brief(labelling=labelling(votes=3), budget=7),
        "one text": brief(budget=1),
    },
    "ner": {
        "round 1": tagging_brief(),
        "weaknesses": replace(tagging_brief(30), round=2, weaknesses=TAGGING_WEAKNESSES),
        "one text": tagging_brief(1),
        "probabilities": replace(
            tagging_brief(30), labelling=replace(DEFAULT_LABELLING, rule="relabel", scored=True, doubt=0.9)
        ),
    },
}
SETTINGS: list[tuple[str, Mapping[str, Any]]] = [
    *((name, {}) for name in STRATEGIES),
    ("evokd", {"separation": False}),
    ("evokd", {"init": "auggpt", "init_rounds": 9}),
    ("evokd", {"analyse": False, "correct": False, "easy": 0, "per_request": 1}),
    ("evokd", {"targeted": 1, "demonstrations": 0}),
    ("static", {"easy": 1.0, "per_request": 50}),
    ("static", {"choose": "useful"}),
    ("evokd", {"choose": "useful", "separation": False}),
    ("proggen", {"names": 3, "attributes": {"region": ("Asia", "Africa")}, "without": 0.5, "demonstrations": 0}),
]
"""Every strategy as it is, and some whose settings change what they ask for."""


@dataclass(frozen=True)
class Case:
    """A strategy on a task that it accepts."""

    task: str
    name: str
    settings: Mapping[str, Any]

    @property
    def strategy(self) -> Strategy:
        return build_strategy(self.name, dict(self.settings))

    def __str__(self) -> str:
        return " ".join([self.name, *self.settings, "on", self.task])


CASES = [
    Case(task, name, changes)
    for task, briefs in BRIEFS.items()
    for name, changes in SETTINGS
    if build_strategy(name, dict(changes)).accepts(briefs["round 1"].task) is None
]
every_strategy = pytest.mark.parametrize("name", STRATEGIES)
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_brief = pytest.mark.parametrize(
    ("case", "round_brief"),
    [(case, each) for case in CASES for each in BRIEFS[case.task].values()],
    ids=[f"{case}, {name}" for case in CASES for name in BRIEFS[case.task]],
)


@every_strategy
def test_its_settings_are_a_frozen_recipe_table(name: str) -> None:
    strategy = build_strategy(name, {})
    assert strategy.name == name and strategy.per_request >= 1
    assert settings.build(type(strategy), settings.table(strategy), "strategy") == (strategy, [])
    if fields := dataclasses.fields(strategy):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, fields[0].name, None)
    _, problems = settings.build(resolve(STRATEGIES, name), {"no_such_setting": 1}, "strategy")
    assert len(problems) == 1 and problems[0].startswith("strategy.no_such_setting: no such setting")


@every_strategy
def test_it_accepts_a_task_or_says_why_not(name: str) -> None:
    refusals = [build_strategy(name, {}).accepts(task) for task in (TASK, TAGGING)]
    assert None in refusals
    assert all(refusal is None or len(refusal) > 20 for refusal in refusals)
    assert {case.task for case in CASES if case.name == name} == {
        task for task, refusal in zip(BRIEFS, refusals, strict=True) if refusal is None
    }


@every_case
def test_the_prompts_it_names_are_in_the_package(case: Case) -> None:
    names = case.strategy.prompt_templates
    assert isinstance(names, tuple) and len(set(names)) == len(names)
    sources = BRIEFS[case.task]["round 1"].templates.sources(names)
    assert set(sources) >= {f"{name}.j2" for name in names}


@every_brief
def test_a_plan_spends_the_whole_budget_on_labels_of_the_task_or_nothing_at_all(case: Case, round_brief: Brief) -> None:
    quotas = case.strategy.allot(round_brief)
    assert sum(quota.samples for quota in quotas) == (round_brief.budget if quotas else 0)
    assert all(quota.samples > 0 and quota.target in round_brief.task.labels for quota in quotas)
    assert list(quotas) == list(case.strategy.allot(round_brief))


def test_one_strategy_plans_nothing() -> None:
    assert {case.name for case in CASES if not case.strategy.allot(BRIEFS[case.task]["round 1"])} == {"none"}


@every_brief
def test_every_text_asked_for_ends_as_one_draft_that_knows_its_place(case: Case, round_brief: Brief) -> None:
    strategy, task = case.strategy, round_brief.task
    planned = plan(strategy, round_brief)
    written = write(strategy, round_brief, RecordingTeacher(), planned)
    assert sorted(written) == list(range(len(planned)))
    for request in planned:
        drafts = written[request.index]
        assert [draft.origin.position for draft in drafts] == list(range(request.count))
        assert {(d.origin.round, d.origin.request, d.origin.strategy) for d in drafts} == {
            (round_brief.round, request.index, case.name)
        }
        assert {(d.origin.intended, d.origin.weakness) for d in drafts} == {
            (request.quota.target, request.quota.weakness)
        }
        assert [d.problem or task.check(d.text, d.target) for d in drafts] == [""] * request.count
        parts = [len(d.target if isinstance(d.target, tuple) else task.classes) for d in drafts]
        assert all(d.soft is None or len(d.soft) == count for d, count in zip(drafts, parts, strict=True))


@every_brief
def test_prompts_and_drafts_are_decided_by_their_place_alone(case: Case, round_brief: Brief) -> None:
    strategy, first, second = case.strategy, RecordingTeacher(), RecordingTeacher()
    planned = plan(strategy, round_brief)
    shuffled = random.Random(3).sample(planned, len(planned))
    written = write(strategy, round_brief, first, planned)
    assert written == write(strategy, round_brief, second, shuffled)
    assert {p.key: prompt_digest(p) for p in first} == {p.key: prompt_digest(p) for p in second}
    assert len({p.key for p in first}) == len({p.seed for p in first}) == len(first)
    assert {p.template for p in first} <= set(strategy.prompt_templates)
    for request in planned[-1:]:
        assert write(strategy, round_brief, RecordingTeacher(), [request]) == {request.index: written[request.index]}


@every_case
def test_only_texts_of_the_brief_reach_a_prompt_that_the_teacher_did_not_write(case: Case) -> None:
    round_brief, teacher = BRIEFS[case.task]["weaknesses"], RecordingTeacher()
    written = write(case.strategy, round_brief, teacher, plan(case.strategy, round_brief))
    given = [s for samples in round_brief.demonstrations.values() for s in samples]
    given += [s for w in round_brief.weaknesses for s in (*w.wrong, *w.right)]
    texts = [*(s.text for s in given), *(draft.text for drafts in written.values() for draft in drafts)]
    shown = {
        s["text"] for p in teacher for key in ("demonstrations", "wrong", "right") for s in p.variables.get(key, ())
    }
    # Words, not texts: llmda shows texts whose entities it has exchanged, and disturbs the answers.
    assert {word for text in shown for word in text.split()} <= {word for text in texts for word in text.split()}
    assert {prompt.messages[-1].role for prompt in teacher} <= {"user"}


@pytest.mark.parametrize(
    ("case", "soft"),
    [(case, soft) for case in CASES for soft in (False, True) if not soft or "soft labels" in BRIEFS[case.task]],
    ids=lambda value: str(value) if isinstance(value, Case) else ["hard", "soft"][value],
)
def test_whatever_the_teacher_answers_each_text_ends_as_a_draft_or_a_known_problem(case: Case, soft: bool) -> None:
    base = BRIEFS[case.task]["weaknesses"]
    round_brief = replace(base, soft_labels=soft, labelling=replace(base.labelling, scored=soft), budget=12)
    strategy, task = case.strategy, round_brief.task
    planned = plan(strategy, round_brief)
    for answer in HOSTILE:

        async def ask(prompt: Prompt, answer: Completion = answer) -> Completion:
            return answer

        written = write(strategy, round_brief, ask, planned)
        assert [len(written[request.index]) for request in planned] == [request.count for request in planned]
        for draft in (draft for drafts in written.values() for draft in drafts):
            assert (
                draft.problem in REASONS if draft.problem else draft.text and not task.check(draft.text, draft.target)
            )


@every_case
def test_a_teacher_that_fails_fails_the_round(case: Case) -> None:
    round_brief = BRIEFS[case.task]["weaknesses"]
    asked: list[Prompt] = []

    async def ask(prompt: Prompt) -> Completion:
        asked.append(prompt)
        raise ConnectionError("gone")

    try:
        write(case.strategy, round_brief, ask, plan(case.strategy, round_brief))
    except ConnectionError:
        assert asked
    else:
        assert not asked, "an error of the teacher was swallowed"
    assert bool(asked) == bool(case.strategy.prompt_templates)
