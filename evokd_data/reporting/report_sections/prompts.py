"""Prompts and answers behind the rows of the sample browser, from the journals of the rounds.

Many prompts share their messages, such as the system message of all labelling prompts: each message is on the page once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from heapq import nlargest
from math import exp
from typing import Any

from evokd_data.reporting.report_sections.embedding import encoded_size
from evokd_data.reporting.report_sections.run_files import RoundFiles, RunFiles
from evokd_data.strategies.labelling import CODES, LABEL_CODES, label_codes

INDEX_BYTES = 7
"""Of an index of a message or an answer, with its comma."""
Message = tuple[str, str]
"""Role, content."""
Place = tuple[int, int, int]
"""Round, request, position of a text."""

GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly over 0 to 1, however many are taken."""
MAX_ROWS = 10_000
"""Rows with prompts at most: a bound of memory."""
CHARACTERS = 6_000
"""Of a message or an answer. What is cut is marked."""
LIKELIEST = 3
"""Labels shown with the teacher's probability."""
STAGES = ("generate", "compose", "label", "student")
"""Templates in the order in which a text meets them; others come first."""


def answers_behind(run: RunFiles, places: Sequence[Place], budget: float) -> dict[str, Any]:
    """{"messages": [[role, content]], "answers": [[template, message indices, text, finish, tokens, probabilities]],
    "answers_of": {row: answer indices}, "asked_rows": rows that the teacher was asked for}.

    Takes about `budget` bytes at most; rows are chosen evenly over the page. Seeds, corrected rounds and rounds
    without a journal have no answers.
    """
    rounds = {round_files.index for round_files in run.of_teacher}
    asked_rows = [number for number, (index, request, _) in enumerate(places) if index in rounds and request >= 0]
    order = sorted(asked_rows, key=lambda number: number * GOLDEN % 1)[:MAX_ROWS]
    journalled = _journalled(run, {places[number] for number in order})
    page = _Page()
    size = 0
    for number in order:
        behind = journalled.get(places[number], [])
        size += page.size_of(behind)
        if size > budget:
            break
        page.add(number, behind)
    return {
        "messages": [list(message) for message in page.messages],
        "answers": page.answers,
        "answers_of": page.answers_of,
        "asked_rows": len(asked_rows),
    }


class _Page:
    """The messages and answers that are on the page already."""

    def __init__(self) -> None:
        self.messages: dict[Message, int] = {}
        self.answers: list[list[Any]] = []
        self.answers_of: dict[str, list[int]] = {}
        self._index_of: dict[int, int] = {}  # an answer's id -> its index

    def size_of(self, behind: Sequence[dict[str, Any]]) -> int:
        """The bytes that a row with these answers adds."""
        answers = [answer for answer in behind if id(answer) not in self._index_of]
        messages = dict.fromkeys(message for answer in answers for message in answer["messages"])
        texts = [message for message in messages if message not in self.messages]
        fields = [[answer[key] for key in ("text", "stage", "finish_reason", "likeliest")] for answer in answers]
        indices = sum(len(answer["messages"]) for answer in answers) + len(behind)
        return encoded_size([*texts, *fields]) + INDEX_BYTES * (1 + indices)

    def add(self, row: int, behind: Sequence[dict[str, Any]]) -> None:
        for answer in behind:
            if id(answer) not in self._index_of:
                self._index_of[id(answer)] = len(self.answers)
                indices = [self.messages.setdefault(message, len(self.messages)) for message in answer["messages"]]
                tokens = answer["prompt_tokens"] + answer["completion_tokens"]
                self.answers.append(
                    [answer["stage"], indices, answer["text"], answer["finish_reason"], tokens, answer["likeliest"]]
                )
        if behind:
            self.answers_of[str(row)] = [self._index_of[id(answer)] for answer in behind]


def _journalled(run: RunFiles, places: set[Place]) -> dict[Place, list[dict[str, Any]]]:
    """Place -> the answers behind its text, in the order of STAGES."""
    behind: dict[Place, list[dict[str, Any]]] = defaultdict(list)
    positions: dict[tuple[int, int], list[Place]] = defaultdict(list)
    for place in places:
        positions[place[:2]].append(place)
    for round_files in run.rounds:
        if not round_files.folder.journal.is_dir():
            continue
        codes = _codes(run, round_files)
        for answer in run.answers(round_files.folder.journal):
            request, position = _path(answer["key"])
            meant = positions.get((round_files.index, request), []) if request is not None else []
            meant = [place for place in meant if position in (None, place[2])]
            if meant:
                shortened = _shortened(answer, codes)
                for place in meant:
                    behind[place].append(shortened)
    for answers in behind.values():
        answers.sort(key=lambda answer: STAGES.index(answer["stage"]) if answer["stage"] in STAGES else -1)
    return behind


def _path(key: str) -> tuple[int | None, int | None]:
    """(request, position) that a prompt's key names; None for a prompt of the whole round, or of all texts of a request."""
    request, position, *_ = (*key.split("/")[1:], "", "")
    if not (len(request) >= 6 and request.isascii() and request.isdecimal()):
        return None, None
    return int(request), int(position) if position.isascii() and position.isdecimal() else None


def _codes(run: RunFiles, round_files: RoundFiles) -> Mapping[str, str]:
    """Code -> label, in a round whose labels are asked for by codes; else empty."""
    form = (round_files.plan.get("labelling") or {}).get("form") or {}
    if form.get("answer") != CODES or len(run.labels) > len(LABEL_CODES):
        return {}
    return {code: label for label, code in label_codes(run.labels).items()}


def _shortened(answer: Mapping[str, Any], codes: Mapping[str, str]) -> dict[str, Any]:
    """What the page shows of an answer. Beside a code stands the label that it means."""
    scores = answer["choice_logprobs"] or {}
    if answer["text"] not in scores:  # of tokens, not of choices
        scores = {}
    names = codes if answer["stage"] == "label" else {}
    return {
        **{key: answer[key] for key in ("stage", "finish_reason", "prompt_tokens", "completion_tokens")},
        "text": _cut(answer["text"]),
        "messages": [(message["role"], _cut(message["content"])) for message in answer["messages"]],
        "likeliest": [
            [f"{label} = {names[label]}" if label in names else label, round(exp(min(0.0, score)), 3)]
            for label, score in nlargest(LIKELIEST, scores.items(), key=lambda entry: entry[1])
        ],
    }


def _cut(text: str) -> str:
    return (
        text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} [... {len(text) - CHARACTERS:,} characters left out]"
    )
