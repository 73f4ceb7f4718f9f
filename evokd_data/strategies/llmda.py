"""LLM-DA: few-shot tagging data by rewriting the context of entities, and by exchanging the entities.

Ye et al., "LLM-DA: Data Augmentation via Large Language Models for Few-Shot Named Entity Recognition", 2024 (arXiv
2402.14568), section 3. At the level of the context the teacher rewrites a text in one of 14 ways. At the level of the
entities each entity is replaced by another of its type. At both levels one follows the other. Noise makes the tagger robust.

Where we differ from the paper: the four dimensions of its 14 ways are kept, their wording and division are ours. A
rewritten text is labelled in a separate call, as in every strategy here, instead of searching the old entities in it. A
text of which only the entities were exchanged keeps its spans, at their new offsets. Noise never touches an entity.

A long text with one entity exchanged is a near-duplicate of itself: with long seeds, raise `filters.near_duplicates`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evokd_data.digest import derive_random
from evokd_data.records import Draft, GenerationRequest, Quota, Sample, Span
from evokd_data.settings import from_anyone
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.quotas import uniform_quotas
from evokd_data.strategies.writing import ask_for_names, origin, write_texts
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
"""The 14 ways of rewriting a context, along the paper's four dimensions, in the words of the prompt."""

Level = Literal["context", "entity", "both"]


@from_anyone("levels", "entities", "noise", "per_request")
@dataclass(frozen=True)
class LLMDA:
    """Samples whose context is rewritten and whose entities are exchanged. For tagging."""

    name: ClassVar[str] = "llmda"

    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = ("context", "entity", "both")
    """What is changed in a sample: its `context`, its entities (`entity`), or `both`. Requests take them in turns."""
    entities: Annotated[int, Field(ge=0, le=100)] = 20
    """How many new entities of each type the teacher names each round, beside those of earlier samples. 0: none."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.02
    """The share of words outside entities that get a typing error, and of punctuation marks that are dropped."""
    per_request: Annotated[int, Field(ge=1, le=50)] = 3
    """How many texts one call makes from one earlier sample."""

    @property
    def prompt_templates(self) -> tuple[str, ...]:
        templates = ("rewrite", "label") if set(self.levels) & {"context", "both"} else ()
        return (*templates, "entities") if self.entities and set(self.levels) & {"entity", "both"} else templates

    def accepts(self, task: Task) -> str | None:
        if all(task.target_of(label) is not None for label in task.labels):
            return "it exchanges entities and rewrites what surrounds them, and these texts have none; use auggpt"
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return uniform_quotas(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """One call for new entities of each type, made when the first request needs them."""
        earlier = _earlier_entities(brief)
        entities_of: dict[str, asyncio.Future[list[str]]] = {}

        def entities(label: str) -> Awaitable[list[str]]:
            if label not in entities_of:
                entities_of[label] = asyncio.ensure_future(self._entities(brief, label, earlier[label], ask))
            return entities_of[label]

        async def write(request: GenerationRequest) -> list[Draft]:
            level = self.levels[request.index % len(self.levels)]
            chance = derive_random(request.seed, "llmda")
            base = chance.choice(brief.demonstrations[request.quota.target])
            surrogates: dict[str, list[str]] = {}
            if level != "context":
                types = dict.fromkeys(span.type for span in spans_of(base))
                surrogates = dict(zip(types, await asyncio.gather(*map(entities, types)), strict=True))
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

    async def _entities(self, brief: Brief, label: str, earlier: Sequence[str], ask: Ask) -> list[str]:
        """The type's entities in earlier samples, then new ones that the teacher names."""
        if not self.entities:
            return list(earlier)
        new = await ask_for_names(brief, ask, "entities", label, self.entities, seen=list(earlier[: self.entities]))
        return list(dict.fromkeys([*earlier, *new]))


def spans_of(sample: Sample) -> tuple[Span, ...]:
    """The target of a tagging sample."""
    assert isinstance(sample.target, tuple)
    return sample.target


@lru_cache(maxsize=1)
def _earlier_entities(brief: Brief) -> Mapping[str, Sequence[str]]:
    return {label: surfaces(brief.demonstrations.get(label, ()), label) for label in brief.task.labels}


def surfaces(samples: Sequence[Sample], type_: str) -> list[str]:
    """The surfaces of a type's entities, each once, in the order of the samples."""
    return list(dict.fromkeys(span.surface for sample in samples for span in spans_of(sample) if span.type == type_))


def exchange(
    text: str, spans: Sequence[Span], surrogates: Mapping[str, Sequence[str]], chance: random.Random
) -> tuple[str, tuple[Span, ...]]:
    """The text with every span's surface replaced by another of its type, and the spans at their new offsets.

    A span stays as it is when `surrogates` has no other surface of its type. A surface that occurs several times is replaced
    by the same one everywhere: the text still speaks of one entity.
    """
    chosen: dict[tuple[str, str], str] = {}
    for span in spans:
        candidates = [surface for surface in surrogates.get(span.type, ()) if surface != span.surface]
        if candidates and (span.type, span.surface) not in chosen:
            chosen[span.type, span.surface] = chance.choice(candidates)
    return _rebuilt(text, spans, lambda gap: gap, lambda span: chosen.get((span.type, span.surface), span.surface))


_WORD = re.compile(r"\w{4,}")
_PUNCTUATION = re.compile(r"[,;:.!?](?=\s|\Z)")


def disturb(text: str, spans: Sequence[Span], share: float, chance: random.Random) -> tuple[str, tuple[Span, ...]]:
    """The text with typing errors in a share of the words outside spans, and the spans at their new offsets.

    An error swaps two letters within the word, or drops or doubles one. The same share of punctuation marks is dropped.
    """

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


def _rebuilt(
    text: str, spans: Sequence[Span], gap: Callable[[str], str], surface: Callable[[Span], str]
) -> tuple[str, tuple[Span, ...]]:
    """The text put together again: `gap` maps the pieces between spans, `surface` gives each span its new surface."""
    parts: list[str] = []
    moved: list[Span] = []
    length = after = 0
    for span in spans:
        for piece in (gap(text[after : span.start]), surface(span)):
            parts.append(piece)
            length += len(piece)
        moved.append(Span(length - len(parts[-1]), length, span.type, parts[-1]))
        after = span.end
    return "".join([*parts, gap(text[after:])]), tuple(moved)
