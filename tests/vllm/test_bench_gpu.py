"""The benchmark that needs a GPU runs without one, in small: otherwise nobody here would notice that it is broken."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1600)]  # a minute on a quiet machine, ten on a crowded one


def test_the_gpu_benchmark_runs_to_its_end_in_small() -> None:
    process = subprocess.run(
        [sys.executable, "bench/gpu.py", "--tiny", "--repeats", "1", "--requests", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
        env={**os.environ, "GOMP_SPINCOUNT": "0"},
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    figures = dict(line.split(maxsplit=1) for line in process.stdout.splitlines() if line.startswith("gpu_"))
    assert figures["gpu_feeding_same_texts"] == "True"
    for name in ("gpu_feeding_ours_over_raw_wall_ratio", "gpu_feeding_ours_over_generate_ratio"):
        assert float(figures[name]) > 0
    assert float(figures["gpu_training_lognormal_over_trainer_ratio"]) > 0
