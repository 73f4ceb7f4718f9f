"""The teacher's exam on the seeds: what it asks, which form it chooses, and which teacher it sends away."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import math
from collections import Counter
from pathlib import Path

import pytest

from evokd_data.errors import TeacherError
from evokd_data.generation.seed_student import folds_of
from evokd_data.loop.rounds import generate_next, open_run, take_exam, train_next
from evokd_data.progress import Progress
from evokd_data.records import Completion, LabelForm, Prompt
from evokd_data.reporting.exam_words import USEFUL, message
from evokd_data.seeds import load_splits
from evokd_data.stages import exam_forms
from evokd_data.stages.exam import _best_pool, labelling_of
from evokd_data.stages.exam_forms import FormResult, best_form, finalists, first_folds, forms_to_try, prompts_in_all
from evokd_data.stages.exam_verdict import helps, verdict_of
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.teachers.scripted import ScriptedEngine
from tests.support.example_task import TEST
from tests.support.measured_recipe import COLOURS, SEEDS, measured_recipe


@pytest.fixture
def measured(tmp_path):
    """A function: overrides, seeds of a class -> the recipe whose teacher is examined."""
    return functools.partial(measured_recipe, tmp_path)


def asked(journal: Path) -> list[tuple[str, list[str]]]:
    """(key, contents of the messages) of every prompt in a journal."""
    return [(row["key"], [message["content"] for message in row["messages"]]) for row in read_answers(journal)]


def test_a_teacher_that_knows_the_labels_is_useful_and_the_plan_says_how_it_is_asked(measured, tmp_path):
    recipe = measured()
    content = take_exam(recipe, tmp_path, Progress())
    assert (content["verdict"], content["questions"], content["chosen"]["accuracy"]) == ("useful", 15, 1.0)
    assert 0.5 <= content["choice"]["sure"] <= 1 and content["choice"]["second"] != content["chosen"]["form"]
    assert content["chosen"]["per_class"] == {colour: {"n": 5, "right": 5} for colour in COLOURS}
    # 15 of 15 right: Wilson's interval begins at 15 / (15 + 1.96 ** 2).
    assert content["chosen"]["low"] == pytest.approx(15 / (15 + 1.96**2), abs=1e-6)
    train_next(recipe, tmp_path, Progress())
    generate_next(recipe, tmp_path, Progress())
    plan = read_json(Workspace(tmp_path / "colours").round(1).plan)
    assert plan["labelling"]["form"] == content["chosen"]["form"]
    assert plan["labelling"]["scored"] and plan["labelling"]["rule"] == content["rule"]
    assert plan["exam"]["accuracy"] == 1.0 and plan["exam"]["form"] == LabelForm(**content["chosen"]["form"]).name


def test_no_question_shows_its_own_answer_and_each_form_asks_every_seed(measured, tmp_path):
    recipe = measured()
    take_exam(recipe, tmp_path, Progress())
    prompts = asked(Workspace(tmp_path / "colours").round(1).journal)
    forms = forms_to_try(recipe, 15)
    assert len(prompts) == 15 * len(forms) == len({key for key, _ in prompts})
    texts = {text for seeds in SEEDS.values() for text in seeds}
    for _, messages in prompts:
        question = messages[-1].strip()
        assert question in texts
        assert sum(question in message for message in messages) == 1


def test_after_the_first_questions_only_the_best_forms_are_asked_the_others(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(exam_forms, "FIRST_QUESTIONS", 6)
    recipe = measured()
    content = take_exam(recipe, tmp_path, Progress())
    prompts = asked(Workspace(tmp_path / "colours").round(1).journal)
    folds = folds_of(recipe, load_splits(recipe).seeds)
    first = first_folds(folds, 10)
    early = sum(map(len, folds[:first]))
    assert 6 <= early < 15
    assert (
        len(prompts) == len({key for key, _ in prompts}) == 10 * early + 3 * (15 - early) == prompts_in_all(folds, 10)
    )
    of_form = Counter(key.split("/")[1] for key, _ in prompts)
    assert sorted(of_form.values()) == [early] * 7 + [15] * 3
    assert {LabelForm(**form["form"]).name: form["questions"] for form in content["forms"]} == of_form
    whole = [form for form in content["forms"] if form["questions"] == 15]
    assert (
        content["forms"][:3] == whole
        and content["chosen"]["form"] == max(whole, key=lambda form: form["score"])["form"]
    )
    assert content["choice"]["second"] in [form["form"] for form in whole]
    assert content["questions"] == sum(entry["n"] for entry in content["chosen"]["per_class"].values()) == 15


def test_a_useful_teacher_that_is_right_less_often_than_the_student_is_told_with_the_reason():
    chosen = {
        "accuracy": 0.68,
        "low": 0.56,
        "high": 0.79,
        "form": {"answer": "names", "turns": True, "demonstrations": 24},
        "student_weight": 2.0,
    }
    content = {
        "verdict": USEFUL,
        "questions": 60,
        "chosen": chosen,
        "student": {"accuracy": 0.82},
        "pool": {"accuracy": 0.85},
    }
    told = "the teacher labels the seeds with accuracy 0.68 (0.56 to 0.79, 60 seeds), asked by names, turns, 24"
    reason = "; a small student that has learned the other seeds alone is right on 0.82, and both together, whose labels are used, on 0.85"
    assert message(content) == told + reason
    assert message({**content, "student": {"accuracy": 0.6}}) == told
    assert message({**content, "chosen": {**chosen, "student_weight": 0.0}}) == told


def test_forms_without_demonstrations_do_not_fill_the_final():
    results = [
        FormResult(LabelForm("names", turns, shown), (), 0, 0, score)
        for turns, shown, score in (
            (True, 0, -1.0),
            (False, 0, -1.1),
            (False, 1, -3.0),
            (True, 1, -2.0),
            (True, 24, -2.5),
            (False, 24, -1.2),
        )
    ]
    assert finalists(results) == [results[0], results[1], results[5]]
    assert finalists(results[:5]) == [results[0], results[1], results[3]]
    assert finalists(results[:2]) == results[:2]


def test_forms_are_names_and_codes_as_turns_and_in_the_system_message_with_fewer_and_no_demonstrations(measured):
    assert [form.name for form in forms_to_try(measured(), 15)] == [
        "names, turns, 24", "names, system, 24", "names, turns, 3", "names, system, 3", "names, system, 0",
        "codes, turns, 24", "codes, system, 24", "codes, turns, 3", "codes, system, 3", "codes, system, 0",
    ]  # fmt: skip


def test_a_form_that_would_show_the_same_seeds_again_is_not_asked(measured):
    assert [form.name for form in forms_to_try(measured(), 3)] == [
        "names, turns, 24", "names, system, 24", "names, system, 0",
        "codes, turns, 24", "codes, system, 24", "codes, system, 0",
    ]  # fmt: skip


def test_without_demonstrations_is_chosen_only_surely_where_a_class_has_one_seed():
    """The question's own class has no demonstration then, which the form would show when texts are labelled."""
    shown, bare = LabelForm("names", True, 24), LabelForm("names", False, 0)
    truths, uniform = [0, 1, 2, 0], (1 / 3,) * 3

    def result(form: LabelForm, *right: float) -> FormResult:
        rows = [
            tuple(p if k == truth else (1 - p) / 2 for k in range(3)) for p, truth in zip(right, truths, strict=True)
        ]
        return FormResult(form, tuple(rows), 0, 4, sum(map(math.log, right)) / 4)

    with_seeds = result(shown, 0.5, 0.3, 0.4, 0.6)
    slightly, surely = result(bare, 0.9, 0.2, 0.4, 0.7), result(bare, 0.9, 0.8, 0.8, 0.9)
    assert slightly.score > with_seeds.score
    assert best_form([with_seeds, slightly], truths, uniform, alone=False) is slightly
    assert best_form([with_seeds, slightly], truths, uniform, alone=True) is with_seeds
    assert best_form([with_seeds, surely], truths, uniform, alone=True) is surely
    assert best_form([slightly], truths, uniform, alone=True) is slightly  # a template that shows no demonstrations


