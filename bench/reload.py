"""What does loading a round cost with every byte verified, compared with plain loading?

    python bench/reload.py [--rows 1000000] [--rounds 5] [--repeats 5] [--no-streams] [--json FILE]

One data set lies on a local Hub, its rows divided over `--rounds` rounds, each one Parquet file, written as by `publish`.
Two ways to load its newest round, each in a process of its own, alternate `--repeats` times:

    bare    datasets.load_dataset(repo, revision=tag): nothing is verified
    ours    evokd_data.load_round(repo, round): every byte is compared with the round's manifest

in four states: `cold`, an empty cache; `warm`, the cache that the cold load left; and `stream` and `stream_warm`, the same
with streaming=True, where bare downloads nothing in advance and caches nothing. Measured in the process, imports
included: the seconds until 1000 rows are read, the CPU seconds until then, and the peak resident memory (ru_maxrss, which
contains the pages of mapped files). Both must give the same 1000 rows. Prints medians, and medians of the ratios within one
repeat. The CPU seconds are those of the client alone, not of the Hub; on a shared machine they are more reliable than wall
time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from report import record

from evokd_data import localhub, repo_layout
from evokd_data.digest import digest, file_digest
from evokd_data.localhub.child import RunningHub
from evokd_data.publishers.hub import Hub
from evokd_data.records import Bundle
from evokd_data.repo_layout import round_tag
from evokd_data.stages import manifest
from evokd_data.storage import parquet
from evokd_data.storage.row_datasets import in_card, text_features
from evokd_data.storage.shards import sample_schema
from evokd_data.storage.snapshot import encode_manifest, with_checksum
from evokd_data.tasks.classification import Classification

REPO = "bench/rows"
LABELS = ("alarm", "balance", "flight", "music", "recipe", "reminder", "translate", "weather")
TASK = Classification(labels=LABELS)
STATES = ("cold", "warm", "stream", "stream_warm")
WAYS = ("bare", "ours")
BATCH = 1000
CHILD = """
import sys, time
began = time.perf_counter()
way, repo, round, streaming, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "stream", int(sys.argv[5])
if way == "bare":
    from datasets import load_dataset
    rows = load_dataset(repo, revision=f"round-{round:03d}", split="train", streaming=streaming)
else:
    from evokd_data import load_round
    rows = load_round(repo, round, streaming=streaming)["train"]
