"""ProgGen: names of each type first, then texts around them.

Heng et al., "ProgGen: Generating Named Entity Recognition Datasets Step-by-step with Self-Reflexive Large Language Models", Findings
of ACL 2024 (arXiv 2403.11103), sections 3.2 ("Diversify Y") and 3.3. A model that writes texts freely comes back to the same few
names. Asked for names alone it knows many; then each text is written around names drawn from these.

Where we differ: attributes of names are the recipe's, not the teacher's. Which types stand together in a text follows from the
seeds. A text is labelled in a separate call, as in every strategy here, and the names that it was written for are its intended spans: a
text is kept when the labels hold all of them. The second question about uncertain spans belongs to labelling (see `span_trust`).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evokd_data.digest import derive_random, derive_seed
from evokd_data.records import Draft, GenerationRequest, Quota, Sample, Span
from evokd_data.settings import Count, Share, from_anyone
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.demonstrations import draw_turns, seeds_have_lines, seeds_of
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.prompts import make_prompt, prompt_key, task_variables
from evokd_data.strategies.quotas import uniform_quotas
from evokd_data.strategies.writing import ask_for_names, lost, origin, read_text
from evokd_data.tasks import Task

CALL = 10
"""Names asked for in one call: in long lists small models repeat themselves. Each call is told which names there are already."""
EXAMPLES = 8
"""The seeds' names that a call shows, for their form."""
CONTRASTS = 2
"""Seeds of other types that are shown before those of the type itself when a text is written."""
LONGEST = 3
"""A name may be as many times as long as the longest of its type in the seeds. The filters would drop a longer one."""


@dataclass(frozen=True, slots=True)
class Name:
    """An entity that a text is to hold."""

    text: str
    type: str


