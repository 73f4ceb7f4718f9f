"""The MinHash index decides as a comparison of every pair would, whatever it holds in memory."""

from __future__ import annotations

import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.generation import near_duplicates
from evokd_data.generation.near_duplicates import PERMUTATIONS, SHINGLE, MinHashIndex, band_count
from evokd_data.normal_form import normal_form

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of which every third is another one with a word or two changed, or its case."""
    chance = random.Random(seed)
    texts: list[str] = []
    for number in range(count):
        words = chance.choices(WORDS, k=chance.randint(6, 20))
        if number % 3 == 2:
            words = chance.choice(texts).split()
            for _ in range(chance.randint(0, 2)):
                words[chance.randrange(len(words))] = chance.choice(WORDS)
        texts.append(" ".join(words).upper() if number % 7 == 6 else " ".join(words))
    return texts


def decisions(texts: list[str], threshold: float) -> list[tuple[str, str, float] | None]:
    """The matches of each text, as a round decides: a text is added when no earlier text is like it."""
    index = MinHashIndex(threshold)
    matches = []
    for number, text in enumerate(texts):
        matches.append(index.find(text))
        if matches[-1] is None:
            index.add(text, str(number))
    return matches


def compare_every_pair(texts: list[str], threshold: float) -> list[tuple[str, str, float] | None]:
    """The same matches from rensa's signatures and estimates: every pair is compared, band by band."""
    from rensa import RMinHash

    earlier: list[tuple[str, str, RMinHash]] = []
    matches: list[tuple[str, str, float] | None] = []
    rows = PERMUTATIONS // band_count(threshold)
    for number, text in enumerate(texts):
        form = normal_form(text)
        signature = RMinHash(PERMUTATIONS, near_duplicates.MINHASH_SEED)
        signature.update([form[i : i + SHINGLE] for i in range(max(1, len(form) - SHINGLE + 1))])
        hashes = signature.digest()
        best: tuple[str, str, float] | None = None
        for earlier_form, name, earlier_signature in earlier:
            earlier_hashes = earlier_signature.digest()
            if form == earlier_form:
                best = ("duplicate", name, 1.0)
                break
            share_a_band = any(
                hashes[i : i + rows] == earlier_hashes[i : i + rows] for i in range(0, PERMUTATIONS, rows)
            )
            similarity = signature.jaccard(earlier_signature)
            if share_a_band and similarity >= threshold and (best is None or similarity > best[2]):
                best = ("near_duplicate", name, similarity)
        matches.append(best)
        if best is None:
            earlier.append((form, str(number), signature))
    return matches


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.85])
@pytest.mark.parametrize("recent", [1, 7, 10_000])
@pytest.mark.parametrize("few", [0, near_duplicates.MAX_SINGLE_READS])
def test_decisions_are_those_of_comparing_every_pair_however_texts_are_kept(monkeypatch, threshold, recent, few):
    monkeypatch.setattr(near_duplicates, "MAX_RECENT", recent)
    monkeypatch.setattr(near_duplicates, "MAX_SINGLE_READS", few)
    texts = sentences(150)
    matches = decisions(texts, threshold)
    assert matches == compare_every_pair(texts, threshold)
    assert {match and match[0] for match in matches} == {None, "duplicate", "near_duplicate"}


@pytest.mark.slow
@given(st.lists(st.text("aéß _.", max_size=8), max_size=20), st.sampled_from([0.5, 0.85, 1.0]), st.integers(1, 5))
def test_how_many_texts_are_kept_in_memory_decides_nothing(texts, threshold, recent):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "MAX_RECENT", recent)
        matches = decisions(texts, threshold)
    assert matches == decisions(texts, threshold)


def test_texts_whose_32_bits_agree_by_chance_are_told_apart(monkeypatch):
    monkeypatch.setattr(near_duplicates, "crc32", lambda _: 7)
    near_duplicates._fingerprint.cache_clear()
    texts = sentences(40, seed=1)
    matches = decisions(texts, 0.85)
    near_duplicates._fingerprint.cache_clear()
    monkeypatch.undo()
    added = {number for number, match in enumerate(matches) if match is None}
    assert len(added) > 20
    assert added <= {number for number, match in enumerate(decisions(texts, 0.85)) if match is None}


def test_what_is_not_in_memory_is_in_a_file_nobody_finds_and_goes_with_the_index(monkeypatch, tmp_path):
    monkeypatch.setattr(near_duplicates, "MAX_RECENT", 4)
    index = MinHashIndex(0.85, tmp_path)
    for number, text in enumerate(sentences(20)):
        index.add(text, str(number))
    handle = index._records._file
    assert list(tmp_path.iterdir()) == []
    assert index.find(sentences(20)[0]) == ("duplicate", "0", 1.0)
    del index
    with pytest.raises(OSError):
        near_duplicates.os.fstat(handle)


def test_a_name_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at most 32 bytes"):
        MinHashIndex(0.85).add("a text", "n" * 33)


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_plain_ascii_takes_a_shorter_way_to_the_same_normal_form(text):
    assert normal_form(text) == normal_form(text + " \u200a")  # a space that is not ASCII takes the long one
    assert normal_form(text) == " ".join("".join(c.lower() if c.isalnum() else " " for c in text).split())


@pytest.mark.parametrize("threshold", [0.85, 1.0])
def test_a_pickled_index_finds_what_it_found(monkeypatch, threshold):
    monkeypatch.setattr(near_duplicates, "MAX_RECENT", 20)  # most records lie in the scratch file
    texts = sentences(150)
    index = MinHashIndex(threshold)
    for number, text in enumerate(texts[:100]):
        index.add(text, str(number))
    pickled = pickle.dumps(index)
    arrived = pickle.loads(pickled)
    assert [arrived.find(text) for text in texts] == [index.find(text) for text in texts]
    assert not any(word.encode() in pickled for word in texts[0].split())
