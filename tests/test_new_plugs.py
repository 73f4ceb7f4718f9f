"""A teacher, a student, a strategy and a task are one file and one line each: added to a copy of the package, they run a recipe."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from evokd_data.storage import journal
from evokd_data.storage.workspace import Workspace, read_json
from tests.support import ROOT
from tests.support.example_task import SEEDS, TEST, write_rows

TEACHER = r'''
"""A teacher that writes the label into its texts, and finds it there again."""

import contextlib
import re
from dataclasses import dataclass

from evokd_data.records import Completion
from evokd_data.teachers import Teacher


@dataclass(frozen=True)
class Telling(Teacher):
    name = "telling"

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 64

    def identity(self):
        return {"model": "telling"}

    @contextlib.asynccontextmanager
    async def serve(self, log):
        yield TellingEngine()


class TellingEngine:
    window = 4

    async def complete(self, prompt):
        shown = prompt.messages[-1].content
        if prompt.constraint is not None:
            answer = next(label for label in prompt.constraint.choices if label in shown)
        else:
            label = re.match(r"Write a text about (\w+)", shown)[1]
            answer = f"text {prompt.seed % 9973} on {label}"
        return Completion(answer, "stop", len(shown), len(answer))

    async def sleep(self):
        pass

    async def wake(self):
        pass

    def environment(self):
        return {"engine": "telling"}
'''

STUDENT = '''
"""A student that counts in which classes a word occurs."""

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np

from evokd_data.errors import StudentError
from evokd_data.settings import identity
from evokd_data.students import Student


@dataclass(frozen=True)
class WordVotes(Student):
    name = "word-votes"

    smoothing: float = 1.0

    def identity(self):
        return identity(self)

    def fit(self, data, into):
        votes = [Counter() for _ in data.classes]
        for example in (*data.earlier, *data.fresh):
            votes[example.target].update(example.text.split())
        (into / "votes.json").write_text(json.dumps(votes))
        return {"fresh": len(data.fresh), "earlier": len(data.earlier), "words": len(set().union(*votes))}

    def predict(self, examples, checkpoint):
        if not (checkpoint / "votes.json").exists():
            raise StudentError(f"{checkpoint}: is no checkpoint of word-votes; train the round again")
        votes = json.loads((checkpoint / "votes.json").read_text())
        rows = [[self.smoothing + sum(of_class.get(word, 0) for word in example.text.split()) for of_class in votes]
                for example in examples]
        return [np.array(row, np.float32) / np.float32(sum(row)) for row in rows]
'''

STRATEGY = '''
"""Three texts a call for every label alike, with no feedback from the student."""

from dataclasses import dataclass

from evokd_data.records import Quota
from evokd_data.strategies.labelling import label_texts
from evokd_data.strategies.quotas import divide
from evokd_data.strategies.writing import write_texts


@dataclass(frozen=True)
class ThreeTexts:
    name = "three-texts"
    prompt_templates = ("generate", "label")

    per_request: int = 3

    def accepts(self, task):
        return None

    def allot(self, brief):
        labels = brief.task.labels
        shares = divide(brief.budget, [1.0] * len(labels), brief.round)
        return [Quota(label, share) for label, share in zip(labels, shares, strict=True) if share]

    def writer(self, brief, ask):
        async def write(request):
            texts, problem = await write_texts(brief, request, ask)
            return await label_texts(brief, request, ask, self.name, texts, problem)

        return write
'''

TASK = '''
"""Labels with an order, such as stars: how far off a prediction is counts too."""

from dataclasses import dataclass

import numpy as np

from evokd_data.tasks.classification import Classification


@dataclass(frozen=True)
class Ordinal(Classification):
    name = "ordinal"

    def score(self, samples, probabilities, seed):
        rows = np.asarray(probabilities).argmax(axis=1)
        steps = [abs(int(row) - self.labels.index(sample.target)) for row, sample in zip(rows, samples, strict=True)]
        return {**super().score(samples, probabilities, seed), "mean_distance": float(np.mean(steps))}
'''

RECIPE = """\
name: new-plugs
task: {type: ordinal, labels: [red, green, blue]}
seeds: {path: seeds.jsonl}
test: {path: test.jsonl}
teacher: {engine: telling}
teacher_trust: off
strategy: {name: three-texts}
rounds: {count: 1, samples: 12}
student: {kind: word-votes, smoothing: 0.5}
"""
COMMANDS = ("check", "generate", "train-round", "generate", "train-round")
CALLS = f"""
import sys
import evokd_data
from evokd_data.cli import main
assert evokd_data.__file__.startswith(sys.argv[1]), evokd_data.__file__
for command in {COMMANDS}:
    sys.argv = ["evokd-data", command, "recipe.yaml"]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    assert not code, (command, code)
