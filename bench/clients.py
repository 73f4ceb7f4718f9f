"""Which clients can read a published round?

    python bench/clients.py [--only NAME] [--fresh] [--json build/clients.json] [--page docs/clients.md]

Publishes three small rounds to a local Hub, and makes one virtual environment for each of `ENVIRONMENTS` under build/venvs (a
later run uses it again, `--fresh` makes a new one). There each of `READERS` reads the round before the newest, in a process
and with a cache of its own. Its rows are compared with the published ones through a digest.

A reader that cannot work has its reason here (`never`). It is tried, too, and may fail; any other failure exits with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evokd_data import localhub
from evokd_data.localhub.child import RunningHub
from evokd_data.progress import Progress
from evokd_data.publishers.hub import Hub
from evokd_data.stages.publish import Publication
from evokd_data.storage.shards import ShardedSamples

ROOT = Path(__file__).resolve().parents[1]
REPO = "org/intents"
ROUND = 1  # of rounds 0 to 2, so that a reader that takes the newest is detected
SECONDS = 120

OURS = ("orjson", "jinja2", "ruamel.yaml", "pydantic", "click", "rich")
"""Packages that evokd_data.load_round needs besides the clients."""
READING = ("pandas", "polars", "duckdb")
ENVIRONMENTS = {
    "huggingface_hub-1": ("huggingface_hub==1.3.*", "datasets==4.*", *READING, *OURS),
    "huggingface_hub-2": ("huggingface_hub==2.*", "datasets==5.*", *READING, *OURS),
}
VERSIONS_OF = ("huggingface_hub", "datasets", "pyarrow", "fsspec", *READING)


@dataclass(frozen=True)
class Reader:
    """`code` sets `rows` to an iterable of mappings. It gets `repo`, `tag`, `files` (the Parquet files of round 0 to the
    round asked for), `endpoint`, and an empty `folder`."""

    title: str
    code: str
    never: str = ""


READERS = {
    "load_round": Reader(
        "evokd_data.load_round",
        "from evokd_data import load_round\nrows = load_round(repo, tag)['train']",
    ),
    "datasets": Reader(
        "datasets",
        "from datasets import load_dataset\nrows = load_dataset(repo, revision=tag, split='train')",
    ),
    "datasets-config": Reader(
        "datasets, each round's config",
        "from datasets import concatenate_datasets, load_dataset\n"
        "names = [f'round-{i:03d}' for i in range(int(tag[6:]) + 1)]\n"
        "rows = concatenate_datasets([load_dataset(repo, name, revision=tag, split='train') for name in names])",
    ),
    "datasets-streaming": Reader(
        "datasets, streaming",
        "from datasets import load_dataset\nrows = load_dataset(repo, revision=tag, split='train', streaming=True)",
    ),
    "snapshot": Reader(
        "huggingface_hub.snapshot_download",
        "import huggingface_hub, pyarrow.parquet as pq\n"
        "at = huggingface_hub.snapshot_download(repo, repo_type='dataset', revision=tag)\n"
        "rows = [row for file in files for row in pq.read_table(f'{at}/{file}').to_pylist()]",
    ),
    "hf": Reader(
        "hf download (command line)",
        "import pyarrow.parquet as pq\n"
        "run('hf', 'download', repo, '--repo-type', 'dataset', '--revision', tag, '--local-dir', folder)\n"
        "rows = [row for file in files for row in pq.read_table(f'{folder}/{file}').to_pylist()]",
    ),
    "huggingface-cli": Reader(
        "huggingface-cli download",
        "import pyarrow.parquet as pq\n"
        "run('huggingface-cli', 'download', repo, '--repo-type', 'dataset', '--revision', tag, '--local-dir', folder)\n"
        "rows = [row for file in files for row in pq.read_table(f'{folder}/{file}').to_pylist()]",
        never="huggingface_hub 1.0 took the command away; its name is `hf` now",
    ),
    "pyarrow": Reader(
        "pyarrow with HfFileSystem",
        "import huggingface_hub, pyarrow.parquet as pq\n"
        "hub = huggingface_hub.HfFileSystem()\n"
        "paths = sorted(hub.glob(f'datasets/{repo}@{tag}/data/**/*.parquet'))\n"
        "rows = [row for path in paths for row in pq.read_table(path, filesystem=hub).to_pylist()]",
    ),
    "pandas": Reader(
        "pandas, hf://",
        "import pandas\nrows = pandas.read_parquet(f'hf://datasets/{repo}@{tag}/data').to_dict('records')",
    ),
    "polars-hf": Reader(
        "polars, hf://",
        "import polars\nrows = polars.read_parquet(f'hf://datasets/{repo}@{tag}/data/**/*.parquet').to_dicts()",
        never="polars has https://huggingface.co compiled into its own hf://, no setting names another Hub; give it files, "
        "or the file objects of HfFileSystem",
    ),
    "polars-files": Reader(
        "polars with HfFileSystem",
        "import huggingface_hub, polars\n"
        "hub = huggingface_hub.HfFileSystem()\n"
        "paths = sorted(hub.glob(f'datasets/{repo}@{tag}/data/**/*.parquet'))\n"
        "rows = polars.read_parquet([hub.open(path) for path in paths]).to_dicts()",
    ),
    "duckdb-hf": Reader(
        "duckdb, hf://",
        "import duckdb\n"
        "rows = duckdb.sql(f\"from 'hf://datasets/{repo}@{tag}/data/**/*.parquet'\").df().to_dict('records')",
        never="duckdb's own hf:// is in its extension httpfs, which it downloads on first use, and knows https://huggingface.co "
        "alone; register HfFileSystem in its place, or give it files",
    ),
    "duckdb-files": Reader(
        "duckdb with HfFileSystem",
        "import duckdb, huggingface_hub\n"
        "duckdb.register_filesystem(huggingface_hub.HfFileSystem())\n"
        "rows = duckdb.sql(f\"from read_parquet('hf://datasets/{repo}@{tag}/data/**/*.parquet')\").df().to_dict('records')",
    ),
    "http": Reader(
        "any HTTP client",
        "import io, pyarrow.parquet as pq, urllib.request\n"
        "urls = [f'{endpoint}/datasets/{repo}/resolve/{tag}/{file}' for file in files]\n"
        "rows = [row for url in urls for row in pq.read_table(io.BytesIO(urllib.request.urlopen(url).read())).to_pylist()]",
    ),
}

CHILD = """
import hashlib, json, os, subprocess, sys
repo, tag, folder, endpoint, *files = sys.argv[2:]
def run(command, *line):
    subprocess.run([os.path.join(os.path.dirname(sys.executable), command), *line], check=True, stdout=subprocess.DEVNULL)
