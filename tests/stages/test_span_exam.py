"""The exam of a teacher that marks spans: the form of its answers, and what the probabilities of its spans are worth."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from evokd_data.cli.console import exam_tables
from evokd_data.generation.seed_student import baseline_student, cross_fitted, folds_of
from evokd_data.loop.rounds import generate_next, take_exam, train_next
from evokd_data.progress import Progress
from evokd_data.records import Completion, LabelForm, Labelling, Origin, Prompt, Sample, Span
from evokd_data.seeds import load_splits
from evokd_data.stages import exam_forms
from evokd_data.stages.exam import labelling_of
from evokd_data.stages.exam_forms import FormResult, finalists, forms_to_try, prompts_in_all
from evokd_data.stages.exam_verdict import verdict_on_spans
from evokd_data.stages.span_exam import answers_of, calibration, micro_f1
from evokd_data.storage.journal import read_answers
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies.span_trust import calibrated
from evokd_data.teachers.scripted import ScriptedEngine
from tests.support.example_tagging_task import measured_places

FORM = LabelForm("grammar", turns=False, demonstrations=24)


@pytest.fixture
def recipe(tmp_path):
    """A function: overrides -> the recipe."""
    return partial(measured_places, tmp_path)


def silent_under_grammars(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = ScriptedEngine.complete

    async def answer(self: ScriptedEngine, prompt: Prompt) -> Completion:
        completion = await complete(self, prompt)
        is_marking = prompt.constraint is not None and prompt.constraint.grammar is not None
        return dataclasses.replace(completion, text="I cannot say") if is_marking else completion

    monkeypatch.setattr(ScriptedEngine, "complete", answer)


def test_grammar_enum_and_json_are_tried_as_far_as_the_engine_can_be_held_to_them(recipe):
    assert [form.name for form in forms_to_try(recipe(), 12)] == [
        f"{answer}, {layout}, {count}" for answer in ("grammar", "enum", "json") for count in (24, 2) for layout in ("turns", "system")
    ]  # fmt: skip
    openai = "teacher={engine: server, model: m, urls: ['http://127.0.0.1:9/v1'], dialect: openai}"
    assert {form.answer for form in forms_to_try(recipe(openai), 12)} == {"enum", "json"}
    assert labelling_of(recipe(openai), None).form.answer == "enum"
    assert [form.name for form in forms_to_try(recipe("task.labelling=json"), 12)] == [
        "json, turns, 24", "json, system, 24", "json, turns, 2", "json, system, 2", "json, system, 0",
    ]  # fmt: skip


def test_the_form_with_the_best_micro_f1_labels_the_texts(recipe, tmp_path, monkeypatch):
    assert take_exam(recipe("name=marks"), tmp_path, Progress())["chosen"]["form"]["answer"] == "grammar"
    silent_under_grammars(monkeypatch)
    listed = recipe()
    for _ in range(2):
        generate_next(listed, tmp_path, Progress())
        train_next(listed, tmp_path, Progress())
    folder = Workspace(tmp_path / "places").round(1)
    content = read_json(folder.exam)
    assert content["chosen"]["form"]["answer"] == "enum"
    assert {form["form"]["answer"]: form["accuracy"] > 0 for form in content["forms"]} == {
        "grammar": False, "enum": True, "json": True,
    }  # fmt: skip
    labels = [answer["text"] for answer in read_answers(folder.journal) if answer["key"].startswith("label/")]
    assert labels and all("entities" in json.loads(text) for text in labels)


def test_demonstrations_of_spans_can_be_turns_of_the_chat(recipe, tmp_path):
    take_exam(recipe(), tmp_path, Progress())
    answers = read_answers(Workspace(tmp_path / "places").round(1).journal)
    asked = {answer["key"].split("/")[1]: answer["messages"] for answer in answers}
    turns, system = asked["grammar, turns, 24"], asked["grammar, system, 24"]
    assert [message["role"] for message in turns[:4]] == ["system", "user", "assistant", "user"]
    shown = {turn["content"]: answer["content"] for turn, answer in pairwise(turns[1:]) if turn["role"] == "user"}
    assert len(shown) >= 6 and shown["Ada went by train to Oslo"] == "[person: Ada] went by train to [place: Oslo]"
    assert [message["role"] for message in system] == ["system", "user"] and "-> [person: " in system[0]["content"]
    assert turns[-1] == system[-1]


def test_after_the_first_questions_the_best_forms_of_spans_alone_are_asked(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(exam_forms, "FIRST_QUESTIONS", 3)
    content = take_exam(recipe(), tmp_path, Progress())
    asked = [form["questions"] for form in content["forms"]]
    early = min(asked)
    assert 3 <= early < 9 and asked == [9] * 3 + [early] * 9
    assert content["questions"] == 9
    prompts = [answer["key"] for answer in read_answers(Workspace(tmp_path / "places").round(1).journal)]
    folds = folds_of(recipe(), load_splits(recipe()).seeds)
    assert len(prompts) == len(set(prompts)) == 12 * early + 3 * (9 - early) == prompts_in_all(folds, 12)
    assert content["chosen"]["score"] == max(form["score"] for form in content["forms"][:3])


def test_where_no_first_answer_is_right_each_way_of_answering_stays_in_the_final():
    results = [
        FormResult(LabelForm(answer, turns, shown), (), 0, 20, score=0.0)
        for answer in ("grammar", "enum", "json") for shown in (24, 2) for turns in (True, False)
    ]  # fmt: skip
    assert [result.form.name for result in finalists(results)] == [
        "grammar, turns, 24",
        "enum, turns, 24",
        "json, turns, 24",
    ]
    better = [*results[:5], replace(results[5], score=0.1), *results[6:]]
    assert [result.form.name for result in finalists(better)] == [
        "grammar, turns, 24",
        "enum, turns, 24",
        "enum, system, 24",
    ]


def test_a_round_keeps_the_probability_of_each_span_and_asks_twice_for_uncertain_ones(recipe, tmp_path):
    measured = recipe("filters.label_confidence=0")
    for _ in range(2):
        generate_next(measured, tmp_path, Progress())
        train_next(measured, tmp_path, Progress())
    folder = Workspace(tmp_path / "places").round(1)
    labelling = read_json(folder.plan)["labelling"]
    content = read_json(folder.exam)["chosen"]
    assert (labelling["doubt"], labelling["prior"]) == (content["doubt"], content["prior"]) and labelling["doubt"] > 0
    samples = list(ShardedSamples(measured.task, folder.shard_files()))
    assert samples and all(sample.soft is not None and len(sample.soft) == len(sample.target) for sample in samples)
    keys = [answer["key"] for answer in read_answers(folder.journal) if answer["key"].startswith("label/")]
    again = [key for key in keys if key.endswith("/000001")]
    assert 0 < len(again) < len(keys) - len(again)


def test_without_probabilities_nothing_is_doubted(recipe, tmp_path, monkeypatch):
    complete = ScriptedEngine.complete

    async def without_scores(self: ScriptedEngine, prompt: Prompt) -> Completion:
        return dataclasses.replace(await complete(self, prompt), choice_logprobs=None)

    monkeypatch.setattr(ScriptedEngine, "complete", without_scores)
    content = take_exam(recipe(), tmp_path, Progress())
    labelling = labelling_of(recipe(), content)
    assert (labelling.scored, labelling.doubt, labelling.prior, labelling.temperature) == (False, 0.0, (), 1.0)


def test_a_plan_of_before_spans_had_probabilities_is_read_and_written_as_it_was(recipe, tmp_path):
    off = recipe("teacher_trust=off")
    for _ in range(2):
        generate_next(off, tmp_path, Progress())
        train_next(off, tmp_path, Progress())
    plan = read_json(Workspace(tmp_path / "places").round(1).plan)
    assert "doubt" not in plan["labelling"]


def test_probabilities_of_a_teacher_that_is_surer_than_right_come_down():
    readings = [(number % 2 == 0, 0.95 if number % 10 else 0.6) for number in range(200)]
    fitted = calibration(FORM, readings)
    labelling = Labelling(FORM, prior=tuple(fitted["prior"]), temperature=fitted["temperature"])
    assert calibrated(0.95, labelling) == pytest.approx(90 / 180, abs=0.1), "half of them were right"
    assert fitted["doubt"] == pytest.approx(calibrated(0.95, labelling), abs=1e-3), "a tenth lies below"
    assert calibration(FORM, []) == {"prior": [], "temperature": 1.0, "doubt": 0.0}


def test_the_teacher_stands_beside_the_student_that_learned_the_other_seeds(recipe, tmp_path, capsys):
    measured = recipe()
    content = take_exam(measured, tmp_path, Progress())
    answers = answers_of(measured.task, *_cross_fitted(measured))
    assert len(answers) == content["questions"] and content["student"]["accuracy"] == pytest.approx(micro_f1(answers))
    assert content["student"]["low"] < content["student"]["accuracy"] and content["verdict"] == "useful"
    exam_tables(content, measured.filters)
    printed = capsys.readouterr().out
    assert "score: micro-F1 over the spans" in printed and "log-probability" not in printed
    assert "seeds-only student" in printed and "both together" not in printed


def _cross_fitted(recipe):
    seeds = load_splits(recipe).seeds
    folds = folds_of(recipe, seeds)
    return folds, cross_fitted(recipe, baseline_student(recipe), folds, seeds)


@pytest.mark.parametrize(
    ("worse", "equal", "better", "verdict"),
    [
        (0, 12, 0, "useful"),
        (6, 3, 3, "useful"),
        (3, 3, 6, "useful"),
        (9, 2, 1, "adds nothing"),  # sign test: 11 of 1,024
        (5, 7, 0, "adds nothing"),  # 1 of 32
        (4, 8, 0, "useful"),  # 1 of 16
    ],
)
def test_a_teacher_is_sent_away_where_the_student_marks_surely_more_texts_better(worse, equal, better, verdict):
    shares = [0.5] * (worse + equal + better)
    student = [0.75] * worse + [0.5] * equal + [0.0] * better
    best = FormResult(FORM, (), 6.0, len(shares), 0.5, shares=tuple(shares))
    assert verdict_on_spans(best, student) == verdict


def test_few_seeds_send_no_teacher_away_that_marks_a_span_right():
    best = FormResult(FORM, (), 1.0, 6, 0.2, shares=(0.2,) * 6)
    assert verdict_on_spans(best, [1.0] * 6) == "useful"
    assert verdict_on_spans(replace(best, right=0.0), [1.0] * 6) == "uncertain"


def test_a_teacher_that_marks_nothing_right_is_no_better_than_chance():
    assert (
        verdict_on_spans(FormResult(FORM, (), 0.0, 12, 0.0, shares=(0.0,) * 12), [0.0] * 12) == "no better than chance"
    )


def test_micro_f1_counts_whole_spans_over_all_answers():
    city, hour = Span(0, 4, "city", "Bath"), Span(5, 9, "time", "noon")
    first, second, none = (Sample(key, "Bath noon", spans, Origin(0, -1, 0, "seed")) for key, spans in
                           (("a", (city, hour)), ("b", (city,)), ("c", ())))  # fmt: skip
    wrong_type = replace(hour, type="city")
    assert micro_f1([(first, (city, wrong_type)), (second, (city,)), (none, (hour,))]) == pytest.approx(2 * 2 / (3 + 4))
    assert micro_f1([(none, ())]) == 0.0


def test_a_span_with_a_line_break_in_it_is_right_where_a_student_marks_it():
    """A student marks words, and writes a blank between them whatever the text has there."""
    span = Span(0, 8, "city", "New\nYork")
    assert (
        micro_f1([(Sample("a", "New\nYork", (span,), Origin(0, -1, 0, "seed")), (replace(span, surface="New York"),))])
        == 1.0
    )