"""


@dataclass(frozen=True)
class Plug:
    """A file of the family's folder, and the entry of the family's table that names its class."""

    family: str
    file: str
    source: str
    entry: str


PLUGS = [
    Plug("teachers", "telling.py", TEACHER, '"telling": "evokd_data.teachers.telling:Telling",'),
    Plug("students", "word_votes.py", STUDENT, '"word-votes": "evokd_data.students.word_votes:WordVotes",'),
    Plug("strategies", "three_texts.py", STRATEGY, '"three-texts": "evokd_data.strategies.three_texts:ThreeTexts",'),
    Plug("tasks", "ordinal.py", TASK, '"ordinal": "evokd_data.tasks.ordinal:Ordinal",'),
]


def sources(folder: Path) -> dict[str, list[str]]:
    return {str(path.relative_to(folder)): path.read_text("utf-8").splitlines() for path in folder.rglob("*.py")}


@pytest.mark.slow
def test_one_file_and_one_line_each_and_a_recipe_runs_with_all_of_them(tmp_path: Path) -> None:
    package = tmp_path / "evokd_data"
    shutil.copytree(ROOT / "evokd_data", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "cards", package / "cards")
    before = sources(package)
    for plug in PLUGS:
        (package / plug.family / plug.file).write_text(plug.source, encoding="utf-8")
        table = package / plug.family / "__init__.py"
        opening = f"{plug.family.upper()} = {{\n"
        text = table.read_text(encoding="utf-8")
        assert text.count(opening) == 1
        table.write_text(text.replace(opening, f"{opening}    {plug.entry}\n"), encoding="utf-8")
    after = sources(package)
    assert sorted(after.keys() - before.keys()) == sorted(f"{plug.family}/{plug.file}" for plug in PLUGS)
    changed = [line for name in before for line in difflib.ndiff(before[name], after[name]) if line[0] in "+-"]
    assert sorted(changed) == sorted(f"+     {plug.entry}" for plug in PLUGS)

    write_rows(tmp_path / "seeds.jsonl", SEEDS)
    write_rows(tmp_path / "test.jsonl", TEST)
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    called = subprocess.run(
        [sys.executable, "-c", CALLS, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert called.returncode == 0, called.stderr

    run = Workspace(tmp_path / "runs" / "new-plugs")
    assert [folder.manifest.exists() for folder in run.rounds()] == [True, True]
    identity = read_json(run.round(1).manifest)["identity"]
    assert identity["teacher"] == {"engine": "telling", "model": "telling"}
    assert identity["student"] == {"kind": "word-votes", "smoothing": 0.5}
    assert (identity["rows"], read_json(run.round(1).generated)["rejected"]) == (12, {})
    answers = list(journal.read_answers(run.round(1).journal))
    assert sorted({row["stage"] for row in answers}) == ["generate", "label"]
    metrics = read_json(run.round(1).metrics)
    assert metrics["probe"]["n"] == 12 and metrics["test"]["n"] == 9
    assert 0 <= metrics["test"]["mean_distance"] <= 2
    assert json.loads((run.round(1).student / "votes.json").read_text())[0]["red"] >= 4
