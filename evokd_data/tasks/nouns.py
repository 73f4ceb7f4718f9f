"""Words that prompts use: for a text, "request to a voice assistant" or "requests to a voice assistant"; for a label, "play music"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

PREPOSITIONS = {
    "about", "above", "after", "against", "among", "as", "at", "before", "below", "between", "by", "during", "for", "from", "in",
    "into", "like", "near", "of", "on", "onto", "over", "per", "regarding", "through", "to", "toward", "towards", "under", "until",
    "upon", "via", "with", "within", "without",
}  # fmt: skip
SIBILANTS = ("s", "x", "z", "ch", "sh")
SOUNDED_AS_A_CONSONANT = (
    "euro",
    "one ",
    "one-",
    "ubiq",
    "unif",
    "uniq",
    "unit",
    "univ",
    "usag",
    "use ",
    "user",
    "usual",
    "util",
)
"""How words begin that a vowel writes and a consonant sounds."""
SOUNDED_AS_A_VOWEL = ("heir", "honest", "honour", "honor", "hour")
_SEPARATORS = re.compile(r"(?<=\w)[_./:]+(?=\w)")
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def plural(noun: str) -> str:
    """The plural of a noun of one word or several: of the word before the first preposition, else of the last word.

    A noun in a script that is not Latin stays as it is.
    """
    words = noun.split(" ")
    head = next((place for place, word in enumerate(words) if place and word.lower() in PREPOSITIONS), len(words)) - 1
    words[head] = _plural_of_word(words[head])
    return " ".join(words)


def _plural_of_word(word: str) -> str:
    if not word or word[-1] > "\u024f":
        return word
    lower = word.lower()
    if word.isupper() and len(word) > 1:  # an abbreviation
        return f"{word}s"
    if lower.endswith("y") and len(word) > 1 and lower[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if lower.endswith(SIBILANTS) else f"{word}s"


def with_article(noun: str) -> str:
    """The noun behind "a" or "an"."""
    lower = noun.lower()
    vowel = lower[0] in "aeiou" and not f"{lower} ".startswith(SOUNDED_AS_A_CONSONANT)
    return f"{'an' if vowel or lower.startswith(SOUNDED_AS_A_VOWEL) else 'a'} {noun}"


def in_words(label: str) -> str:
    """A label as words: "PlayMusic", "play_music" and "PLAY_MUSIC" are "play music"; "pin blocked" and "体育" stay as they are.

    One word in capitals stays as it is: it may be an abbreviation, and only its owner knows of what.
    """
    if " " in label:
        return label
    words = _CAMEL_CASE.sub(" ", _SEPARATORS.sub(" ", label)).split()
    if len(words) < 2:
        return label
    abbreviated = not label.isupper()
    return " ".join(word if abbreviated and word.isupper() and len(word) > 1 else word.lower() for word in words)


def all_in_words(labels: Sequence[str]) -> Mapping[str, str]:
    """Each label in words, in their order. Labels that differ only in how they are spelled keep their spelling."""
    words = {label: in_words(label) for label in labels}
    shared = {name for name, count in Counter(words.values()).items() if count > 1}
    return {label: label if name in shared else name for label, name in words.items()}
