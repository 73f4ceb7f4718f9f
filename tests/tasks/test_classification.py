"""The classification task: labels read as the hostile input they are, samples stored, shown, learned and scored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import DataError
from evokd_data.records import Mistake, Origin, Prediction, Sample, SequenceExample
from evokd_data.settings import build
from evokd_data.tasks import Unreadable
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.nouns import in_words

LABELS = ("PlayMusic", "GetWeather", "Rate book", "no", "NO")
TASK = Classification(LABELS, description="What the user wants.", label_descriptions={"no": "a refusal"})

texts = st.text(min_size=1, max_size=40)


def sample(text="play jazz", target="PlayMusic", **more):
    return Sample("id", text, target, Origin(0, -1, 0, ""), **more)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": ["one"]}, "at least 2"),
        ({"labels": ["a", "b", "a"]}, "'a' is given twice"),
        ({"labels": ["a", ""]}, "'' is empty or has white space around it"),
        ({"labels": ["a", "b "]}, "'b ' is empty or has white space around it"),
        ({"labels": ["a", 2]}, "valid string"),
        ({"labels": ["good", "bad"], "label_descriptions": {"godo": "x"}}, "did you mean 'good'"),
        ({"labels": ["a", "b"], "label_names": {"a": "b"}}, "'a' and 'b' are both called 'b'"),
        ({"labels": ["a", "b"], "label_names": {"c": "b"}}, "label_names: 'c' is no label"),
        ({"labels": ["a", "b"], "text_column": "label"}, "text_column and label_column are both 'label'"),
        ({"labels": ["a", "b"], "text_column": ""}, "at least 1 character"),
        ({}, "task.labels: is required"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(wrong, message):
    task, problems = build(Classification, wrong, "task")
    assert task is None
    assert message in "\n".join(problems)


def test_a_single_label_is_refused_in_code_too():
    with pytest.raises(ValueError, match="at least two"):
        Classification(("one",))


@given(st.sampled_from(LABELS), st.sampled_from(["{}", " {}\n", '"{}"', "'{}'", "“{}”", ' "{}" ', "`{}`", "\"'{}'\""]))
def test_a_label_is_read_through_white_space_and_quotes(label, wrapping):
    assert TASK.read_label(wrapping.format(label), "text") == label


def test_case_is_ignored_where_that_leaves_one_label():
    assert TASK.read_label("playmusic", "text") == "PlayMusic"
    assert TASK.read_label('"RATE BOOK"', "text") == "Rate book"
    assert TASK.read_label("no", "text") == "no"
    with pytest.raises(Unreadable, match="label_not_allowed"):
        TASK.read_label("No", "text")


@pytest.mark.parametrize("answer", ["", "  \n", '""', '" "', "'", '"'])
def test_an_empty_answer_has_no_label(answer):
    with pytest.raises(Unreadable) as caught:
        TASK.read_label(answer, "text")
    assert str(caught.value) == "no_label"


@pytest.mark.parametrize("answer", ["PlayMusic.", "PlayMusic GetWeather", "Play", "Label: PlayMusic", '"PlayMusic'])
def test_an_answer_that_is_no_label_is_not_allowed(answer):
    with pytest.raises(Unreadable) as caught:
        TASK.read_label(answer, "text")
    assert str(caught.value) == "label_not_allowed"


@given(st.text())
def test_whatever_the_teacher_answers_becomes_a_label_or_a_reason(answer):
    try:
        assert TASK.read_label(answer, "text") in LABELS
    except Unreadable as reason:
        assert str(reason) in ("no_label", "label_not_allowed")


def test_a_label_in_quotes_is_itself():
    task = Classification(('"quoted"', "quoted"))
    assert task.read_label('"quoted"', "") == '"quoted"'
    assert task.read_label("quoted", "") == "quoted"


def test_the_stored_column_is_a_string_called_label():
    import pyarrow as pa

    assert dict(TASK.columns()) == {"label": pa.string()}


def test_only_the_tasks_labels_can_be_right():
    assert TASK.check("text", "PlayMusic") == ""
    assert "'Play' is no label" in TASK.check("text", "Play")
    assert TASK.check("text", ()) != ""


def test_a_users_row_is_read_from_the_columns_the_recipe_names():
    task = Classification(("a", "b"), text_column="utterance", label_column="intent")
    assert task.read_example({"utterance": "hi", "intent": "b", "text": "x"}, "seeds.jsonl:1") == ("hi", "b")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "no column 'label'"),
        ({"txt": "x", "label": "a"}, "no column 'text'; did you mean 'txt'"),
        ({"text": "", "label": "a"}, "'text' holds ''"),
        ({"text": None, "label": "a"}, "'text' holds None"),
        ({"text": "x", "label": 1}, "'label' holds 1; labels are names"),
        ({"text": "x", "label": "playmusic"}, "'label' holds 'playmusic'; did you mean 'PlayMusic'"),
        ({}, "no column 'text'"),
    ],
)
def test_a_users_row_that_cannot_be_read_names_file_column_and_value(row, message):
    with pytest.raises(DataError) as caught:
        TASK.read_example(row, "seeds.jsonl:7")
    assert str(caught.value).startswith("seeds.jsonl:7: ")
    assert message in str(caught.value)


def test_templates_see_plain_values():
    assert TASK.describe() == {
        "labels": list(LABELS),
        "description": "What the user wants.",
        "label_descriptions": {"no": "a refusal"},
        "noun": "text",
        "nouns": "texts",
        "a_noun": "a text",
        "names": {
            "PlayMusic": "play music",
            "GetWeather": "get weather",
            "Rate book": "Rate book",
            "no": "no",
            "NO": "NO",
        },
    }


@pytest.mark.parametrize(
    ("label", "words"),
    [("PlayMusic", "play music"), ("card_arrival", "card arrival"), ("HTTPError", "HTTP error"), ("NUM", "NUM"),
     ("e-mail", "e-mail"), ("Q&A", "Q&A"), ("天气", "天气"), ("utility:bill", "utility bill"), ("iPhone", "i phone")],
)  # fmt: skip
def test_a_label_in_words_is_split_where_identifiers_are(label, words):
    assert in_words(label) == words


def test_labels_that_are_the_same_words_keep_their_spelling():
    task = Classification(("card_arrival", "CardArrival", "CARD_LOST"))
    assert task.names == {"card_arrival": "card_arrival", "CardArrival": "CardArrival", "CARD_LOST": "card lost"}


@pytest.mark.parametrize(
    ("noun", "article"), [("question", "a question"), ("utterance", "an utterance"), ("email", "an email")]
)
def test_the_noun_has_its_article(noun, article):
    assert Classification(("a", "b"), noun=noun).describe()["a_noun"] == article
    assert TASK.show(sample()) == {"text": "play jazz", "target": "PlayMusic"}
    json.dumps([TASK.describe(), TASK.show(sample())])


def test_the_teacher_must_choose_a_label():
    assert TASK.label_constraint("text").choices == LABELS


def test_quotas_are_counted_in_labels():
    assert TASK.labels == TASK.classes == LABELS
    assert TASK.carries("no", "no")
    assert not TASK.carries("no", "NO")


def test_a_student_learns_class_index_soft_label_and_weight():
    learned = TASK.supervise(sample(target="Rate book", soft=(0.1, 0.1, 0.6, 0.1, 0.1), weight=0.5))
    assert learned == SequenceExample("play jazz", 2, (0.1, 0.1, 0.6, 0.1, 0.1), 0.5)


def test_the_most_probable_class_is_decoded_with_its_probability():
    probabilities = np.array([0.1, 0.2, 0.3, 0.3, 0.1], dtype=np.float32)
    target, confidence = TASK.decode(SequenceExample("x", None), probabilities)
    assert target == "Rate book"
    assert confidence == pytest.approx(0.3)
    assert type(confidence) is float


def test_a_wrong_prediction_is_one_confusion_and_a_right_one_no_mistake():
    assert TASK.mistakes(Prediction("id", "no", "NO", 0.9)) == [Mistake("confused", "no", "NO")]
    assert TASK.mistakes(Prediction("id", "no", "no", 0.9)) == []


def test_scores_follow_the_tasks_order_of_labels():
    scored = [sample(target=label) for label in ("PlayMusic", "PlayMusic", "no", "GetWeather")]
    probabilities = np.eye(5, dtype=np.float32)[[0, 1, 3, 1]]
    metrics = TASK.score(scored, list(probabilities), seed=4)
    assert metrics["n"] == 4
    assert metrics["accuracy"] == 0.75
    assert metrics["confusion"][0] == [1, 1, 0, 0, 0]
    assert list(metrics["per_class"]) == list(LABELS)
    assert metrics == TASK.score(scored, probabilities, seed=4)
    json.dumps(metrics, allow_nan=False)
