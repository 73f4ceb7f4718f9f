"""What every student promises (`students.Student`). Pretrained models are tiny, random and made here."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from evokd_data.errors import StudentError
from evokd_data.models import ModelReference
from evokd_data.records import SequenceExample
from evokd_data.registry import resolve
from evokd_data.settings import build
from evokd_data.students import STUDENTS
from evokd_data.students.frozen import Frozen
from evokd_data.students.static import Static
from tests.support.student_data import TAGS, tagged, texts
from tests.support.student_training import digests, fit, right, weights_file
from tests.support.tiny_encoders import QUICK

HEAD = {"c": 1000.0, "name_weight": 0.0}
TUNED = {"learning_rate": 1e-2, "steps": 30, "c": 1000.0, "name_weight": 0.0}
PRETRAINED = {
    "contrastive": TUNED,
    "transformer": QUICK,
    "reweighted": QUICK,
    "frozen": HEAD,
    "static": HEAD,
    "lora": QUICK,
    "gliclass": {},
}
BASES = {"static": "tiny_static", "lora": "tiny_decoder", "gliclass": "tiny_gliclass"}
"""The base model of a student, where it is no encoder."""
"""Students that start from a pretrained model, and settings with which they learn a few texts by heart."""
NO_NETWORKS = {"linear", "reweighted-linear", "gliclass"}
REGRESSIONS = (Frozen, Static)
"""Students whose training is a logistic regression on fixed features."""
BOUNDS = {
    "frozen": ("c", "greater than 0"),
    "static": ("c", "greater than 0"),
    "gliclass": ("max_length", "greater than or equal to 4"),
}
"""A setting that cannot be 0, and what it must be; the learning rate where nothing is said."""
CLASSES_OF = {name: resolve(STUDENTS, name) for name in sorted(STUDENTS)}


def kinds(which=lambda cls: True):
    """The students that a test is about, by their capabilities, as parameters of the fixture `student`."""
    return [
        pytest.param(name, marks=[] if name == "linear" else [pytest.mark.slow])
        for name, cls in CLASSES_OF.items()
        if which(cls)
    ]


def only(which):
    return pytest.mark.parametrize("student", kinds(which), indirect=True)


learners = only(lambda cls: cls.learns)
baselines = only(lambda cls: not cls.learns)
taggers = only(lambda cls: not cls.refuses_words)
"""Students that tag words; all of them learn."""
no_taggers = only(lambda cls: cls.refuses_words)


@pytest.fixture(params=kinds())
def student(request):
    name = request.param
    if name not in PRETRAINED:
        return resolve(STUDENTS, name)()
    base = request.getfixturevalue(BASES.get(name, "tiny_encoder"))
    return resolve(STUDENTS, name)(model=str(base), **PRETRAINED[name])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The checkpoint of a student trained on `texts()`. Tests share it and must not write to it."""
    folders: dict[str, Path] = {}

    def folder(student) -> Path:
        if student.name not in folders:
            folders[student.name] = tmp_path_factory.mktemp("trained") / "a"
            fit(student, folders[student.name], texts())
        return folders[student.name]

    return folder


class WeaklyReferable(SequenceExample):
    """An example whose deletion can be observed."""

    __slots__ = ("__weakref__",)


class CreatedOnDemand(Sequence):
    """Examples that are created when they are read. Fails when more than 3,000 of them are in memory."""

    def __init__(self, make, count):
        self.make, self.count, self.reads, self.alive = make, count, 0, weakref.WeakValueDictionary()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError
        example = self.alive[self.reads] = WeaklyReferable(*self.make(int(index)))
        self.reads += 1
        assert len(self.alive) < 3_000, "keeps data that do not fit into memory"
        return example


def with_settings(student, **settings):
    """The student with those of the settings that it has."""
    return type(student)(
        **{**vars(student), **{name: value for name, value in settings.items() if name in vars(student)}}
    )