@from_anyone("names", "attributes", "names_per_text", "without", "demonstrations", "per_request")
@dataclass(frozen=True)
class ProgGen:
    """Texts around names that were listed before, type by type. For tagging."""

    name: ClassVar[str] = "proggen"
    prompt_templates: ClassVar[tuple[str, ...]] = ("names", "contexts", "label")

    names: Annotated[int, Field(ge=1, le=500)] = 40
    """How many new names of each type the teacher lists each round, ten a call. Those of earlier samples are not among them."""
    attributes: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = field(default_factory=dict)
    """Properties of names with their possible values, such as `{region: [Africa, Asia, Europe]}`. One value of each is drawn
    for each call that lists names."""
    names_per_text: Count = 4
    """The most names in one text. Which types stand together, and how many, follows from your seeds."""
    without: Share = 0.1
    """The share of texts that are written without any name: they teach the student to find nothing."""
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 3
    """How many samples of the type each prompt that writes a text shows, with the names in them."""
    per_request: Annotated[int, Field(ge=1, le=50)] = 4
    """How many texts belong to one request. Each is written by a call of its own, around names of its own."""

    def accepts(self, task: Task) -> str | None:
        if all(task.target_of(label) is not None for label in task.labels):
            return "it writes texts around names, and these texts have none; use attrprompt"
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return uniform_quotas(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        """The names of a type are listed when the first request needs them."""
        names_of: dict[str, asyncio.Future[Sequence[str]]] = {}

        async def names(label: str) -> Sequence[str]:
            if label not in names_of:
                names_of[label] = asyncio.ensure_future(self._list_names(brief, label, ask))
            return await names_of[label]

        async def write(request: GenerationRequest) -> list[Draft]:
            patterns = [self._types(brief, request, position) for position in range(request.count)]
            types = list(dict.fromkeys(type_ for pattern in patterns for type_ in pattern))
            pools = dict(zip(types, await asyncio.gather(*map(names, types)), strict=True))
            given = [draw_names(pattern, pools, _chance(request, i)) for i, pattern in enumerate(patterns)]
            texts = await asyncio.gather(*(self._write(brief, request, i, given[i], ask) for i in range(request.count)))
            return await self._labelled(brief, request, given, texts, ask)

        return write

    async def _list_names(self, brief: Brief, label: str, ask: Ask) -> Sequence[str]:
        """New names of a type, one call after the other; the seeds' own where the teacher lists none."""
        earlier = names_in(brief.demonstrations[label], label)
        own = names_in(seeds_of(brief, label), label)
        names: list[str] = []
        known = set(map(_key, earlier))
        for call in range(-(-self.names // CALL)):
            chance = derive_random(brief.seed, brief.round, "names", label, call)
            drawn = {key: chance.choice(values) for key, values in self.attributes.items()}
            listed = await ask_for_names(
                brief,
                ask,
                "names",
                label,
                min(CALL, self.names - len(names)),
                call=call,
                examples=chance.sample(own, min(len(own), EXAMPLES)),
                known=list(names),
                attributes="; ".join(f"{key}: {value}" for key, value in drawn.items()),
            )
            for name in listed:
                if _key(name) not in known and _is_name(brief.task, name, label, max(map(len, own))):
                    known.add(_key(name))
                    names.append(name)
        return names or own

    def _types(self, brief: Brief, request: GenerationRequest, position: int) -> Sequence[str]:
        """The types of the names that one text is to hold, as in a seed that has the request's type; the type itself first."""
        chance = derive_random(request.seed, "types", position)
        if chance.random() < self.without:
            return ()
        seed = chance.choice(seeds_of(brief, request.quota.target))
        names = dict.fromkeys((span.type, span.surface) for span in _spans(seed))
        types = [type_ for type_, _ in names]
        types.remove(request.quota.target)
        chance.shuffle(types)
        return (request.quota.target, *types[: self.names_per_text - 1])

    async def _write(
        self, brief: Brief, request: GenerationRequest, position: int, names: Sequence[Name], ask: Ask
    ) -> tuple[str, str]:
        """The text around the names, and why there is none."""
        shown = draw_turns(brief, request, position, self.demonstrations, CONTRASTS) if self.demonstrations else []
        turns = shown if brief.templates.has_turns("contexts") else ()
        variables: dict[str, Any] = {
            "task": task_variables(brief),
            "target": request.quota.target,
            "names": [{"text": name.text, "type": name.type} for name in names],
            "demonstrations": () if turns else shown,
            "shown": shown,
        }
        prompt = make_prompt(
            brief,
            prompt_key("contexts", request.index, position),
            "contexts",
            variables,
            turns=turns,
            seed=derive_seed(request.seed, "contexts", position),
            constraint=None,
        )
        return read_text(await ask(prompt), multiline=seeds_have_lines(brief))

    async def _labelled(
        self,
        brief: Brief,
        request: GenerationRequest,
        given: Sequence[Sequence[Name]],
        written: Sequence[tuple[str, str]],
        ask: Ask,
    ) -> list[Draft]:
        """The texts with their labels; one that lacks a name is a rejection, and is not labelled."""
        targets = [place_names(brief.task, text, names) for (text, _), names in zip(written, given, strict=True)]
        texts = ["" if isinstance(target, str) else text for (text, _), target in zip(written, targets, strict=True)]
        intended = [() if isinstance(target, str) else target for target in targets]
        drafts = await label_texts(brief, request, ask, self.name, texts, "", intended)
        for position, ((text, problem), target) in enumerate(zip(written, targets, strict=True)):
            if problem or isinstance(target, str):
                reason = problem or f"name_not_in_text: {target}"
                drafts[position] = lost(text, origin(brief, request, position, self.name), reason)
        return drafts


def names_in(samples: Sequence[Sample], type_: str) -> list[str]:
    """The surfaces of a type's spans, each once, in the order of the samples."""
    return list(dict.fromkeys(span.surface for sample in samples for span in _spans(sample) if span.type == type_))


def draw_names(types: Sequence[str], pools: Mapping[str, Sequence[str]], chance: random.Random) -> list[Name]:
    """A name of each of the types, in order, none of which is a part of another; fewer where a type has no such name left."""
    drawn: list[Name] = []
    for type_ in types:
        apart = [
            text
            for text in pools[type_]
            if not any(_key(text) in _key(name.text) or _key(name.text) in _key(text) for name in drawn)
        ]
        if apart:
            drawn.append(Name(chance.choice(apart), type_))
    return drawn


def place_names(task: Task, text: str, names: Sequence[Name]) -> tuple[Span, ...] | str:
    """Spans at all occurrences of the names, in order; the names that the text lacks, when it lacks one.

    Small letters and capitals are the same here: a text may begin with a name, or be written in small letters throughout.
    """
    spans: list[Span] = []
    missing = []
    for name in sorted(names, key=lambda name: (-len(name.text), name.text)):
        pattern = re.compile(re.escape(name.text), re.IGNORECASE)
        places = [Span(match.start(), match.end(), name.type, match[0]) for match in pattern.finditer(text)]
        free = [
            span
            for span in places
            if not task.check(text, (span,)) and all(span.end <= o.start or o.end <= span.start for o in spans)
        ]
        spans += free
        if not free:
            missing.append(f"{name.text!r} as {name.type}")
    return ", ".join(missing) or tuple(sorted(spans, key=lambda span: span.start))


@lru_cache(maxsize=4096)
def _key(name: str) -> str:
    """What two spellings of one name have in common."""
    return " ".join(name.casefold().split())


def _is_name(task: Task, name: str, type_: str, longest: int) -> bool:
    """Whether it can be a span: with a letter or a digit, whole words, not far longer than those of the seeds."""
    is_short = len(name) <= LONGEST * longest
    return is_short and any(map(str.isalnum, name)) and not task.check(name, (Span(0, len(name), type_, name),))


def _chance(request: GenerationRequest, position: int) -> random.Random:
    return derive_random(request.seed, "names", position)


def _spans(sample: Sample) -> tuple[Span, ...]:
    assert isinstance(sample.target, tuple)
    return sample.target
