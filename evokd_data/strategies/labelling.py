"""Labelling texts: one call to the teacher for each text and vote, in the form that serves this teacher best.

A class is answered by its name or by a code of one character, with demonstrations as turns of the chat or in the system message:
the best form of one teacher is the worst of another, so the exam chooses (see stages/exam.py). Where the engine can, it gives the
probability of each class. What becomes of a text then follows from its intended label and these probabilities (see `trust`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, isfinite
from typing import Any

from evokd_data.digest import derive_seed
from evokd_data.records import (
    Completion,
    Constraint,
    Draft,
    GenerationRequest,
    LabelForm,
    Message,
    Origin,
    Prompt,
    Rejection,
    Sampling,
    Target,
)
from evokd_data.strategies import NO_PROBLEM, Ask, Brief, TextProblem
from evokd_data.strategies.demonstrations import permuted_demonstrations
from evokd_data.strategies.prompts import make_prompt, prompt_key, task_variables
from evokd_data.strategies.span_trust import Spans, calibrated, confirmed, disagreement, with_intended
from evokd_data.strategies.trust import calibrate, certain_label, pool
from evokd_data.strategies.writing import lost, origin, unanswered
from evokd_data.tasks import Task, Unreadable
from evokd_data.templates import Templates

MAX_LABEL_TOKENS = 64  # room for the longest label; tagging asks for more, by the length of the text

LABEL_CODES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789#@%&$*+!?^~<>/|;:-_()[]{}.,='\"`\\"
"""Every printable ASCII character but the blank: a tokenizer of bytes has each as one token, whatever else it knows."""

NAMES, CODES = "names", "codes"
STUDENT = "student"
"""The template of prompts that the seeds-only student answers, not the teacher."""
TIE = 1e-9
"""Two probabilities that differ by less are equal."""
DECIMALS = 4
"""Of a probability. A log-probability may differ by 1e-5 between two runs on two threads; a row must not."""
SPAN_DECIMALS = 2
"""Of a span's probability: it is a product over many tokens, and differs by more."""


def can_be_scored(task: Task) -> bool:
    """Whether the teacher can give a probability for each class: there is one label a text, out of a list."""
    return task.label_constraint("").choices is not None


def answer_forms(task: Task, templates: Templates) -> tuple[str, ...]:
    """The forms of an answer that task and label template allow, the one that served most teachers best first."""
    if not can_be_scored(task):
        return task.answer_forms
    codes = len(task.classes) <= len(LABEL_CODES) and "codes" in templates.variables("label")
    return (NAMES, CODES) if codes else (NAMES,)


def in_form(task: Task, answer: str) -> Task:
    """The task with its targets asked for in this form of an answer; a task with one label a text is the same in all of them."""
    return task if can_be_scored(task) else replace(task, labelling=answer)  # type: ignore[type-var]  # every task is a dataclass


def label_codes(classes: Sequence[str]) -> dict[str, str]:
    """Class -> its code of one character."""
    assert len(classes) <= len(LABEL_CODES)
    return dict(zip(classes, LABEL_CODES, strict=False))


def label_answers(task: Task, templates: Templates, form: LabelForm) -> Mapping[str, str]:
    """Label -> what the teacher answers for it; empty where answers are no labels out of a list."""
    if can_be_scored(task) and form.answer == CODES:
        return label_codes(task.labels)
    return label_names(task, templates, "label")


def label_names(task: Task, templates: Templates, template: str) -> Mapping[str, str]:
    """Label -> what the prompts and answers of a template call it; empty where answers are no labels out of a list.

    A template of the user's that knows nothing of `answers` shows labels as they are, so they are the answers then.
    """
    if not can_be_scored(task):
        return {}
    names: Mapping[str, str] = task.describe()["names"]
    return names if "answers" in templates.variables(template) else {label: label for label in task.labels}


def read_named(task: Task, names: Mapping[str, str], answer: str, text: str) -> Target:
    """What an answer says of a text, where labels are called by `names`. Raises Unreadable."""
    label_of = {name: label for label, name in names.items()}
    return label_of.get(answer.strip()) or task.read_label(answer, text)


