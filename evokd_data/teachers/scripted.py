"""A teacher without a model: deterministic and instant, for tests, dry runs and benchmarks of everything else.

It obeys each prompt's constraint and answers from the variables of its template. Texts are recombined from the demonstrations
with invented words, and labels follow the demonstrations' words. A student learns next to nothing from its texts.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import Field

from evokd_data.digest import derive_random
from evokd_data.records import Completion, Prompt
from evokd_data.settings import NOT_IDENTITY, Count, Share, from_anyone
from evokd_data.teachers import Engine, Teacher
from evokd_data.teachers.scoring import token_logprobs

CHARACTERS_PER_TOKEN = 4


@from_anyone("temperature", "top_p", "max_tokens", "wrong_labels", "broken_answers", "latency_s", "window")
@dataclass(frozen=True)
class Scripted(Teacher):
    """A script instead of a model, for dry runs."""

    name: ClassVar[str] = "scripted"

    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """As for other engines. The script does not use it."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """As for other engines. The script does not use it."""
    max_tokens: Count = 512
    """As for other engines. The script does not use it."""
    wrong_labels: Share = 0.0
    """The share of labels that are wrong on purpose, so that a dry run shows the filters at work."""
    broken_answers: Share = 0.0
    """The share of answers that are unreadable on purpose, so that a dry run shows rejections."""
    latency_s: Annotated[float, Field(ge=0)] = field(default=0.0, metadata=NOT_IDENTITY)
    """Seconds that each answer takes."""
    window: Count = field(default=256, metadata=NOT_IDENTITY)
    """The most requests in flight."""

    def identity(self) -> Mapping[str, Any]:
        # The script does not use them, but they are in the digest of every prompt.
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {
            "model": "scripted",
            **sampling,
            "wrong_labels": self.wrong_labels,
            "broken_answers": self.broken_answers,
        }

    @asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        yield ScriptedEngine(self)


@dataclass(frozen=True)
class ScriptedEngine:
    """The engine of a scripted teacher; see `teachers.Engine`."""

    settings: Scripted

    @property
    def window(self) -> int:
        return self.settings.window

    async def complete(self, prompt: Prompt) -> Completion:
        if self.settings.latency_s:
            await asyncio.sleep(self.settings.latency_s)
        rng = derive_random(prompt.seed, "scripted")
        variables = prompt.variables
        scores = None
        keys = _required_keys(prompt)
        if prompt.template == "label" and "types" in variables["task"]:
            answer = self._spans(variables, variables["text"], rng)
            scores = _token_logprobs(answer, rng) if prompt.constraint and prompt.constraint.score else None
        elif prompt.template == "label":
            answer, scores = self._label(prompt, rng)
        elif prompt.template == "explain":
            answer = orjson.dumps({"explanation": "its words say so", "label": self._label(prompt, rng)[0]}).decode()
        elif prompt.template == "contexts":
            answer = _around(variables, rng)
        elif keys == ["names"]:
            names = [f"{cue(variables['target'])}{invented(rng)}" for _ in range(variables["count"])]
            answer = orjson.dumps({"names": names}).decode()
        elif keys == ["texts"]:
            answer = orjson.dumps({"texts": _texts(variables, rng)}).decode()
        elif keys == ["samples"]:
            samples = [{"text": text, "answer": self._target(variables, text, rng)} for text in _texts(variables, rng)]
            answer = orjson.dumps({"samples": samples}).decode()
        elif prompt.constraint is None:
            answer = _texts(variables, rng)[0]
        else:
            answer = orjson.dumps(_advice(prompt)).decode()
        finish_reason = "stop"
        if self.settings.broken_answers and rng.random() < self.settings.broken_answers:
            answer, finish_reason = answer[: len(answer) * 2 // 3], "length"
        prompt_tokens = sum(len(message.content) for message in prompt.messages) // CHARACTERS_PER_TOKEN
        return Completion(answer, finish_reason, prompt_tokens, max(1, len(answer) // CHARACTERS_PER_TOKEN), scores)

    async def sleep(self) -> None:
        """There is no accelerator to free."""

    async def wake(self) -> None:
        """There is no accelerator to take back."""

    def environment(self) -> Mapping[str, Any]:
        return {"engine": "scripted"}

    def _target(self, variables: Mapping[str, Any], text: str, rng: random.Random) -> str:
        target = variables["target"]
        return (
            self._spans(variables, text, rng)
            if "types" in variables["task"]
            else variables["answers"].get(target, target)
        )

    def _spans(self, variables: Mapping[str, Any], text: str, rng: random.Random) -> str:
        """The text's spans in the form the task asks for: surfaces from the demonstrations, and the cues of the types."""
        task = variables["task"]
        types: Sequence[str] = task["types"]
        type_by_surface = {cue(type_): type_ for type_ in types}
        type_by_surface |= {  # names that this teacher listed begin with the cue
            word: type_ for type_ in types for word in re.findall(rf"\b{cue(type_)}\w+", text)
        }
        type_by_surface |= {
            span["surface"]: span["type"]
            for demonstration in variables.get("shown", variables["demonstrations"])
            for span in demonstration["spans"]
        }
        longest_first = sorted(type_by_surface, key=len, reverse=True)
        pattern = re.compile("|".join(rf"(?<!\w){re.escape(surface)}(?!\w)" for surface in longest_first))
        if self.settings.wrong_labels and rng.random() < self.settings.wrong_labels:
            type_by_surface = dict.fromkeys(type_by_surface, rng.choice(types))
        spans = [(match.start(), match.end(), type_by_surface[match[0]]) for match in pattern.finditer(text)]
        if task["labelling"] != "grammar":
            entities = list(dict.fromkeys((text[start:end], type_) for start, end, type_ in spans))
            return orjson.dumps(
                {"entities": [{"text": surface, "type": type_} for surface, type_ in entities]}
            ).decode()
        pieces, position = [], 0
        for start, end, type_ in spans:
            pieces += [_escaped(text[position:start]), f"[{type_}: {_escaped(text[start:end])}]"]
            position = end
        return "".join([*pieces, _escaped(text[position:])])

    def _label(self, prompt: Prompt, rng: random.Random) -> tuple[str, dict[str, float] | None]:
        """The label whose demonstrations share the most words with the text, and log-probabilities if they are asked for."""
        variables = prompt.variables
        labels: Sequence[str] = variables["task"]["labels"]
        words = set(_words(variables["text"]))
        demonstrations = variables.get("shown", variables["demonstrations"])
        vocabulary = _words_by_target(tuple((example["target"], example["text"]) for example in demonstrations))
        answers: Mapping[str, str] = (
            variables.get("answers") or variables.get("codes") or {label: label for label in labels}
        )
        votes = {
            label: 2.0 * (cue(label) in words) + len(words & vocabulary.get(label, frozenset())) for label in labels
        }
        best = max(labels, key=lambda label: votes[label])
        if self.settings.wrong_labels and rng.random() < self.settings.wrong_labels:
            best = rng.choice(labels)
        constraint = prompt.constraint
        if constraint is None or not constraint.score:
            return answers[best], None
        votes[best] += 3.0
        total = math.log(sum(math.exp(vote) for vote in votes.values()))
        return answers[best], {answers[label]: votes[label] - total for label in labels}


