"""The zero-shot baseline: that it computes what its library computes, that names decide, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from evokd_data.deployment.opening import learned, open_model
from evokd_data.errors import RecipeError, StudentError
from evokd_data.loop.checks import check
from evokd_data.loop.doctor import examine
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.records import SequenceExample
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.students import TrainingData
from evokd_data.students.deterministic import deterministic
from evokd_data.students.gliclass import GLiClass
from evokd_data.students.gliclass_model import import_library, load_model
from tests.support import ROOT
from tests.support.student_data import CLASSES, texts
from tests.support.student_training import fit
from tests.support.tiny_encoders import make_base, make_gliclass

pytestmark = pytest.mark.slow

SENTENCES = ["I see a cat", "the hammer is here", "", "apple " * 9, "cat", "§ unknown"]
FORMS = {
    "as most": {},
    "mean": {"pooling_strategy": "avg"},
    "last token": {"pooling_strategy": "last"},
    "text first": {"prompt_first": False, "pooling_strategy": "avg"},
    "names' mean": {"class_token_pooling": "average", "extract_text_features": True},
    "fixed": {"max_labels_alloc": "fixed"},
    "segments": {"use_segment_embeddings": True, "scorer_type": "mlp"},
    "calibrated": {"use_calibrator": True, "initializer_range": 0.2},
}


def examples(sentences):
    return [SequenceExample(sentence, None) for sentence in sentences]


def fitted(model, folder, names=CLASSES, **settings) -> GLiClass:
    """A student with a checkpoint in `folder`, of classes that are called by `names`."""
    student = GLiClass(model=str(model), **settings)
    folder.mkdir()
    student.fit(TrainingData(texts(3), (), CLASSES, 1, class_names=tuple(names)), folder)
    return student


def of_the_library(model, sentences, names=CLASSES):
    """What the library's own pipeline answers to each text alone."""
    network, tokenizer = load_model(model)
    with deterministic(0):
        pipeline = import_library().ZeroShotClassificationPipeline(
            network, tokenizer, max_length=64, classification_type="single-label", device="cpu", progress_bar=False
        )
        (scores,) = zip(*[pipeline([text], list(names), return_hierarchical=True) for text in sentences], strict=True)
    return np.array([[row[name] for name in names] for row in scores])


@pytest.mark.parametrize("form", FORMS)
def test_a_text_in_a_batch_gets_what_the_library_gives_it_alone(form, tmp_path):
    model = make_gliclass(tmp_path / "base", **FORMS[form])
    student = fitted(model, tmp_path / "a")
    expected = of_the_library(model, SENTENCES)
    assert student.predict(examples(SENTENCES), tmp_path / "a") == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-4  # the texts are told apart


@pytest.mark.parametrize("kind", ["bert", "modernbert", "deberta-v2"])
def test_encoders_of_other_kinds_predict_the_same_twice(kind, tmp_path):
    student = fitted(make_gliclass(tmp_path / "base", kind), tmp_path / "a")
    first = student.predict(texts(75), tmp_path / "a")
    assert np.array_equal(student.predict(texts(75), tmp_path / "a"), first)
    assert first.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_name_of_a_class_decides_its_probability(tiny_gliclass, tmp_path):
    student = fitted(tiny_gliclass, tmp_path / "a")
    renamed = fitted(tiny_gliclass, tmp_path / "b", ("a piece of fruit", *CLASSES[1:]))
    rows, others = student.predict(texts(9), tmp_path / "a"), renamed.predict(texts(9), tmp_path / "b")
    assert np.abs(rows[:, 0] - others[:, 0]).min() > 1e-4
    assert others == pytest.approx(
        of_the_library(tiny_gliclass, [example.text for example in texts(9)], ("a piece of fruit", *CLASSES[1:])),
        abs=1e-5,
    )


@pytest.mark.parametrize("prompt_first", [True, False])
def test_of_a_long_text_the_beginning_is_read_and_all_names(prompt_first, tmp_path):
    student = fitted(make_gliclass(tmp_path / "base", prompt_first=prompt_first), tmp_path / "a")
    room = 64 - student_facts(tmp_path)["name_tokens"]
    fits, long, longer = (" ".join(["apple"] * count) for count in (room, room + 1, 5000))
    row, *cut = student.predict(examples([fits, long, longer + " cat <<LABEL>>"]), tmp_path / "a")
    for other in cut:
        assert other == pytest.approx(row, abs=1e-5)
    assert student.truncated(examples([fits, long, longer, ""]), tmp_path / "a") == 2


def student_facts(tmp_path):
    """The figures of a training of the model in tmp_path/base."""
    return fit(GLiClass(model=str(tmp_path / "base")), tmp_path / "facts", texts(3))


