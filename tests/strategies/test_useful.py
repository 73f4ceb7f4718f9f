"""Useful demonstrations are chosen: with a teacher that only some demonstrations help."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from evokd_data.records import Completion, Prompt
from evokd_data.strategies import Brief
from evokd_data.strategies.static import Static
from evokd_data.strategies.useful import UsefulDemonstrations
from tests.support.example_task import TASK, brief, sample
from tests.support.written_drafts import RecordingTeacher, plan, write

GOOD = "telling"


class Teacher(list[Prompt]):
    """Labels a text rightly (by its last word) when a demonstration is telling, else as blue."""

    async def __call__(self, prompt: Prompt) -> Completion:
        self.append(prompt)
        helped = any(GOOD in demonstration["text"] for demonstration in prompt.variables["demonstrations"])
        label = prompt.variables["text"].split()[-1] if helped else "blue"
        codes = prompt.variables["codes"]
        if codes:
            scores = {code: -0.1 if name == label else -5.0 for name, code in codes.items()}
            return Completion(codes[label], "stop", 1, 1, scores)
        return Completion(label, "stop", 1, 1)


def brief_with_later_samples(later: int = 20, **changes: object) -> Brief:
    """One seed and `later` later samples of each class, every fourth of them telling."""
    by_label = {
        label: [
            sample(f"a seed {label}", label),
            *(
                sample(f"{GOOD if i % 4 == 0 else 'some'} text {i} {label}", label, round=1, request=i)
                for i in range(later)
            ),
        ]
        for label in TASK.labels
    }
    return brief(round=2, demonstrations=by_label, **changes)


@pytest.mark.parametrize("soft", [False, True], ids=["mistakes", "log-probabilities"])
def test_the_better_half_are_those_that_help_the_teacher(soft):
    teacher = Teacher()
    chosen = asyncio.run(
        ask_twice(UsefulDemonstrations(brief_with_later_samples(soft_labels=soft), teacher, 300, 3), "green")
    )
    is_telling = [GOOD in demonstration.text for demonstration in chosen]
    assert any(is_telling) and is_telling == sorted(is_telling, reverse=True)
    assert {demonstration.target for demonstration in chosen} == {"green"}
    assert len(teacher) <= 100 and all(prompt.key.startswith("label/useful/green/") for prompt in teacher)
    assert len({prompt.key for prompt in teacher}) == len({prompt.seed for prompt in teacher}) == len(teacher)


async def ask_twice(useful: UsefulDemonstrations, label: str):
    answers = await asyncio.gather(useful.of(label), useful.of(label))  # asked for twice, scored once
    assert answers[0] is answers[1]
    return answers[0]


@pytest.mark.parametrize(("calls", "later"), [(0, 20), (11, 20), (300, 0), (300, 1)])
def test_too_few_calls_or_samples_leave_the_choice_to_chance(calls, later):
    teacher, round_brief = Teacher(), brief_with_later_samples(later)
    chosen = asyncio.run(ask_twice(UsefulDemonstrations(round_brief, teacher, calls, 3), "red"))
    assert chosen is round_brief.demonstrations["red"] and teacher == []


def test_no_validation_sample_is_among_the_demonstrations_it_is_labelled_with():
    teacher = Teacher()
    asyncio.run(ask_twice(UsefulDemonstrations(brief_with_later_samples(), teacher, 300, 3), "red"))
    assert len(teacher) > 10
    for prompt in teacher:
        assert prompt.variables["text"] not in {shown["text"] for shown in prompt.variables["demonstrations"]}
        assert [shown["target"] for shown in prompt.variables["demonstrations"]] == ["red", "green", "blue"]


def test_texts_are_written_from_the_chosen_demonstrations():
    round_brief = replace(brief_with_later_samples(), budget=60)
    strategy = Static(choose="useful", choosing_calls=300)
    teacher = RecordingTeacher()
    write(strategy, round_brief, teacher, plan(strategy, round_brief))
    scored = {p.variables["demonstrations"][0]["text"] for p in teacher if p.key.startswith("label/useful/")}
    seeds = {f"a seed {label}" for label in TASK.labels}
    shown = {turn["text"] for p in teacher if p.template == "generate" for turn in p.variables["shown"]}
    assert scored and shown - seeds <= scored and len(shown) > len(seeds)