exec(sys.argv[1])
features = getattr(rows, "features", {})  # of datasets alone
label = features["label"].int2str if "label" in features else str
found = [[row["id"], row["text"], label(row["label"]), int(row["round"])] for row in rows]
print("digest", hashlib.sha256(json.dumps(found).encode()).hexdigest(), len(found), flush=True)
os._exit(0)
"""


@dataclass(frozen=True)
class Published:
    server: RunningHub
    files: list[str]
    digest: str
    rows: int


def publish(server: RunningHub, folder: Path) -> Published:
    sys.path.insert(0, str(ROOT))
    from tests.support.finished_runs import make_run

    recipe, workspace = make_run(folder, ROUND + 2)
    assert recipe.publish is not None
    recipe = replace(recipe, publish=replace(recipe.publish, repo=REPO, endpoint=server.endpoint, private=False))
    hub = Hub(server.endpoint, server.token)
    Publication(recipe, hub, Progress()).publish(workspace, ROUND + 1)
    shards = [path for index in range(ROUND + 1) for path in workspace.round(index).shard_files()]
    rows = [[s.id, s.text, s.target, s.origin.round] for s in ShardedSamples(recipe.task, shards)]
    files = hub.round_files(REPO, hub.refs(REPO).rounds()[ROUND])
    data = sorted(path for path in files if path.startswith("data/"))
    return Published(server, data, hashlib.sha256(json.dumps(rows).encode()).hexdigest(), len(rows))


def environment(name: str, venvs: Path, fresh: bool) -> tuple[Path, dict[str, str]]:
    """A Python interpreter with the packages of `ENVIRONMENTS[name]`, and their versions."""
    folder = venvs / name
    python, installed = folder / "bin" / "python", folder / "installed"
    requirements = "\n".join(ENVIRONMENTS[name])
    if fresh or not installed.exists() or installed.read_text(encoding="utf-8") != requirements:
        print(f"{name}: installing {', '.join(ENVIRONMENTS[name])}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-qqq", "install", *ENVIRONMENTS[name]]
        subprocess.run(pip, check=True)
        installed.write_text(requirements, encoding="utf-8")
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {VERSIONS_OF!r}}}))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return python, json.loads(done.stdout)


def read(python: Path, reader: Reader, published: Published) -> str:
    """The reader's error; empty when its rows are the published ones."""
    with tempfile.TemporaryDirectory(prefix="evokd-client-") as scratch:
        home, folder = Path(scratch, "home"), Path(scratch, "folder")
        folder.mkdir()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
        variables = {
            **inherited, "HF_HOME": str(home), "HF_ENDPOINT": published.server.endpoint, "HF_TOKEN": published.server.token,
            "HF_UPDATE_DOWNLOAD_COUNTS": "0", "HOME": scratch, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        tag = f"round-{ROUND:03d}"
        line = [
            str(python),
            "-c",
            CHILD,
            reader.code,
            REPO,
            tag,
            str(folder),
            published.server.endpoint,
            *published.files,
        ]
        try:
            done = subprocess.run(line, env=variables, cwd=scratch, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"no answer in {SECONDS} s"
    if done.returncode:
        return (
            (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
            .replace(scratch, "")
            .replace(str(ROOT), "")[:300]
        )
    _, digest, rows = next(line for line in done.stdout.splitlines() if line.startswith("digest ")).split()
    if digest != published.digest:
        return f"other rows: {rows} with digest {digest[:12]}, published were {published.rows} with {published.digest[:12]}"
    return ""


def page(results: Mapping[str, Any]) -> str:
    """The text of docs/clients.md."""
    names = list(results["environments"])
    lines = [
        "# Reading a published round with other clients",
        "",
        "Written by `make clients` (bench/clients.py): three rounds on a local Hub, each client told of it by `HF_ENDPOINT`, in",
        'an environment and a cache of its own, reads the second by its tag; "yes" means the same rows in the same order.',
        "For huggingface.co leave `HF_ENDPOINT` away; nothing here was tried there.",
        "",
        f"| client | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {READERS[key].title} | {' | '.join(_cell(cells[name]) for name in names)} |"
            for key, cells in results["readers"].items()
        ),
        "",
        "| package | " + " | ".join(names) + " |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {package} | {' | '.join(results['environments'][name][package] for name in names)} |"
            for package in VERSIONS_OF
        ),
        "",
        "Only `evokd_data.load_round` compares what it reads with the round's manifest. Each of the others takes what the Hub, or",
        "its own cache, hands out; `evokd-data verify` tells afterwards whether that was right.",
        "",
        "## Where it is no",
        "",
        *(f"- **{reader.title}**: {reader.never}." for reader in READERS.values() if reader.never),
        "",
        "## How",
        "",
        "`repo` is `org/name`, `tag` is `round-001`, `files` are paths such as `data/round-001/train-00000-of-00001.parquet`,",
        "`endpoint` is the address of the Hub. A private data set wants a token: `HF_TOKEN`, or for a bare HTTP client the header",
        "`Authorization: Bearer ...`.",
    ]
    for reader in READERS.values():
        if not reader.never:
            lines += ["", f"{reader.title}:", "", "```python", _shell(reader.code), "```"]
    return "\n".join(lines) + "\n"


def _cell(error: str) -> str:
    return "no" if error else "yes"


def _shell(code: str) -> str:
    """The command line as one types it, then the code that follows."""
    lines = []
    for line in code.splitlines():
        if line.startswith("run("):
            words = [word.strip().strip("'") for word in line[4:-1].split(",")]
            line = "# " + " ".join({"repo": "org/name", "tag": "round-001"}.get(word, word) for word in words)
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=READERS, action="append", help="some readers; nothing is written")
    parser.add_argument("--fresh", action="store_true", help="make the environments anew")
    parser.add_argument("--venvs", type=Path, default=ROOT / "build" / "venvs")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "clients.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "clients.md")
    options = parser.parse_args()
    chosen = {key: reader for key, reader in READERS.items() if options.only is None or key in options.only}
    results: dict[str, Any] = {"environments": {}, "readers": {key: {} for key in chosen}}
    failed = False
    with tempfile.TemporaryDirectory() as folder, localhub.running(Path(folder) / "hub") as server:
        published = publish(server, Path(folder) / "run")
        for name in ENVIRONMENTS:
            python, results["environments"][name] = environment(name, options.venvs, options.fresh)
            versions = ", ".join(f"{package} {results['environments'][name][package]}" for package in VERSIONS_OF)
            print(f"{name}: {versions}", flush=True)
            for key, reader in chosen.items():
                error = results["readers"][key][name] = read(python, reader, published)
                failed |= bool(error) and not reader.never
                surprise = " (though it was said never to)" if reader.never and not error else ""
                print(f"  {reader.title:36} {'no: ' + error if error else 'yes' + surprise}", flush=True)
    if options.only is None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.only is None and not failed:
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(page(results), encoding="utf-8")
    sys.exit(failed)


if __name__ == "__main__":
    main()
