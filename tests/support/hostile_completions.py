"""Answers that no teacher should give, generated from a seed, through every step from a server's bytes to a sample.

    play(17)    the same thousand answers each time

An answer becomes a sample that can be stored and learned, or a rejection with a reason; nothing raises, and none takes long.
What a sample must be is decided here, with nothing of the tasks' own checks.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from evokd_data.generation.filters import REASONS, FilterPipeline
from evokd_data.generation.text_filters import TextFilters
from evokd_data.recipe_sections import Filters
from evokd_data.records import Completion, Draft, Origin, Rejection, Sample, Span
from evokd_data.strategies.labelling import read_probabilities
from evokd_data.strategies.writing import lost, read_text, read_texts
from evokd_data.tasks import Task, Unreadable
from evokd_data.tasks.ner import NER
from evokd_data.teachers.server.replies import json_object, read_reply, read_scores
from tests.support.example_task import TASK, brief, labelling

COMPLETIONS = 1000
TIMED_TOGETHER = 25
"""Answers. To ask for the processor's time takes as long as several answers."""
SLOW_S = 2.0
"""Of processor time, for answers that are timed together. They take a hundredth of it, unless something in the way is quadratic."""
TYPES = ("track", "artist", "place of play")
TAGGING = NER(TYPES, description="What is played.")
TASKS: tuple[Task, ...] = (TASK, *(replace(TAGGING, labelling=form) for form in ("grammar", "json", "enum")))
PROTECTED = ("tomatoes and cherries", "the sunset glowed")
PIECES = (
    "red", "green", "blue", " RED ", '"red"', "A", "B", "play some jazz", "daft punk", "[track: ", "[artist: ", "]", "[", "\\",
    "\\]", "]]", "[unknown: x]", '"', "'", "`", "{", "}", ",", ":", "\n", "\r\n", "\t", "\x00", "\x1b[2J", "\u202e", "\u200b",
    "\ufeff", "\ufffd", "\ud800", "\udc00", "\U0001f469\u200d\U0001f52c", "e\u0301", "שלום", "東京", "𝒳", "null", "NaN",
    "1e999", "9" * 400, "-0", "<think>", "</think>", "<|im_end|>", "```json", "```", '{"texts": [', '{"samples": [',
    '{"entities": [', '{"text": "', '", "type": "track"}', "]}", "\\u0000", "\\ud800", "\\", "a" * 300, " " * 50, PROTECTED[0],
)  # fmt: skip


@dataclass
class Outcome:
    """`accepted_invalid`: samples that no student or reader could use. `crashes`: errors that are no rejection, and slow answers."""

    seed: int
    completions: int = 0
    accepted: int = 0
    accepted_invalid: int = 0
    crashes: int = 0
    slowest_s: float = 0.0
    violations: list[str] = field(default_factory=list)


def play(seed: int, completions: int = COMPLETIONS) -> Outcome:
    chance, outcome = random.Random(seed), Outcome(seed)
    pipelines = [FilterPipeline(Filters(), task, TextFilters(Filters(), PROTECTED)) for task in TASKS]
    began = time.process_time()
    for number in range(completions):
        raw = reply(chance)
        task = TASKS[number % len(TASKS)]
        try:
            for fate in fates(raw, task, pipelines[number % len(TASKS)], chance):
                if isinstance(fate, Sample):
                    outcome.accepted += 1
                    problem = invalid(fate, task)
                else:
                    problem = "" if fate.reason in REASONS else f"unknown reason {fate.reason!r}"
                if problem:
                    outcome.accepted_invalid += 1
                    outcome.violations.append(f"{problem}: {raw[:300]!r}")
        except Exception as error:
            outcome.crashes += 1
            outcome.violations.append(f"{type(error).__name__}: {error}: {raw[:300]!r}")
        outcome.completions += 1
        if outcome.completions % TIMED_TOGETHER == 0:
            lasted_s, began = time.process_time() - began, time.process_time()
            outcome.slowest_s = max(outcome.slowest_s, lasted_s)
            if lasted_s > SLOW_S:
                outcome.crashes += 1
                outcome.violations.append(f"the {TIMED_TOGETHER} answers up to {number} took {lasted_s:.1f} s")
    return outcome


def fates(raw: bytes, task: Task, pipeline: FilterPipeline, chance: random.Random) -> list[Sample | Rejection]:
    """What becomes of a server's reply as the answer to a writing prompt, and as the answer to a labelling prompt."""
    body = json_object(raw)
    answer = read_reply(body, thinking=False)
    completion = answer.completion(answer.text) if answer else Completion("", "error", 0, 0)
    count = chance.randint(1, 5)
    texts, problem = chance.choice((read_texts, _one_text))(completion, count)
    drafts = [_labelled(task, text, completion, body) for text in texts if text]
    drafts.append(_labelled(task, "play some jazz by daft punk", completion, body))
    if problem:
        drafts.append(lost("", ORIGIN, problem))
    return [pipeline.apply(draft) for draft in drafts]


ORIGIN = Origin(1, 0, 0, "evokd", intended="red")


def _one_text(completion: Completion, count: int) -> tuple[list[str], str]:
    text, problem = read_text(completion, multiline=count > 3)
    return [text], problem


def _labelled(task: Task, text: str, completion: Completion, body: Any) -> Draft:
    try:
        if task is TASK:
            scores, _ = read_scores(task.classes, None, _choice(body)) or ({}, "")
            answer = replace(completion, choice_logprobs=scores or None)
            probabilities = read_probabilities(_brief(), answer, text)
            return Draft(text, task.classes[max(range(3), key=probabilities.__getitem__)], ORIGIN, probabilities)
        return Draft(text, task.read_label(completion.text, text), ORIGIN)
    except Unreadable as error:
        return lost(text, ORIGIN, str(error))


