"""What travels between the parts of a round, one page. All frozen; standard library only.

    plan: Weakness -> Quota -> GenerationRequest        generate: Prompt -> Completion -> Draft -> Sample | Rejection
    train: Sample -> SequenceExample | TokenExample                publish: Bundle -> Revision

A task's *target* is what the student must predict: a label (str) for classification, a tuple of `Span` for tagging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Difficulty = Literal["easy", "hard"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the teacher draws tokens. `temperature` 0 is greedy; `max_tokens` bounds the answer."""

    temperature: float
    max_tokens: int
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the engine lets the teacher answer: exactly one of a JSON schema, a list of choices, an EBNF grammar.

    `score`: with choices, also return the log-probability of each (soft labels); the choices must then be
    strings that begin with different tokens, such as A, B, C.
    """

    json_schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    grammar: str | None = None
    score: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to the teacher, decided before it is sent.

    `key` is its place in the round ("generate/000012", "label/000012/3"), `seed` is derived from that place.
    `variables` is what the template saw; it serves the scripted teacher and is neither sent nor journalled.
    """

    key: str
    template: str
    messages: tuple[Message, ...]
    seed: int
    sampling: Sampling
    constraint: Constraint | None = None
    variables: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def request(self) -> int | None:
        """The index of the request that alone asks this prompt; None for one whose answer many requests share."""
        _, _, place = self.key.partition("/")
        index, _, _ = place.partition("/")
        return int(index) if len(index) >= 6 and index.isdecimal() and index.isascii() else None


@dataclass(frozen=True, slots=True)
class Completion:
    """The teacher's answer. `finish_reason` is "stop", "length" (cut at max_tokens) or "too_long" (a prompt that does
    not fit into the model's context; `text` is empty).

    `choice_logprobs`: natural log-probability of each of the constraint's choices, renormalised over them.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    choice_logprobs: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a text, of one type. `surface` is text[start:end]: a moved span is found out."""

    start: int
    end: int
    type: str
    surface: str


Target = str | tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Weakness:
    """A kind of mistake the student made on samples it had not trained on.

    `expected` the class that was right, `got` the one predicted ("" when the student saw nothing there),
    `missed` how many mistakes of this kind, `seen` how many samples of `expected` it met.
    """

    kind: str
    expected: str
    got: str
    missed: int
    seen: int
    wrong: tuple[Sample, ...] = ()
    right: tuple[Sample, ...] = ()

    @property
    def name(self) -> str:
        """Unlike any other: a class's own ">" has a backslash before it."""
        expected, got = (side.replace("\\", r"\\").replace(">", r"\>") for side in (self.expected, self.got))
        return f"{self.kind}:{expected}>{got}" if got else f"{self.kind}:{expected}"


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota of the plan: `samples` texts for `target`, at one difficulty, aimed at one weakness or at none.

    `contrast` is the class the texts should look like without belonging to it; `weakness` names the Weakness.
    A quota with a `text` asks for no new one: this real text, of a class nobody knows yet, is to be labelled.
    """

    target: str
    samples: int
    difficulty: Difficulty | None = None
    contrast: str = ""
    weakness: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generate call of the plan: `count` texts for `quota`. `index` orders the whole round."""

    index: int
    quota: Quota
    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a sample came from. `request` is -1 for seeds; `position` counts the texts of one request."""

    round: int
    request: int
    position: int
    strategy: str
    difficulty: str = ""
    weakness: str = ""
    intended: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the teacher wrote and labelled, not yet believed. `problem` is set when it is known to be of no use."""

    text: str
    target: Target | None
    origin: Origin
    soft: tuple[float, ...] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A text and its target, believed. `id` is a digest of text and target; `soft` follows the task's classes."""

    id: str
    text: str
    target: Target
    origin: Origin
    soft: tuple[float, ...] | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A draft that was dropped. `reason` is one word of `filters.REASONS`; `detail` says with what it collided."""

    reason: str
    text: str
    origin: Origin
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SequenceExample:
    """One text with one class. `target` is a class index, or None; `soft` a distribution over the classes."""

    text: str
    target: int | None
    soft: tuple[float, ...] | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TokenExample:
    """One text cut into words; one class index (IOB2) per word. `offsets` are the words' characters in the text."""

    words: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    targets: tuple[int, ...] | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a student says of one sample, before it is trained on it."""

    id: str
    expected: Target
    predicted: Target
    confidence: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """One way in which a prediction is wrong; a tagging sample can hold several. `kind` is the task's word."""

    kind: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A round ready to publish: path in the repository -> local file, and what the commit and the tag are called."""

    repo: str
    tag: str
    title: str
    files: Mapping[str, Path]
    manifest: str
    parent_tag: str | None
    private: bool = True


@dataclass(frozen=True, slots=True)
class Revision:
    """A round on a Hub: exactly one commit, named by one tag."""

    repo: str
    tag: str
    commit: str
    endpoint: str