def test_an_exam_of_single_seeds_says_what_it_could_not_show(measured, tmp_path):
    content = take_exam(measured(per_class=1), tmp_path, Progress())
    assert content["alone"] == 3
    assert "or more often: 3 are alone in a class, whose example the exam could not show" in content["message"]
    assert take_exam(measured("name=more"), tmp_path, Progress())["alone"] == 0


def test_a_student_that_never_saw_a_class_is_not_judged_by_its_only_seed():
    """By the first two questions alone it is better than the teacher, by all of them it would have no say."""
    form, uniform = LabelForm("names", True, 24), (0.5, 0.5)
    truths = [0, 1, 0, 1, 0, 1]
    unsure = [(0.6, 0.4), (0.4, 0.6)] * 3
    best = FormResult(form, tuple(unsure), 6, 6, 0.0)
    student = [(0.9, 0.1), (0.1, 0.9), (0.01, 0.99), (0.99, 0.01), (0.01, 0.99), (0.99, 0.01)]
    assert _best_pool(best, truths, student, uniform, [True] * 6)[0] == 0.0
    assert _best_pool(best, truths, student, uniform, [True] * 2 + [False] * 4)[0] == 2.0
    assert _best_pool(best, truths, student, uniform, [False] * 6)[0] == 1.0