async def label_texts(
    brief: Brief,
    request: GenerationRequest,
    ask: Ask,
    strategy: str,
    texts: Sequence[str],
    problem: str,
    intended: Sequence[Spans] | None = None,
) -> list[Draft]:
    """One draft for each text asked for: labelled, or with the problem that keeps it from being labelled.

    `problem` says why there are fewer texts than were asked for. `intended`: the spans that each text was written for, where the
    strategy knows more than that they have the quota's type. Nothing is asked about a text that the round's filters drop.
    """
    sources = [origin(brief, request, position, strategy) for position in range(request.count)]
    written = [position for position, text in enumerate(texts) if text]
    problems = brief.check_texts([texts[position] for position in written], [sources[position] for position in written])
    problem_at = dict(zip(written, problems, strict=True))

    async def label_at(position: int) -> Draft:
        source = sources[position]
        if position >= len(texts):
            return lost("", source, problem or "missing")
        text = texts[position]
        if not text:
            return lost("", source, problem or "too_short")
        if problem_at[position] != NO_PROBLEM:
            return unlabelled(text, source, problem_at[position])
        try:
            return await label_text(
                brief, request, position, text, ask, strategy, None if intended is None else intended[position]
            )
        except Unreadable as error:
            return lost(text, source, str(error))

    return list(await asyncio.gather(*(label_at(position) for position in range(request.count))))


NOT_LABELLED = "not labelled"
"""How the detail of a rejection ends when no label was asked for."""


def unlabelled(text: str, source: Origin, problem: TextProblem) -> Draft:
    """The draft of a text that is dropped before a label is asked for."""
    reason, detail = problem
    return Draft(text, None, source, problem=reason, detail=f"{detail}, {NOT_LABELLED}" if detail else NOT_LABELLED)


def is_unlabelled(rejection: Rejection) -> bool:
    """Whether a text was dropped before a label was asked for, as it would have been otherwise."""
    return rejection.detail == NOT_LABELLED or rejection.detail.endswith(f", {NOT_LABELLED}")


async def label_text(
    brief: Brief,
    request: GenerationRequest,
    position: int,
    text: str,
    ask: Ask,
    strategy: str,
    intended: Spans | None = None,
) -> Draft:
    """The text with its label, or with the reason why no label of it can be trusted. Raises Unreadable.

    With several votes the demonstrations stand in another order for each: of probabilities the mean counts, of labels the
    majority (self-consistency, Wang et al. 2023).
    """
    prompts = [_vote(brief, request, position, text, vote) for vote in range(brief.labelling.votes)]
    answers = await asyncio.gather(*map(ask, prompts)) if len(prompts) > 1 else [await ask(prompts[0])]
    if problem := next(filter(None, map(unanswered, answers)), ""):
        raise Unreadable(problem)
    source = origin(brief, request, position, strategy)
    if not can_be_scored(brief.task):
        draft = await _read_spans(brief, request, Draft(text, None, source), answers, ask)
        return draft if draft.problem else _judge_spans(brief, draft, intended)
    readings = [read_probabilities(brief, answer, text) for answer in answers]
    probabilities = tuple(sum(values) / len(readings) for values in zip(*readings, strict=True))
    probabilities = calibrate(probabilities, brief.labelling.prior, brief.labelling.temperature)
    if brief.labelling.student_weight:
        opinion = await ask(student_prompt(brief, text, prompt_key(STUDENT, request.index, position)))
        probabilities = pool(probabilities, read_student(brief, opinion), brief.labelling.student_weight)
    return _judge(brief, Draft(text, None, source), probabilities)


def _vote(brief: Brief, request: GenerationRequest, position: int, text: str, vote: int) -> Prompt:
    """The prompt for one of the answers that a text gets."""
    return label_prompt(
        brief,
        text,
        permuted_demonstrations(brief, vote),
        prompt_key("label", request.index, position, vote),
        derive_seed(request.seed, "label", position, vote),
    )


