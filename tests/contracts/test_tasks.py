"""What every task promises (`tasks.Task`): stored, shown, read and learned, a target stays what it is.

A new task needs an entry in EXAMPLES: settings, and rows of a user's file in which every label occurs.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from evokd_data import settings
from evokd_data.errors import DataError
from evokd_data.generation.filters import REASONS
from evokd_data.records import Constraint, Origin, Prediction, Sample, SequenceExample, Target, TokenExample
from evokd_data.registry import resolve
from evokd_data.tasks import TASKS, Task, Unreadable, sample_id
from evokd_data.templates import Templates


@dataclasses.dataclass(frozen=True)
class Example:
    """`settings` of a recipe; `rows` of a user's file; `wrong`: a row of a target that the task cannot have; `lines` of a file
    in a format that only this task reads."""

    settings: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    wrong: Mapping[str, Any]
    lines: tuple[str, ...] = ()


EXAMPLES = {
    "classification": Example(
        {"labels": ["red", "deep blue", "green"], "description": "which colour", "label_descriptions": {"red": "warm"}},
        (
            {"text": "a rose by the wall", "label": "red"},
            {"text": "the sea  at night", "label": "deep blue"},
            {"text": "grass", "label": "green"},
        ),
        {"text": "a rose by the wall", "label": "mauve"},
    ),
    "ner": Example(
        {"types": ["place", "person"], "description": "who is where", "type_descriptions": {"place": "a town"}},
        (
            {"text": "Ada Byron lives in Oslo", "spans": [{"text": "Ada Byron", "type": "person"}, {"text": "Oslo", "type": "place"}]},
            {"tokens": ["from", "New", "York", "to", "Rome"], "ner_tags": ["O", "B-place", "I-place", "O", "B-place"]},
            {"text": "nobody is there", "spans": []},
        ),
        {"text": "Ada Byron lives in Oslo", "spans": [{"text": "Oslo", "type": "planet"}]},
        ("from O", "Oslo B-place", "", "Ada B-person", "Byron I-person"),
    ),
}  # fmt: skip
HOSTILE_ANSWERS = ["", " \n", "null", "[]", "{}", '{"entities": 3}', "]", "[place: ", "\ud800", "x" * 10_000, "🧑🏽‍🚀"]

every_task = pytest.mark.parametrize("name", TASKS)


@lru_cache
def build_task(name: str) -> Task:
    task, problems = settings.build(resolve(TASKS, name), EXAMPLES[name].settings, "task")
    assert task is not None, problems
    return task


def samples(name: str) -> list[Sample]:
    task = build_task(name)
    pairs = [task.read_example(row, f"row {number}") for number, row in enumerate(EXAMPLES[name].rows)]
    return [Sample(sample_id(task, text, target), text, target, Origin(0, -1, 0, "")) for text, target in pairs]


def probabilities_of(example: SequenceExample | TokenExample, task: Task) -> np.ndarray:
    """What a student that is sure, and right, predicts."""
    rows = np.eye(len(task.classes), dtype=np.float32)
    return rows[list(example.targets)] if isinstance(example, TokenExample) else rows[example.target]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)


def test_every_task_has_an_example_in_which_every_label_occurs() -> None:
    assert set(EXAMPLES) == set(TASKS), "give the new task an entry in EXAMPLES"
    for name in TASKS:
        for label in build_task(name).labels:
            assert any(build_task(name).carries(sample.target, label) for sample in samples(name)), label


@every_task
def test_its_settings_are_a_frozen_recipe_table(name: str) -> None:
    task = build_task(name)
    assert task.name == name
    table = settings.table(task)
    assert EXAMPLES[name].settings.items() <= table.items()
    assert settings.build(type(task), table, "task") == (task, [])
    assert pickle.loads(pickle.dumps(task)) == task
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.description = ""  # type: ignore[misc]
    _, problems = settings.build(type(task), {**table, "descriptoin": ""}, "task")
    assert problems == ["task.descriptoin: no such setting; did you mean 'description'?"]


@every_task
def test_its_labels_and_classes_are_names_in_a_fixed_order(name: str) -> None:
    task = build_task(name)
    for names in (task.labels, task.classes):
        assert isinstance(names, tuple) and len(names) >= 1 and len(set(names)) == len(names)
        assert all(isinstance(each, str) and each for each in names)
    assert task.classes[0] == "O" or task.classes == task.labels
    assert task.hub_category in ("text-classification", "token-classification")


@every_task
def test_a_stored_target_comes_back_from_json_and_from_arrow(name: str) -> None:
    task = build_task(name)
    rows = [dict(task.to_row(sample.target)) for sample in samples(name)]
    assert {tuple(row) for row in rows} == {tuple(task.columns())}
    assert [task.from_row(json.loads(json.dumps(row))) for row in rows] == [s.target for s in samples(name)]
    stored = pa.Table.from_pylist(rows, pa.schema(list(task.columns().items())))
    assert [task.from_row(row) for row in stored.to_pylist()] == [s.target for s in samples(name)]


@every_task
def test_an_id_is_decided_by_text_and_target(name: str) -> None:
    task, (first, second, *_) = build_task(name), samples(name)
    assert first.id == sample_id(task, first.text, first.target)
    ids = {sample_id(task, text, target) for text in (first.text, "x") for target in (first.target, second.target)}
    assert len(ids) == 4 and all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in ids)


@every_task
def test_a_users_row_is_read_with_and_without_its_target(name: str) -> None:
    task = build_task(name)
    for row, sample in zip(EXAMPLES[name].rows, samples(name), strict=True):
        assert task.check(sample.text, sample.target) == ""
        assert task.read_text(row, "here") == sample.text == task.read_text({"text": sample.text}, "here")


@every_task
def test_a_row_that_cannot_be_read_is_an_error_that_names_the_row(name: str) -> None:
    task, example = build_task(name), EXAMPLES[name]
    row = dict(example.rows[0])
    for wrong in (example.wrong, {}, {"text": row["text"]}, {**row, "text": " "}, {**row, "text": None}):
        with pytest.raises(DataError, match=r"^seeds\.jsonl, row 7: .*"):
            task.read_example(wrong, "seeds.jsonl, row 7")
    for wrong in ({}, {"text": ""}, {"text": 3}):
        with pytest.raises(DataError, match=r"^pool\.jsonl, row 7: .*"):
            task.read_text(wrong, "pool.jsonl, row 7")


@every_task
def test_lines_of_a_format_of_its_own_give_rows_that_it_reads_and_others_are_refused(name: str) -> None:
    task, lines = build_task(name), EXAMPLES[name].lines
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in task.suffixes)
    assert bool(task.suffixes) == bool(lines), "give the task's format an example"
    rows = list(task.read_lines(lines, "seeds")) if lines else []
    assert [bool(task.read_example(row, "seeds")[1]) for row in rows] == [True] * len(rows)
    assert bool(rows) == bool(lines)
    with pytest.raises(DataError, match=r"^seeds(:1)?: "):
        list(task.read_lines(["{", '"text": [1'], "seeds"))


@every_task
def test_a_target_that_the_task_cannot_have_is_told(name: str) -> None:
    task, sample = build_task(name), samples(name)[0]
    wrong = _of_unknown_name(task, sample.target)
    assert wrong != sample.target and task.check(sample.text, wrong) != ""


def _of_unknown_name(task: Task, target: Target) -> Target:
    """The target, as it would be stored, with each label replaced by one that the task does not have."""
    text = json.dumps(task.to_row(target))
    for label in task.labels:
        text = text.replace(json.dumps(label), '"no such label"')
    return task.from_row(json.loads(text))


@every_task
def test_templates_see_plain_values(name: str) -> None:
    task = build_task(name)
    described = dict(task.describe())
    assert json.loads(json.dumps(described)) == described and set(task.labels) <= set(strings(described))
    for sample in samples(name):
        shown = dict(task.show(sample))
        assert json.loads(json.dumps(shown)) == shown
        assert shown["text"] == sample.text and isinstance(shown["target"], str)


@every_task
def test_the_package_has_the_prompts_that_write_and_label(name: str) -> None:
    assert {"generate.j2", "label.j2"} <= set(Templates(build_task(name).templates).sources(["generate", "label"]))


@every_task
def test_a_label_shown_is_an_answer_that_the_constraint_allows_and_is_read_back(name: str) -> None:
    task = build_task(name)
    for sample in samples(name):
        constraint = task.label_constraint(sample.text)
        given = [field for field in (constraint.json_schema, constraint.choices, constraint.grammar) if field]
        assert isinstance(constraint, Constraint) and len(given) == 1
        answer = task.show(sample)["target"]
        assert constraint.choices is None or answer in constraint.choices
        assert task.read_label(answer, sample.text) == sample.target


@every_task
@pytest.mark.parametrize("answer", HOSTILE_ANSWERS, ids=[repr(answer[:20]) for answer in HOSTILE_ANSWERS])
def test_whatever_the_teacher_answers_becomes_a_possible_target_or_a_reason_in_one_word(name: str, answer: str) -> None:
    task, text = build_task(name), samples(name)[0].text
    try:
        outcome = task.check(text, task.read_label(answer, text))
    except Unreadable as reason:
        outcome = "" if str(reason) in REASONS else f"{reason} is no reason that a card explains"
    assert outcome == ""


@every_task
def test_a_target_that_a_label_decides_carries_it(name: str) -> None:
    task = build_task(name)
    targets = {label: task.target_of(label) for label in task.labels}
    carried = {
        label: [other for other in task.labels if task.carries(target, other)]
        for label, target in targets.items()
        if target is not None
    }
    assert carried in ({}, {label: [label] for label in task.labels})


@every_task
def test_what_a_student_learns_decodes_to_the_target_it_was_made_from(name: str) -> None:
    task = build_task(name)
    for sample in samples(name):
        example = task.supervise(dataclasses.replace(sample, weight=0.25))
        assert example.weight == 0.25
        if isinstance(example, TokenExample):
            assert [sample.text[start:end] for start, end in example.offsets] == list(example.words)
            assert len(example.targets) == len(example.words)
        decoded, confidence = task.decode(example, probabilities_of(example, task))
        assert (decoded, confidence) == (sample.target, 1.0) and type(confidence) is float


@every_task
def test_mistakes_are_those_of_a_wrong_prediction_alone(name: str) -> None:
    task, (first, second, *_) = build_task(name), samples(name)
    assert list(task.mistakes(Prediction("id", first.target, first.target, 0.9))) == []
    mistakes = task.mistakes(Prediction("id", first.target, second.target, 0.9))
    assert mistakes and all(mistake.kind and mistake.expected != mistake.got for mistake in mistakes)
    assert all({mistake.expected, mistake.got} <= {*task.labels, ""} for mistake in mistakes)


@every_task
def test_scores_are_json_with_n_and_macro_f1_and_the_same_for_the_same_seed(name: str) -> None:
    task, scored = build_task(name), samples(name)
    right = [probabilities_of(task.supervise(sample), task) for sample in scored]
    metrics = task.score(scored, right, seed=3)
    assert (metrics["n"], metrics["macro_f1"]) == (len(scored), 1.0)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics == task.score(scored, right, seed=3)
    blind = [np.full_like(row, 1 / len(task.classes)) for row in right]
    assert 0 <= task.score(scored, blind, seed=3)["macro_f1"] < 1


@every_task
def test_its_outcomes_are_what_its_scores_count(name: str) -> None:
    task, scored = build_task(name), samples(name) * 7
    random = np.random.default_rng(3)
    rows = [random.random(probabilities_of(task.supervise(sample), task).shape) for sample in scored]
    rows[:7] = [probabilities_of(task.supervise(sample), task) for sample in scored[:7]]
    outcomes, metrics = task.outcomes(scored, rows), task.score(scored, rows, seed=0)
    for index, label in enumerate(task.labels):
        right, predicted, expected = (
            sum(getattr(outcome, kind).count(index) for outcome in outcomes)
            for kind in ("right", "predicted", "expected")
        )
        figures = metrics["per_class"][label]
        assert figures["support"] == expected
        assert figures["f1"] == pytest.approx(2 * right / (predicted + expected))
    assert all(set(outcome.right) <= set(outcome.expected) & set(outcome.predicted) for outcome in outcomes)


@every_task
def test_nothing_can_be_scored_without_samples(name: str) -> None:
    with pytest.raises(ValueError, match="cannot score"):
        build_task(name).score([], [], seed=0)
