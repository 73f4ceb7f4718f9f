"""The records that the parts of a round exchange. All are frozen; standard library only.

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
    """What the engine lets the teacher answer. Exactly one is set: a JSON schema, a list of choices, or an EBNF grammar.

    `score`: return the log-probability of each choice as well (soft labels), or under a schema or a grammar that of each token of
    the answer, where the engine can.
    """

    json_schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    grammar: str | None = None
    score: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt for the teacher, complete before it is sent.

    `key` is unique in the round ("generate/000012", "label/000012/3"); `seed` is derived from it. `variables` are those of
    the template. Only the scripted teacher reads them; they are neither sent nor journalled.
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
        """The index of the one request that needs this prompt; None for a prompt whose answer many requests share."""
        index = self.key.partition("/")[2].partition("/")[0]
        return int(index) if len(index) >= 6 and index.isdecimal() and index.isascii() else None


@dataclass(frozen=True, slots=True)
class Completion:
    """The teacher's answer.

    `finish_reason` is "stop", "length" (cut at max_tokens), "too_long" (the prompt does not fit into the model's context;
    `text` is empty) or, from `refused`, "refused: " and why. `choice_logprobs`: natural log-probability of each choice of the
    constraint, renormalised over them; under a schema or a grammar that of each token, named by its characters in `text`
    ("12:15"), without those that are as good as certain. None where the engine gives none.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    choice_logprobs: Mapping[str, float] | None = None

    @property
    def refusal(self) -> str | None:
        """Why the engine gave no answer to this prompt alone; None when it gave one."""
        return self.finish_reason.removeprefix(REFUSED) if self.finish_reason.startswith(REFUSED) else None


REFUSED = "refused: "
MAX_REFUSAL = 200
"""Characters of a server's message that are kept with a prompt that it refused."""