_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def invented(rng: random.Random) -> str:
    """A word without meaning, of three syllables: one of 343,000."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(3))


def cue(target: str) -> str:
    """The invented word that marks the texts of a label or span type."""
    return invented(derive_random(0, "cue", target))


def _token_logprobs(answer: str, rng: random.Random) -> dict[str, float] | None:
    """Log-probabilities of an answer's words, as if these were its tokens, drawn at random: every other one is certain."""
    pieces = re.findall(r"\s*\S+\s*", answer)
    return token_logprobs(answer, pieces, [math.log1p(-max(0.0, rng.random() - 0.5)) for _ in pieces])


def _escaped(text: str) -> str:
    return re.sub(r"[\[\]\\]", r"\\\g<0>", text)


@lru_cache(maxsize=8)
def _words_by_target(demonstrations: tuple[tuple[str, str], ...]) -> dict[str, frozenset[str]]:
    words: dict[str, set[str]] = {}
    for target, text in demonstrations:
        words.setdefault(target, set()).update(_words(text))
    return {target: frozenset(target_words) for target, target_words in words.items()}


def _texts(variables: Mapping[str, Any], rng: random.Random) -> list[str]:
    """Texts that begin and end like demonstrations. Between are two invented words around a span of the target's type, or
    around the target's cue."""
    shown = variables["demonstrations"] or [
        turn for turn in variables.get("shown", ()) if turn.get("target") == variables["target"] or "spans" in turn
    ]
    surfaces = [
        span["surface"]
        for demonstration in shown
        for span in demonstration.get("spans", ())
        if span["type"] == variables["target"]
    ]
    demonstrations = [demonstration["text"].split() for demonstration in shown] or [[]]
    texts = []
    for _ in range(variables["count"]):
        first, last = rng.choice(demonstrations), rng.choice(demonstrations)
        mark = rng.choice(surfaces) if surfaces else cue(variables["target"])
        middle = [invented(rng), mark, invented(rng)]
        texts.append(" ".join([*first[: (len(first) + 1) // 2], *middle, *last[len(last) // 2 :]]))
    return texts


def _around(variables: Mapping[str, Any], rng: random.Random) -> str:
    """A text of invented words with the names between them."""
    words = [invented(rng), invented(rng)]
    for name in variables["names"]:
        words += [name["text"], invented(rng)]
    return " ".join(words)


def _advice(prompt: Prompt) -> dict[str, str]:
    """The same sentence for every string of the object that the prompt's schema asks for."""
    variables = prompt.variables
    target = variables.get("expected") or variables.get("target")
    sentence = f"more texts of {target} unlike {variables.get('got') or 'others'}"
    return dict.fromkeys(_required_keys(prompt) or ["answer"], sentence)


def _required_keys(prompt: Prompt) -> list[str]:
    """The keys of the object that the prompt's schema asks for."""
    schema = prompt.constraint.json_schema if prompt.constraint else None
    return list((schema or {}).get("required", ()))
