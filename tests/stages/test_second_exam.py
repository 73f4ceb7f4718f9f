"""The exam that is taken again on the texts of round 1: what each kind of teacher makes of it, and that it comes out the same again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.digest import derive_random
from evokd_data.errors import TeacherError
from evokd_data.loop.rounds import generate_next, train_next
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.records import Completion, Prompt
from evokd_data.reporting.label_trust import asked_again, enumerated
from evokd_data.stages.exam import is_exam, labelling_of, require_useful, summary
from evokd_data.stages.second_exam import (
    QUESTIONS,
    WAYS,
    _content,
    _measured,
    labelled_texts,
    needs_second_exam,
    questions,
    second_exam,
)
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies.trust import calibrate, flatness, probability_of_lead, temperature_for
from tests.support.example_task import play
from tests.support.measured_recipe import COLOURS, measured_recipe

GUESSING = ("teacher.wrong_labels=1", "teacher_trust=force", "filters.label_disagreement=intended")
"""Texts keep the label they were asked for: nothing but the teacher's own labels says what the teacher knows."""
Knows = Callable[[Prompt, str], str]
"""A prompt and the label that its text was asked for -> the label that a teacher gives."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Recipe, Workspace]]:
    """A function: overrides -> a copy of a run whose round 1 is complete. Each is played once."""
    originals: dict[tuple[str, ...], Path] = {}

    def copied(*overrides: str) -> tuple[Recipe, Workspace]:
        if overrides not in originals:
            originals[overrides] = tmp_path_factory.mktemp("played")
            play(measured_recipe(originals[overrides], *overrides), originals[overrides], 2)
        folder = tmp_path_factory.mktemp("copy") / "run"
        shutil.copytree(originals[overrides], folder)
        return measured_recipe(folder, *overrides), Workspace(folder / "colours")

    return copied


def examined(recipe: Recipe, workspace: Workspace, knows: Knows, confidence: float = 0.99):
    """(content of the second exam, prompts) with a teacher that gives the labels of `knows` with this probability."""
    asked_for = {text: label for label, texts in labelled_texts(recipe, workspace, 1).items() for text in texts}
    prompts: list[Prompt] = []

    async def ask(prompt: Prompt) -> Completion:
        prompts.append(prompt)
        label, answers = knows(prompt, asked_for[prompt.variables["text"]]), prompt.variables["answers"]
        others = math.log((1 - confidence) / (len(answers) - 1))
        scores = {answer: math.log(confidence) if name == label else others for name, answer in answers.items()}
        return Completion(answers[label], "stop", 1, 1, scores)

    return asyncio.run(second_exam(recipe, workspace, 2, ask)), prompts


def perfect(prompt: Prompt, label: str) -> str:
    return label


def guessing(prompt: Prompt, label: str) -> str:
    return derive_random(1, prompt.key).choice(COLOURS)


def constant(prompt: Prompt, label: str) -> str:
    return "green"


def middling(prompt: Prompt, label: str) -> str:
    """Right on about seven of ten texts; which, depends on the order of its demonstrations."""
    chance = derive_random(3, prompt.key)
    return label if chance.random() < 0.55 else chance.choice(COLOURS)


def test_a_perfect_teacher_changes_nothing(played):
    recipe, workspace = played()
    first = read_json(workspace.round(1).exam)
    content, prompts = examined(recipe, workspace, perfect)
    again = content["again"]
    assert again["texts"] == again["opposite_order"] == again["second_form"] == again["questions_as_asked"] == QUESTIONS
    assert (again["at_most"], content["corrected"], content["verdict"]) == (1.0, {}, first["verdict"])
    assert labelling_of(recipe, content) == labelling_of(recipe, first)
    assert content["message"].endswith("nothing changes in how labels are trusted")
    assert len(prompts) == QUESTIONS * WAYS <= 60


def test_a_middling_teacher_that_is_surer_than_it_can_be_right_is_flattened_and_the_run_goes_on(played):
    recipe, workspace = played()
    first = read_json(workspace.round(1).exam)
    content, _ = examined(recipe, workspace, middling)
    again, before, after = content["again"], labelling_of(recipe, first), labelling_of(recipe, content)
    assert again["opposite_order"] < again["texts"] and again["at_most"] < again["confidence"]
    assert after.temperature > before.temperature and after == dataclasses.replace(
        before, temperature=after.temperature
    )
    row = (0.99, 0.005, 0.005)
    assert max(calibrate(row, (), after.temperature)) == pytest.approx(again["at_most"], abs=2e-3)
    assert content["verdict"] == first["verdict"] and "its probabilities are flattened" in content["message"]
    require_useful(recipe, content)


@pytest.mark.parametrize("knows", [guessing, constant])
def test_a_teacher_whose_labels_say_nothing_of_the_texts_stops_the_run_unless_it_is_forced(played, knows):
    recipe, workspace = played(*GUESSING)
    content, _ = examined(recipe, workspace, knows)
    assert content["verdict"] == "blind to the texts", content["again"]
    require_useful(recipe, content)  # teacher_trust: force
    with pytest.raises(TeacherError, match=r"its labels say nothing of the texts; .* set teacher_trust: force"):
        require_useful(dataclasses.replace(recipe, teacher_trust="measured"), content)


def test_a_forced_run_that_may_stop_now_is_told_why(played):
    recipe, workspace = played(*GUESSING)
    first = read_json(workspace.round(1).exam)
    assert first["verdict"] == "no better than chance"
    content, _ = examined(recipe, workspace, perfect)
    assert content["verdict"] == first["verdict"]
    with pytest.raises(
        TeacherError, match=r"the run stops: the teacher labels the seeds no better than chance .*; asked again"
    ):
        require_useful(dataclasses.replace(recipe, teacher_trust="measured"), content)


@pytest.mark.parametrize(("agreed", "is_blind"), [(12, True), (20, False)])
def test_a_round_that_is_labelled_as_it_was_asked_for_speaks_for_the_teacher(played, agreed, is_blind):
    recipe, workspace = played()
    first = read_json(workspace.round(1).exam)
    rows = [(0.5, 0.25, 0.25)] * 20  # the same label for every text
    again = _measured(labelling_of(recipe, first), COLOURS, [*COLOURS * 7][:20], rows, rows, None)
    again |= {"round": 1, "as_asked": {"red": {"n": 36, "agreed": agreed}}}
    content = _content(recipe, first, labelling_of(recipe, first), again, rows)
    assert (content["verdict"] == "blind to the texts") == is_blind


def test_a_guess_does_not_stop_a_run_whose_texts_are_labelled_as_they_were_asked_for(played):
    recipe, workspace = played()
    content, _ = examined(recipe, workspace, guessing)
    assert content["verdict"] != "blind to the texts" and "temperature" in content["corrected"]


@pytest.mark.parametrize(("same", "rule"), [(20, "relabel"), (14, "relabel"), (8, "reject")])
def test_a_label_no_longer_counts_against_the_request_where_the_bound_is_below_sure(played, same, rule):
    recipe, workspace = played()
    first = {**read_json(workspace.round(1).exam), "rule": "relabel"}
    labelling = labelling_of(recipe, first)
    rows = [(0.5, 0.25, 0.25)] * 20
    other = [row if number < same else (0.25, 0.5, 0.25) for number, row in enumerate(rows)]
    again = _measured(labelling, COLOURS, ["red"] * 20, rows, other, None) | {"round": 1, "as_asked": None}
    assert labelling_of(recipe, _content(recipe, first, labelling, again, rows)).rule == rule


def test_round_2_is_planned_by_the_second_exam_and_comes_out_the_same_after_a_kill(played):
    recipe, workspace = played()
    runs = workspace.root.parent
    notes: list[str] = []

    class Notes(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    generate_next(recipe, runs, Notes())
    folder = workspace.round(2)
    content, plan = read_json(folder.exam), read_json(folder.plan)
    assert content["message"] in notes
    assert asked_again(plan).startswith("Asked again about 20 texts of round 1, it gave ")
    assert asked_again(read_json(workspace.round(1).plan)) == ""
    assert plan["exam"] == json.loads(json.dumps(summary(content))) and plan["exam"]["again"]["round"] == 1
    assert plan["labelling"]["temperature"] == labelling_of(recipe, content).temperature
    keys = [row["key"] for row in read_answers(folder.journal)]
    examined_keys = [key for key in keys if is_exam(key)]
    assert len(examined_keys) == QUESTIONS * WAYS and len(set(keys)) == len(keys)
    files = {path: path.read_bytes() for path in (folder.exam, folder.plan, *folder.shard_files())}
    for path in (folder.exam, folder.plan, folder.generated, *folder.shard_files(), *folder.rejection_files()):
        path.unlink()  # a kill after the last answer, before exam.json
    generate_next(recipe, runs, Progress())
    assert {path: path.read_bytes() for path in files} == files
    assert [row["key"] for row in read_answers(folder.journal)] == keys
    train_next(recipe, runs, Progress())


def test_there_is_no_second_exam_without_a_first_or_texts_or_before_another_round(played):
    recipe, workspace = played()
    assert [needs_second_exam(recipe, workspace, index) for index in (1, 2)] == [False, True]
    assert not needs_second_exam(dataclasses.replace(recipe, teacher_trust="off"), workspace, 2)
    for path in (*workspace.round(1).shard_files(), *workspace.round(1).rejection_files()):
        path.unlink()
    assert not needs_second_exam(recipe, workspace, 2)


def test_questions_are_even_over_labels_and_the_same_again(played):
    recipe, _ = played()
    texts = {"red": [f"red {i}" for i in range(30)], "green": ["green 0", "green 1"], "blue": []}
    chosen = questions(recipe, texts)
    assert chosen == questions(recipe, texts) and len(set(chosen)) == QUESTIONS
    assert sum(label == "green" for label, _ in chosen) == 2
    assert all(text in texts[label] for label, text in chosen)


labels = st.integers(0, 2)


@given(st.lists(st.tuples(labels, labels, labels), min_size=1, max_size=40))
def test_two_labels_of_a_text_bound_how_often_they_are_right(triples: list[tuple[int, int, int]]):
    right = sum((first == truth) + (second == truth) for truth, first, second in triples) / 2
    same = sum(first == second for _, first, second in triples)
    assert right / len(triples) <= (1 + same / len(triples)) / 2


@given(st.lists(st.tuples(*[st.floats(0.01, 1)] * 3), min_size=1, max_size=8), st.floats(0.34, 1), st.floats(0.25, 4))
def test_a_temperature_lowers_the_mean_confidence_to_what_is_asked_and_never_raises_it(weights, confidence, least):
    rows = [tuple(value / sum(row) for value in row) for row in weights]
    temperature = temperature_for(rows, confidence, least)
    assert least <= temperature or temperature == pytest.approx(least, abs=1e-4)
    mean = sum(max(calibrate(row, (), temperature)) for row in rows) / len(rows)
    assert temperature == pytest.approx(max(least, 8.0), abs=1e-3) or mean <= confidence + 1e-3


def test_parts_are_enumerated():
    assert [enumerated(parts) for parts in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_flatness_and_lead():
    assert flatness([(0.25,) * 4]) == pytest.approx(1) and flatness([(1.0, 0.0)]) == 0 and flatness([]) == 0
    assert probability_of_lead([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert (
        probability_of_lead([1.0, 2.0, 3.5], [0.0, 1.0, 2.0])
        > 0.99
        > 0.01
        > probability_of_lead([0.0, 1.0, 2.0], [1.0, 2.0, 3.5])
    )
