"""The contrastive student: its loss by hand, which texts a batch holds, and what the tuning of the encoder is good for."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from evokd_data.errors import StudentError
from evokd_data.recipe import load
from evokd_data.records import SequenceExample
from evokd_data.storage.workspace import read_json
from evokd_data.students.contrastive import Contrastive, _Drawn, contrastive_loss
from evokd_data.students.frozen import Frozen
from evokd_data.students.lora import Lora
from evokd_data.students.transformer import Transformer
from tests.support.example_task import play
from tests.support.student_data import TAGS, tagged, texts
from tests.support.student_training import fit, right

pytestmark = pytest.mark.slow


def test_the_loss_is_that_of_the_paper_averaged_over_classes():
    """Three rows at right angles but for two equal ones; temperature 1. Of the pair's rows each has e / (e + 1 + 1); the class of the
    lone row does not count."""
    import torch

    vectors = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    loss = contrastive_loss(vectors, torch.tensor([0, 0, 1, 2]), 1.0)
    assert float(loss) == pytest.approx(-math.log(math.e / (math.e + 2)), abs=1e-6)
    assert float(contrastive_loss(vectors, torch.tensor([0, 1, 2, 3]), 1.0)) == 0.0
    wide = torch.tensor([[1.0, 0], [1.0, 0], [1.0, 0], [0, 1.0], [0, 1.0]])
    targets = torch.tensor([0, 0, 0, 1, 1])
    of_three, of_two = -math.log(math.e / (2 * math.e + 2)), -math.log(math.e / (math.e + 3))
    assert float(contrastive_loss(wide, targets, 1.0)) == pytest.approx((of_three + of_two) / 2, abs=1e-6)


def test_a_batch_holds_all_classes_alike_and_the_heavier_texts_more_often():
    student = Contrastive("none", batch_size=12)
    many = _Drawn(np.arange(100), np.cumsum([1.0] * 90 + [10.0] * 10))
    few = _Drawn(np.array([100, 101]), np.cumsum([1.0, 1.0]))
    batches = list(student._batches({0: many, 1: few}, seed=3, steps=500))
    assert len(batches) == 500
    assert all(len(batch) == 12 and sum(row >= 100 for row in batch) == 6 for batch in batches)
    assert all(len({row for row in batch if row < 100}) == 6 for batch in batches)  # none twice while there are others
    drawn = Counter(row for batch in batches for row in batch if row < 100)
    heavy, light = sum(drawn[row] for row in range(90, 100)) / 10, sum(drawn[row] for row in range(90)) / 90
    assert 4 < heavy / light < 10  # ten times as often, less what is not drawn twice
    assert (
        batches
        == list(student._batches({0: many, 1: few}, seed=3, steps=500))
        != list(student._batches({0: many, 1: few}, seed=4, steps=500))
    )


def test_of_more_classes_than_half_a_batch_each_chosen_one_has_two_texts():
    student = Contrastive("none", batch_size=6)
    by_class = {label: _Drawn(np.array([2 * label, 2 * label + 1]), np.array([1.0, 2.0])) for label in range(20)}
    seen = set()
    for batch in student._batches(by_class, seed=0, steps=50):
        counts = Counter(row // 2 for row in batch)
        assert len(counts) == 3 and set(counts.values()) == {2}
        seen |= set(counts)
    assert seen == set(range(20))


def test_the_encoder_is_tuned_and_the_head_learns_what_it_makes_of_texts(tiny_encoder, tmp_path):
    from safetensors.numpy import load_file

    student = Contrastive(str(tiny_encoder), steps=40, learning_rate=1e-2, name_weight=0.0)
    figures = fit(student, tmp_path / "a", texts(45))
    first, *_, last = figures["contrastive_losses"]
    assert last < first and figures["steps"] == 40 and figures["head_steps"] > 0
    before, after = load_file(tiny_encoder / "model.safetensors"), load_file(tmp_path / "a" / "model.safetensors")
    assert any(
        not np.array_equal(before[f"bert.{name}"] if f"bert.{name}" in before else before[name], after[name])
        for name in after
    )
    weak = Frozen(str(tiny_encoder), c=0.1, name_weight=0.0)
    tuned = Contrastive(str(tiny_encoder), c=0.1, steps=40, learning_rate=1e-2, name_weight=0.0)
    fit(weak, tmp_path / "frozen", texts(45))
    fit(tuned, tmp_path / "tuned", texts(45))
    # A head that may hardly learn anything tells apart what the encoder has already told apart.
    assert right(tuned, tmp_path / "tuned", texts()) > right(weak, tmp_path / "frozen", texts())


def test_one_text_a_class_is_enough_and_a_single_class_is_no_contrast(tiny_encoder, tmp_path):
    student = Contrastive(str(tiny_encoder), steps=10, learning_rate=1e-2)
    figures = fit(
        student, tmp_path / "a", [SequenceExample("apple", 0), SequenceExample("cat", 1), SequenceExample("hammer", 2)]
    )
    assert figures["contrastive_losses"][0] > 0
    figures = fit(
        Contrastive(str(tiny_encoder), steps=10, name_weight=0.0), tmp_path / "b", texts(9, soft=(1.0, 0.0, 0.0))
    )
    assert figures["steps"] == 1 and figures["contrastive_losses"] == [0.0]


def test_words_of_a_sentence_are_told_apart(tiny_encoder, tmp_path):
    student = Contrastive(str(tiny_encoder), steps=30, learning_rate=1e-2, name_weight=0.0)
    figures = fit(student, tmp_path / "a", tagged(), classes=TAGS)
    assert figures["contrastive_losses"][-1] < figures["contrastive_losses"][0]


def test_a_loss_that_is_not_finite_is_refused(tiny_encoder, tmp_path):
    with pytest.raises(StudentError, match=r"loss is not finite after 10 steps; lower student\.learning_rate"):
        fit(Contrastive(str(tiny_encoder), steps=10, learning_rate=1e30), tmp_path / "a", texts(9))


def test_it_is_the_student_of_few_samples_and_frozen_embeddings_are_trained_quickly():
    for student in (Transformer("org/m", "r"), Frozen("org/m", "r"), Contrastive("org/m", "r")):
        assert student.few_shot() == Contrastive("org/m", "r")
        assert student.quick() == Frozen("org/m", "r")
    assert Lora("org/m").few_shot() == Frozen("org/m")  # a decoder is not tuned whole


def test_tags_are_tuned_on_more_batches_than_texts(tiny_encoder, tmp_path):
    student = Contrastive(str(tiny_encoder), name_weight=0.0)
    assert fit(student, tmp_path / "texts", texts(9))["steps"] == 40
    assert fit(student, tmp_path / "tags", tagged(), classes=TAGS)["steps"] == 100


def test_round_0_and_the_seeds_only_student_are_one_where_they_are_of_one_kind(recipe_file, tiny_encoder, tmp_path):
    """Else the chance of two trainings would stand in the table as a difference between them."""
    student = f"{{kind: contrastive, model: {tiny_encoder}, steps: 5, learning_rate: 0.01}}"
    recipe = load(recipe_file(**{"{kind: linear}": student}))
    workspace = play(recipe, tmp_path / "runs", 1)
    metrics = read_json(workspace.round(0).metrics)
    assert metrics["seeds_only"]["kind"] == "contrastive"
    assert {key: metrics["seeds_only"][key] for key in metrics["test"]} == metrics["test"]
    round_0, alone = workspace.round(0).student, workspace.seed_student
    assert (round_0 / "model.safetensors").read_bytes() == (alone / "model.safetensors").read_bytes()
