"""EDA: easy data augmentation, which edits the words of seeds; the teacher is never asked.

Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
EMNLP-IJCNLP 2019: synonym replacement, random insertion, random swap, random deletion. The paper's synonyms are
WordNet's; ours come from a file of the user's (`synonyms`). Without a file, the two edits that need synonyms are left out.
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
from evokd_data.settings import from_anyone, from_user
from evokd_data.strategies import Ask, Brief, Write
from evokd_data.strategies.demonstrations import seeds_of
from evokd_data.strategies.quotas import uniform_quotas
from evokd_data.strategies.writing import label_by_condition
from evokd_data.tasks import Task

Edit = Callable[[list[str], random.Random], list[str]]
Synonyms = Mapping[str, Sequence[str]]


@from_anyone("alpha", "per_request")
@from_user("synonyms")
@dataclass(frozen=True)
class EDA:
    """`alpha` is the share of words that one edit changes (default: the paper's). `synonyms` is a text file with one group of
    words a line, separated by white space."""

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
        return uniform_quotas(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        edits: list[Edit] = [self._swap, self._delete]
        if self.synonyms is not None:
            synonyms = read_synonyms(self.synonyms)
            edits += [lambda words, chance: self._replace(words, chance, synonyms)]
            edits += [lambda words, chance: self._insert(words, chance, synonyms)]

        async def write(request: GenerationRequest) -> list[Draft]:
            texts = []
            for position in range(request.count):
                chance = derive_random(request.seed, "edit", position)
                seed = chance.choice(seeds_of(brief, request.quota.target))
                texts.append(" ".join(chance.choice(edits)(seed.text.split(), chance)))
            return label_by_condition(brief, request, self.name, texts, "")

        return write

    def _times(self, words: Sequence[str]) -> int:
        return max(1, round(self.alpha * len(words)))

    def _swap(self, words: list[str], chance: random.Random) -> list[str]:
        for _ in range(self._times(words) if len(words) > 1 else 0):
            i, j = chance.sample(range(len(words)), 2)
            words[i], words[j] = words[j], words[i]
        return words

    def _delete(self, words: list[str], chance: random.Random) -> list[str]:
        remaining = [word for word in words if chance.random() >= self.alpha]
        return remaining or [chance.choice(words)]

    def _replace(self, words: list[str], chance: random.Random, synonyms: Synonyms) -> list[str]:
        replaceable = [i for i, word in enumerate(words) if word.lower() in synonyms]
        for i in chance.sample(replaceable, min(self._times(words), len(replaceable))):
            words[i] = chance.choice(synonyms[words[i].lower()])
        return words

    def _insert(self, words: list[str], chance: random.Random, synonyms: Synonyms) -> list[str]:
        with_synonyms = [word.lower() for word in words if word.lower() in synonyms]
        for _ in range(self._times(words) if with_synonyms else 0):
            words.insert(chance.randrange(len(words) + 1), chance.choice(synonyms[chance.choice(with_synonyms)]))
        return words


@lru_cache(maxsize=4)
def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Word -> the other words of its groups, lower case. Raises DataError when the file cannot be read."""
    try:
        groups = [line.lower().split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"strategy.synonyms: {path} cannot be read ({error}); one group of words a line") from None
    synonyms: dict[str, list[str]] = {}
    for group in groups:
        for word in group:
            synonyms.setdefault(word, []).extend(synonym for synonym in group if synonym != word)
    return {word: others for word, others in synonyms.items() if others}
