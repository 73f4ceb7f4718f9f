"""How long one text takes from text to probabilities: with the original network and the exported one, or with several students.

They take turns in short blocks within one process, so what else runs on the machine disturbs both alike: the ratio says more
than either figure. Between two blocks there is a pause, because the threads of either library go on waiting for work for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from evokd_data.deployment.onnx_student import onnx_logits
from evokd_data.students import Network, Predict
from evokd_data.students.batches import Example
from evokd_data.students.encoding import ExampleEncoder

Run = Callable[[Example], Any]
"""What is timed: from an example to its probabilities."""
MEASUREMENTS = 400
BLOCK = 20
PAUSE_S = 0.02
MOST_SECONDS = 60.0
"""No new block begins after so long: a large model on a slow machine is measured on fewer texts."""


def compare_latency(network: Network, model_file: Path, examples: Sequence[Example]) -> dict[str, Any]:
    """Milliseconds for one text at a time, `network` against the file that was exported from it, on as many threads.

    {"threads", "measurements", "original": {"p50_ms", "p99_ms"}, "exported": {...}, "ratio": exported p50 / original p50}. The network
    stays on the CPU. `measurements` counts those of each of the two.
    """
    import torch

    encoder = ExampleEncoder(network.tokenizer, network.module, network.max_length)
    threads = torch.get_num_threads()

    def original(inputs: Mapping[str, Any]) -> Any:
        with torch.inference_mode():
            return network.module(**inputs)

    def run(logits: Callable[[Mapping[str, Any]], Any]) -> Run:
        def run_example(example: Example) -> None:
            inputs, outputs = encoder.encode_batch([example])
            outputs.select(logits(inputs)).softmax(-1).numpy()

        return run_example

    sides = {"original": run(original), "exported": run(onnx_logits(model_file, threads))}
    measurements, figures = _in_turns(sides, examples)
    return {
        "threads": threads,
        "measurements": measurements,
        **figures,
        "ratio": round(figures["exported"]["p50_ms"] / figures["original"]["p50_ms"], 4),
    }


def student_latency(students: Mapping[str, Predict], examples: Sequence[Example]) -> dict[str, Any]:
    """Milliseconds for one text at a time as `predict` answers it: {name: {"p50_ms", "p99_ms"}}, with the number of "measurements"
    of each, and of torch's "threads". On the accelerator where there is one."""
    import torch

    def run(predict: Predict) -> Run:
        return lambda example: predict([example])

    measurements, figures = _in_turns({name: run(predict) for name, predict in students.items()}, examples)
    return {"threads": torch.get_num_threads(), "measurements": measurements, "students": figures}


def _in_turns(sides: Mapping[str, Run], examples: Sequence[Example]) -> tuple[int, dict[str, dict[str, float]]]:
    """The number of measurements of each side, and its percentiles. The first block of each is not counted."""
    turns = cycle(examples)
    for run in sides.values():
        _times(run, list(islice(turns, BLOCK)))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    end = time.monotonic() + MOST_SECONDS
    while (measurements := min(map(len, seconds.values()))) < MEASUREMENTS and (
        time.monotonic() < end or not measurements
    ):
        block = list(islice(turns, BLOCK))
        for name, run in sides.items():
            time.sleep(PAUSE_S)
            seconds[name] += _times(run, block)
    return measurements, {name: _percentiles(values) for name, values in seconds.items()}


def _times(run: Run, examples: Sequence[Example]) -> list[float]:
    seconds = []
    for example in examples:
        start = time.perf_counter()
        run(example)
        seconds.append(time.perf_counter() - start)
    return seconds


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {"p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4)}
