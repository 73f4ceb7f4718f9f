"""The file that all benchmarks share."""

from __future__ import annotations

import json
import sys

import pytest

from tests.support import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from report import record


def test_a_bench_renews_its_own_figures_and_leaves_the_others(tmp_path):
    path = tmp_path / "build" / "bench.json"
    record(path, {"feeding_ratio": 1.0})
    record(path, {"server_ratio": 0.9, "server_repeats": 5})
    record(path, {"server_ratio": 0.98})
    assert json.loads(path.read_text()) == {"feeding_ratio": 1.0, "server_ratio": 0.98, "server_repeats": 5}
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    path = tmp_path / "list.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match="holds no object of figures"):
        record(path, {"a": 1})
    assert path.read_text() == "[1]"