def test_its_capabilities_are_declared(student):
    assert STUDENTS[student.name].endswith(f":{type(student).__name__}")
    assert (student.base_model is None) == (student.name not in PRETRAINED)
    if student.base_model is not None:
        assert student.base_model == ModelReference(student.model, None)
    assert student.learns_soft_labels is getattr(student, "soft_labels", False)
    assert with_settings(student, soft_labels=False).learns_soft_labels is False
    assert student.learns or not (student.learns_soft_labels or student.continues or student.tunes_base)
    assert isinstance(student.continues, bool)
    assert not student.lacks()  # the machine that runs the tests has every library
    for other in (student.few_shot(), student.quick()):
        assert other.learns
        assert not student.learns or other.base_model == student.base_model


@learners
def test_every_student_that_learns_knows_texts_it_has_seen_and_names_its_figures(student, tmp_path):
    figures = fit(student, tmp_path / "a", texts()[:20], texts()[20:])
    assert right(student, tmp_path / "a", texts()) == 1.0
    assert (figures["fresh"], figures["earlier"]) == (20, 25)
    assert figures["losses"][-1] < figures["losses"][0] / 2
    assert figures["steps"] > 0
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


@taggers
def test_every_student_that_tags_learns_tags_and_predicts_one_row_a_word(student, tmp_path):
    fit(student, tmp_path / "a", tagged(), classes=TAGS)
    probabilities = student.predict(tagged(), tmp_path / "a")
    for row, example in zip(probabilities, tagged(), strict=True):
        assert row.shape == (len(example.words), len(TAGS))
        assert row.dtype == np.float32
        assert row.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert row.argmax(axis=1).tolist() == list(example.targets)


@baselines
def test_a_student_that_does_not_learn_is_the_same_whatever_it_is_given(student, tmp_path):
    figures = fit(student, tmp_path / "a", texts()[:20], texts()[20:], seed=1)
    wrong = [SequenceExample(example.text, (example.target + 1) % 3) for example in texts(9)]
    fit(student, tmp_path / "b", wrong, seed=2, previous=tmp_path / "a")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert (figures["fresh"], figures["earlier"], figures["steps"]) == (20, 25, 0) and figures["seconds"] >= 0
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


@no_taggers
def test_a_student_that_cannot_tag_says_what_to_take(student, tmp_path):
    with pytest.raises(StudentError, match=r"tags no words .*; take student\.kind: "):
        fit(student, tmp_path / "a", tagged(), classes=TAGS)


def test_predictions_are_distributions_in_the_order_of_the_examples(student, trained):
    mixed = random.Random(3).sample(texts(75), 75)
    together = student.predict(mixed, trained(student))
    assert len(together) == 75
    for index in (0, 33, 74):
        alone = student.predict([mixed[index]], trained(student))[0]
        assert together[index].dtype == np.float32
        assert together[index].sum() == pytest.approx(1, abs=1e-5)
        assert together[index] == pytest.approx(alone, abs=1e-5)
    assert len(student.predict([], trained(student))) == 0


def test_a_predictor_gives_in_pieces_what_predict_gives_at_once(student, trained):
    in_pieces(student, trained(student), texts(75))


@taggers
def test_a_predictor_tags_in_pieces_what_predict_tags_at_once(student, tmp_path):
    fit(student, tmp_path / "a", tagged(20), classes=TAGS)
    in_pieces(student, tmp_path / "a", tagged(20))


def in_pieces(student, folder, examples):
    predict = student.predictor(folder)
    pieces = [row for start in (0, 1, 8) for row in predict(examples[start : {0: 1, 1: 8, 8: None}[start]])]
    for piece, row in zip(pieces, student.predict(examples, folder), strict=True):
        assert piece == pytest.approx(row, abs=1e-5)
    assert len(predict([])) == 0


