"""Where the run comes from and how to have it back: digests, revisions, versions, commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from evokd_data.reporting.report_sections.run_files import RunFiles
from evokd_data.storage.workspace import read_json

REVISION_KEYS = ("repo", "tag", "commit")


def lineage(run: RunFiles) -> dict[str, Any]:
    """{"recipe", "seed", "strategy", "inputs", "prompts", "teacher", "student", "from", "rounds", "versions", "hardware",
    "finished", "commands"}."""
    manifests = [round_files.manifest for round_files in run.rounds if round_files.manifest]
    newest = manifests[-1]["environment"] if manifests else {}
    origin = read_json(run.workspace.origin) if run.workspace.origin.exists() else None
    settings = run.inputs["settings"]
    return {
        "recipe": run.inputs["recipe"],
        "seed": settings["seed"],
        "strategy": settings["strategy"]["name"],
        "inputs": run.inputs["splits"],
        "prompts": run.inputs["prompts"],
        "teacher": _model(run.teacher_name, run.inputs["teacher"], "engine"),
        "student": _model(run.student_name, _base(run.inputs["student"]), "kind"),
        "from": origin and {key: origin[key] for key in ("repo", "tag", "commit", "digest")},
        "rounds": [
            {
                "round": round_files.index,
                "digest": round_files.manifest.get("digest"),
                "content": round_files.manifest.get("identity", {}).get("content"),
                "rows": round_files.manifest.get("identity", {}).get("rows"),
                "revision": round_files.entry["revision"],
            }
            for round_files in run.rounds
        ],
        "versions": newest.get("versions", {}),
        "hardware": newest.get("hardware", {}),
        "finished": newest.get("finished"),
        "commands": commands(run),
    }


def _base(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """A student's identity, with that of its base model in place of its own model, revision and digest."""
    base = identity.get("base")
    return {**identity, **base} if isinstance(base, Mapping) else identity


def _model(name: str, identity: Mapping[str, Any], kind: str) -> dict[str, str]:
    """A model by what identifies it. A path of this machine is no part of it."""
    return {
        "name": name,
        "kind": str(identity.get(kind, "")),
        "revision": str(identity.get("revision") or ""),
        "digest": str(identity.get("digest") or ""),
    }


def commands(run: RunFiles) -> list[dict[str, str]]:
    """What to type to have the best round again, {"what", "command"}: from the Hub where it is published, else from the folder."""
    name = shlex.quote(run.summary["name"])
    revisions = [r.entry["revision"] for r in run.rounds if r.entry["revision"]]
    best = run.best
    lines = []
    if revisions:
        revision = next((r for r in reversed(revisions) if best and r["tag"] == best.folder.tag), revisions[-1])
        repo, tag, index = revision["repo"], revision["tag"], int(revision["tag"].rpartition("-")[2])
        lines += [
            ("load the round, every digest checked", f"evokd-data load {repo} --round {index}"),
            ("check it without loading it", f"evokd-data verify {repo} --round {index}"),
            ("make its rows again from the journal, without the teacher", f"evokd-data replay {repo} --round {index}"),
            ("in Python, without this package", f'datasets.load_dataset("{repo}", revision="{tag}")'),
        ]
    lines += [
        ("see the run", f"evokd-data show {name}"),
        ("label texts with its best student", f"evokd-data predict {name} texts.csv"),
    ]
    return [{"what": what, "command": command} for what, command in lines]
