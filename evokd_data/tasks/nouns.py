"""English grammar of the nouns that prompts use for a text: "request to a voice assistant", "requests to a voice assistant"."""

from __future__ import annotations

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