def test_a_student_is_a_network_or_says_why_it_is_none(student, trained):
    if student.name in NO_NETWORKS:
        with pytest.raises(StudentError, match=r"cannot be exported: its .*evokd-data predict"):
            student.network(trained(student))
        return
    network = student.network(trained(student))
    assert (network.classes, network.words) == (("fruit", "animal", "tool"), False)
    assert not network.module.training


def test_a_checkpoint_that_keeps_its_base_is_used_without_it(student, trained, tmp_path):
    if student.base_model is None:
        assert not student.keeps_base and not student.tunes_base
        return
    elsewhere = type(student)(**{**vars(student), "model": str(tmp_path / "gone")})
    if student.keeps_base:
        expected = student.predict(texts(3), trained(student))
        assert np.array_equal(elsewhere.predict(texts(3), trained(student)), expected)
    else:
        with pytest.raises(StudentError, match="gone"):
            elsewhere.predict(texts(3), trained(student))


def test_predicting_needs_no_target(student, trained):
    blind = [SequenceExample(example.text, None) for example in texts(3)]
    expected = student.predict(texts(3), trained(student))
    assert np.array_equal(np.stack(list(student.predict(blind, trained(student)))), np.stack(list(expected)))


def test_the_same_data_and_seed_give_the_same_files_to_the_bit(student, tmp_path):
    fit(student, tmp_path / "a", texts(75), seed=7)
    random.random()
    np.random.random()
    fit(student, tmp_path / "b", texts(75), seed=7)
    fit(student, tmp_path / "c", texts(75), seed=8)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    if not student.learns:
        return
    weights = weights_file(tmp_path / "a").name
    draws = not isinstance(student, REGRESSIONS)  # a logistic regression has one optimum, whatever the seed
    assert (digests(tmp_path / "a")[weights] != digests(tmp_path / "c")[weights]) is draws


