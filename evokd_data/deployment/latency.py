"""How long one text takes, with the original network and with the exported one, from text to probabilities.

The two take turns in short blocks within one process, so what else runs on the machine disturbs both alike: the ratio says more
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
from evokd_data.students import Network
from evokd_data.students.batches import Example
from evokd_data.students.encoding import ExampleEncoder

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

    sides = {"original": original, "exported": onnx_logits(model_file, threads)}
    turns = cycle(examples)
    for run in sides.values():
        _times(encoder, run, list(islice(turns, BLOCK)))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    end = time.monotonic() + MOST_SECONDS
    while len(seconds["exported"]) < MEASUREMENTS and (time.monotonic() < end or not seconds["exported"]):
        block = list(islice(turns, BLOCK))
        for name, run in sides.items():
            time.sleep(PAUSE_S)
            seconds[name] += _times(encoder, run, block)
    figures = {name: _percentiles(values) for name, values in seconds.items()}
    return {
        "threads": threads,
        "measurements": len(seconds["exported"]),
        **figures,
        "ratio": round(figures["exported"]["p50_ms"] / figures["original"]["p50_ms"], 4),
    }


def _times(
    encoder: ExampleEncoder, run: Callable[[Mapping[str, Any]], Any], examples: Sequence[Example]
) -> list[float]:
    seconds = []
    for example in examples:
        start = time.perf_counter()
        inputs, outputs = encoder.encode_batch([example])
        outputs.select(run(inputs)).softmax(-1).numpy()
        seconds.append(time.perf_counter() - start)
    return seconds


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    return {"p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4)}