async def _read_spans(
    brief: Brief, request: GenerationRequest, draft: Draft, answers: Sequence[Completion], ask: Ask
) -> Draft:
    """The draft with the spans of the answers, and where there is one answer with their probabilities; see `span_trust`.

    A text with a span that is too uncertain is labelled a second time. Raises Unreadable.
    """
    if len(answers) > 1:
        return replace(draft, target=majority([brief.task.read_label(answer.text, draft.text) for answer in answers]))
    spans = _spans(brief.task.read_label(answers[0].text, draft.text))
    sure = read_span_probabilities(brief, answers[0], draft.text)
    if not sure or min(sure) >= max(brief.labelling.doubt, brief.labelling.threshold):
        return replace(draft, target=spans, soft=_rounded(sure))
    least, doubted = min(zip(sure, spans, strict=True), key=lambda pair: pair[0])
    detail = f"{doubted.surface!r} as {doubted.type} has a probability of {least:.2f}"
    if len(permuted_demonstrations(brief, 0)) < 2:  # there is no other order to ask in
        return (
            _uncertain(draft, detail)
            if least < brief.labelling.threshold
            else replace(draft, target=spans, soft=_rounded(sure))
        )
    answer = await ask(_vote(brief, request, draft.origin.position, draft.text, 1))
    if problem := unanswered(answer):
        raise Unreadable(problem)
    try:
        again = _spans(brief.task.read_label(answer.text, draft.text))
        both, sure_of_both = confirmed(spans, sure, again, read_span_probabilities(brief, answer, draft.text))
    except Unreadable as error:
        return _uncertain(draft, f"{detail}, and a second answer is {error}")
    if not both:
        return _uncertain(draft, f"{detail}, and a second answer has no span of the first")
    return replace(draft, target=both, soft=_rounded(sure_of_both))


def read_span_probabilities(brief: Brief, answer: Completion, text: str) -> list[float] | None:
    """The calibrated probability of each span in an answer; None where the engine gives none. Raises Unreadable."""
    if not brief.labelling.scored or answer.choice_logprobs is None:
        return None
    values = brief.task.span_probabilities(answer.text, text, answer.choice_logprobs)
    return None if values is None else [calibrated(value, brief.labelling) for value in values]


