"""The transformer student: architectures, checkpoints that others read, tokens on disk, micro-batches, broken models."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students import Segment, TrainingData
from evokd_data.students.encoding import ExampleEncoder
from evokd_data.students.transformer import Transformer
from tests.support.student_data import CLASSES, TAGS, tagged, texts
from tests.support.student_training import digests, fit, right
from tests.support.tiny_encoders import ARCHITECTURES, QUICK, SMALL, make_base, make_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tiny_encoder, tmp_path_factory):
    """The checkpoint of a student trained on `texts()`. Tests share it and must not write to it."""
    folder = tmp_path_factory.mktemp("trained") / "a"
    fit(Transformer(str(tiny_encoder), **QUICK), folder, texts())
    return folder


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


def test_a_checkpoint_is_a_pipeline(tiny_encoder, trained):
    from transformers import pipeline

    student = Transformer(str(tiny_encoder), **QUICK)
    classify = pipeline("text-classification", str(trained), device="cpu")
    rows = student.predict(texts(6), trained)
    for example, row in zip(texts(6), rows, strict=True):
        (answer,) = classify([example.text], truncation=True)
        assert answer["label"] == CLASSES[int(row.argmax())]
        assert answer["score"] == pytest.approx(float(row.max()), abs=1e-5)


def test_a_tagging_checkpoint_is_a_pipeline(tiny_encoder, tmp_path):
    from transformers import pipeline

    fit(Transformer(str(tiny_encoder), **QUICK), tmp_path / "a", tagged(), classes=TAGS)
    tag = pipeline("token-classification", str(tmp_path / "a"), aggregation_strategy="first", device="cpu")
    (entity,) = tag("give me your hammer now please")
    assert (entity["entity_group"], entity["start"], entity["end"]) == ("tool", 13, 19)


def test_words_that_share_a_token_or_have_none_are_answered_for(tiny_encoder, tmp_path):
    fit(Transformer(str(tiny_encoder), **QUICK), tmp_path / "a", tagged(), classes=TAGS)
    # "ham" and "mer" lie side by side, so that the tokenizer may see "hammer"; the soft hyphen is no token at all.
    odd = TokenExample(("a", "ham", "mer", "\u00ad"), ((40, 41), (42, 45), (45, 48), (50, 51)), None)
    (rows,) = Transformer(str(tiny_encoder)).predict([odd], tmp_path / "a")
    assert rows.shape == (4, len(TAGS))
    assert rows.argmax(axis=1).tolist() == [0, 3, 3, 0]
    assert rows[3].tolist() == [1, 0, 0, 0]


def test_words_beyond_the_last_position_are_outside(tiny_encoder, tmp_path):
    student = Transformer(str(tiny_encoder), **{**QUICK, "max_length": 8})
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


def test_continued_training_starts_from_the_last_checkpoint(tiny_encoder, tmp_path):
    from safetensors.numpy import load_file

    still = Transformer(str(tiny_encoder), **{**QUICK, "learning_rate": 1e-9, "min_steps": 2}, from_scratch=False)
    first = Transformer(str(tiny_encoder), **QUICK, from_scratch=False)
    assert fit(first, tmp_path / "a", texts())["continued"] is False
    assert fit(still, tmp_path / "b", texts(9), texts(), previous=tmp_path / "a")["continued"] is True
    again = Transformer(str(tiny_encoder), **{**QUICK, "learning_rate": 1e-9, "min_steps": 2})
    assert fit(again, tmp_path / "c", texts(9), texts(), previous=tmp_path / "a")["continued"] is False
    head = [load_file(tmp_path / name / "model.safetensors")["classifier.weight"] for name in "abc"]
    assert head[1] == pytest.approx(head[0], abs=1e-5)
    assert head[2] != pytest.approx(head[0], abs=1e-3)


def test_training_does_not_continue_from_a_checkpoint_of_other_classes(tiny_encoder, tmp_path):
    student = Transformer(str(tiny_encoder), **{**QUICK, "min_steps": 2}, from_scratch=False)
    fit(student, tmp_path / "a", texts(9))
    with pytest.raises(StudentError, match="other classes"):
        fit(student, tmp_path / "b", texts(9), classes=("fruit", "animal", "plant"), previous=tmp_path / "a")


def test_frozen_word_embeddings_do_not_move(tiny_encoder, tmp_path):
    from safetensors.numpy import load_file

    fit(Transformer(str(tiny_encoder), **QUICK, freeze_word_embeddings=True), tmp_path / "a", texts())
    before = load_file(tiny_encoder / "model.safetensors")["embeddings.word_embeddings.weight"]
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


def test_a_classifier_of_other_classes_can_be_the_base(trained, tmp_path):
    two = [SequenceExample("apple", 0), SequenceExample("dog", 1)]
    student = Transformer(str(trained), **QUICK)
    fit(student, tmp_path / "b", two, classes=("yes", "no"))
    assert right(student, tmp_path / "b", two) == 1.0


def test_bfloat16_learns_and_still_saves_float32(tiny_encoder, tmp_path):
    from safetensors.numpy import load_file

    student = Transformer(str(tiny_encoder), **{**QUICK, "precision": "bfloat16"})
    assert fit(student, tmp_path / "a", texts())["precision"] == "bfloat16"
    assert {array.dtype for array in load_file(tmp_path / "a" / "model.safetensors").values()} == {np.dtype(np.float32)}
    assert right(student, tmp_path / "a", texts()) == 1.0


def test_a_loss_that_is_not_finite_says_what_to_lower(tiny_encoder, tmp_path):
    with pytest.raises(StudentError, match=r"not finite after \d+ steps; lower student\.learning_rate"):
        fit(Transformer(str(tiny_encoder), **{**QUICK, "learning_rate": 1e30}), tmp_path / "a", texts())


# Tokens on disk, and micro-batches


def data_in_segments(folder, *parts, key="k"):
    """The indices of the segments that were read so far, and training data of one segment per part."""
    read = []

    def segment(index, part):
        return Segment(f"{key}{index}", lambda: read.append(index) or part)

    earlier = [example for part in parts[:-1] for example in part]
    return read, TrainingData(
        parts[-1], earlier, CLASSES, 1, segments=tuple(map(segment, range(len(parts)), parts)), cache=folder
    )


def test_a_round_is_tokenised_once_and_learned_the_same_from_the_cache(tiny_encoder, tmp_path):
    student = Transformer(str(tiny_encoder), **QUICK)
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
    cut = Transformer(str(tiny_encoder), **{**QUICK, "max_length": 4})
    (tmp_path / "e").mkdir()
    assert cut.fit(data, tmp_path / "e")["truncated"] > 0
    assert read == [0]


def test_tokens_left_half_written_are_not_taken(tiny_encoder, tmp_path):
    def broken():
        yield from texts(2000)
        raise KeyboardInterrupt

    data = TrainingData(texts(), (), CLASSES, 1, segments=(Segment("k", broken),), cache=tmp_path / "cache")
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt):
        Transformer(str(tiny_encoder), **QUICK).fit(data, tmp_path / "a")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("make", [texts, tagged])
def test_padding_changes_no_answer(make, side, tiny_encoder):
    import torch
    from transformers import AutoModelForTokenClassification

    tokenizer = make_tokenizer(padding_side=side)
    model = AutoModelForTokenClassification.from_pretrained(tiny_encoder, num_labels=4).eval()
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


def test_figures_count_tokens_without_padding_of_which_there_is_little(tiny_encoder, tmp_path):
    mixed = [SequenceExample("a " * (1 + index * 7 % 30), 0) for index in range(16 * 40)]
    figures = fit(Transformer(str(tiny_encoder), **{**QUICK, "min_steps": 0}), tmp_path / "a", mixed)
    assert figures["steps"] == 40
    assert figures["tokens"] == sum(3 + index * 7 % 30 for index in range(16 * 40))
    assert 0 < figures["padding"] < 0.1  # in random order it would be above 0.4


def test_a_batch_in_micro_batches_is_the_same_step(tiny_encoder, tmp_path):
    from safetensors.numpy import load_file

    quick = {**QUICK, "learning_rate": 1e-3, "min_steps": 3, "epochs": 0.01}
    mixed = [replace(example, weight=0.5 + index % 3) for index, example in enumerate(tagged(40))]
    losses = []
    for name, parts in [("a", 1), ("b", 3), ("c", 20)]:  # a batch has 16: with 20 parts some are empty
        student = Transformer(str(tiny_encoder), **quick, gradient_accumulation=parts)
        losses.append(fit(student, tmp_path / name, mixed, classes=TAGS)["losses"])
    assert losses[1] == pytest.approx(losses[0], abs=2e-6)
    assert losses[2] == pytest.approx(losses[0], abs=2e-6)
    whole, in_parts = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert max(np.abs(whole[name] - in_parts[name]).max() for name in whole) < 2e-4


def test_a_model_that_brings_code_is_refused_and_its_code_not_run(tiny_encoder, tmp_path):
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "coded"))
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


def test_a_damaged_model_is_a_students_error(tiny_encoder, tmp_path):
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "damaged"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(StudentError, match="cannot be used"):
        fit(Transformer(str(folder), **QUICK), tmp_path / "a", texts(9))
