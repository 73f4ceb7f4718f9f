"""A teacher without a model: deterministic, instant, for tests, dry runs and benchmarks of everything else.

It obeys each prompt's constraint and answers from what the template was shown: texts are recombined from the
demonstrations with invented words, labels follow the demonstrations' words. Its texts teach a student next to nothing.
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
from evokd_data.settings import Share
from evokd_data.teachers import Engine, Teacher


@dataclass(frozen=True)
class Scripted(Teacher):
    """`wrong_labels` and `broken_answers` are the shares of answers that are wrong on purpose, so that a dry run shows
    what filters and rejections do; `latency_s` is how long each answer takes."""

    name: ClassVar[str] = "scripted"

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 512
    wrong_labels: Share = 0.0
    broken_answers: Share = 0.0
    latency_s: Annotated[float, Field(ge=0)] = field(default=0.0, metadata={"identity": False})
    window: Annotated[int, Field(ge=1)] = field(default=256, metadata={"identity": False})

    def identity(self) -> Mapping[str, Any]:
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {
            "model": "scripted",
            **sampling,  # of no use to a script, but in every prompt's digest
            "wrong_labels": self.wrong_labels,
            "broken_answers": self.broken_answers,
        }

    @asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        yield _Script(self)


@dataclass(frozen=True)
class _Script:
    """The engine of a scripted teacher."""

    settings: Scripted

    @property
    def window(self) -> int:
        return self.settings.window

    async def complete(self, prompt: Prompt) -> Completion:
        if self.settings.latency_s:
            await asyncio.sleep(self.settings.latency_s)
        chance = derive_random(prompt.seed, "scripted")
        scores = None
        wanted = _required(prompt)
        if prompt.template == "label" and "types" in prompt.variables["task"]:
            answer = self._tagged(prompt.variables, prompt.variables["text"], chance)
        elif prompt.template == "label":
            answer, scores = self._label(prompt, chance)
        elif prompt.template == "explain":
            answer = orjson.dumps({"explanation": "its words say so", "label": self._label(prompt, chance)[0]}).decode()
        elif wanted == ["texts"]:
            answer = orjson.dumps({"texts": _texts(prompt.variables, chance)}).decode()
        elif wanted == ["samples"]:
            seen = prompt.variables
            samples = [{"text": text, "answer": self._answer(seen, text, chance)} for text in _texts(seen, chance)]
            answer = orjson.dumps({"samples": samples}).decode()
        else:
            answer = orjson.dumps(_filled(prompt)).decode()
        finish = "stop"
        if self.settings.broken_answers and chance.random() < self.settings.broken_answers:
            answer, finish = answer[: len(answer) * 2 // 3], "length"
        asked = sum(len(message.content) for message in prompt.messages)
        return Completion(answer, finish, asked // 4, max(1, len(answer) // 4), scores)  # about 4 characters a token

    async def sleep(self) -> None:
        """There is nothing to free."""

    async def wake(self) -> None:
        """There is nothing to take back."""

    def environment(self) -> Mapping[str, Any]:
        return {"engine": "scripted"}

    def _answer(self, seen: Mapping[str, Any], text: str, chance: random.Random) -> str:
        return self._tagged(seen, text, chance) if "types" in seen["task"] else seen["target"]

    def _tagged(self, seen: Mapping[str, Any], text: str, chance: random.Random) -> str:
        """The text's spans, in the form the task asks for: surfaces known from the demonstrations, and the types' cues."""
        types: Sequence[str] = seen["task"]["types"]
        known = {cue(type_): type_ for type_ in types}
        known |= {span["surface"]: span["type"] for shown in seen["demonstrations"] for span in shown["spans"]}
        found = re.compile(
            "|".join(rf"(?<!\w){re.escape(surface)}(?!\w)" for surface in sorted(known, key=len, reverse=True))
        )
        if self.settings.wrong_labels and chance.random() < self.settings.wrong_labels:
            known = dict.fromkeys(known, chance.choice(types))
        spans = [(match.start(), match.end(), known[match[0]]) for match in found.finditer(text)]
        if seen["task"]["labelling"] != "grammar":
            entities = list(dict.fromkeys((text[start:end], type_) for start, end, type_ in spans))
            return orjson.dumps(
                {"entities": [{"text": surface, "type": type_} for surface, type_ in entities]}
            ).decode()
        marked, after = [], 0
        for start, end, type_ in spans:
            marked += [_escaped(text[after:start]), f"[{type_}: {_escaped(text[start:end])}]"]
            after = end
        return "".join([*marked, _escaped(text[after:])])

    def _label(self, prompt: Prompt, chance: random.Random) -> tuple[str, dict[str, float] | None]:
        seen = prompt.variables
        labels: Sequence[str] = seen["task"]["labels"]
        words = set(_words(seen["text"]))
        cues = _vocabulary(tuple((shown["target"], shown["text"]) for shown in seen["demonstrations"]))
        votes = {label: 2.0 * (cue(label) in words) + len(words & cues.get(label, _NONE)) for label in labels}
        best = max(labels, key=lambda label: votes[label])
        if self.settings.wrong_labels and chance.random() < self.settings.wrong_labels:
            best = chance.choice(labels)
        constraint = prompt.constraint
        if constraint is None or not constraint.score:
            return best, None
        votes[best] += 3.0
        total = math.log(sum(math.exp(vote) for vote in votes.values()))
        codes: Mapping[str, str] = seen["codes"]
        return codes[best], {codes[label]: votes[label] - total for label in labels}


_NONE: frozenset[str] = frozenset()
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def invented(chance: random.Random) -> str:
    """A word that means nothing, of three syllables: one of 343,000."""
    return "".join(chance.choice(_SYLLABLES) for _ in range(3))


def cue(target: str) -> str:
    """The invented word by which a target's texts can be known."""
    return invented(derive_random(0, "cue", target))


def _escaped(text: str) -> str:
    return re.sub(r"[\[\]\\]", r"\\\g<0>", text)


@lru_cache(maxsize=8)
def _vocabulary(demonstrations: tuple[tuple[str, str], ...]) -> dict[str, frozenset[str]]:
    words: dict[str, set[str]] = {}
    for target, text in demonstrations:
        words.setdefault(target, set()).update(_words(text))
    return {target: frozenset(own) for target, own in words.items()}


def _texts(seen: Mapping[str, Any], chance: random.Random) -> list[str]:
    """Beginnings and ends of demonstrations, two invented words between, and a span of the target's type, or its cue."""
    named = [
        span["surface"]
        for shown in seen["demonstrations"]
        for span in shown.get("spans", ())
        if span["type"] == seen["target"]
    ]
    shown = [demonstration["text"].split() for demonstration in seen["demonstrations"]] or [[]]
    texts = []
    for _ in range(seen["count"]):
        first, last = chance.choice(shown), chance.choice(shown)
        aimed = chance.choice(named) if named else cue(seen["target"])
        middle = [invented(chance), aimed, invented(chance)]
        texts.append(" ".join([*first[: (len(first) + 1) // 2], *middle, *last[len(last) // 2 :]]))
    return texts


def _filled(prompt: Prompt) -> dict[str, str]:
    """Every string of an object schema, said in one line."""
    seen = prompt.variables
    line = f"more texts of {seen.get('expected') or seen.get('target')} unlike {seen.get('got') or 'others'}"
    return dict.fromkeys(_required(prompt) or ["answer"], line)


def _required(prompt: Prompt) -> list[str]:
    """The keys of the object the prompt's schema asks for."""
    schema = prompt.constraint.json_schema if prompt.constraint else None
    return list((schema or {}).get("required", ()))