def _rounded(probabilities: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if probabilities is None else tuple(round(value, SPAN_DECIMALS) for value in probabilities)


def _uncertain(draft: Draft, detail: str) -> Draft:
    return replace(draft, problem="label_uncertain", detail=detail)


def _spans(target: Target) -> Spans:
    assert isinstance(target, tuple)
    return target


def student_prompt(brief: Brief, text: str, key: str) -> Prompt:
    """The question to the student that knows the seeds alone. It is journalled as the teacher's answers are, so that a replay
    needs no student."""
    return Prompt(key, STUDENT, (Message("user", text),), 0, _label_sampling(1), _student_constraint(brief))


def read_student(brief: Brief, answer: Completion) -> tuple[float, ...]:
    """The student's probability of each class. Raises Unreadable when the journal holds something else."""
    scores = answer.choice_logprobs or {}
    try:
        return tuple(exp(scores[label]) for label in brief.task.classes)
    except KeyError:
        raise Unreadable("no_label") from None


@lru_cache(maxsize=64)
def _student_constraint(brief: Brief) -> Constraint:
    return Constraint(choices=brief.task.classes, score=True)


def read_probabilities(brief: Brief, answer: Completion, text: str) -> tuple[float, ...]:
    """The probability of each class, in their order; they sum to 1.

    An engine that gives none answers with a label: it stands for the probabilities of a teacher as accurate as the exam says.
    Raises Unreadable.
    """
    answers = _answers(brief).by_label
    scores = answer.choice_logprobs or {}
    known = [scores.get(answers[label]) for label in brief.task.classes]
    if all(value is not None and isfinite(value) for value in known):
        # A journal may hold values that are all 0 as probabilities, so the largest counts as 1.
        largest = max(value for value in known if value is not None)
        probabilities = [exp(value - largest) for value in known if value is not None]
        total = sum(probabilities)
        return tuple(value / total for value in probabilities)
    label = read_answer(brief, answer.text, text)
    return certain_label(brief.task.classes.index(label), len(brief.task.classes), brief.labelling.accuracy)


def read_answer(brief: Brief, answer: str, text: str) -> str:
    """The label that an answer names. Raises Unreadable."""
    label = read_named(brief.task, _answers(brief).by_label, answer, text)
    assert isinstance(label, str)
    return label


def _judge(brief: Brief, draft: Draft, probabilities: Sequence[float]) -> Draft:
    """The draft with its label and soft label, or with the reason against it, by the rule of the round."""
    labelling, classes = brief.labelling, brief.task.classes
    intended = classes.index(draft.origin.intended) if draft.origin.intended in classes else None
    labelled = max(range(len(classes)), key=probabilities.__getitem__)
    chosen = intended if labelling.rule == "intended" and intended is not None else labelled
    problem = ""
    if sum(value > probabilities[labelled] - TIE for value in probabilities) > 1:
        problem = "label_tie"
    elif labelling.rule == "reject" and intended not in (None, labelled):
        problem = "label_disagreement"
    elif probabilities[chosen] < labelling.threshold:
        problem = "label_uncertain"
    if problem:
        asked = f"asked for {classes[intended]}, " if intended is not None else ""
        detail = f"{asked}labelled {classes[labelled]} ({probabilities[labelled]:.2f})"
        return Draft(draft.text, None, draft.origin, problem=problem, detail=detail)
    soft = tuple(round(value, DECIMALS) for value in probabilities) if brief.soft_labels and labelling.scored else None
    return Draft(draft.text, classes[chosen], draft.origin, soft)


def _judge_spans(brief: Brief, draft: Draft, intended: Spans | None) -> Draft:
    """A tagged text must hold the spans it was written for, or where these are not known their type, unless the teacher's labels
    count whatever they are. By the rule "intended" the spans it was written for count, and the labelled ones beside them."""
    rule, asked = brief.labelling.rule, draft.origin.intended
    assert draft.target is not None
    target = _spans(draft.target)
    if rule == "intended" and intended is not None:
        counted = with_intended(intended, target)
        return replace(draft, target=counted, soft=draft.soft if counted == target else None)
    if rule != "reject":
        return draft
    if intended is not None:
        detail = disagreement(intended, target)
    else:
        detail = f"asked for {asked}" if asked and not brief.task.carries(target, asked) else ""
    return replace(draft, target=None, soft=None, problem="label_disagreement", detail=detail) if detail else draft


def majority(votes: Sequence[Target]) -> Target:
    """The target most votes are for. Raises Unreadable("label_tie") when two have as many."""
    ranked = Counter(votes).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        raise Unreadable("label_tie")
    return ranked[0][0]


def label_prompt(brief: Brief, text: str, shown: Sequence[Mapping[str, Any]], key: str, seed: int) -> Prompt:
    """A labelling prompt with the demonstrations `shown`, in the form of the round."""
    answers = _answers(brief)
    constraint = answers.constraint or replace(brief.task.label_constraint(text), score=brief.labelling.scored)
    tokens = MAX_LABEL_TOKENS if constraint.choices else MAX_LABEL_TOKENS + 2 * len(text.encode())
    turns = brief.labelling.form.turns
    variables = {
        "task": task_variables(brief),
        "text": text,
        "demonstrations": () if turns else shown,
        "codes": answers.codes,
        "answers": answers.by_label,
        "shown": shown,  # all of them, wherever they stand
    }
    return make_prompt(
        brief,
        key,
        "label",
        variables,
        turns=shown if turns else (),
        seed=seed,
        constraint=constraint,
        sampling=_label_sampling(tokens),
    )


@lru_cache(maxsize=64)
def _label_sampling(max_tokens: int) -> Sampling:
    return Sampling(0.0, max_tokens, top_p=1.0)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What labelling answers may be in a round. `codes` is empty unless codes are asked for; `constraint` is None where it
    depends on the text."""

    by_label: Mapping[str, str]
    codes: Mapping[str, str]
    constraint: Constraint | None


@lru_cache(maxsize=64)
def _answers(brief: Brief) -> _Answers:
    """The very same objects for every text: templates and journal recognise them by identity."""
    by_label = label_answers(brief.task, brief.templates, brief.labelling.form)
    codes = by_label if brief.labelling.form.answer == CODES else {}
    constraint = Constraint(choices=tuple(by_label.values()), score=brief.labelling.scored) if by_label else None
    return _Answers(by_label, codes, constraint)
