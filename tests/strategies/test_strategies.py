"""What strategies share: dividing budgets, reading answers, labelling; and EvoKD's plan."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import RecipeError
from evokd_data.generation.filters import REASONS
from evokd_data.records import Completion, Constraint, GenerationRequest, LabelForm, Prompt, Quota, Weakness
from evokd_data.strategies.demonstrations import (
    MAX_WHEN_LABELLING,
    draw_demonstrations,
    draw_turns,
    labelling_demonstrations,
)
from evokd_data.strategies.labelling import LABEL_CODES, answer_forms, can_be_scored, label_codes
from evokd_data.strategies.quotas import RequestPlan, divide, stratified_quotas
from evokd_data.strategies.writing import read_texts
from evokd_data.tasks.classification import Classification
from evokd_data.templates import Templates
from tests.support.example_tagging_task import TAGGING, TEXTS, tagged_sample
from tests.support.example_task import SEEDS, TASK, brief, labelling, sample
from tests.support.written_drafts import RecordingTeacher, build_strategy, plan, write

WEAKNESSES = (
    Weakness("confused", "red", "blue", 5, 9, (sample("a red sea"),), (sample("a blue sea", "blue"),), 0.5),
    Weakness("confused", "green", "red", 2, 9, (sample("red grass", "green"),), rate=0.2),
)
# Dividing a budget


@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 50).map(float) | st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=30),
    st.integers(0, 40),
)
def test_a_budget_is_divided_whole_and_each_gets_its_share_to_within_one(budget, weights, turn):
    shares = divide(budget, weights, turn)
    total = sum(map(Fraction, weights))
    if not total:
        assert shares == [0] * len(weights)
        return
    assert sum(shares) == budget
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - budget * Fraction(weight) / total) <= 1 + Fraction(1, 10**6)
        assert share == 0 or weight > 0


@given(st.integers(1, 20), st.integers(0, 60))
def test_over_as_many_rounds_as_classes_everybody_is_served_alike(classes, budget):
    served = [
        sum(column) for column in zip(*(divide(budget, [1.0] * classes, turn) for turn in range(classes)), strict=True)
    ]
    assert served == [budget] * classes


@given(st.integers(1, 8), st.integers(0, 200), st.floats(0, 1), st.integers(0, 9))
def test_a_stratified_plan_serves_every_class_alike_and_easy_by_its_share(classes, budget, easy, turn):
    labels = [f"class {i}" for i in range(classes)]
    quotas = stratified_quotas(labels, budget, easy, turn)
    assert sum(quota.samples for quota in quotas) == budget
    by_label = [sum(quota.samples for quota in quotas if quota.target == label) for label in labels]
    assert max(by_label) - min(by_label) <= 1
    for label, samples in zip(labels, by_label, strict=True):
        simple = sum(quota.samples for quota in quotas if quota.target == label and quota.difficulty == "easy")
        assert abs(simple - samples * easy) <= 1


@given(st.lists(st.integers(1, 30), max_size=8), st.integers(1, 12))
def test_requests_are_numbered_in_the_order_of_the_plan_and_sum_to_it(sizes, per_request):
    quotas = [Quota(f"class {i}", size) for i, size in enumerate(sizes)]
    planned = RequestPlan([quotas], per_request, 5, 2)
    assert [request.index for request in planned] == list(range(len(planned)))
    assert all(1 <= request.count <= per_request for request in planned)
    for quota in quotas:
        assert sum(r.count for r in planned if r.quota is quota) == quota.samples
    assert [r.quota for r in planned] == sorted((r.quota for r in planned), key=quotas.index)
    assert len({r.seed for r in planned}) == len(planned)


# Reading answers

hostile_text = st.text(max_size=60) | st.text('[]{}",:\\ \nabtexu0d8"', max_size=60).map(lambda s: '{"texts": [' + s)


@given(hostile_text, st.sampled_from(["stop", "length", "too_long", "abort"]), st.integers(1, 5))
def test_reading_texts_never_fails_and_never_gives_more_than_were_asked_for(text, finish, count):
    texts, problem = read_texts(Completion(text, finish, 0, 0), count)
    assert len(texts) <= count
    assert all(isinstance(t, str) and t == " ".join(t.split()) for t in texts)
    assert problem in REASONS if len(texts) < count else problem == ""


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5), st.data())
def test_an_answer_cut_anywhere_gives_the_texts_that_are_whole(written, data):
    whole = orjson.dumps({"texts": written}).decode()
    cut = data.draw(st.integers(0, len(whole)))
    texts, _ = read_texts(Completion(whole[:cut], "length", 0, 0), len(written))
    expected = [" ".join(text.split()) for text in written]
    assert texts == expected[: len(texts)]
    encoded = [len(orjson.dumps(written[: n + 1]).decode()) - 1 for n in range(len(written))]
    assert len(texts) == sum(len('{"texts": [') - 2 + size <= cut for size in encoded)


@pytest.mark.parametrize(
    ("text", "texts", "problem"),
    [
        ('Sure! {"texts": ["a b", "c"]} I hope "this" helps', ["a b", "c"], "unreadable"),
        ('{"texts": ["a", {"text": "b"}, "c"', ["a"], "unreadable"),
        ('{"texts": ["a\\\nb", "c"]', [], "unreadable"),
        ('{"texts": ["a", "b"', ["a", "b"], "unreadable"),
        ('{"texts": ["a\\u00e9", "b\\ud800"]}', ["aé"], "unreadable"),
        ('["a"]', ["a"], "unreadable"),
    ],
)
def test_only_whole_strings_at_the_beginning_of_the_list_are_texts(text, texts, problem):
    assert read_texts(Completion(text, "stop", 0, 0), 5) == (texts, problem)


def test_an_answer_that_never_closes_its_string_is_read_in_linear_time():
    text = '{"texts": ["' + '\\"' * 200_000
    assert read_texts(Completion(text, "length", 0, 0), 5) == ([], "truncated")


# Labelling


@pytest.mark.parametrize("answer", ["names", "codes"])
def test_each_vote_asks_for_probabilities_and_their_mean_is_the_soft_label(answer):
    teacher = RecordingTeacher()
    form = LabelForm(answer, turns=True, demonstrations=6)
    round_brief = brief(soft_labels=True, labelling=labelling(form=form, scored=True, votes=3), budget=6)
    strategy = build_strategy("static", {})
    drafts = write(strategy, round_brief, teacher, plan(strategy, round_brief))
    asked = [prompt for prompt in teacher if prompt.template == "label"]
    assert len(asked) == 3 * 6 and {prompt.sampling.temperature for prompt in asked} == {0.0}
    choices = TASK.labels if answer == "names" else tuple("ABC")
    assert {prompt.constraint for prompt in asked} == {Constraint(choices=choices, score=True)}
    for draft in (draft for of_request in drafts.values() for draft in of_request):
        assert TASK.classes[max(range(3), key=draft.soft.__getitem__)] == draft.target
        assert sum(draft.soft) == pytest.approx(1, abs=1e-3)


def test_votes_see_the_same_demonstrations_in_another_order():
    teacher = RecordingTeacher()
    strategy, round_brief = build_strategy("static", {}), brief(labelling=labelling(votes=4), budget=1)
    write(strategy, round_brief, teacher, plan(strategy, round_brief))
    shown = [
        [row["text"] for row in prompt.variables["demonstrations"]] for prompt in teacher if prompt.template == "label"
    ]
    assert len({tuple(texts) for texts in shown}) == 4 and len({frozenset(texts) for texts in shown}) == 1


@pytest.mark.parametrize(
    ("votes", "problem", "target"),
    [(["red", "red", "blue"], "", "red"), (["red", "blue", "blue"], "label_disagreement", None),
     (["red", "blue"], "label_tie", None), (["red", "mauve", "red"], "label_not_allowed", None)],
)  # fmt: skip
def test_the_mean_of_votes_decides(votes, problem, target):
    """The text was asked for as red. Without probabilities each vote stands for those of a teacher that is right at 0.8."""
    drafts = label_one_text(lambda prompt: Completion(votes[int(prompt.key[-6:])], "stop", 1, 1), votes=len(votes))
    assert (drafts.problem, drafts.target) == (problem, target)


def label_one_text(label, soft_labels=False, **changes):
    """The draft of a text that was asked for as red, when `label` answers the labelling prompts."""

    async def ask(prompt: Prompt) -> Completion:
        return Completion('{"texts": ["a text"]}', "stop", 1, 1) if prompt.template == "generate" else label(prompt)

    strategy = build_strategy("static", {})
    round_brief = brief(labelling=labelling(**changes), soft_labels=soft_labels, budget=1)
    (draft,) = write(strategy, round_brief, ask, [GenerationRequest(0, Quota("red", 1), 1, 5)])[0]
    return draft


@pytest.mark.parametrize(
    ("rule", "threshold", "problem", "target"),
    [("reject", 0.0, "label_disagreement", None), ("relabel", 0.0, "", "blue"), ("intended", 0.0, "", "red"),
     ("relabel", 0.6, "", "blue"), ("relabel", 0.8, "label_uncertain", None), ("intended", 0.6, "label_uncertain", None)],
)  # fmt: skip
def test_the_rule_says_what_becomes_of_a_text_with_another_label(rule, threshold, problem, target):
    """The teacher says blue with probability 0.7, red with 0.2, to a text that was asked for as red."""
    scores = {"red": math.log(0.2), "green": math.log(0.1), "blue": math.log(0.7)}
    draft = label_one_text(
        lambda prompt: Completion("blue", "stop", 1, 1, scores), scored=True, rule=rule, threshold=threshold
    )
    assert (draft.problem, draft.target) == (problem, target)
    assert draft.detail == ("asked for red, labelled blue (0.70)" if problem else "")


def test_the_student_that_knows_the_seeds_can_overrule_the_teacher():
    """Pooled: red 0.4 * 0.7 ** 2 = 0.196, blue 0.6 * 0.2 ** 2 = 0.024, green nearly 0."""
    teacher = {"red": math.log(0.4), "green": math.log(1e-4), "blue": math.log(0.6)}
    student = {"red": math.log(0.7), "green": math.log(0.1), "blue": math.log(0.2)}

    def label(prompt: Prompt) -> Completion:
        return Completion("blue", "stop", 1, 1, student if prompt.template == "student" else teacher)

    draft = label_one_text(label, soft_labels=True, scored=True, student_weight=2.0)
    assert (draft.target, draft.soft) == ("red", pytest.approx((0.891, 0.0, 0.109), abs=1e-3))
    assert label_one_text(label, scored=True).problem == "label_disagreement"


@pytest.mark.parametrize("classes", [2, len(LABEL_CODES), len(LABEL_CODES) + 1, 300])
def test_any_number_of_classes_is_answered_by_name_and_as_many_as_there_are_codes_by_code(classes):
    task = Classification(labels=tuple(f"class {i}" for i in range(classes)))
    assert can_be_scored(task)
    forms = answer_forms(task, Templates("classification"))
    assert forms == (("names", "codes") if classes <= len(LABEL_CODES) else ("names",))
    if "codes" in forms:
        assert len(set(label_codes(task.classes).values())) == classes


def test_seeds_are_shown_when_labelling_evenly_over_classes_and_generated_texts_never():
    many_seeds = {label: [sample(f"{label} seed {i}", label) for i in range(20)] for label in TASK.labels}
    with_later = {
        label: [*seeds, sample(f"{label} later", label, round=1, request=3)] for label, seeds in many_seeds.items()
    }
    shown = labelling_demonstrations(brief(demonstrations=with_later))
    assert len(shown) == MAX_WHEN_LABELLING
    assert [s["target"] for s in shown[:6]] == ["red", "green", "blue"] * 2
    few_seeds = {"red": many_seeds["red"][:1], "green": many_seeds["green"][:3], "blue": many_seeds["blue"][:1]}
    shown = labelling_demonstrations(brief(demonstrations=few_seeds))
    assert [s["target"] for s in shown] == ["red", "green", "blue", "green", "green"]


@given(st.integers(0, 20), st.integers(0, 2**40))
def test_demonstrations_are_of_the_target_begin_with_a_seed_and_never_repeat(count, seed):
    round_brief = brief()
    later_samples = [sample(f"green text {i}", "green", round=1, request=i) for i in range(10)]
    round_brief = brief(
        demonstrations={**round_brief.demonstrations, "green": [*round_brief.demonstrations["green"], *later_samples]}
    )
    shown = draw_demonstrations(round_brief, GenerationRequest(0, Quota("green", 5), 5, seed), count)
    texts = [s["text"] for s in shown]
    assert len(texts) == len(set(texts)) <= count and {s["target"] for s in shown} <= {"green"}
    assert not count or texts[0] in SEEDS["green"]


@given(st.integers(1, 6), st.integers(0, 2**40), st.integers(0, 3))
def test_a_text_with_spans_of_several_types_is_one_turn_and_stands_where_it_is_followed_most(count, seed, position):
    seeds = [tagged_sample(text, entities) for text, entities in TEXTS]  # each has a place and a person
    copies = [replace(seed, text=f"{seed.text} ", id=f"copy{i}") for i, seed in enumerate(seeds)]
    tagging = brief(task=TAGGING, demonstrations={label: [*seeds, *copies] for label in TAGGING.labels})
    request = GenerationRequest(0, Quota("place", 5), 5, seed)
    texts = [turn["text"].strip() for turn in draw_turns(tagging, request, position, count, 3)]
    assert len(texts) == len(set(texts)) <= count + 1
    assert texts[-1] in {seed.text for seed in seeds}
    shown = [turn["text"].strip() for turn in labelling_demonstrations(tagging)]
    assert len(shown) == len(set(shown)) == len(seeds)


def turns_of(quota, **changes):
    request = GenerationRequest(0, quota, 1, 5)
    return [
        [(turn["target"], turn["text"]) for turn in draw_turns(brief(**changes), request, position, 3, 3)]
        for position in range(9)
    ]


def test_turns_show_seeds_of_the_nearest_labels_then_of_the_label_itself():
    for turns in turns_of(Quota("red", 1), neighbours={"red": ["blue"]}):
        assert [target for target, _ in turns][:2] == ["blue", "red"] and {target for target, _ in turns} == {
            "blue",
            "red",
        }
    assert {target for turns in turns_of(Quota("red", 1)) for target, _ in turns} == {"red", "green", "blue"}


def test_turns_show_no_text_that_the_teacher_wrote():
    seeds = brief().demonstrations
    later = [sample(f"red text {i}", "red", round=1, request=i) for i in range(20)]
    shown = {text for turns in turns_of(Quota("red", 1), demonstrations={**seeds, "red": [*seeds["red"], *later]})
             for target, text in turns if target == "red"}  # fmt: skip
    assert shown == set(SEEDS["red"])


def test_turns_against_a_label_show_three_of_its_seeds_and_three_of_the_label_s_own():
    for turns in turns_of(Quota("red", 1, contrast="green"), neighbours={"red": ["blue", "green"]}):
        assert [target for target, _ in turns[:3]] == ["green"] * 3 and {target for target, _ in turns[3:]} == {"red"}
        assert {text for _, text in turns[:3]} == set(SEEDS["green"])


# EvoKD's plan


def test_evokd_writes_a_share_against_the_nearest_labels_where_it_is_told_to():
    near = {"red": ["blue", "green"], "green": ["red"], "blue": ["red"]}
    quotas = build_strategy("evokd", {"contrast": 0.5}).allot(brief(budget=60, neighbours=near))
    by_pair = {(q.target, q.contrast): 0 for q in quotas}
    for quota in quotas:
        by_pair[quota.target, quota.contrast] += quota.samples
    assert by_pair == {
        ("red", ""): 10, ("red", "blue"): 4, ("red", "green"): 6, ("green", ""): 10, ("green", "red"): 10,
        ("blue", ""): 10, ("blue", "red"): 10,
    }  # fmt: skip
    assert not any(quota.contrast for quota in build_strategy("evokd", {}).allot(brief(budget=60, neighbours=near)))


def test_evokd_targets_weaknesses_from_round_two_on_both_sides_and_no_more_than_its_share():
    strategy = build_strategy("evokd", {})
    assert not any(quota.weakness for quota in strategy.allot(brief(round=1, weaknesses=WEAKNESSES)))
    quotas = strategy.allot(brief(round=2, weaknesses=WEAKNESSES, budget=100))
    targeted = [quota for quota in quotas if quota.weakness]
    assert sum(quota.samples for quota in targeted) == 30
    assert {(quota.target, quota.contrast) for quota in targeted} == {
        ("red", "blue"), ("blue", "red"), ("green", "red"), ("red", "green")
    }  # fmt: skip
    assert all(quota.difficulty == "hard" for quota in targeted)


@given(st.integers(0, 200), st.floats(0, 1), st.lists(st.floats(0.01, 1), min_size=2, max_size=2), st.integers(2, 9))
def test_evokd_gives_every_label_as_many_texts_whatever_it_aims_at(budget, share, rates, turn):
    weaknesses = tuple(replace(weakness, rate=rate) for weakness, rate in zip(WEAKNESSES, rates, strict=True))
    strategy = build_strategy("evokd", {"targeted": share})
    quotas = strategy.allot(brief(round=turn, weaknesses=weaknesses, budget=budget))
    of_label = {label: [quota for quota in quotas if quota.target == label] for label in brief().task.labels}
    totals = [sum(quota.samples for quota in own) for own in of_label.values()]
    assert sum(totals) == budget and max(totals) - min(totals) <= 1
    for own, total in zip(of_label.values(), totals, strict=True):
        assert sum(quota.samples for quota in own if quota.weakness) <= round(total * share)


def test_evokd_divides_a_labels_targeted_texts_by_how_often_each_mistake_is_made():
    weaknesses = (replace(WEAKNESSES[0], rate=0.3), replace(WEAKNESSES[1], rate=0.1))
    quotas = build_strategy("evokd", {"targeted": 0.4}).allot(brief(round=3, weaknesses=weaknesses, budget=60))
    assert {(q.target, q.contrast): q.samples for q in quotas if q.weakness} == {
        ("red", "blue"): 6, ("red", "green"): 2, ("green", "red"): 8, ("blue", "red"): 8,
    }  # fmt: skip


def test_evokd_aims_at_no_weakness_whose_texts_have_doubtful_labels():
    doubted = replace(WEAKNESSES[0], rate=0.0)
    quotas = build_strategy("evokd", {}).allot(brief(round=2, weaknesses=(doubted, WEAKNESSES[1]), budget=100))
    assert {quota.weakness for quota in quotas} == {"", "confused:green>red"}


def test_evokd_asks_for_one_analysis_a_weakness_and_hands_its_advice_on():
    teacher = RecordingTeacher()
    strategy, round_brief = build_strategy("evokd", {}), brief(round=2, weaknesses=WEAKNESSES, budget=60)
    write(strategy, round_brief, teacher, plan(strategy, round_brief))
    analyses = [prompt.key for prompt in teacher if prompt.template == "analyse"]
    assert sorted(analyses) == ["analyse/confused:green>red", "analyse/confused:red>blue"]
    for prompt in teacher:
        if prompt.template == "generate":
            assert bool(prompt.variables["advice"]) == bool(prompt.variables["contrast"])


def test_evokd_without_what_was_right_shows_only_mistakes():
    for correct in (True, False):
        teacher = RecordingTeacher()
        strategy, round_brief = build_strategy("evokd", {"correct": correct}), brief(round=2, weaknesses=WEAKNESSES)
        write(strategy, round_brief, teacher, plan(strategy, round_brief))
        shown = [prompt.messages[-1].content for prompt in teacher if prompt.template == "analyse"]
        assert any("a blue sea" in text for text in shown) is correct
        assert any("a red sea" in text for text in shown)


def test_eda_with_synonyms_exchanges_and_inserts_words_of_one_group(tmp_path):
    async def no_teacher(prompt):
        raise AssertionError("EDA asks no teacher")

    synonyms_file = tmp_path / "synonyms.txt"
    synonyms_file.write_text("table desk\nrose tulip peony\n", encoding="utf-8")
    round_brief = brief(
        budget=200, demonstrations={**brief().demonstrations, "red": [sample("the rose on the table is red")]}
    )
    strategy = build_strategy("eda", {"synonyms": str(synonyms_file)})
    seed = ["the", "rose", "on", "the", "table", "is", "red"]
    texts = {draft.text for drafts in write(strategy, round_brief, no_teacher, plan(strategy, round_brief)).values() for draft in drafts
             if draft.target == "red"}  # fmt: skip
    exchanged = {
        tuple(text.split()) for text in texts if len(text.split()) == len(seed) and set(text.split()) != set(seed)
    }
    assert exchanged
    for words_of_text in exchanged:
        (old,), (new,) = set(seed) - set(words_of_text), set(words_of_text) - set(seed)
        assert new in {"table": {"desk"}, "rose": {"tulip", "peony"}}[old]
    inserted = [text.split() for text in texts if len(text.split()) == len(seed) + 1]
    assert inserted and all(set(words_of_text) - set(seed) <= {"desk", "tulip", "peony"} for words_of_text in inserted)


def test_what_a_file_holds_is_part_of_the_fingerprint_and_not_where_it_lies(recipe_file, tmp_path):
    from evokd_data.recipe import load

    for name, text in (("a.txt", "big large"), ("b.txt", "big large"), ("c.txt", "big huge")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    first, moved, changed = (
        load(recipe_file(), [f"strategy={{name: eda, synonyms: {name}}}"]).fingerprint
        for name in ("a.txt", "b.txt", "c.txt")
    )
    assert first == moved != changed
    with pytest.raises(RecipeError, match=r"strategy\.synonyms: 'd\.txt' is not a file"):
        load(recipe_file(), ["strategy={name: eda, synonyms: d.txt}"])


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(1, 5))
def test_planned_requests_are_the_same_from_whichever_end_they_are_read(samples, per_request):
    quotas = [Quota("red", count) for count in samples]
    planned = RequestPlan([quotas], per_request, 5, 2)
    assert [request.index for request in planned] == list(range(len(planned)))
    assert sum(request.count for request in planned) == sum(samples)
    assert [planned[-1 - index] for index in range(len(planned))] == list(planned)[::-1]
    assert planned[1:] == list(planned)[1:]
    with pytest.raises(IndexError):
        planned[len(planned)]