def test_seeds_that_are_no_questions_are_demonstrations_and_the_student_learns_them(measured, tmp_path, monkeypatch):
    """With more classes than questions each class would else have none of its own."""
    monkeypatch.setattr("evokd_data.generation.seed_student.MAX_QUESTIONS", 3)
    recipe = measured()
    content = take_exam(recipe, tmp_path, Progress())
    assert (content["questions"], content["alone"]) == (3, 0)
    for _, messages in asked(Workspace(tmp_path / "colours").round(1).journal):
        shown = " ".join(messages[:-1])
        texts = [text for seeds in SEEDS.values() for text in seeds]
        if any(text in shown for text in texts):
            assert sum(text in shown for text in texts) in (3, 14)  # one of each class, or all but the question
    assert content["student"]["accuracy"] > 1 / 3


def test_a_second_exam_reads_the_first(measured, tmp_path):
    recipe = measured()
    first = take_exam(recipe, tmp_path, Progress())
    size = sum(path.stat().st_size for path in Workspace(tmp_path / "colours").round(1).journal.iterdir())
    assert take_exam(measured("teacher.latency_s=30"), tmp_path, Progress()) == first
    assert sum(path.stat().st_size for path in Workspace(tmp_path / "colours").round(1).journal.iterdir()) == size


def test_a_teacher_that_guesses_stops_the_run_before_a_text_is_asked_for(measured, tmp_path):
    recipe = measured("teacher.wrong_labels=1")
    generate_next(recipe, tmp_path, Progress())
    train_next(recipe, tmp_path, Progress())
    with pytest.raises(TeacherError, match=r"(?s)no better than chance|adds nothing|add nothing") as raised:
        generate_next(recipe, tmp_path, Progress())
    assert "teacher_trust: force" in str(raised.value)
    workspace = Workspace(tmp_path / "colours")
    assert {key.split("/")[0] for key, _ in asked(workspace.round(1).journal)} == {"exam"}
    assert not workspace.round(1).plan.exists()


def test_a_run_that_its_exam_stopped_goes_on_when_it_is_told_to(measured, tmp_path):
    """The same run, with the exam that it took: whether a run stops changes no row."""
    recipe = measured("teacher.wrong_labels=1", "filters.label_confidence=0")
    generate_next(recipe, tmp_path, Progress())
    train_next(recipe, tmp_path, Progress())
    with pytest.raises(TeacherError, match="the run stops: the teacher"):
        generate_next(recipe, tmp_path, Progress())
    taken = read_json(Workspace(tmp_path / "colours").round(1).exam)
    notes: list[str] = []
    progress = Progress()
    progress.note = notes.append
    forced = measured("teacher.wrong_labels=1", "filters.label_confidence=0", "teacher_trust=force")
    generate_next(forced, tmp_path, progress)
    assert Workspace(tmp_path / "colours").round(1).generated.exists()
    begun = read_json(Workspace(tmp_path / "colours").round(1).exam)
    assert {key: value for key, value in begun.items() if key != "first_texts"} == taken
    assert any(note.endswith("the run goes on, because teacher_trust is force") for note in notes)
    assert not any("the run stops" in note for note in notes)


