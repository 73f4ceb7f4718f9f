"""LLM-DA: few-shot tagging data by rewriting what surrounds the entities, and by exchanging the entities.

Ye et al., "LLM-DA: Data Augmentation via Large Language Models for Few-Shot Named Entity Recognition", 2024 (arXiv
2402.14568), section 3: at the level of the context the teacher rewrites a text in one of 14 ways, at the level of the
entities each is replaced by another of its type, at both levels one follows the other; noise makes the tagger robust.

Where we differ from the paper: the four dimensions of its 14 ways are kept, their wording and division are ours. What was
rewritten is labelled in a call of its own, as everywhere here, instead of searching the old entities in it; a text whose
entities alone were exchanged keeps its spans, at their new places. Noise never touches an entity.

One entity exchanged in a long text is a near duplicate of it: with long seeds, raise `filters.near_duplicates`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from evokd_data.digest import derive_random
from evokd_data.records import Draft, GenerationRequest, Quota, Sample, Span
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.asking import label_texts, name_some, origin, write_texts
from evokd_data.strategies.quotas import evenly
from evokd_data.tasks import Task

REWRITINGS = {
    # sentence length
    "longer": "make the sentence longer, with more detail about what surrounds the entities",
    "shorter": "make the sentence shorter, with only the words that are needed around the entities",
    # vocabulary
    "rare words": "use less common, more advanced words",
    "adjectives": "add or change adjectives",
    "adverbs": "add or change adverbs",
    "prepositions": "add or change prepositional phrases",
    # subordinate clauses
    "relative clause": "use a relative clause (who, which, where)",
    "participial clause": "use a participial or adverbial clause (having..., although..., when...)",
    # presentation
    "news": "write it as in a news report",
    "spoken": "write it as somebody would say it",
    "magazine": "write it as in a magazine",
    "fiction": "write it as in a novel",
    "encyclopedia": "write it as in an encyclopedia",
    "review": "write it as in a film review",
}
"""The 14 ways of rewriting a context, along the paper's four dimensions, as the teacher is told."""

Level = Literal["context", "entity", "both"]


