"""EDA: easy data augmentation, which edits the words of seeds; the teacher is never asked.

Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
EMNLP-IJCNLP 2019: synonym replacement, random insertion, random swap, random deletion. The paper's synonyms are
WordNet's; ours come from a file of the user's (`synonyms`). Without a file, the two edits that need synonyms are left out.

Where a script does not separate its words (Chinese, Japanese, Thai, Lao, Burmese, Khmer), each character with its combining
marks counts as a word, and so does each word of the file.
"""

from __future__ import annotations

import random
import re
import unicodedata
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
from evokd_data.writing_systems import WITHOUT_SPACES

Edit = Callable[[list[str], random.Random], list[str]]
Synonyms = Mapping[str, Sequence[str]]
UNSPACED = re.compile(f"[{WITHOUT_SPACES}]")


@from_anyone("alpha", "per_request")
@from_user("synonyms")
@dataclass(frozen=True)
class EDA:
    """Seeds with edited words. The teacher is not asked."""

    name: ClassVar[str] = "eda"
    prompt_templates: ClassVar[tuple[str, ...]] = ()

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The share of a text's words that one edit changes. The default is the paper's. In scripts without spaces a
    character is a word."""
    synonyms: Path | None = None
    """A text file with one group of words a line, separated by white space. Without it words are only swapped and
    dropped."""
    per_request: Annotated[int, Field(ge=1, le=50)] = 5
    """How many edited texts are made of one seed at a time. It costs nothing: no teacher is asked."""

    def accepts(self, task: Task) -> str | None:
        if any(task.target_of(label) is None for label in task.labels):
            return "swapped and deleted words move spans: nearly half of them would be wrong, and pass every check"
        return None

    def allot(self, brief: Brief) -> Sequence[Quota]:
        """Raises DataError for a label whose seeds have nothing to edit."""
        synonyms = self._synonyms()
        for label in brief.task.labels:
            seeds = seeds_of(brief, label)
            if seeds and not any(_can_be_edited(split_words(seed.text, synonyms), synonyms) for seed in seeds):
                raise DataError(
                    f"strategy.name: 'eda' cannot edit the seeds of {label!r}, e.g. {seeds[0].text!r}: each is one word; give "
                    "strategy.synonyms, longer seeds or another strategy"
                )
        return uniform_quotas(brief.task.labels, brief.budget, brief.round)

    def writer(self, brief: Brief, ask: Ask) -> Write:
        synonyms = self._synonyms()
        edits: list[Edit] = [self._swap, self._delete]
        if self.synonyms is not None:
            edits += [lambda words, chance: self._replace(words, chance, synonyms)]
            edits += [lambda words, chance: self._insert(words, chance, synonyms)]

        async def write(request: GenerationRequest) -> list[Draft]:
            texts = []
            for position in range(request.count):
                chance = derive_random(request.seed, "edit", position)
                seed = chance.choice(seeds_of(brief, request.quota.target))
                texts.append(join_words(chance.choice(edits)(split_words(seed.text, synonyms), chance)))
            return label_by_condition(brief, request, self.name, texts, "")

        return write

    def _synonyms(self) -> Synonyms:
        return read_synonyms(self.synonyms) if self.synonyms is not None else {}

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
        replaceable = [i for i, word in enumerate(words) if word.strip().lower() in synonyms]
        for i in chance.sample(replaceable, min(self._times(words), len(replaceable))):
            words[i] = chance.choice(synonyms[words[i].strip().lower()])
        return words

    def _insert(self, words: list[str], chance: random.Random, synonyms: Synonyms) -> list[str]:
        with_synonyms = [word.strip().lower() for word in words if word.strip().lower() in synonyms]
        for _ in range(self._times(words) if with_synonyms else 0):
            words.insert(chance.randrange(len(words) + 1), chance.choice(synonyms[chance.choice(with_synonyms)]))
        return words


def split_words(text: str, synonyms: Synonyms) -> list[str]:
    """The words of a text. White space beside a word of a script without spaces is kept, at the end of the word before it."""
    if not UNSPACED.search(text):
        return text.split()
    words: list[str] = []
    for match in _word_pattern(tuple(synonyms)).finditer(" ".join(text.split())):
        word = match[0]
        is_mark = len(word) == 1 and (unicodedata.category(word).startswith("M") or word == "\u200d")
        if words and (word == " " or is_mark or words[-1].endswith("\u200d")):
            words[-1] += word
        else:
            words.append(word)
    return words


def join_words(words: Sequence[str]) -> str:
    """The text of these words: blanks stand between words of scripts with spaces."""
    text = ""
    for word in words:
        apart = text and not UNSPACED.search(text[-1] + word[0])
        text += f" {word}" if apart else word
    return " ".join(text.split())


@lru_cache(maxsize=4)
def _word_pattern(known: tuple[str, ...]) -> re.Pattern[str]:
    """A known word of a script without spaces, a character of one, a run of other characters, or a blank."""
    longest_first = sorted(filter(UNSPACED.search, known), key=len, reverse=True)
    return re.compile("|".join([*map(re.escape, longest_first), UNSPACED.pattern, f"[^\\s{WITHOUT_SPACES}]+", " "]))


def _can_be_edited(words: Sequence[str], synonyms: Synonyms) -> bool:
    return len(words) > 1 or any(word.lower() in synonyms for word in words)


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
