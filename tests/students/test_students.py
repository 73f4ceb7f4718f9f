"""The contract of every student, then the transformer's details. Models are tiny, random and created here."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sys
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evokd_data.digest import file_digest
from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.registry import resolve
from evokd_data.settings import build
from evokd_data.students import STUDENTS, Segment, TrainingData
from evokd_data.students.batches import BatchSampler, Labels, prediction_batches, target_distributions
from evokd_data.students.encoding import ExampleEncoder
from evokd_data.students.frozen import Frozen
from evokd_data.students.linear import Linear
from evokd_data.students.transformer import Transformer
from tests.support.student_data import CLASSES, TAGS, tagged, texts
from tests.support.tiny_encoders import ARCHITECTURES, QUICK, SMALL, make_base, make_tokenizer


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(params=sorted(STUDENTS))
def student(request, base):
    kind = resolve(STUDENTS, request.param)
    if issubclass(kind, Transformer):
        return kind(model=str(base), **QUICK)
    return kind(model=str(base), c=1000.0, name_weight=0.0) if kind is Frozen else kind()


def fit(student, folder, fresh, earlier=(), classes=CLASSES, seed=1, previous=None):
    folder.mkdir()
    return student.fit(TrainingData(fresh, earlier, classes, seed, previous), folder)


@pytest.fixture(scope="session")
def trained(base, tmp_path_factory):
    """The checkpoint of a student trained on `texts()`. Tests share it and must not write to it."""
    folders = {}

    def folder(student):
        if student.name not in folders:
            folders[student.name] = tmp_path_factory.mktemp("trained") / "a"
            fit(student, folders[student.name], texts())
        return folders[student.name]

    return folder


def right(student, folder, examples):
    """Share of the examples whose most probable class is the target."""
    rows = student.predict(examples, folder)
    return np.mean([row.argmax() == example.target for row, example in zip(rows, examples, strict=True)])


def weights_file(folder):
    (path,) = (path for path in folder.iterdir() if path.suffix in (".npz", ".safetensors"))
    return path


def with_settings(student, **settings):
    """The student with those of the settings that it has."""
    return type(student)(
        **{**vars(student), **{name: value for name, value in settings.items() if name in vars(student)}}
    )


def digests(folder):
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())}


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


# Every student


def test_every_student_learns_texts_it_has_seen_and_names_its_figures(student, tmp_path):
    figures = fit(student, tmp_path / "a", texts()[:20], texts()[20:])
    assert right(student, tmp_path / "a", texts()) == 1.0
    assert (figures["fresh"], figures["earlier"]) == (20, 25)
    assert figures["losses"][-1] < figures["losses"][0] / 2
    assert figures["steps"] > 0
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_every_student_learns_tags_and_predicts_one_row_a_word(student, tmp_path):
    fit(student, tmp_path / "a", tagged(), classes=TAGS)
    probabilities = student.predict(tagged(), tmp_path / "a")
    for row, example in zip(probabilities, tagged(), strict=True):
        assert row.shape == (len(example.words), len(TAGS))
        assert row.dtype == np.float32
        assert row.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert row.argmax(axis=1).tolist() == list(example.targets)


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
    weights = weights_file(tmp_path / "a").name
    draws = not isinstance(student, Frozen)  # a logistic regression has one optimum, whatever the seed
    assert (digests(tmp_path / "a")[weights] != digests(tmp_path / "c")[weights]) is draws


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


def test_a_soft_label_is_learned_as_the_distribution_it_is(student, tmp_path):
    distribution = (0.6, 0.3, 0.1)
    fit(student, tmp_path / "a", texts(9, soft=distribution))
    assert np.mean(list(student.predict(texts(9), tmp_path / "a")), axis=0) == pytest.approx(distribution, abs=0.05)


def test_soft_labels_can_be_left_aside_for_hard_ones(student, tmp_path):
    hard = type(student)(**{**vars(student), "soft_labels": False})
    fit(hard, tmp_path / "a", texts(45, soft=(0.6, 0.3, 0.1)))
    fit(hard, tmp_path / "b", texts(45))
    same = [hard.predict(texts(9), tmp_path / name) for name in "ab"]
    assert np.array_equal(np.stack(list(same[0])), np.stack(list(same[1])))


def test_hard_and_soft_labels_mix_in_one_batch(student, tmp_path):
    mixed = [*texts(30), *texts(45, soft=(0.2, 0.2, 0.6))[30:]]
    fit(student, tmp_path / "a", mixed)
    assert right(student, tmp_path / "a", mixed[:30]) > 0.9


def test_a_sample_of_weight_0_has_no_influence(student, tmp_path):
    wrong = [SequenceExample(example.text, (example.target + 1) % 3, weight=0.0) for example in texts()]
    fit(student, tmp_path / "a", [*texts(), *wrong])
    assert right(student, tmp_path / "a", texts()) == 1.0


def test_the_heavier_of_two_contradicting_samples_wins(student, tmp_path):
    both = [SequenceExample("apple", 0, weight=0.2), SequenceExample("apple", 1, weight=0.8)] * 4
    fit(student, tmp_path / "a", both)
    assert student.predict(both[:1], tmp_path / "a")[0] == pytest.approx([0.2, 0.8, 0], abs=0.1)


@pytest.mark.parametrize("broken", ["missing", "empty", "metadata", "weights", "cut", "other"])
def test_what_is_no_checkpoint_of_this_student_is_refused(student, trained, tmp_path, broken):
    folder = Path(shutil.copytree(trained(student), tmp_path / "a"))
    weights = weights_file(folder)
    if broken == "missing":
        folder = tmp_path / "nowhere"
    elif broken == "empty":
        folder = tmp_path / "empty"
        folder.mkdir()
    elif broken == "metadata":
        (folder / "evokd.json").write_text("{")
    elif broken == "weights":
        weights.unlink()
    elif broken == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        metadata = json.loads((folder / "evokd.json").read_text())
        (folder / "evokd.json").write_text(json.dumps({**metadata, "student": "another"}))
    with pytest.raises(StudentError) as caught:
        student.predict(texts(3), folder)
    assert str(folder) in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("fresh", "message"),
    [([], "no samples"), ([SequenceExample("x", None)], "no label: 'x'")],
)
def test_data_without_samples_or_labels_is_refused(student, tmp_path, fresh, message):
    with pytest.raises(StudentError, match=message):
        fit(student, tmp_path / "a", fresh)


def test_settings_are_checked_and_identity_tells_two_students_apart(student):
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(student).items()}
    rebuilt, problems = build(type(student), given, "student")
    assert problems == []
    assert rebuilt == student
    identity = student.identity()
    json.dumps(identity, allow_nan=False)
    assert student.identity() == identity
    assert with_settings(student, min_steps=61, name_weight=0.5).identity() != identity
    assert "prediction_batch_size" not in identity
    positive = "c" if isinstance(student, Frozen) else "learning_rate"
    _, problems = build(type(student), {**given, positive: 0}, "student")
    assert problems == [f"student.{positive}: 0: input should be greater than 0"]


# The order in which examples are read


def numbered(count, start=0):
    return [SequenceExample("x" * (index % 7), index) for index in range(start, start + count)]


def test_one_pass_reads_every_example_once():
    sampler = BatchSampler(numbered(30), numbered(20, 100), 8, replay=None)
    steps = sampler.steps(1, at_least=0)
    read = [example.target for batch in sampler.batches(steps, seed=1) for example in batch]
    assert steps == 7
    assert sorted(set(read)) == [*range(30), *range(100, 120)]
    assert len(read) == 56


def test_each_batch_holds_the_share_of_earlier_examples_that_replay_says():
    sampler = BatchSampler(numbered(30), numbered(200, 100), 8, replay=0.25)
    batches = list(sampler.batches(sampler.steps(2, at_least=0), seed=1))
    assert len(batches) == 10
    assert {sum(example.target >= 100 for example in batch) for batch in batches} == {2}
    fresh = [example.target for batch in batches for example in batch if example.target < 100]
    assert sorted(fresh) == sorted([*range(30)] * 2)


def test_a_handful_of_examples_is_read_often_enough_and_never_twice_in_a_batch():
    sampler = BatchSampler(numbered(5), [], 16, replay=0.5)
    batches = list(sampler.batches(sampler.steps(3, at_least=40), seed=1))
    assert len(batches) == 40
    assert all(sorted(example.target for example in batch) == [0, 1, 2, 3, 4] for batch in batches)


def test_without_replay_no_earlier_example_is_read():
    sampler = BatchSampler(numbered(30), numbered(200, 100), 8, replay=0)
    assert {example.target for batch in sampler.batches(9, seed=1) for example in batch} == set(range(30))


def test_without_fresh_examples_the_earlier_ones_are_read():
    sampler = BatchSampler([], numbered(5), 2, replay=0.5)
    assert {example.target for batch in sampler.batches(9, seed=1) for example in batch} == set(range(5))


def test_the_order_hangs_on_the_seed_alone():
    orders = [
        [e.target for b in BatchSampler(numbered(50), [], 8, None).batches(9, seed) for e in b] for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_batches_hold_texts_of_like_length():
    mixed = [SequenceExample("x" * (index % 128), 0) for index in range(1024)]
    padded = sum(
        8 * max(len(example.text) for example in batch) for batch in BatchSampler(mixed, [], 8, None).batches(128, 1)
    )
    assert 1 <= padded / sum(len(example.text) for example in mixed) < 1.1


def test_windows_return_every_index_once():
    read = [index for indices, _ in prediction_batches(numbered(100), 3) for index in indices]
    assert sorted(read) == list(range(100))


def test_smoothing_softens_hard_labels_and_leaves_soft_ones():
    rows = target_distributions([Labels((1,)), Labels((), (0.5, 0.5))], 2, smoothing=0.2)
    assert rows == pytest.approx(np.array([[0.1, 0.9], [0.5, 0.5]]))


# Linear


def test_linear_losses_stay_as_they_are(tmp_path):
    figures = fit(Linear(), tmp_path / "a", texts(), seed=5)
    assert figures["losses"] == pytest.approx(LINEAR_LOSSES, abs=2e-6)


LINEAR_LOSSES = [0.561942, 0.232369, 0.154538, 0.117591, 0.095904, 0.081634, 0.071542, 0.064035, 0.058243, 0.053645]


def test_linear_needs_no_torch(tmp_path):
    import subprocess

    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'datasets', 'pyarrow']));"
    program = (
        "from pathlib import Path; from evokd_data.students.linear import Linear; from evokd_data.students import TrainingData;"
        "from evokd_data.records import SequenceExample as E; x = [E('a', 0), E('b', 1)];"
        f"p = Path({str(tmp_path)!r}); Linear().fit(TrainingData(x, [], ('a', 'b'), 1), p); print(Linear().predict(x, p)[1].argmax())"
    )
    done = subprocess.run([sys.executable, "-c", blocked + program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


# Transformer


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # transformers' DeBERTa scripts its activations
@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind != "bert"])
def test_other_encoders_learn_too(kind, tmp_path):
    student = Transformer(str(make_base(tmp_path / "base", kind)), **{**QUICK, "learning_rate": 5e-3, "min_steps": 60})
    fit(student, tmp_path / "a", texts())
    assert right(student, tmp_path / "a", texts()) > 0.9


def test_a_model_whose_tokenizer_does_not_pad_is_given_a_padding_token(tmp_path):
    folder = make_base(
        tmp_path / "base", "gpt2", make_tokenizer(pad_token=None), vocab_size=160, n_embd=32, n_layer=1, n_head=2
    )
    student = Transformer(str(folder), **QUICK)
    fit(student, tmp_path / "a", texts())
    assert right(student, tmp_path / "a", texts()) > 0.9


def test_a_checkpoint_is_a_pipeline(base, trained):
    from transformers import pipeline

    student = Transformer(str(base), **QUICK)
    classify = pipeline("text-classification", str(trained(student)), device="cpu")
    rows = student.predict(texts(6), trained(student))
    for example, row in zip(texts(6), rows, strict=True):
        (answer,) = classify([example.text], truncation=True)
        assert answer["label"] == CLASSES[int(row.argmax())]
        assert answer["score"] == pytest.approx(float(row.max()), abs=1e-5)


def test_a_tagging_checkpoint_is_a_pipeline(base, tmp_path):
    from transformers import pipeline

    fit(Transformer(str(base), **QUICK), tmp_path / "a", tagged(), classes=TAGS)
    tag = pipeline("token-classification", str(tmp_path / "a"), aggregation_strategy="first", device="cpu")
    (entity,) = tag("give me your hammer now please")
    assert (entity["entity_group"], entity["start"], entity["end"]) == ("tool", 13, 19)


def test_words_that_share_a_token_or_have_none_are_answered_for(base, tmp_path):
    fit(Transformer(str(base), **QUICK), tmp_path / "a", tagged(), classes=TAGS)
    # "ham" and "mer" lie side by side, so that the tokenizer may see "hammer"; the soft hyphen is no token at all.
    odd = TokenExample(("a", "ham", "mer", "\u00ad"), ((40, 41), (42, 45), (45, 48), (50, 51)), None)
    (rows,) = Transformer(str(base)).predict([odd], tmp_path / "a")
    assert rows.shape == (4, len(TAGS))
    assert rows.argmax(axis=1).tolist() == [0, 3, 3, 0]
    assert rows[3].tolist() == [1, 0, 0, 0]


def test_words_beyond_the_last_position_are_outside(base, tmp_path):
    student = Transformer(str(base), **{**QUICK, "max_length": 8})
    figures = fit(student, tmp_path / "a", tagged(), classes=TAGS)
    words = tuple(["apple"] * 30)
    long = TokenExample(words, tuple((index * 6, index * 6 + 5) for index in range(30)), None)
    (rows,) = student.predict([long], tmp_path / "a")
    assert figures["max_length"] == 8
    assert rows.shape == (30, len(TAGS))
    assert rows[20:].argmax(axis=1).tolist() == [0] * 10
    assert rows[-1].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("kind", "limit"), [("bert", 12), ("roberta", 11), ("distilbert", 12)])
def test_texts_longer_than_the_models_positions_are_cut(kind, limit, tmp_path):
    folder = make_base(tmp_path / "base", kind, max_position_embeddings=12, pad_token_id=0)
    student = Transformer(str(folder), **{**QUICK, "min_steps": 2})
    long = [SequenceExample("apple " * 60, 0), SequenceExample("dog", 1)]
    figures = fit(student, tmp_path / "a", long)
    assert figures["max_length"] == limit
    assert figures["truncated"] == 0.5
    student.predict(long, tmp_path / "a")


def test_continued_training_starts_from_the_last_checkpoint(base, tmp_path):
    from safetensors.numpy import load_file

    still = Transformer(str(base), **{**QUICK, "learning_rate": 1e-9, "min_steps": 2}, from_scratch=False)
    first = Transformer(str(base), **QUICK, from_scratch=False)
    assert fit(first, tmp_path / "a", texts())["continued"] is False
    assert fit(still, tmp_path / "b", texts(9), texts(), previous=tmp_path / "a")["continued"] is True
    again = Transformer(str(base), **{**QUICK, "learning_rate": 1e-9, "min_steps": 2})
    assert fit(again, tmp_path / "c", texts(9), texts(), previous=tmp_path / "a")["continued"] is False
    head = [load_file(tmp_path / name / "model.safetensors")["classifier.weight"] for name in "abc"]
    assert head[1] == pytest.approx(head[0], abs=1e-5)
    assert head[2] != pytest.approx(head[0], abs=1e-3)


def test_training_does_not_continue_from_a_checkpoint_of_other_classes(base, tmp_path):
    student = Transformer(str(base), **{**QUICK, "min_steps": 2}, from_scratch=False)
    fit(student, tmp_path / "a", texts(9))
    with pytest.raises(StudentError, match="other classes"):
        fit(student, tmp_path / "b", texts(9), classes=("fruit", "animal", "plant"), previous=tmp_path / "a")


def test_frozen_word_embeddings_do_not_move(base, tmp_path):
    from safetensors.numpy import load_file

    fit(Transformer(str(base), **QUICK, freeze_word_embeddings=True), tmp_path / "a", texts())
    before = load_file(base / "model.safetensors")["embeddings.word_embeddings.weight"]
    after = load_file(tmp_path / "a" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert np.array_equal(before, after)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_only_embeddings_of_tokens_in_the_data_are_trained_and_they_learn_the_same(kind, tmp_path, monkeypatch):
    from safetensors.numpy import load_file

    folder = make_base(tmp_path / "base", kind)
    student = Transformer(str(folder), **{**QUICK, "learning_rate": 1e-3, "weight_decay": 0.0})
    figures = fit(student, tmp_path / "a", texts(15))
    monkeypatch.setattr("evokd_data.students.transformer.trimmed_embeddings", lambda model, tokens: nullcontext())
    whole = fit(student, tmp_path / "b", texts(15))
    assert figures["losses"] == pytest.approx(whole["losses"], abs=1e-5)
    trimmed, untrimmed = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert trimmed.keys() == untrimmed.keys()
    assert max(np.abs(trimmed[name] - untrimmed[name]).max() for name in trimmed) < 1e-4
    (name,) = (name for name in trimmed if trimmed[name].shape[0] == SMALL["vocab_size"])
    (before,) = (
        array for array in load_file(folder / "model.safetensors").values() if array.shape == trimmed[name].shape
    )
    moved = np.abs(trimmed[name] - before).max(axis=1) > 0
    occurring = {token for example in texts(15) for token in make_tokenizer()(example.text)["input_ids"]}
    assert set(np.flatnonzero(moved)) == occurring


def test_embeddings_shared_with_another_part_of_a_model_are_left_whole():
    import torch

    from evokd_data.students.vocabulary import trimmed_embeddings

    class Shared(torch.nn.Module):
        def __init__(self, output):
            super().__init__()
            self.words, self.output = torch.nn.Embedding(9, 4), output
            if output is not None:
                output.weight = self.words.weight

        def get_input_embeddings(self):
            return self.words

    for model, rows in [(Shared(torch.nn.Linear(4, 9)), 9), (Shared(None), 2)]:
        with trimmed_embeddings(model, np.array([2, 5])):
            assert len(model.words.weight) == rows
        assert len(model.words.weight) == 9


def test_a_classifier_of_other_classes_can_be_the_base(base, trained, tmp_path):
    two = [SequenceExample("apple", 0), SequenceExample("dog", 1)]
    student = Transformer(str(trained(Transformer(str(base), **QUICK))), **QUICK)
    fit(student, tmp_path / "b", two, classes=("yes", "no"))
    assert right(student, tmp_path / "b", two) == 1.0


def test_bfloat16_learns_and_still_saves_float32(base, tmp_path):
    from safetensors.numpy import load_file

    student = Transformer(str(base), **{**QUICK, "precision": "bfloat16"})
    assert fit(student, tmp_path / "a", texts())["precision"] == "bfloat16"
    assert {array.dtype for array in load_file(tmp_path / "a" / "model.safetensors").values()} == {np.dtype(np.float32)}
    assert right(student, tmp_path / "a", texts()) == 1.0


def test_a_loss_that_is_not_finite_says_what_to_lower(base, tmp_path):
    with pytest.raises(StudentError, match=r"not finite after \d+ steps; lower student\.learning_rate"):
        fit(Transformer(str(base), **{**QUICK, "learning_rate": 1e30}), tmp_path / "a", texts())


# Tokens on disk, and micro-batches


def data_in_segments(folder, *parts, key="k"):
    """The indices of the segments that were read so far, and training data of one segment per part."""
    read = []

    def segment(index, part):
        return Segment(f"{key}{index}", lambda: read.append(index) or part)

    earlier = [example for part in parts[:-1] for example in part]
    return read, TrainingData(
        parts[-1], earlier, CLASSES, 1, None, tuple(map(segment, range(len(parts)), parts)), folder
    )


def test_a_round_is_tokenised_once_and_learned_the_same_from_the_cache(base, tmp_path):
    student = Transformer(str(base), **QUICK)
    cache = tmp_path / "cache"
    for name, parts, expected in [("a", 2, [0, 1]), ("b", 2, []), ("c", 3, [2])]:
        read, data = data_in_segments(cache, *(texts()[15 * part :][:15] for part in range(parts)))
        (tmp_path / name).mkdir()
        student.fit(data, tmp_path / name)
        assert read == expected
    assert digests(tmp_path / "a") == digests(tmp_path / "b") != digests(tmp_path / "c")
    fit(student, tmp_path / "d", texts()[30:], texts()[:30])
    assert digests(tmp_path / "d") == digests(tmp_path / "c")
    read, data = data_in_segments(cache, texts())
    cut = Transformer(str(base), **{**QUICK, "max_length": 4})
    (tmp_path / "e").mkdir()
    assert cut.fit(data, tmp_path / "e")["truncated"] > 0
    assert read == [0]


def test_tokens_left_half_written_are_not_taken(base, tmp_path):
    def broken():
        yield from texts(2000)
        raise KeyboardInterrupt

    data = TrainingData(texts(), (), CLASSES, 1, None, (Segment("k", broken),), tmp_path / "cache")
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt):
        Transformer(str(base), **QUICK).fit(data, tmp_path / "a")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("make", [texts, tagged])
def test_padding_changes_no_answer(make, side, base):
    import torch
    from transformers import AutoModelForTokenClassification

    tokenizer = make_tokenizer(padding_side=side)
    model = AutoModelForTokenClassification.from_pretrained(base, num_labels=4).eval()
    encoder = ExampleEncoder(tokenizer, model, 64)
    examples = make(30)
    encoded = encoder.encode(examples)
    inputs, outputs = encoder.pad(encoded)
    expected = tokenizer([" ".join(e.words) if make is tagged else e.text for e in examples], padding=True)
    assert inputs["input_ids"].tolist() == expected["input_ids"]
    assert inputs["attention_mask"].tolist() == expected["attention_mask"]
    if make is tagged:
        first = [inputs["input_ids"][row, token] for row, token in zip(outputs.batch, outputs.token, strict=True)]
        words = [word for example in examples for word in example.words]
        pieces = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
        assert torch.stack(first).tolist() == pieces


def test_figures_count_tokens_without_padding_of_which_there_is_little(base, tmp_path):
    mixed = [SequenceExample("a " * (1 + index * 7 % 30), 0) for index in range(16 * 40)]
    figures = fit(Transformer(str(base), **{**QUICK, "min_steps": 0}), tmp_path / "a", mixed)
    assert figures["steps"] == 40
    assert figures["tokens"] == sum(3 + index * 7 % 30 for index in range(16 * 40))
    assert 0 < figures["padding"] < 0.1  # in random order it would be above 0.4


def test_a_batch_in_micro_batches_is_the_same_step(base, tmp_path):
    from safetensors.numpy import load_file

    quick = {**QUICK, "learning_rate": 1e-3, "min_steps": 3, "epochs": 0.01}
    mixed = [replace(example, weight=0.5 + index % 3) for index, example in enumerate(tagged(40))]
    losses = []
    for name, parts in [("a", 1), ("b", 3), ("c", 20)]:  # a batch has 16: with 20 parts some are empty
        student = Transformer(str(base), **quick, gradient_accumulation=parts)
        losses.append(fit(student, tmp_path / name, mixed, classes=TAGS)["losses"])
    assert losses[1] == pytest.approx(losses[0], abs=2e-6)
    assert losses[2] == pytest.approx(losses[0], abs=2e-6)
    whole, in_parts = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert max(np.abs(whole[name] - in_parts[name]).max() for name in whole) < 2e-4


def test_a_model_that_brings_code_is_refused_and_its_code_not_run(base, tmp_path):
    folder = Path(shutil.copytree(base, tmp_path / "coded"))
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "mine",
                "auto_map": {
                    "AutoConfig": "mine.Config",
                    "AutoModelForSequenceClassification": "mine.Model",
                },
            }
        )
    )
    (folder / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(StudentError, match="its own code, which is never run"):
        fit(Transformer(str(folder), **QUICK), tmp_path / "a", texts(9))


def test_a_damaged_model_is_a_students_error(base, tmp_path):
    folder = Path(shutil.copytree(base, tmp_path / "damaged"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(StudentError, match="cannot be used"):
        fit(Transformer(str(folder), **QUICK), tmp_path / "a", texts(9))
