"""Export a student: its network as `model.onnx`, its tokenizer, and a card with what the export cost and gained, measured.

    <out>/model.onnx  tokenizer.json  tokenizer_config.json  config.json  evokd.json  export.json  README.md

The folder is a student like any other: `predict` and `evaluate` take it. It needs neither torch's weights nor the encoder.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from evokd_data import repo_layout, settings
from evokd_data.atomic_files import whole_folder, write_json
from evokd_data.deployment.latency import compare_latency
from evokd_data.deployment.onnx_graph import export_onnx, quantise, refuse_token_types, weight_bytes
from evokd_data.deployment.onnx_student import MODEL_FILE, ONNX, OnnxStudent
from evokd_data.deployment.opening import OpenedModel
from evokd_data.digest import derive_seed
from evokd_data.errors import StudentError
from evokd_data.progress import Progress
from evokd_data.records import Sample
from evokd_data.reporting import export_card
from evokd_data.reporting.primary_metric import NAMES
from evokd_data.students import Network
from evokd_data.students.checkpoint import read_metadata, write_metadata

FIGURES = "export.json"
TIMED_TEXTS = 200
"""Different texts that latency is measured on, the first ones of the test set."""
PACKAGES = ("evokd-data", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")


def export(model: OpenedModel, out: Path, samples: Sequence[Sample], int8: bool, progress: Progress) -> dict[str, Any]:
    """Write the exported student to the folder `out`, whole or not at all, and return its figures (those of `export.json`).

    `samples` are what it is compared with the original on. An export that is there already is replaced. Raises StudentError when the
    student cannot be exported, or `out` holds something else.
    """
    _refuse_other_content(out)
    network = model.student.network(model.checkpoint)
    examples = [model.task.supervise(sample) for sample in samples]
    refuse_token_types(network, examples)
    with whole_folder(out) as draft:
        progress.note(f"{model.name}: exporting")
        export_onnx(network, draft / MODEL_FILE)
        if int8:
            quantise(draft / MODEL_FILE)
        _save_tokenizer(network, draft)
        _write_metadata(model, network, draft, int8)
        progress.note(f"{model.name}: comparing on {len(samples)} texts")
        figures = {
            "from": {"name": model.name, "kind": model.student.name},
            "format": ONNX,
            "precision": "int8" if int8 else "float32",
            "bytes": {"original": weight_bytes(network.module), "exported": _model_bytes(draft)},
            "parity": _parity(model, draft, samples),
            "latency": compare_latency(network, draft / MODEL_FILE, examples[:TIMED_TEXTS]),
            "processor": processor(),
            "versions": {package: version(package) for package in PACKAGES},
        }
        write_json(draft / FIGURES, figures)
        card = export_card.render(model.task, figures, network.max_length, model.recipe, out.name)
        (draft / repo_layout.CARD).write_text(card, encoding="utf-8", newline="")
    return figures


def default_folder(model: OpenedModel, int8: bool) -> Path:
    """Where an export goes that is given no folder."""
    name = "onnx-int8" if int8 else "onnx"
    if model.workspace is not None:
        return model.workspace.exports / name
    return Path(f"{Path(model.name.partition('@')[0]).name}-{name}")


def _refuse_other_content(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        read_metadata(out, ONNX)
    except StudentError:
        raise StudentError(f"{out}: holds something else than an exported student; give --out another folder") from None


def _save_tokenizer(network: Network, folder: Path) -> None:
    """The tokenizer, and the model's configuration with the names of the classes."""
    tokenizer = network.tokenizer
    tokenizer.model_max_length = network.max_length
    if tokenizer.is_fast:  # its file would store the truncation and padding of its last call
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    config = copy.deepcopy(network.config)
    config.id2label = dict(enumerate(network.classes))
    config.label2id = {name: index for index, name in enumerate(network.classes)}
    config.save_pretrained(folder)


def _write_metadata(model: OpenedModel, network: Network, folder: Path, int8: bool) -> None:
    write_metadata(
        folder,
        ONNX,
        network.classes,
        words=network.words,
        max_length=network.max_length,
        precision="int8" if int8 else "float32",
        task={"type": model.task.name, **settings.table(model.task)},
        seed=model.seed,
        source={
            "student": model.student.name,
            "files": read_metadata(model.checkpoint, model.student.name)["files"],
        },
    )


def _parity(model: OpenedModel, folder: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    """{"n", "same": share of texts with the same prediction, "largest_difference" of a probability, "original", "exported": scores}."""
    task, examples = model.task, [model.task.supervise(sample) for sample in samples]
    sides = {
        "original": model.student.predict(examples, model.checkpoint),
        "exported": OnnxStudent().predict(examples, folder),
    }
    targets = {
        name: [task.decode(example, row)[0] for example, row in zip(examples, rows, strict=True)]
        for name, rows in sides.items()
    }
    pairs = list(zip(*sides.values(), strict=True))
    same = sum(a == b for a, b in zip(*targets.values(), strict=True))
    scores = {name: task.score(samples, rows, derive_seed(model.seed, "bootstrap")) for name, rows in sides.items()}
    return {
        "n": len(samples),
        "same": round(same / len(samples), 6),
        "largest_difference": round(max((float(np.abs(a - b).max()) for a, b in pairs if len(a)), default=0.0), 6),
        **{
            name: {
                key: {"value": metrics[key], "interval": metrics["intervals"].get(key)}
                for key in NAMES
                if key in metrics
            }
            for name, metrics in scores.items()
        },
    }


def _model_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"{MODEL_FILE}*"))


def processor() -> str:
    """The processor's name, with its instructions for products of bfloat16 and of 8-bit integers."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    flags = set(facts.get("flags", "").split())
    extensions = [name for name in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16") if name in flags]
    return ", ".join(filter(None, [facts.get("model name", platform.machine()), " ".join(extensions)]))