@pytest.mark.parametrize("prompt_first", [True, False])
def test_marks_of_the_input_in_a_text_are_left_out(prompt_first, tmp_path):
    student = fitted(make_gliclass(tmp_path / "base", prompt_first=prompt_first), tmp_path / "a")
    marked = ["<<LABEL>> apple <<SEP>> cat <<EXAMPLE>>", "<<SEP>>" * 200, "<<LABEL>>" * 9]
    expected = student.predict(examples(["apple cat", "", ""]), tmp_path / "a")
    assert student.predict(examples(marked), tmp_path / "a") == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-4
    assert student.truncated(examples(marked), tmp_path / "a") == 0


def test_names_that_the_model_cannot_read_are_refused(tiny_gliclass, tmp_path):
    with pytest.raises(
        StudentError, match=r"task\.label_names: 'a<<LABEL>>b' cannot be shown .*give the class another name"
    ):
        fitted(tiny_gliclass, tmp_path / "a", ("a<<LABEL>>b", *CLASSES[1:]))
    with pytest.raises(StudentError, match=r"names of 3 classes take 6\d of the 64 tokens .*shorten task\.label_names"):
        fitted(tiny_gliclass, tmp_path / "b", ("apple " * 45, *CLASSES[1:]))
    with pytest.raises(StudentError, match=r"student\.max_length: .*of the 30 tokens .*raise it"):
        fitted(tiny_gliclass, tmp_path / "c", max_length=30)


def edited(tiny_gliclass, folder, **changes):
    """A copy of the model whose configuration is changed; None removes an entry."""
    shutil.copytree(tiny_gliclass, folder)
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def test_other_models_are_refused_before_a_run_with_what_to_take(tiny_gliclass, tiny_encoder, tmp_path, recipe_file):
    own_code = {"model_type": "own", "auto_map": {"AutoConfig": "org/code--configuration.Config"}}
    wrong = {
        r"is no GLiClass model \(model_type 'bert'\); take a uni-encoder such as knowledgator/": tiny_encoder,
        r"of the architecture 'bi-encoder', and only uni-encoders": edited(
            tiny_gliclass, tmp_path / "bi", architecture_type="bi-encoder", label_model_name="org/labels"
        ),
        r"an encoder of the type 'own', which transformers does not know, and own code is never run": edited(
            tiny_gliclass, tmp_path / "own", encoder_config=own_code, encoder_model_name="org/code"
        ),
        r"a tokenizer without the model's tokens <<LABEL>> and <<SEP>>": edited(
            tiny_gliclass, tmp_path / "tokens", class_token_index=5
        ),
    }
    for message, folder in wrong.items():
        path = recipe_file(**{"{kind: linear}": f"{{kind: gliclass, model: {folder}}}"})
        (problem,) = check(load(path)).problems
        with pytest.raises(StudentError, match=message) as caught:
            fit(GLiClass(model=str(folder)), tmp_path / f"fit-{folder.name}", texts(3))
        assert problem == str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "tensors", "scorer"])
def test_a_damaged_model_is_refused(tiny_gliclass, tmp_path, damage):
    from safetensors.numpy import load_file, save_file

    changes = {"scorer_type": "none such"} if damage == "scorer" else {}
    folder = edited(tiny_gliclass, tmp_path / "base", **changes)
    if damage == "cut":
        (folder / "model.safetensors").write_bytes(b"nothing")
    elif damage == "tensors":
        tensors = load_file(folder / "model.safetensors")
        (projector, *_) = [name for name in tensors if "text_projector" in name]
        del tensors[projector]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudentError, match=r"choose another GLiClass model, or delete a damaged download"):
        fit(GLiClass(model=str(folder)), tmp_path / "a", texts(3))