@dataclass(frozen=True)
class LLMDA:
    """`levels` are taken by turns, request by request. `entities` new ones of each type are asked of the teacher each
    round, beside those seen (0: none); `noise` is the share of words outside entities that get a typing error or lose
    their punctuation; `per_request` texts from one seed text in one call."""

    name: ClassVar[str] = "llmda"

    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = ("context", "entity", "both")
    entities: Annotated[int, Field(ge=0, le=100)] = 20
    noise: Annotated[float, Field(ge=0, le=1)] = 0.02
    per_request: Annotated[int, Field(ge=1, le=50)] = 3

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        templates = ("rewrite", "label") if set(self.levels) & {"context", "both"} else ()
        return (*templates, "entities") if self.entities and set(self.levels) & {"entity", "both"} else templates

    def accepts(self, task: Task) -> str | None:
        if all(task.target_of(label) is not None for label in task.labels):
            return "it exchanges entities and rewrites what surrounds them, and these texts have none; use auggpt"
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return evenly(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """One call for new entities a type, asked when the first request needs it."""
        seen = _seen(brief)
        asked: dict[str, asyncio.Future[list[str]]] = {}

        def known(label: str) -> Awaitable[list[str]]:
            if label not in asked:
                asked[label] = asyncio.ensure_future(self._entities(brief, label, seen[label], ask))
            return asked[label]

        async def write(request: GenerationRequest) -> list[Draft]:
            level = self.levels[request.index % len(self.levels)]
            chance = derive_random(request.seed, "llmda")
            base = chance.choice(brief.demonstrations[request.quota.target])
            surrogates: dict[str, list[str]] = {}
            if level != "context":
                types = dict.fromkeys(span.type for span in spans_of(base))
                surrogates = dict(zip(types, await asyncio.gather(*map(known, types)), strict=True))
            if level == "entity":
                return self._exchanged(brief, request, base, surrogates)
            return await self._rewritten(brief, request, base, surrogates, chance, ask)

        return write

    def _exchanged(
        self, brief: Brief, request: GenerationRequest, base: Sample, surrogates: Mapping[str, Sequence[str]]
    ) -> list[Draft]:
        drafts = []
        for position in range(request.count):
            text, spans = exchange(
                base.text, spans_of(base), surrogates, derive_random(request.seed, "exchange", position)
            )
            draft = Draft(text, spans, origin(brief, request, position, self.name))
            drafts.append(self._noisy(draft, request, position))
        return drafts

    async def _rewritten(
        self,
        brief: Brief,
        request: GenerationRequest,
        base: Sample,
        surrogates: Mapping[str, Sequence[str]],
        chance: random.Random,
        ask: Ask,
    ) -> list[Draft]:
        text, spans = exchange(base.text, spans_of(base), surrogates, chance)
        if not brief.task.check(text, spans):
            base = replace(base, text=text, target=spans)
        shown = brief.task.show(base)
        rewriting = REWRITINGS[chance.choice(sorted(REWRITINGS))]
        texts, problem = await write_texts(
            brief, request, ask, template="rewrite", seed=shown, rewriting=rewriting, demonstrations=[shown]
        )
        drafts = await label_texts(brief, request, ask, self.name, texts, problem)
        return [self._noisy(draft, request, position) for position, draft in enumerate(drafts)]

    def _noisy(self, draft: Draft, request: GenerationRequest, position: int) -> Draft:
        if draft.problem or not isinstance(draft.target, tuple) or not self.noise:
            return draft
        text, spans = disturb(draft.text, draft.target, self.noise, derive_random(request.seed, "noise", position))
        return replace(draft, text=text, target=spans)

    async def _entities(self, brief: Brief, label: str, seen: Sequence[str], ask: Ask) -> list[str]:
        """The type's entities seen so far, then the teacher's new ones."""
        if not self.entities:
            return list(seen)
        new = await name_some(brief, ask, "entities", label, self.entities, seen=list(seen[: self.entities]))
        return list(dict.fromkeys([*seen, *new]))


def spans_of(sample: Sample) -> tuple[Span, ...]:
    assert isinstance(sample.target, tuple)
    return sample.target


@lru_cache(maxsize=1)
def _seen(brief: Brief) -> Mapping[str, Sequence[str]]:
    return {label: surfaces(brief.demonstrations.get(label, ()), label) for label in brief.task.labels}


def surfaces(samples: Sequence[Sample], type_: str) -> list[str]:
    """The different entities of a type, in the order in which they came."""
    return list(dict.fromkeys(span.surface for sample in samples for span in spans_of(sample) if span.type == type_))


def exchange(
    text: str, spans: Sequence[Span], surrogates: Mapping[str, Sequence[str]], chance: random.Random
) -> tuple[str, tuple[Span, ...]]:
    """The text with every span's surface replaced by another of its type; spans without one stay as they are.

    A surface that occurs several times is replaced by the same one everywhere: the text goes on speaking of one thing.
    """
    chosen: dict[tuple[str, str], str] = {}
    for span in spans:
        others = [one for one in surrogates.get(span.type, ()) if one != span.surface]
        if others and (span.type, span.surface) not in chosen:
            chosen[span.type, span.surface] = chance.choice(others)
    return _rebuilt(text, spans, lambda gap: gap, lambda span: chosen.get((span.type, span.surface), span.surface))


_WORD = re.compile(r"\w{4,}")
_PUNCTUATION = re.compile(r"[,;:.!?](?=\s|\Z)")


def disturb(text: str, spans: Sequence[Span], share: float, chance: random.Random) -> tuple[str, tuple[Span, ...]]:
    """The text with errors in `share` of the words outside spans: two letters swapped, one dropped or doubled, always
    within the word; and with as large a share of punctuation marks dropped."""

    def mistyped(match: re.Match[str]) -> str:
        word = match[0]
        if chance.random() >= share:
            return word
        at = chance.randrange(1, len(word) - 2)
        kind = chance.choice(("swap", "drop", "double"))
        if kind == "swap":
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return word[:at] + word[at + 1 :] if kind == "drop" else word[: at + 1] + word[at:]

    def disturbed(gap: str) -> str:
        gap = _WORD.sub(mistyped, gap)
        return _PUNCTUATION.sub(lambda mark: "" if chance.random() < share else mark[0], gap)

    return _rebuilt(text, spans, disturbed, lambda span: span.surface)


def _rebuilt(text: str, spans: Sequence[Span], gap: Any, surface: Any) -> tuple[str, tuple[Span, ...]]:
    """The text put together again from what `gap` makes of the pieces between spans and `surface` of the spans."""
    parts: list[str] = []
    made: list[Span] = []
    length = after = 0
    for span in spans:
        for piece in (gap(text[after : span.start]), surface(span)):
            parts.append(piece)
            length += len(piece)
        made.append(Span(length - len(parts[-1]), length, span.type, parts[-1]))
        after = span.end
    return "".join([*parts, gap(text[after:])]), tuple(made)
