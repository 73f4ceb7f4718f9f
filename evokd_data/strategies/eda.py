"""EDA: easy data augmentation, edits of a seed's words; the teacher is never asked.

Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
EMNLP-IJCNLP 2019: synonym replacement, random insertion, random swap, random deletion. The paper's synonyms are
WordNet's; ours come from a file of the user's (`synonyms`), and without one the two edits that need them are left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from evokd_data.digest import derive_random
from evokd_data.errors import DataError
from evokd_data.records import Draft, GenerationRequest, Quota
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.asking import believe_condition, seeds_of
from evokd_data.strategies.quotas import evenly
from evokd_data.tasks import Task

Edit = Callable[[list[str], random.Random], list[str]]


@dataclass(frozen=True)
class EDA:
    """`alpha` the share of words one edit changes (the paper's value); `synonyms` a text file, one group of words a
    line, separated by white space."""

    name: ClassVar[str] = "eda"
    prompt_templates: ClassVar[tuple[str, ...]] = ()

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.1
    synonyms: Path | None = None
    per_request: Annotated[int, Field(ge=1, le=50)] = 5

    def accepts(self, task: Task) -> str | None:
        if any(task.target_of(label) is None for label in task.labels):
            return "swapped and deleted words move spans: nearly half of them would be wrong, and pass every check"
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        return evenly(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        edits: list[Edit] = [self._swap, self._delete]
        if self.synonyms is not None:
            known = read_synonyms(self.synonyms)
            edits += [lambda words, chance: self._replace(words, chance, known)]
            edits += [lambda words, chance: self._insert(words, chance, known)]

        async def write(request: GenerationRequest) -> list[Draft]:
            texts = []
            for position in range(request.count):
                chance = derive_random(request.seed, "edit", position)
                seed = chance.choice(seeds_of(brief, request.quota.target))
                texts.append(" ".join(chance.choice(edits)(seed.text.split(), chance)))
            return believe_condition(brief, request, self.name, texts, "")

        return write

    def _times(self, words: Sequence[str]) -> int:
        return max(1, round(self.alpha * len(words)))

    def _swap(self, words: list[str], chance: random.Random) -> list[str]:
        for _ in range(self._times(words) if len(words) > 1 else 0):
            i, j = chance.sample(range(len(words)), 2)
            words[i], words[j] = words[j], words[i]
        return words

    def _delete(self, words: list[str], chance: random.Random) -> list[str]:
        left = [word for word in words if chance.random() >= self.alpha]
        return left or [chance.choice(words)]

    def _replace(self, words: list[str], chance: random.Random, known: Mapping[str, Sequence[str]]) -> list[str]:
        places = [i for i, word in enumerate(words) if word.lower() in known]
        for i in chance.sample(places, min(self._times(words), len(places))):
            words[i] = chance.choice(known[words[i].lower()])
        return words

    def _insert(self, words: list[str], chance: random.Random, known: Mapping[str, Sequence[str]]) -> list[str]:
        own = [word.lower() for word in words if word.lower() in known]
        for _ in range(self._times(words) if own else 0):
            words.insert(chance.randrange(len(words) + 1), chance.choice(known[chance.choice(own)]))
        return words


@lru_cache(maxsize=4)
def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Word -> the other words of its groups, lower case. Raises DataError when the file cannot be read."""
    try:
        groups = [line.lower().split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"strategy.synonyms: {path} cannot be read ({error}); one group of words a line") from None
    known: dict[str, list[str]] = {}
    for group in groups:
        for word in group:
            known.setdefault(word, []).extend(other for other in group if other != word)
    return {word: others for word, others in known.items() if others}
