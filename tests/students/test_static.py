"""The static student: what model2vec reads of it, whole texts, other formats of a base model, and what it says of a wrong one."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from evokd_data.errors import StudentError
from evokd_data.loop.checks import check
from evokd_data.loop.doctor import examine
from evokd_data.recipe import load
from evokd_data.records import SequenceExample
from evokd_data.students.prediction import network_predictor
from evokd_data.students.static import Static
from tests.support.student_data import CLASSES, texts
from tests.support.student_training import fit, right
from tests.support.tiny_encoders import make_static

pytestmark = pytest.mark.slow


def known_by_heart(model) -> Static:
    return Static(model=str(model), c=1000.0, name_weight=0.0)


def test_model2vec_alone_reads_the_deployed_folder(tiny_static, tmp_path):
    from model2vec.inference import StaticModelPipeline

    student = known_by_heart(tiny_static)
    fit(student, tmp_path / "a", texts())
    pipeline = StaticModelPipeline.from_pretrained(tmp_path / "a")
    long = " ".join(["apple"] * 2000 + ["cat"] * 5000)
    sentences = [*(example.text for example in texts(12)), long, "", "§"]
    expected = student.predict([SequenceExample(text, None) for text in sentences], tmp_path / "a")
    assert pipeline.predict_proba(sentences) == pytest.approx(expected, abs=1e-6)
    assert tuple(pipeline.classes_) == CLASSES
    assert pipeline.predict([long]) == ["animal"]  # the whole text is read


def test_the_network_computes_what_model2vec_computes(tiny_static, tmp_path):
    student = known_by_heart(tiny_static)
    fit(student, tmp_path / "a", texts())
    sentences = ["", "§ unknown", "apple § cat", *(example.text for example in texts(12))]
    examples = [SequenceExample(text, None) for text in sentences]
    expected = student.predict(examples, tmp_path / "a")
    assert network_predictor(student.network(tmp_path / "a"))(examples) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("form", [{"quantize_to": "float32"}, {"quantize_to": "int8"}, {"vocabulary_quantization": 60}])
def test_other_forms_of_a_base_model_are_learned_from(tiny_encoder, tmp_path, form):
    make_static(tmp_path / "base", tiny_encoder, **form)
    student = known_by_heart(tmp_path / "base")
    fit(student, tmp_path / "a", texts())
    assert right(student, tmp_path / "a", texts()) > 0.9
    expected = student.predict(texts(), tmp_path / "a")
    assert network_predictor(student.network(tmp_path / "a"))(texts()) == pytest.approx(expected, abs=1e-5)


def test_a_folder_to_publish_names_no_folder_of_this_machine(tiny_static, tmp_path):
    config = json.loads((tiny_static / "config.json").read_text())
    shutil.copytree(tiny_static, tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "tokenizer_name": "/home/me/encoder"}))
    fit(known_by_heart(tmp_path / "base"), tmp_path / "a", texts())
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "config.json", "evokd.json", "head.safetensors", "model.safetensors", "modules.json", "tokenizer.json",
    ]  # fmt: skip
    for name in names:
        assert b"/home/me" not in (tmp_path / "a" / name).read_bytes()
        assert str(tmp_path).encode() not in (tmp_path / "a" / name).read_bytes()


def test_an_encoder_is_refused_with_what_to_take_instead(tiny_encoder, tmp_path, recipe_file):
    message = r"is no model in Model2Vec's format \(model_type 'bert'\); take one such as minishlab/potion-base-8M"
    with pytest.raises(StudentError, match=message):
        fit(known_by_heart(tiny_encoder), tmp_path / "a", texts())
    path = recipe_file(**{"{kind: linear}": f"{{kind: static, model: {tiny_encoder}}}"})
    assert any("is no model in Model2Vec's format" in problem for problem in check(load(path)).problems)


def test_a_damaged_base_model_is_refused(tiny_static, tmp_path):
    shutil.copytree(tiny_static, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(StudentError, match="choose another model in Model2Vec's format, or delete a damaged download"):
        fit(known_by_heart(tmp_path / "base"), tmp_path / "a", texts())


def test_without_model2vec_the_message_names_the_extra(tiny_static, tmp_path, recipe_file, monkeypatch):
    student = known_by_heart(tiny_static)
    fit(student, tmp_path / "a", texts())
    monkeypatch.setitem(sys.modules, "model2vec", None)
    missing = r"model2vec is not installed, .*pip install 'evokd-data\[static\]'"
    with pytest.raises(StudentError, match=missing):
        student.predict(texts(3), tmp_path / "a")
    with pytest.raises(StudentError, match=missing):
        fit(student, tmp_path / "b", texts())
    recipe = load(recipe_file(**{"{kind: linear}": f"{{kind: static, model: {tiny_static}}}"}))
    assert any("model2vec is not installed" in remark for remark in check(recipe).remarks)
    findings = [finding for finding in examine(recipe, tmp_path / "runs") if finding.subject == "student"]
    assert ("problem", "pip install 'evokd-data[static]'") in [
        (f.state, f.remedy.removeprefix("run: ")) for f in findings
    ]


def test_every_text_has_a_unit_vector_whatever_its_length(tiny_static, tmp_path):
    from evokd_data.students.static import _load_embeddings

    vectors = _load_embeddings(tiny_static).embed_texts(["apple", " ".join(["apple"] * 900), ""])
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 0], abs=1e-6)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
