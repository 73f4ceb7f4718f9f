"""The walk over a trie of labels: exact where every node is asked, exact for the most probable label where not."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import TeacherError
from evokd_data.teachers.label_trie import LabelTrie

END = 0


def language_model(prefix, vocabulary=range(12)):
    """Log-probabilities of the next token after a prefix: any fixed function of it."""
    weights = [math.exp(math.sin(7 * token + 3 * sum(prefix) + len(prefix))) for token in vocabulary]
    return {token: math.log(weight / sum(weights)) for token, weight in zip(vocabulary, weights, strict=True)}


def walk(tokens, max_nodes=10**6):
    asked = []

    async def ask(prefix, children):
        asked.append(tuple(prefix))
        row = language_model(prefix)
        return {child: row[child] for child in children}

    trie = LabelTrie([str(path) for path in tokens], tokens, END)
    return asyncio.run(trie.walk(ask, max_nodes)), asked, trie


def masked_probability(path, tokens):
    """What a decoder that may write only these labels gives one of them: a product over its tokens, each among those allowed."""
    ended = [(*other, END) for other in tokens]
    probability = 1.0
    for depth in range(len(path) + 1):
        allowed = {other[depth] for other in ended if other[:depth] == (*path, END)[:depth] and len(other) > depth}
        row = {token: math.exp(value) for token, value in language_model(path[:depth]).items()}
        probability *= row[(*path, END)[depth]] / sum(row[token] for token in allowed)
    return probability


labels = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), min_size=2, max_size=12, unique=True)


@pytest.mark.slow
@given(labels)
def test_every_label_has_the_probability_that_constrained_decoding_gives_it(tokens):
    scores, asked, trie = walk(tokens)
    assert scores.exact and scores.requests == len(asked) == trie.branching_nodes
    assert sum(map(math.exp, scores.logprobs)) == pytest.approx(1)
    for path, logprob in zip(tokens, scores.logprobs, strict=True):
        assert math.exp(logprob) == pytest.approx(masked_probability(path, tokens))


@pytest.mark.slow
@given(labels, st.integers(0, 3))
def test_with_few_requests_the_most_probable_label_is_still_exact(tokens, max_nodes):
    scores, _, _ = walk(tokens, max_nodes)
    exact, _, _ = walk(tokens)
    assert sum(map(math.exp, scores.logprobs)) == pytest.approx(1)
    assert max(scores.logprobs) == pytest.approx(max(exact.logprobs))
    assert scores.requests <= exact.requests


def test_labels_with_different_first_tokens_take_one_request():
    scores, asked, _ = walk([(1, 5, 6), (2,), (3, 5)])
    assert asked == [()] and scores.exact


def test_what_nothing_branches_on_costs_nothing():
    _, asked, _ = walk([(1, 2, 3), (1, 2, 4)])
    assert asked == [(1, 2)]


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [([(1,), ()], "has no token"), ([(1, 2), (1, 2)], "are the same tokens")],
)
def test_labels_that_cannot_be_told_apart_are_refused(tokens, problem):
    with pytest.raises(TeacherError, match=problem):
        LabelTrie(["first", "second"], tokens, END)


def test_an_answer_that_never_came_is_no_score():
    async def silent(prefix, children):
        return None

    async def not_finite(prefix, children):
        return dict.fromkeys(children, -math.inf)

    trie = LabelTrie(["a", "b"], [(1,), (2,)], END)
    assert asyncio.run(trie.walk(silent)) is None
    assert asyncio.run(trie.walk(not_finite)) is None