def test_force_goes_on_and_off_takes_no_exam(measured, tmp_path):
    forced = measured("teacher.wrong_labels=1", "teacher_trust=force", "filters.label_confidence=0", "name=forced")
    for _ in range(2):
        generate_next(forced, tmp_path, Progress())
        train_next(forced, tmp_path, Progress())
    assert read_json(Workspace(tmp_path / "forced").round(1).exam)["verdict"] != "useful"
    trusted = measured("teacher.wrong_labels=1", "teacher_trust=off", "name=trusted")
    for _ in range(2):
        generate_next(trusted, tmp_path, Progress())
        train_next(trusted, tmp_path, Progress())
    assert not Workspace(tmp_path / "trusted").round(1).exam.exists()
    assert read_json(Workspace(tmp_path / "trusted").round(1).plan)["exam"] is None


def test_with_very_few_seeds_the_exam_says_that_it_cannot_tell(measured, tmp_path):
    content = take_exam(measured("teacher.wrong_labels=0.4", per_class=2), tmp_path, Progress())
    assert content["questions"] == 6
    if content["verdict"] == "uncertain":
        assert "6 seeds are too few" in content["message"]
    assert content["verdict"] in ("uncertain", "useful"), content["message"]


def test_what_the_recipe_says_of_disagreement_wins_over_the_exam(measured, tmp_path):
    recipe = measured("filters.label_disagreement=relabel")
    content = take_exam(recipe, tmp_path, Progress())
    labelling = labelling_of(recipe, content)
    assert (labelling.rule, labelling.threshold) == ("relabel", 0.0)
    automatic = labelling_of(measured(), content)
    assert (automatic.rule, automatic.threshold) == (content["rule"], 0.5)


def test_an_engine_without_probabilities_is_examined_by_its_answers(measured, tmp_path, monkeypatch):
    complete = ScriptedEngine.complete

    async def without_scores(self, prompt: Prompt) -> Completion:
        return dataclasses.replace(await complete(self, prompt), choice_logprobs=None)

    monkeypatch.setattr(ScriptedEngine, "complete", without_scores)
    content = take_exam(measured(), tmp_path, Progress())
    assert (content["verdict"], content["chosen"]["accuracy"]) == ("useful", 1.0)


def test_the_same_seeds_and_answers_give_the_same_exam(measured, tmp_path):
    first = take_exam(measured("name=first"), tmp_path, Progress())
    second = take_exam(measured("name=second"), tmp_path, Progress())
    assert json.dumps(first) == json.dumps(second)


def test_the_teacher_is_asked_on_the_test_set_after_the_loop_and_no_round_sees_it(measured, tmp_path):
    from evokd_data.generation.scheduler import TeacherOnDemand
    from evokd_data.loop.rounds import run_rounds

    recipe = measured("rounds.count=1", "teacher_test_texts=6")
    with open_run(recipe, tmp_path) as run, asyncio.Runner() as loop:
        teacher = TeacherOnDemand(recipe.teacher, tmp_path / "log")
        run_rounds(loop, run, teacher, Progress())
        loop.run(teacher.__aexit__(None, None, None))
    workspace = Workspace(tmp_path / "colours")
    content = read_json(workspace.teacher_test)
    assert content["n"] == 6 and {content[key]["n"] for key in ("with_seeds", "zero_shots")} == {6}
    questions = {messages[-1].strip() for _, messages in asked(workspace.teacher_test_journal)}
    held_out = {text for texts in TEST.values() for text in texts}
    assert questions <= held_out and len(questions) == 6
    for folder in workspace.rounds():
        for _, messages in asked(folder.journal) if folder.journal.exists() else ():
            assert not any(text in message for message in messages for text in held_out)


def test_a_teacher_that_refuses_a_label_prompt_has_that_answer_wrong(measured, tmp_path, monkeypatch):
    complete = ScriptedEngine.complete

    async def silent_on_one_in_five(self, prompt: Prompt) -> Completion:
        answer = await complete(self, prompt)
        is_silent = prompt.key.startswith("exam/") and "ish3" in prompt.messages[-1].content
        return Completion("I cannot say", "stop", 1, 1) if is_silent else answer

    monkeypatch.setattr(ScriptedEngine, "complete", silent_on_one_in_five)
    content = take_exam(measured(), tmp_path, Progress())
    assert content["chosen"]["accuracy"] == pytest.approx(12 / 15)