@cache
def _brief() -> Any:
    return brief(labelling=labelling(scored=True))


def _choice(body: Any) -> dict[str, Any]:
    try:
        choice = body["choices"][0]
    except (KeyError, IndexError, TypeError):
        return {}
    return choice if isinstance(choice, dict) else {}


def invalid(sample: Sample, task: Task) -> str:
    """Why a sample cannot be used; "" when it can."""
    text, target = sample.text, sample.target
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a text that no file can hold"
    if not text.strip() or len(text) > Filters().max_characters:
        return "an empty text, or one that is too long"
    if text in PROTECTED:
        return "a text of the test set"
    if sample.soft is not None and not (
        len(sample.soft) == 3 and abs(sum(sample.soft) - 1) < 1e-6 and min(sample.soft) >= 0
    ):
        return f"no distribution: {sample.soft}"
    if task is TASK:
        return "" if target in TASK.labels else f"no label: {target!r}"
    if not isinstance(target, tuple):
        return f"no spans: {target!r}"
    return _wrong_spans(text, target)


def _wrong_spans(text: str, target: Sequence[Span]) -> str:
    end = 0
    for span in target:
        if span.type not in TYPES or not end <= span.start < span.end <= len(text):
            return f"a span that cannot be: {span}"
        if text[span.start : span.end] != span.surface or span.surface != span.surface.strip():
            return f"a span with another surface: {span}"
        end = span.end
    return ""


def reply(chance: random.Random) -> bytes:
    """The bytes of a server's reply, most of them well-formed up to the answer in it."""
    kind = chance.random()
    text = _hostile_text(chance)
    message: Any = {"content": text if kind < 0.9 else chance.choice((None, 7, [text], {"text": text}, True))}
    choice: Any = {"message": message, "finish_reason": chance.choice(("stop", "length", None, "abort", 3))}
    if chance.random() < 0.3:
        choice["logprobs"] = _logprobs(chance)
    usage = {
        name: chance.choice((3, -1, 2**40, 1e300, None, "7", [])) for name in ("prompt_tokens", "completion_tokens")
    }
    body: Any = {"choices": [choice], "usage": usage}
    if kind > 0.97:
        body = chance.choice(
            ([], {"choices": []}, {"choices": [None]}, {"choices": text}, text, 5, {"choices": [{"message": []}]})
        )
    raw = json.dumps(body).encode()
    if kind > 0.93:
        data = bytearray(raw)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        raw = bytes(data)
    return raw


def _hostile_text(chance: random.Random) -> str:
    makers: tuple[Callable[[random.Random], str], ...] = (_pieces, _pieces, _json, _json, _marks, _deep)
    text = chance.choice(makers)(chance)
    if chance.random() < 0.3 and text:
        at = chance.randrange(len(text))
        text = chance.choice((text[:at], text[at:], text[:at] + chance.choice(PIECES) + text[at + 1 :]))
    return text


def _pieces(chance: random.Random) -> str:
    return "".join(chance.choice(PIECES) for _ in range(chance.randint(0, 12)))


def _value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(9 if depth < 3 else 6)
    if kind > 5:
        values = [_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
        return values if kind < 8 else {chance.choice(("text", "type", "answer", "texts")): value for value in values}
    return (_pieces(chance), chance.choice(TYPES), chance.randint(-(2**70), 2**70), None, chance.random(), "daft punk")[
        kind
    ]


def _json(chance: random.Random) -> str:
    key = chance.choice(("texts", "samples", "entities", "topics", "advice"))
    items: list[Any] = [_value(chance) for _ in range(chance.randint(0, 5))]
    if key == "entities":
        items += [
            {
                "text": chance.choice(("daft punk", "jazz", "", "k", _pieces(chance))),
                "type": chance.choice((*TYPES, "x", 3)),
            }
        ]
    return json.dumps({key: items if chance.random() < 0.9 else _value(chance)}, ensure_ascii=chance.random() < 0.5)


def _marks(chance: random.Random) -> str:
    words = ["play", "some", "jazz", "by", "daft", "punk"]
    for _ in range(chance.randint(0, 4)):
        at = chance.randrange(len(words))
        words[at] = chance.choice(
            (f"[{chance.choice(TYPES)}: {words[at]}]", f"[{words[at]}", f"{words[at]}]", "\\" + words[at])
        )
    return " ".join(words)


def _deep(chance: random.Random) -> str:
    depth = chance.choice((10, 100, 3000))
    opening = chance.choice(("[", '{"texts":', "[track: ", "\\", "(", '{"entities":[', '"'))
    return opening * depth + chance.choice(("", "]" * depth, "}" * depth, "x"))


def _logprobs(chance: random.Random) -> Any:
    numbers = (-0.1, 0.0, 1.0, -1e308, 1e308, 10**30, -(10**400), float("nan"), float("-inf"), None, "-0.5", [], True)
    entries = [
        {"token": chance.choice(("red", "green", "blue", "A", "x", 3)), "logprob": chance.choice(numbers)}
        for _ in range(3)
    ]
    first = {
        "token": "red",
        "logprob": chance.choice(numbers),
        "top_logprobs": chance.choice((entries, [], None, [None])),
    }
    return chance.choice(({"content": [first]}, {"content": []}, None, [], {"content": [first, None]}))
