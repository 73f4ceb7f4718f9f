"""The linear student's own: its losses stay as they are, and it needs no torch."""

from __future__ import annotations

import sys

import pytest

from evokd_data.students.linear import Linear
from tests.support.student_data import texts
from tests.support.student_training import fit


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