@pytest.mark.parametrize(
    ("right", "count", "gain", "student", "verdict"),
    [
        (18, 21, 0.3, 0.81, "useful"),
        (18, 21, -0.02, 0.81, "useful"),  # right more often than the student, whatever the probabilities say
        (17, 21, 0.03, 0.90, "useful"),  # right less often, and both together say more
        (17, 21, 0.01, 0.81, "adds nothing"),
        (4, 21, 0.3, 0.10, "no better than chance"),
        (4, 6, -0.1, 0.90, "uncertain"),  # six seeds show nothing
        (20, 21, 0.01, 1.0, "uncertain"),  # the student is right on every seed: no teacher could be better
        (29, 30, 0.0, 29 / 30, "uncertain"),
        (10, 21, 0.01, 1.0, "adds nothing"),  # far worse than the student: that can be told
    ],
)
def test_a_teacher_is_sent_away_only_when_nothing_speaks_for_it(right, count, gain, student, verdict):
    best = FormResult(LabelForm("names", True, 24), (), right, count, 0.0)
    assert verdict_of(best, 1 / 7, gain, student, both_help=False) == verdict


@pytest.mark.parametrize(
    ("right", "count", "verdict"),
    [(10, 12, "useful"), (9, 12, "uncertain"), (7, 12, "uncertain"), (6, 12, "no better than chance"),
     (1, 2, "uncertain"), (0, 2, "no better than chance"), (17, 30, "no better than chance"), (18, 30, "uncertain")],
)  # fmt: skip
def test_of_two_classes_a_teacher_that_may_be_guessing_or_good_is_not_sent_away(right, count, verdict):
    """9 of 12 do not beat chance (p 0.07), and a teacher that is right on 0.8 of all texts has no more in 44 exams of 100."""
    best = FormResult(LabelForm("names", True, 24), (), right, count, 0.0)
    assert verdict_of(best, 1 / 2, 0.3, 0.5, both_help=False) == verdict


@pytest.mark.parametrize(
    ("gain", "student", "both_help"),
    [(0.0, 10, False), (-0.5, 10, False), (0.1, 10, False), (0.0, 4, False), (0.0, 12, True)],
)
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_teacher_that_is_right_more_often_has_no_worse_verdict(classes, gain, student, both_help):
    ranks = {"no better than chance": 0, "adds nothing": 0, "uncertain": 1, "useful": 2}
    verdicts = [
        verdict_of(
            FormResult(LabelForm("names", True, 24), (), right, 12, 0.0), 1 / classes, gain, student / 12, both_help
        )
        for right in range(13)
    ]
    assert sorted(verdicts, key=ranks.__getitem__) == verdicts, verdicts


def test_of_two_classes_a_teacher_that_may_be_guessing_is_sent_away_where_the_student_is_surely_better():
    best = FormResult(LabelForm("names", True, 24), (), 16, 24, 0.0)
    assert verdict_of(best, 1 / 2, 0.3, 20 / 24, both_help=False) == "uncertain"
    assert verdict_of(best, 1 / 2, 0.3, 1.0, both_help=False) == "no better than chance"


RIGHT, WRONG = (0.9, 0.1), (0.1, 0.9)


@pytest.mark.parametrize(
    ("both_right", "only_together", "only_student", "helped"),
    [
        (46, 5, 1, True),  # 51 of 60 against 47: more than one standard error, as a newcomer's seeds had it
        (46, 3, 2, False),
        (60, 0, 0, False),
        (46, 1, 5, False),
    ],
)
def test_a_teacher_helps_when_both_together_are_right_surely_more_often(
    both_right, only_together, only_student, helped
):
    wrong = 60 - both_right - only_together - only_student
    pooled = [RIGHT] * (both_right + only_together) + [WRONG] * (only_student + wrong)
    student = [RIGHT] * both_right + [WRONG] * only_together + [RIGHT] * only_student + [WRONG] * wrong
    assert helps(pooled, student, [0] * 60) == helped
    best = FormResult(LabelForm("names", True, 24), (), 41, 60, 0.0)
    verdict = verdict_of(best, 1 / 6, 0.01, (both_right + only_student) / 60, helped)
    assert verdict == ("useful" if helped else "adds nothing")
