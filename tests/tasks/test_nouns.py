"""The plural and the article of nouns in prompts."""

from __future__ import annotations

import pytest

from evokd_data.tasks.classification import Classification
from evokd_data.tasks.nouns import plural, with_article
from evokd_data.templates import Templates


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("text", "texts"),
        ("customer message", "customer messages"),
        ("request to a voice assistant", "requests to a voice assistant"),
        ("message from a bank's customer", "messages from a bank's customer"),
        ("review of a film", "reviews of a film"),
        ("question about the weather in Rome", "questions about the weather in Rome"),
        ("query", "queries"),
        ("search query for a shop", "search queries for a shop"),
        ("essay", "essays"),
        ("tax", "taxes"),
        ("speech in parliament", "speeches in parliament"),
        ("FAQ", "FAQs"),
        ("Aufgabe", "Aufgabes"),
        ("评论", "评论"),
        ("in", "ins"),
    ],
)
def test_the_word_before_the_first_preposition_gets_the_plural(noun: str, expected: str) -> None:
    assert plural(noun) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("text", "a text"),
        ("email", "an email"),
        ("user question", "a user question"),
        ("utterance", "an utterance"),
        ("unusual claim", "an unusual claim"),
        ("hour of work", "an hour of work"),
        ("one-star review", "a one-star review"),
        ("onerous clause", "an onerous clause"),
    ],
)
def test_the_article_follows_the_sound(noun: str, expected: str) -> None:
    assert with_article(noun) == expected


def test_prompts_say_it_and_a_plural_of_the_users_own_comes_first() -> None:
    task = Classification(labels=("a", "b"), noun="request to a voice assistant")
    rendered = Templates("classification").sources(("generate", "label"))
    assert all("{{ task.nouns }}" in source for source in rendered.values())
    assert task.describe()["nouns"] == "requests to a voice assistant"
    own = Classification(labels=("a", "b"), noun="Aufgabe", nouns="Aufgaben")
    assert own.describe()["nouns"] == "Aufgaben" and own.describe()["a_noun"] == "an Aufgabe"
