"""docs/python.md and the notebook are executed as a reader would: block by block, cell by cell, in a real kernel."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

import evokd_data
from evokd_data import Run, localhub
from evokd_data.storage.shards import ShardedSamples
from tests.support import ROOT
from tests.support.example_task import write_rows
from tests.support.published_runs import published

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

RECIPE = """\
name: support
task: {type: classification, labels: [refund, delivery, cancel], description: what a customer wants, noun: message}
seeds: {path: seeds.jsonl}
test: {path: test.jsonl}
teacher: {engine: scripted, wrong_labels: 0.2, broken_answers: 0.2}
strategy: {name: evokd}
student: {kind: linear, buckets: 4096}
teacher_trust: off
publish: {repo: local/support, endpoint: local, private: false}
"""
SEEDS = {
    "refund": ["I want my money back", "please refund the lamp"],
    "delivery": ["where is my parcel", "the package has not arrived"],
    "cancel": ["cancel my order", "I do not want the shoes any more"],
}
TEST = {label: [f"{text}, today" for text in texts] for label, texts in SEEDS.items()}


def write_inputs(folder: Path) -> None:
    write_rows(folder / "seeds.jsonl", SEEDS)
    write_rows(folder / "test.jsonl", TEST)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")


def test_every_block_of_the_page_runs_in_the_order_of_the_page(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    assert len(BLOCKS) == 7
    variables: dict[str, object] = {}
    monkeypatch.setattr(logging.getLogger("evokd_data"), "level", logging.NOTSET)  # the page sets it

    async def reader() -> None:
        for number, block in enumerate(BLOCKS):
            code = compile(block, f"docs/python.md, block {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if inspect.iscoroutine(coroutine := eval(code, variables)):
                await coroutine

    asyncio.run(reader())
    printed = capsys.readouterr().out
    assert "macro_f1" in printed and "['round-000', 'round-001', 'round-002']" in printed
    assert 'rounds.samples: "many": input should be a valid integer' in printed
    assert variables["samples"].num_rows == variables["published"]["train"].num_rows == 6 + 20 + 20
    assert variables["near"].num_rows <= variables["rejections"].num_rows > 0


def test_the_page_names_every_public_method_and_every_exported_name() -> None:
    methods = {name for name, _ in inspect.getmembers(Run, inspect.isfunction) if not name.startswith("_")}
    assert {"generate", "generate_sync", "finish", "train_round", "publish", "samples", "rejections"} <= methods
    assert {name for name in methods if f"run.{name}" not in PAGE} == set()
    assert {name for name in evokd_data.__all__ if name not in PAGE} == {"__version__"}


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch) -> Path:
    """Folders of Jupyter's own, and a kernel that sees this checkout."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    return tmp_path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_in_a_kernel_of_jupyter(path: Path, jupyter: Path) -> None:
    assert path.name in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert [cell.outputs for cell in cells] == [[]] * len(cells), "outputs grow old: clear them before you commit"
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": jupyter}})
    client.execute()  # raises the error of a cell with its traceback
    results = [output for cell in cells for output in cell.outputs if output.output_type == "execute_result"]
    assert len(results) >= 6
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    shown = "\n".join(output.data["text/plain"] for output in results)
    assert "complete rounds: []" in shown and "macro_f1" in shown and "'probability'" in shown


SLOW = """
from evokd_data import Recipe, Run
recipe = Recipe.load("recipe.yaml", {"teacher.latency_s": 0.1, "teacher.window": 1, "publish": None})
run = Run.open(recipe)
run.generate_sync(), run.train_round()
"""


@pytest.mark.parametrize("call", ["run.finish_sync()", "await run.generate()"])
def test_the_kernels_stop_button_ends_a_call_in_order_and_the_next_cell_works(jupyter: Path, call: str) -> None:
    write_inputs(jupyter)
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(jupyter))
    try:

        def cell(code: str) -> dict[str, object]:
            return client.execute_interactive(code, timeout=120, output_hook=lambda _: None)["content"]

        assert cell(SLOW)["status"] == "ok"
        journal = jupyter / "runs" / "support" / "round-001" / "journal"
        stop = threading.Thread(target=lambda: (wait_for(journal.is_dir), manager.interrupt_kernel()))
        stop.start()
        assert cell(call)["ename"] in ("KeyboardInterrupt", "CancelledError")
        stop.join()
        assert not (journal.parent / "generated.json").exists()
        assert cell("run.close(); run = Run.open(Recipe.load('recipe.yaml', {'publish': None}))")["status"] == "ok"
        assert cell("assert (await run.generate())['round'] == 1; run.train_round(); run.close()")["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.02)


def example(name: str, *words: str) -> str:
    """What an example prints."""
    line = [sys.executable, str(ROOT / "examples" / name), *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_a_strategy_runs() -> None:
    lines = example("own_strategy.py").splitlines()
    assert [
        re.fullmatch(rf"round {i}: \d+ texts, macro-F1 [01]\.\d+", line) is None for i, line in enumerate(lines)
    ] == [False] * 3


def test_the_example_that_loads_a_round_runs(tmp_path: Path) -> None:
    with localhub.running(tmp_path / "hub") as server:
        run = published(server, tmp_path, "org/colours", 2)
        printed = example("load_a_round.py", "org/colours", "1", "--endpoint", server.endpoint)
    sample = next(iter(ShardedSamples(run.recipe.task, run.workspace.round(1).shard_files())))
    assert f"the first: {sample.text!r} -> {sample.target}\n" in printed
