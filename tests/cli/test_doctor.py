"""`doctor` says what this machine lacks for a recipe, each with the remedy. Every call is a process of its own, offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evokd_data.machine import accelerators
from tests.support import ROOT

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:9"


def doctor(*arguments: object, code: int = 0, **environment: str) -> dict[str, list[dict[str, Any]]]:
    """The findings by subject; the process must end with `code`."""
    command = [sys.executable, "-m", "evokd_data", "doctor", "--json", *map(str, arguments)]
    variables = {**os.environ, "HF_ENDPOINT": NOWHERE, "HF_TOKEN": "", **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=variables)
    assert done.returncode == code, done.stdout + done.stderr
    findings: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout):
        findings.setdefault(finding["subject"], []).append(finding)
    return findings


def fake_gpu(folder: Path, memory: int, free: int) -> dict[str, str]:
    """An environment whose driver tells of one GPU with so many MiB."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\necho 'NVIDIA Test, {memory}, {free}, 570.1'\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def model(folder: Path, gib: float) -> Path:
    """A model's folder with weights of this size; the file is sparse."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(int(gib * 2**30))
    return folder


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("-1", []),
        ("", []),
        ("0", ["A"]),
        ("1, 0", ["B", "A"]),
        ("1,-1,0", ["B"]),
        ("0,7,1", ["A"]),
        ("GPU-1", ["A", "B"]),
    ],
)
def test_gpus_are_those_that_cuda_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'A, 80000, 80000, 570.1'\necho 'B, 80000, 80000, 570.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in accelerators()] == names


def test_without_a_recipe_it_looks_at_the_machine(tmp_path: Path) -> None:
    findings = doctor()
    assert list(findings) == ["python", "packages", "gpu", "vllm", "memory", "hub"]
    assert findings["packages"][0]["state"] == "ok" and "torch" in findings["packages"][0]["detail"]
    assert findings["hub"][0]["state"] == "warning" and NOWHERE in findings["hub"][0]["detail"]


def test_a_recipe_that_needs_nothing_is_sound_and_its_data_are_counted(recipe_file: Callable[..., Path]) -> None:
    findings = doctor(recipe_file())
    assert findings["recipe"] == [
        {
            "state": "warning",
            "subject": "recipe",
            "detail": "task.noun: text is the default, and every prompt says it",
            "remedy": "say what one of your texts is, such as question, review or customer message",
        },
        {"state": "ok", "subject": "recipe", "detail": "classification, 3 labels, 3 seeds, 9 test texts", "remedy": ""},
    ]
    states = {finding["state"] for subject in ("teacher", "student", "disk") for finding in findings[subject]}
    assert states == {"ok"}


def test_every_problem_comes_with_a_remedy_and_ends_with_1(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    model(tmp_path / "large", 5000)
    path = recipe_file(**{
        "engine: scripted": "engine: vllm, model: ./large", "kind: linear": "kind: transformer, model: org/not-here, revision: main",
        "strategy:": "publish: {repo: org/name}\nstrategy:",
    })  # fmt: skip
    findings = doctor(path, code=1)
    problems = {
        finding["subject"]: finding
        for subject in findings.values()
        for finding in subject
        if finding["state"] == "problem"
    }
    assert {"teacher", "student", "hub"} <= problems.keys() and all(finding["remedy"] for finding in problems.values())
    assert "5000 GiB of weights; needs 5501 GiB of memory" in problems["teacher"]["detail"]
    assert problems["teacher"]["remedy"].startswith("take a smaller model")
    assert "the Hub cannot be reached" in problems["student"]["detail"]


def test_a_teacher_must_fit_into_the_memory_of_the_gpu(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    from torch.version import cuda

    model(tmp_path / "teacher", 40)
    path = recipe_file(**{"engine: scripted": "engine: vllm, model: ./teacher"})
    room = doctor(path, code=0 if cuda else 1, **fake_gpu(tmp_path, 80 * 1024, 79 * 1024))
    assert "32 GiB of NVIDIA Test are left for answers" in room["teacher"][0]["detail"]
    assert "NVIDIA Test 80 GiB (79 GiB free); driver 570.1" in room["gpu"][0]["detail"]
    if cuda is None:
        assert room["gpu"][0]["state"] == "problem" and "CUDA" in room["gpu"][0]["remedy"]
    tight = doctor(path, code=1, **fake_gpu(tmp_path, 44 * 1024, 44 * 1024))
    assert tight["teacher"][0]["state"] == "problem" and "leave no room for answers" in tight["teacher"][0]["detail"]
    taken = doctor(path, code=1, **fake_gpu(tmp_path, 80 * 1024, 20 * 1024))
    assert "20 GiB are free" in taken["teacher"][0]["detail"]
    several = doctor(
        path, "--set", "teacher.tensor_parallel_size=2", code=1, **fake_gpu(tmp_path, 80 * 1024, 79 * 1024)
    )
    assert "asks for 2 GPUs, 1 are here" in several["teacher"][0]["detail"]


def test_a_server_that_does_not_answer_is_a_problem(recipe_file: Callable[..., Path]) -> None:
    server = "engine: server, model: m, urls: ['http://127.0.0.1:9/v1'], retries: 0"
    findings = doctor(recipe_file(**{"engine: scripted": server}), code=1)
    assert findings["teacher"][0]["state"] == "problem" and "127.0.0.1:9" in findings["teacher"][0]["detail"]


def test_lines_for_people_begin_with_the_state() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evokd_data", "doctor", str(ROOT / "recipes" / "quickstart.yaml")],
        capture_output=True, text=True, timeout=300, env={**os.environ, "HF_ENDPOINT": NOWHERE},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok       python    3.")
    assert any(line.startswith("warning  hub       ") for line in lines) and any(
        "-> connect, or" in line for line in lines
    )


def test_a_problem_that_two_looks_see_is_listed_once(recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    model(tmp_path / "small", 0.01)
    path = recipe_file(**{"engine: scripted": "engine: vllm, model: ./small, revision: v1"})
    findings = doctor(path, code=1)
    details = [finding["detail"] for subject in findings.values() for finding in subject]
    assert [detail for detail in details if "teacher.revision: 'v1' is for models of the Hub" in detail] == [
        "teacher.revision: 'v1' is for models of the Hub"
    ]
