from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.digest import canonical, derive_random, derive_seed, digest, file_digest

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.dictionaries(words, values, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_enter_a_digest(table, random):
    keys = list(table)
    random.shuffle(keys)
    assert digest({key: table[key] for key in keys}) == digest(table)


@given(values)
def test_canonical_bytes_read_back_as_the_same_value(value):
    assert json.loads(canonical(value)) == value


@given(values, values)
def test_different_values_have_different_bytes(left, right):
    assert (canonical(left) == canonical(right)) == (
        json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_has_no_digest(value):
    with pytest.raises(ValueError):
        digest({"loss": value})


def test_a_digest_stays_what_it_was_in_the_first_release():
    assert digest({"b": [1, "ä", None], "a": 0.1}) == hashlib.sha256('{"a":0.1,"b":[1,"ä",null]}'.encode()).hexdigest()
    assert derive_seed(0, 1, "generate", 12) == 3164606338737932351
    assert derive_random(3, "seeds").random() == 0.8609505379092747


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path):
    path = tmp_path / "shard"
    path.write_bytes(b"rows" * 100_000)
    assert file_digest(path) == hashlib.sha256(b"rows" * 100_000).hexdigest()


@given(st.integers(0, 2**40), st.lists(st.integers(0, 99) | st.sampled_from(["generate", "label"]), max_size=4))
def test_a_seed_is_a_function_of_its_place_and_fits_63_bits(seed, path):
    assert derive_seed(seed, *path) == derive_seed(seed, *path)
    assert 0 <= derive_seed(seed, *path) < 2**63


def test_places_of_a_run_have_seeds_of_their_own():
    seeds = {derive_seed(s, r, "generate", i) for s in range(3) for r in range(5) for i in range(200)}
    assert len(seeds) == 3 * 5 * 200