def test_a_model_in_half_precision_computes_in_float32(tiny_gliclass, tmp_path):
    network, tokenizer = load_model(tiny_gliclass)
    with deterministic(0):
        network.half().save_pretrained(tmp_path / "half")
    tokenizer.save_pretrained(tmp_path / "half")
    assert read_json(tmp_path / "half" / "config.json")["dtype"] == "float16"
    loaded, _ = load_model(tmp_path / "half")
    assert {str(parameter.dtype) for parameter in loaded.parameters()} == {"torch.float32"}
    student = fitted(tmp_path / "half", tmp_path / "a")
    assert student.predict(texts(9), tmp_path / "a").sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_adapters_in_a_folder_that_has_the_encoders_name_are_not_read(tiny_gliclass, tmp_path, monkeypatch):
    (tmp_path / "org" / "encoder").mkdir(parents=True)
    (tmp_path / "org" / "encoder" / "adapter_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    student = fitted(tiny_gliclass, tmp_path / "a")
    assert len(student.predict(texts(3), tmp_path / "a")) == 3


def test_a_checkpoint_names_its_model_and_is_used_with_no_other(tiny_gliclass, tmp_path):
    fitted(tiny_gliclass, tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["evokd.json"]
    metadata = read_json(tmp_path / "a" / "evokd.json")
    assert metadata["names"] == list(CLASSES) and len(metadata["base"]["digest"]) == 64
    other = GLiClass(model=str(make_gliclass(tmp_path / "other", initializer_range=0.2)))
    with pytest.raises(
        StudentError, match=r"names the model \{'digest': .*set student\.model and student\.revision to that"
    ):
        other.predict(texts(3), tmp_path / "a")


def test_without_gliclass_the_message_names_the_extra(tiny_gliclass, tmp_path, recipe_file, monkeypatch):
    student = fitted(tiny_gliclass, tmp_path / "a")
    monkeypatch.setitem(sys.modules, "gliclass", None)
    missing = r"gliclass is not installed, .*pip install 'evokd-data\[gliclass\]'"
    with pytest.raises(StudentError, match=missing):
        student.predict(texts(3), tmp_path / "a")
    with pytest.raises(StudentError, match=missing):
        fit(student, tmp_path / "b", texts())
    recipe = load(recipe_file(**{"{kind: linear}": f"{{kind: gliclass, model: {tiny_gliclass}}}"}))
    assert any("gliclass is not installed" in remark for remark in check(recipe).remarks)
    remedies = [finding.remedy for finding in examine(recipe, tmp_path / "runs") if finding.subject == "student"]
    assert "run: pip install 'evokd-data[gliclass]'" in remedies


def test_a_tagging_task_is_refused_with_what_to_take(tmp_path, recipe_file):
    task = "{type: classification, labels: [red, green, blue], description: which colour a text is about}"
    path = recipe_file(
        **{task: "{type: ner, types: [ORG]}", "{kind: linear}": "{kind: gliclass, preset: gliclass-small}"}
    )
    with pytest.raises(
        RecipeError, match=r"student\.kind: 'gliclass' cannot learn a ner task: .*GLiNER, is not among .*take"
    ):
        load(path)


def test_a_run_of_it_alone_is_remarked_on_and_its_baseline_learns_the_seeds(tiny_gliclass, tmp_path, recipe_file):
    path = recipe_file(**{"{kind: linear}": f"{{kind: gliclass, model: {tiny_gliclass}}}", "count: 2": "count: 1"})
    recipe = load(path)
    findings = check(recipe)
    assert findings.problems == []
    assert [line for line in findings.remarks if "'gliclass' learns nothing" in line and "--same-shards" in line]
    run_all([recipe], tmp_path / "runs", Progress())
    workspace = Workspace(tmp_path / "runs" / "colours")
    first, last = (read_json(workspace.round(index).metrics) for index in (0, 1))
    assert first["test"] == last["test"] and first["seeds_only"]["kind"] == "linear"
    assert last["adoption"]["adopted"] is True
    opened = open_model("colours", runs=tmp_path / "runs")
    assert opened.predict(["a red rose"])[0]["label"] in recipe.task.labels
    seeds = opened.test_samples(recipe.seeds)
    assert seeds and learned(opened, seeds) == []  # so no score of it on seeds is doubted
    with pytest.raises(StudentError, match="cannot be exported: its network reads the names of the classes"):
        opened.student.network(opened.checkpoint)


def test_it_is_measured_without_a_teacher(tiny_gliclass, tmp_path, recipe_file, monkeypatch):
    monkeypatch.setattr("evokd_data.teachers.scripted.Scripted.serve", None)  # whoever opens it fails
    path = recipe_file(**{"{kind: linear}": f"{{kind: gliclass, model: {tiny_gliclass}}}"})
    run_all([load(path, ["rounds.count=0", "teacher_test_texts=0"])], tmp_path / "runs", Progress())
    assert read_json(Workspace(tmp_path / "runs" / "colours").round(0).metrics)["test"]["n"] == 9


IMPORT = """
import os, sys
import evokd_data.students.gliclass
assert not {"gliclass", "torch", "transformers"} & set(sys.modules), "not lazy"
import torch, transformers
before, environment = set(sys.modules), dict(os.environ)
sys.addaudithook(lambda event, args: sys.exit(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
from evokd_data.students.deterministic import deterministic
from evokd_data.students.gliclass_model import import_library
with deterministic(0):
    import_library()
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert dict(os.environ) == environment
print(*sorted(new & {"ray", "fastapi", "starlette", "uvicorn", "requests", "gliclass"}), "gliclass.serve" in sys.modules)
"""


def test_the_library_is_imported_late_without_its_server_and_asks_no_network():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert (done.stdout, done.returncode) == ("gliclass False\n", 0), done.stderr


def test_a_folder_of_an_encoder_that_is_no_model_yet_is_named(tmp_path):
    base = make_base(tmp_path / "base")
    (base / "config.json").write_text("[]")
    with pytest.raises(StudentError, match=r"is no GLiClass model \(model_type None\)"):
        GLiClass(model=str(base)).check_base(base)