@pytest.mark.slow
def test_training_and_predicting_leave_the_process_as_it_was(student, tmp_path):
    import torch
    import transformers.utils.logging as chatter

    def state():
        return (
            random.getstate(),
            repr(np.random.get_state()),
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.get_float32_matmul_precision(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            dict(os.environ),
            os.getcwd(),  # noqa: PTH109
            chatter.get_verbosity(),
            chatter.is_progress_bar_enabled(),
            logging.getLogger().handlers[:],
            logging.getLogger("transformers").level,
        )

    before = state()
    fit(student, tmp_path / "a", texts(9))
    student.predict(texts(9), tmp_path / "a")
    assert state() == before


def test_a_student_is_silent_but_for_one_line_of_log(student, tmp_path, capfd, caplog, recwarn):
    with caplog.at_level(logging.INFO):
        fit(student, tmp_path / "a", texts(9))
        student.predict(texts(9), tmp_path / "a")
    out, err = capfd.readouterr()
    assert out == ""
    assert "\r" not in err
    assert [str(warning.message) for warning in recwarn] == []
    assert [record.name.partition(".")[0] for record in caplog.records] == ["evokd_data"]
    assert "student: " in caplog.text


def test_data_larger_than_memory_is_read_once_or_as_it_is_needed(student, tmp_path):
    pairs = [(example.text, example.target) for example in texts(75)]
    fresh, earlier = (CreatedOnDemand(lambda index: pairs[index % 75], 5_000) for _ in range(2))
    quick = with_settings(student, epochs=0.001, min_steps=10)
    fit(quick, tmp_path / "a", fresh, earlier)
    assert 0 < fresh.reads + earlier.reads <= 10_000 + 3  # and a few to see whether they are texts


@learners
def test_a_soft_label_is_learned_as_the_distribution_it_is(student, tmp_path):
    distribution = (0.6, 0.3, 0.1)
    fit(student, tmp_path / "a", texts(9, soft=distribution))
    assert np.mean(list(student.predict(texts(9), tmp_path / "a")), axis=0) == pytest.approx(distribution, abs=0.05)


@learners
def test_soft_labels_can_be_left_aside_for_hard_ones(student, tmp_path):
    hard = type(student)(**{**vars(student), "soft_labels": False})
    fit(hard, tmp_path / "a", texts(45, soft=(0.6, 0.3, 0.1)))
    fit(hard, tmp_path / "b", texts(45))
    same = [hard.predict(texts(9), tmp_path / name) for name in "ab"]
    assert np.array_equal(np.stack(list(same[0])), np.stack(list(same[1])))


@learners
def test_hard_and_soft_labels_mix_in_one_batch(student, tmp_path):
    mixed = [*texts(30), *texts(45, soft=(0.2, 0.2, 0.6))[30:]]
    fit(student, tmp_path / "a", mixed)
    assert right(student, tmp_path / "a", mixed[:30]) > 0.9


@learners
def test_a_sample_of_weight_0_has_no_influence(student, tmp_path):
    wrong = [SequenceExample(example.text, (example.target + 1) % 3, weight=0.0) for example in texts()]
    fit(student, tmp_path / "a", [*texts(), *wrong])
    assert right(student, tmp_path / "a", texts()) == 1.0


@learners
def test_the_heavier_of_two_contradicting_samples_wins(student, tmp_path):
    both = [SequenceExample("apple", 0, weight=0.2), SequenceExample("apple", 1, weight=0.8)] * 4
    fit(student, tmp_path / "a", both)
    assert student.predict(both[:1], tmp_path / "a")[0] == pytest.approx([0.2, 0.8, 0], abs=0.1)


@pytest.mark.parametrize("broken", ["missing", "empty", "metadata", "other"])
def test_what_is_no_checkpoint_of_this_student_is_refused(student, trained, tmp_path, broken):
    folder = Path(shutil.copytree(trained(student), tmp_path / "a"))
    if broken == "missing":
        folder = tmp_path / "nowhere"
    elif broken == "empty":
        folder = tmp_path / "empty"
        folder.mkdir()
    elif broken == "metadata":
        (folder / "evokd.json").write_text("{")
    else:
        metadata = json.loads((folder / "evokd.json").read_text())
        (folder / "evokd.json").write_text(json.dumps({**metadata, "student": "another"}))
    refuses(student, folder)


@learners
@pytest.mark.parametrize("broken", ["weights", "cut"])
def test_damaged_weights_are_refused(student, trained, tmp_path, broken):
    folder = Path(shutil.copytree(trained(student), tmp_path / "a"))
    weights = weights_file(folder)
    if broken == "weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-100])
    refuses(student, folder)


def refuses(student, folder):
    with pytest.raises(StudentError) as caught:
        student.predict(texts(3), folder)
    assert str(folder) in str(caught.value)
    assert "; " in str(caught.value)


def test_data_without_samples_are_refused(student, tmp_path):
    with pytest.raises(StudentError, match="no samples"):
        fit(student, tmp_path / "a", [])


@learners
def test_data_without_labels_are_refused(student, tmp_path):
    with pytest.raises(StudentError, match="no label: 'x'"):
        fit(student, tmp_path / "a", [SequenceExample("x", None)])


def test_settings_are_checked_and_identity_tells_two_students_apart(student):
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(student).items()}
    rebuilt, problems = build(type(student), given, "student")
    assert problems == []
    assert rebuilt == student
    identity = student.identity()
    json.dumps(identity, allow_nan=False)
    assert student.identity() == identity
    other = {"min_steps": 61, "name_weight": 0.5, "max_length": 61}
    assert with_settings(student, **other).identity() != identity
    assert "prediction_batch_size" not in identity
    bounded, bound = BOUNDS.get(student.name, ("learning_rate", "greater than 0"))
    _, problems = build(type(student), {**given, bounded: 0}, "student")
    assert problems == [f"student.{bounded}: 0: input should be {bound}"]