def refused(why: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> Completion:
    """The completion of a prompt that the engine refused, or failed on, while it answers others."""
    why = why.encode(errors="replace").decode()  # a server may send half a surrogate pair, which no journal can hold
    return Completion("", REFUSED + " ".join(why.split())[:MAX_REFUSAL], prompt_tokens, completion_tokens)


MAX_TOKENS = 2**31 - 1
"""The most tokens that one prompt or answer can be said to have: what a published journal can hold."""
LOG_PROBABILITIES = (-1e6, 1e-3)
"""The least and the greatest log-probability that is believed. Rounding may leave a certain choice a little above 0."""


def token_count(value: object) -> int:
    """A number of tokens that a server or a journal gave; 0 when it can be none."""
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS
    return int(value) if is_count else 0  # type: ignore[call-overload]


def is_log_probability(value: object) -> bool:
    """Whether a server's or a journal's number is a finite log-probability."""
    least, greatest = LOG_PROBABILITIES
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= greatest


def sound_completion(
    text: str, finish_reason: str, prompt_tokens: object, completion_tokens: object, scores: Mapping[str, Any] | None
) -> Completion:
    """The completion of numbers from outside. Counts that can be none are 0; with a score that is no log-probability the prompt
    is unanswered: such a score would make soft labels, and with them a loss, that is not finite."""
    counts = token_count(prompt_tokens), token_count(completion_tokens)
    if scores is not None and not all(map(is_log_probability, scores.values())):
        return Completion("", "error", *counts)
    return Completion(text, finish_reason, *counts, scores)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a text, with a type. `surface` is text[start:end], so that a moved span can be detected."""

    start: int
    end: int
    type: str
    surface: str

    @property
    def place(self) -> tuple[int, int, str]:
        """What makes two spans of one text the same. A student's `surface` may have other white space than the text."""
        return self.start, self.end, self.type


Target = str | tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Weakness:
    """A kind of mistake the student made on samples it had not trained on.

    `expected` is the right class, `got` the predicted one ("" when no class was predicted there). `missed` counts the
    mistakes of this kind, `seen` the samples of class `expected` that were predicted. `wrong` and `right` are such samples
    with and without the mistake. `rate` is what weaknesses are ranked by: the share of mistakes where labels can be trusted, see
    generation/weakness.py; 0: none of them can be.
    """

    kind: str
    expected: str
    got: str
    missed: int
    seen: int
    wrong: tuple[Sample, ...] = ()
    right: tuple[Sample, ...] = ()
    rate: float = 0.0

    @property
    def name(self) -> str:
        """A unique name. A ">" in a class's name is written with a backslash before it."""
        expected, got = (side.replace("\\", r"\\").replace(">", r"\>") for side in (self.expected, self.got))
        return f"{self.kind}:{expected}>{got}" if got else f"{self.kind}:{expected}"


@dataclass(frozen=True, slots=True)
class Quota:
    """A part of the plan: `samples` texts for `target`, at one difficulty, against one weakness or none.

    `contrast` is the class that the texts should resemble without belonging to it; `weakness` names the Weakness.
    A quota with a `text` asks for no new text: it asks for the label of this real text.
    """

    target: str
    samples: int
    difficulty: Difficulty | None = None
    contrast: str = ""
    weakness: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """`count` texts for `quota`, written by one call of the strategy. `index` orders all requests of a round."""

    index: int
    quota: Quota
    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a sample. `request` is its index in the round, -1 for seeds; `position` counts the texts of one request."""

    round: int
    request: int
    position: int
    strategy: str
    difficulty: str = ""
    weakness: str = ""
    intended: str = ""


@dataclass(frozen=True, slots=True)
class LabelForm:
    """How the teacher is asked for a label; which form serves a teacher best is measured (see stages/exam.py).

    `answer`: "names" of labels or "codes" of one character (classification); "grammar", "enum" or "json" (tagging). `turns`:
    demonstrations are turns of the chat, otherwise lines of the system message. At most `demonstrations` are shown.
    """

    answer: str
    turns: bool
    demonstrations: int

    @property
    def name(self) -> str:
        """ "names, turns, 24"."""
        return f"{self.answer}, {'turns' if self.turns else 'system'}, {self.demonstrations}"


@dataclass(frozen=True, slots=True)
class Labelling:
    """How the texts of a round are labelled, and what becomes of a text whose label is in doubt (see strategies/trust.py).

    `scored`: the teacher's probability of each class is asked for. `prior`: its mean probability of each class, which is divided
    out; empty: none. `temperature`: calibrates the probabilities. `student_weight`: how much the log-probabilities of the student
    that knows the seeds alone count beside the teacher's; 0: it is not asked. `votes`: labelling answers per text, each with the
    demonstrations in another order. `rule`: "reject" (a text must be labelled as it was asked for), "relabel" (the label given
    counts) or "intended" (the label asked for counts). `threshold`: the least probability of a label. `accuracy`: the probability
    that a label is right that comes without probabilities. `doubt`: the text of a span that is less probable is labelled a second
    time (see strategies/span_trust.py); 0: none.
    """

    form: LabelForm
    scored: bool = False
    prior: tuple[float, ...] = ()
    temperature: float = 1.0
    student_weight: float = 0.0
    votes: int = 1
    rule: str = "reject"
    accuracy: float = 0.8
    threshold: float = 0.0
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A text that the teacher wrote, with its target, before the filters have checked it.

    `problem` is the reason of a rejection that is already certain, otherwise ""; `detail` says what it collided with.
    """

    text: str
    target: Target | None
    origin: Origin
    soft: tuple[float, ...] | None = None
    problem: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A text and its target that passed all filters.

    `id` is a digest of text and target. `soft` holds one probability per class, in the order of the task's classes; where the
    target is spans, one per span, in their order.
    """

    id: str
    text: str
    target: Target
    origin: Origin
    soft: tuple[float, ...] | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A draft that was dropped. `reason` is one word of `filters.REASONS`; `detail` names what it conflicts with."""

    reason: str
    text: str
    origin: Origin
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SequenceExample:
    """One text with one class. `target` is a class index or None, `soft` a distribution over the classes."""

    text: str
    target: int | None
    soft: tuple[float, ...] | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TokenExample:
    """One text divided into words, with one class index (IOB2) per word. `offsets` are the words' characters in the text."""

    words: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    targets: tuple[int, ...] | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's prediction for one sample, made before it is trained on the sample."""

    id: str
    expected: Target
    predicted: Target
    confidence: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """One way in which a prediction is wrong. A tagging sample can have several. The task defines the kinds."""

    kind: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a student made of one test text, without the text: a position in `Task.labels` for each label or span that was
    `expected`, that was `predicted`, and that was `right`. A text with one label has one of each, or none right."""

    expected: tuple[int, ...]
    predicted: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A round that is ready to publish.

    `files`: path in the repository -> local file. `title` is the commit's, `manifest` the digest of the round's manifest,
    `parent_tag` the tag of the round before.
    """

    repo: str
    tag: str
    title: str
    files: Mapping[str, Path]
    manifest: str
    parent_tag: str | None
    private: bool = True


@dataclass(frozen=True, slots=True)
class Revision:
    """A published round: exactly one commit, named by one tag."""

    repo: str
    tag: str
    commit: str
    endpoint: str
