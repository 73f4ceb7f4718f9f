"""An exported student gives the same labels, in plain ONNX Runtime without torch, and its card says what was measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from evokd_data.cli import cli
from evokd_data.deployment.export import FIGURES, export
from evokd_data.deployment.latency import compare_latency
from evokd_data.deployment.onnx_graph import export_onnx
from evokd_data.deployment.onnx_student import MODEL_FILE
from evokd_data.deployment.opening import OpenedModel, open_model
from evokd_data.deployment.predicting import predicted_rows
from evokd_data.errors import StudentError
from evokd_data.progress import Progress
from evokd_data.recipe import load
from evokd_data.records import Origin, Sample
from evokd_data.reporting import export_card
from evokd_data.students.contrastive import Contrastive
from evokd_data.students.frozen import Frozen
from evokd_data.students.linear import Linear
from evokd_data.students.lora import Lora
from evokd_data.students.static import Static
from evokd_data.students.transformer import Transformer
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.ner import NER
from tests.support.example_task import RECIPE, SEEDS, TEST, play, write_rows
from tests.support.student_data import CLASSES, TAGS, tagged, texts
from tests.support.student_training import fit
from tests.support.tiny_encoders import QUICK, make_base

pytestmark = pytest.mark.slow

INSTALLED = all(__import__("importlib.util").util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
exporting = pytest.mark.skipif(not INSTALLED, reason="needs the extra: pip install 'evokd-data[export]'")
FROZEN = {"c": 1000.0, "name_weight": 0.0}
KINDS = [
    "transformer",
    "transformer, words",
    "frozen",
    "frozen, words",
    "contrastive",
    "contrastive, words",
    "static",
    "static, words",
]
CLASSES_OF_KINDS = {
    "transformer": (Transformer, QUICK),
    "contrastive": (Contrastive, {**FROZEN, "steps": 20, "learning_rate": 1e-2}),
    "frozen": (Frozen, FROZEN),
    "static": (Static, FROZEN),
    "lora": (Lora, QUICK),
}


def sample(task, text: str, target) -> Sample:
    return Sample("", text, target, Origin(0, -1, 0, "seed"))


def trained_model(base: Path, kind: str, folder: Path) -> tuple[OpenedModel, list[Sample]]:
    """A student that knows its texts by heart, and the texts."""
    cls, settings = CLASSES_OF_KINDS[kind.partition(",")[0]]
    student = cls(model=str(base), **settings)
    if kind.endswith("words"):
        task = NER(types=CLASSES)
        fit(student, folder, [task_example(task, example) for example in tagged()], classes=task.classes)
        samples = [sample_of_tagged(task, example) for example in tagged()]
    else:
        task = Classification(labels=CLASSES, label_names={"tool": "implement"})
        fit(student, folder, texts())
        samples = [sample(task, example.text, CLASSES[example.target]) for example in texts()]
    return OpenedModel(f"a {kind}", task, student, folder, 3), samples


def sample_of_tagged(task: NER, example) -> Sample:
    entities = [
        {"text": word, "type": TAGS[target].removeprefix("B-")}
        for word, target in zip(example.words, example.targets, strict=True)
        if target
    ]
    text, target = task.read_example({"text": " ".join(example.words), "spans": entities}, "here")
    return sample(task, text, target)


def task_example(task: NER, example):
    return task.supervise(sample_of_tagged(task, example))


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tiny_encoder, tiny_static, tmp_path_factory) -> tuple[OpenedModel, list[Sample], Path]:
    if not INSTALLED:
        pytest.skip("needs the extra: pip install 'evokd-data[export]'")
    folder = tmp_path_factory.mktemp("export")
    base = tiny_static if request.param.startswith("static") else tiny_encoder
    model, samples = trained_model(base, request.param, folder / "student")
    export(model, folder / "out", samples, False, Progress())
    return model, samples, folder / "out"


def code_of(card: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), flags=re.S)
    return code


def test_the_cards_code_gives_the_same_labels_without_torch(exported):
    """The code of the card, as it stands there, on every text: one process that can import neither torch nor transformers."""
    model, samples, folder = exported
    code = code_of(folder / "README.md")
    setup, each = code.split('encoding = tokenizer.encode("a text")')
    assert each
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'evokd_data']))\n"
        + setup
        + "for line in sys.stdin:\n    encoding = tokenizer.encode(json.loads(line))\n"
        + "".join(f"    {line}\n" for line in each.strip().splitlines())
    )
    lines = "".join(json.dumps(sample.text) + "\n" for sample in samples)
    done = subprocess.run(
        [sys.executable, "-c", program], input=lines, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers = [eval(line) for line in done.stdout.splitlines()]
    examples = [model.task.supervise(sample) for sample in samples]
    rows = model.student.predict(examples, model.checkpoint)
    for answer, example, row in zip(answers, examples, rows, strict=True):
        expected = [model.task.classes[index] for index in np.atleast_1d(row.argmax(-1))]
        if example.__class__.__name__ == "TokenExample":
            first = 0 if model.student.name == "static" else 1  # [CLS]; each word of these texts is one token
            assert answer[first : first + len(expected)] == expected
        else:
            assert answer == expected


def test_the_exported_folder_is_a_student_with_the_same_task_and_probabilities(exported):
    model, samples, folder = exported
    opened = open_model(str(folder))
    assert opened.task == model.task and opened.seed == 3
    examples = [model.task.supervise(sample) for sample in samples]
    for mine, theirs in zip(
        opened.student.predict(examples, folder), model.student.predict(examples, model.checkpoint), strict=True
    ):
        assert mine == pytest.approx(theirs, abs=1e-5)
    assert opened.student.truncated(examples, folder) == 0


def test_figures_and_card_hold_what_was_measured(exported):
    _, samples, folder = exported
    figures, card = json.loads((folder / FIGURES).read_text()), (folder / "README.md").read_text()
    assert figures["parity"]["same"] == 1.0 and figures["parity"]["largest_difference"] < 1e-4
    assert figures["parity"]["original"] == figures["parity"]["exported"] and figures["parity"]["n"] == len(samples)
    latency = figures["latency"]
    assert latency["measurements"] >= 20
    for side in ("original", "exported"):
        assert 0 < latency[side]["p50_ms"] <= latency[side]["p99_ms"]
        assert f"{latency[side]['p50_ms']:.2f} ms" in card and f"{figures['bytes'][side] / 1e6:.1f} MB" in card
    assert f"n = {len(samples)}" in card and "{{" not in card and "lower than the original" not in card


def test_texts_longer_than_the_student_reads_and_batches_of_any_size_are_answered(exported):
    model, samples, folder = exported
    longer = sample(model.task, " ".join(["apple"] * 300), samples[0].target if model.task.name != "ner" else ())
    examples = [model.task.supervise(one_sample) for one_sample in (longer, *samples[:2])]
    mine = open_model(str(folder)).student.predict(examples, folder)
    for ours, theirs in zip(mine, model.student.predict(examples, model.checkpoint), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


@exporting
@pytest.mark.parametrize("kind", ["transformer", "static"])
def test_8_bits_are_a_smaller_file_with_the_same_labels(tiny_encoder, tiny_static, tmp_path, kind):
    model, samples = trained_model(tiny_static if kind == "static" else tiny_encoder, kind, tmp_path / "student")
    export(model, tmp_path / "out", samples, False, Progress())
    whole = (tmp_path / "out" / MODEL_FILE).stat().st_size
    figures = export(model, tmp_path / "out", samples, True, Progress())  # in place of the one before
    smaller = 1 if kind == "static" else 3  # most of so small a file is its graph
    assert figures["bytes"]["exported"] == (tmp_path / "out" / MODEL_FILE).stat().st_size < whole / smaller
    assert figures["precision"] == "int8" and figures["parity"]["same"] == 1.0
    assert "saturate" in (tmp_path / "out" / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "student"]


@exporting
@pytest.mark.parametrize("student", ["transformer", "transformer, words"])
@pytest.mark.parametrize("kind", ["distilbert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"])
def test_the_usual_architectures_are_exported(tmp_path, kind, student):
    base = make_base(tmp_path / "base", kind)
    model, samples = trained_model(base, student, tmp_path / "student")
    figures = export(model, tmp_path / "out", samples, False, Progress())
    assert figures["parity"]["same"] == 1.0 and figures["parity"]["largest_difference"] < 1e-4


@exporting
def test_a_decoders_updates_are_merged_into_the_exported_graph(tiny_decoder, tmp_path):
    model, samples = trained_model(tiny_decoder, "lora", tmp_path / "student")
    figures = export(model, tmp_path / "out", samples, False, Progress())
    assert figures["parity"]["same"] == 1.0 and figures["parity"]["largest_difference"] < 1e-4
    network = model.student.network(model.checkpoint)
    assert not [name for name, _ in network.module.named_parameters() if "lora" in name]


@exporting
def test_the_command_exports_the_best_student_of_a_run_and_its_folder_can_be_evaluated(
    tiny_encoder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "seeds.jsonl", SEEDS)
    write_rows(tmp_path / "test.jsonl", TEST)
    student = json.dumps({"kind": "transformer", "model": str(tiny_encoder), "min_steps": 5, "epochs": 1})
    text = RECIPE.replace("count: 2", "count: 0").replace("{kind: linear}", student).replace("evokd}", "none}")
    (tmp_path / "recipe.yaml").write_text(text)

    def call(*words: str) -> str:
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    call("run", "recipe.yaml")
    assert call("export", "colours", "--int8") == "runs/colours/export/onnx-int8\n"
    figures = json.loads(call("export", "colours", "--json"))
    assert figures["folder"] == "runs/colours/export/onnx" and figures["from"]["name"] == "colours, round 0"
    ours, theirs = (
        json.loads(call("evaluate", name, "test.jsonl", "--json")) for name in ("runs/colours/export/onnx", "colours")
    )
    assert ours["confusion"] == theirs["confusion"] and ours["intervals"] == theirs["intervals"]
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "a red rose"}) + "\n")
    assert json.loads(call("predict", "runs/colours/export/onnx", "texts.jsonl"))["text"] == "a red rose"


def test_student_best_is_a_folder_for_transformers_pipelines(tiny_encoder, tmp_path):
    from transformers import pipeline

    write_rows(tmp_path / "seeds.jsonl", SEEDS)
    write_rows(tmp_path / "test.jsonl", TEST)
    student = json.dumps({"kind": "transformer", "model": str(tiny_encoder), "min_steps": 5, "epochs": 1})
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("{kind: linear}", student))
    workspace = play(load(tmp_path / "recipe.yaml"), tmp_path / "runs", 1)
    answers = pipeline("text-classification", str(workspace.best_student))(["a red rose", "the deep sea"])
    opened = open_model(str(workspace.root))
    rows = predicted_rows(opened.task, opened.student.predictor(opened.checkpoint), ["a red rose", "the deep sea"])
    assert [answer["label"] for answer in answers] == [row["label"] for row in rows]
    assert [answer["score"] for answer in answers] == pytest.approx([row["probability"] for row in rows], abs=1e-5)


@exporting
def test_a_folder_with_anything_else_in_it_is_not_replaced(tiny_encoder, tmp_path):
    model, samples = trained_model(tiny_encoder, "transformer", tmp_path / "student")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(StudentError, match="holds something else than an exported student; give --out another folder"):
        export(model, tmp_path / "out", samples, False, Progress())
    assert (tmp_path / "out" / "thesis.txt").exists()


@exporting
def test_a_damaged_export_is_refused(tiny_encoder, tmp_path):
    model, samples = trained_model(tiny_encoder, "transformer", tmp_path / "student")
    export(model, tmp_path / "out", samples, False, Progress())
    (tmp_path / "out" / MODEL_FILE).write_bytes(b"not a graph")
    with pytest.raises(StudentError, match=r"model.onnx differs from evokd.json"):
        open_model(str(tmp_path / "out"))


def test_a_linear_student_says_why_it_is_not_exported(tmp_path):
    task = Classification(labels=CLASSES)
    fit(Linear(), tmp_path / "student", texts())
    model = OpenedModel("a linear student", task, Linear(), tmp_path / "student")
    samples = [sample(task, "an apple", "fruit")]
    with pytest.raises(StudentError, match="hashed runs of characters, and no operator of ONNX computes them"):
        export(model, tmp_path / "out", samples, False, Progress())
    assert not (tmp_path / "out").exists()


def test_without_the_extra_the_message_names_it(tiny_encoder, tmp_path, monkeypatch):
    model, samples = trained_model(tiny_encoder, "transformer", tmp_path / "student")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(StudentError, match=r"onnx is not installed, .* pip install 'evokd-data\[export\]'"):
        export(model, tmp_path / "out", samples, False, Progress())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student"]


@exporting
def test_latency_is_that_of_the_network_asked(tiny_encoder, tmp_path, monkeypatch):
    """A network that sleeps is slower than its export, by what it sleeps."""
    import time

    model, samples = trained_model(tiny_encoder, "transformer", tmp_path / "student")
    network = model.student.network(model.checkpoint)
    export_onnx(network, tmp_path / MODEL_FILE)
    forward = network.module.forward
    monkeypatch.setattr(network.module, "forward", lambda **inputs: (time.sleep(0.05), forward(**inputs))[1])
    monkeypatch.setattr("evokd_data.deployment.latency.MEASUREMENTS", 20)
    figures = compare_latency(
        network, tmp_path / MODEL_FILE, [model.task.supervise(example) for example in samples[:5]]
    )
    assert figures["original"]["p50_ms"] >= 50 and figures["ratio"] < 1


@pytest.mark.parametrize(("exported_score", "warned"), [(0.90, False), (0.88, True)])
def test_the_card_warns_of_a_loss_of_more_than_a_point(exported_score, warned):
    def score(value):
        return {"macro_f1": {"value": value, "interval": [0.8, 0.95]}}

    figures = {
        "from": {"name": "x | <b>y</b>", "kind": "transformer"}, "precision": "int8",
        "bytes": {"original": 90_000_000, "exported": 23_000_000},
        "parity": {"n": 9, "same": 0.95, "largest_difference": 0.2, "original": score(0.9), "exported": score(exported_score)},
        "latency": {"threads": 2, "measurements": 40, "ratio": 0.4,
                    "original": {"p50_ms": 10.0, "p99_ms": 20.0}, "exported": {"p50_ms": 4.0, "p99_ms": 8.0}},
        "processor": "a processor", "versions": {"torch": "1"},
    }  # fmt: skip
    card = export_card.render(Classification(labels=CLASSES), figures, 64, None, "out")
    assert ("A score is 0.020 lower than the original's" in card) is warned
    assert "<b>" not in card