first = next(iter(rows.iter(batch_size=batch)))
seconds = time.perf_counter() - began
import hashlib, json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
text = hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()
found = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}
print(json.dumps({**found, "first": text, "rows": None if streaming else len(rows)}), flush=True)
import os
os._exit(0)  # the threads of a stream may take their time
"""


def batches(rows: int, round: int) -> Iterator[pa.RecordBatch]:
    """Made-up samples: texts of 12 words from a vocabulary, soft labels for every class."""
    draw = np.random.default_rng(round)
    words = np.array(
        [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("a", "ei", "o", "u") for c in ("n", "rt", "s", "ll")]
    )
    schema = sample_schema(TASK)
    for start in range(0, rows, parquet.GROUP_ROWS):
        count = min(parquet.GROUP_ROWS, rows - start)
        texts = [" ".join(row) for row in words[draw.integers(0, len(words), (count, 12))]]
        labels = draw.integers(0, len(LABELS), count)
        soft = draw.dirichlet(np.ones(len(LABELS)), count).astype("float32")
        request = (start + np.arange(count)) // 5
        columns = {
            "id": [row.hex() for row in _chunks(draw.bytes(16 * count), 16)],
            "text": texts,
            "label": [LABELS[label] for label in labels],
            "soft": pa.FixedSizeListArray.from_arrays(soft.ravel(), len(LABELS)).cast(pa.list_(pa.float32())),
            "weight": np.ones(count, "float32"),
            "round": np.full(count, round, "int32"),
            "request": request.astype("int32"),
            "position": ((start + np.arange(count)) % 5).astype("int32"),
            "strategy": ["evokd"] * count,
            "difficulty": ["hard" if value % 2 else "easy" for value in request],
            "weakness": [""] * count,
            "intended": [LABELS[label] for label in labels],
        }
        yield pa.RecordBatch.from_arrays(
            [pa.array(columns[name], schema.field(name).type) for name in schema.names], schema=schema
        )


def _chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def publish(server: RunningHub, folder: Path, rows: int, rounds: int) -> int:
    """Publish the data set with the layout of `publish`; returns the bytes of its rows. There is no teacher and no student:
    figures of their stages and content digests are empty, because loading a round does not read them."""
    hub, size = Hub(server.endpoint, server.token), 0
    before: dict[str, Any] | None = None
    configs: list[str] = []
    for index in range(rounds):
        name = round_tag(index)
        round_rows = rows // rounds + (index < rows % rounds)
        paths = parquet.write_files(batches(round_rows, index), sample_schema(TASK), folder / name)
        files = {
            repo_layout.parquet_file(repo_layout.DATA, name, repo_layout.SPLIT, n, len(paths)): path
            for n, path in enumerate(paths)
        }
        entries = {
            path: {"sha256": file_digest(file), "size": file.stat().st_size, "rows": parquet.count_rows(file)}
            for path, file in files.items()
        }
        size += sum(entry["size"] for entry in entries.values())
        configs += files
        texts = {
            repo_layout.plan(name): "{}\n",
            repo_layout.metrics(name): '{"test": {}}\n',
            repo_layout.CARD: card(configs, rows * (index + 1) // rounds),
        }
        for path, text in texts.items():
            files[path] = folder / name / path.replace("/", "-")
            files[path].write_text(text, encoding="utf-8")
            entries[path] = {"sha256": file_digest(files[path]), "size": files[path].stat().st_size}
        identity = {
            "round": index, "parent": before and before["digest"], "rows": round_rows, "rejections": 0, "prompts": {},
            "plan": entries[repo_layout.plan(name)]["sha256"], "content": "",
        }  # fmt: skip
        round_manifest = {
            "schema": manifest.SCHEMA_VERSION, "round": index, "digest": digest(identity), "identity": identity, "shards": [],
            "totals": {"asked": round_rows, "rejected": {}}, "files": entries,
            "previous": before and {"tag": round_tag(index - 1), "sha256": before["sha256"]},
        }  # fmt: skip
        files[repo_layout.manifest(name)] = folder / name / "manifest.json"
        files[repo_layout.manifest(name)].write_bytes(encode_manifest(with_checksum(round_manifest)))
        before = {"digest": round_manifest["digest"], "sha256": file_digest(files[repo_layout.manifest(name)])}
        hub.publish(
            Bundle(
                REPO,
                name,
                name,
                files,
                round_manifest["digest"],
                round_tag(index - 1) if index else None,
                private=False,
            )
        )
    return size


def card(files: list[str], rows: int) -> str:
    features = in_card(text_features(sample_schema(TASK)))
    head = {
        "configs": [{"config_name": "default", "data_files": [{"split": repo_layout.SPLIT, "path": files}], "default": True}],
        "dataset_info": [{"config_name": "default", "features": features, "splits": [{"name": repo_layout.SPLIT, "num_examples": rows}]}],
    }  # fmt: skip
    return f"---\n{json.dumps(head)}\n---\n"  # JSON is YAML


def load(way: str, state: str, home: Path, server: RunningHub, newest: int) -> dict[str, Any]:
    environment = {
        **os.environ, "HF_HOME": str(home), "HF_ENDPOINT": server.endpoint, "HF_TOKEN": server.token,
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }  # fmt: skip
    stream = "stream" if state.startswith("stream") else "rows"
    line = [sys.executable, "-c", CHILD, way, REPO, str(newest), stream, str(BATCH)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way}, {state}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    server: RunningHub, scratch: Path, repeats: int, newest: int, rows: int, kinds: Sequence[str]
) -> list[dict[str, Any]]:
    turns = []
    for repeat in range(repeats):
        turn: dict[str, Any] = {}
        for kind in kinds:
            homes = {way: scratch / f"{way}{kind}" for way in WAYS}
            for state in STATES[2:] if kind else STATES[:2]:
                for way in WAYS if repeat % 2 else reversed(WAYS):
                    turn[f"{way}_{state}"] = result = load(way, state, homes[way], server, newest)
                    assert result["rows"] in (None, rows), result
                assert turn[f"bare_{state}"]["first"] == turn[f"ours_{state}"]["first"], state
            for home in homes.values():
                shutil.rmtree(home)
        turns.append(turn)
        texts = (f"{name} {result['seconds']:.2f} s {result['mib']:.0f} MiB" for name, result in turn.items())
        print(f"repeat {repeat}: {', '.join(texts)}", file=sys.stderr, flush=True)
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    parser.add_argument("--no-streams", action="store_true", help="only cold and warm")
    options = parser.parse_args()
    kinds = ("",) if options.no_streams else ("", "stream")
    with tempfile.TemporaryDirectory() as folder, localhub.running(Path(folder) / "hub") as server:
        scratch = Path(folder)
        size = publish(server, scratch / "made", options.rows, options.rounds)
        print(f"{options.rows} rows in {options.rounds} rounds, {size / 1e6:.0f} MB of Parquet", flush=True)
        turns = measure(server, scratch, options.repeats, options.rounds - 1, options.rows, kinds)
    figures: dict[str, Any] = {
        "reload_rows": options.rows,
        "reload_repeats": options.repeats,
        "reload_parquet_mb": round(size / 1e6),
    }
    for state in STATES[: 2 * len(kinds)]:
        for key, unit in (("seconds", "s"), ("cpu_seconds", "s"), ("mib", "MiB")):
            sides = {way: [turn[f"{way}_{state}"][key] for turn in turns] for way in WAYS}
            ratios = sorted(ours / bare for bare, ours in zip(sides["bare"], sides["ours"], strict=True))
            middle = {way: statistics.median(values) for way, values in sides.items()}
            for way in WAYS:
                figures[f"reload_{state}_{way}_{key}"] = round(middle[way], 3)
            figures[f"reload_{state}_{key}_ratio"] = round(statistics.median(ratios), 3)
            print(
                f"{state:11} {key:11} bare {middle['bare']:8.2f} {unit:3}  ours {middle['ours']:8.2f} {unit:3}  ratio "
                f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )
    if options.json:
        record(options.json, figures)


if __name__ == "__main__":
    main()
