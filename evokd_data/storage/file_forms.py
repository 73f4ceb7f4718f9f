"""What the JSON files of a run hold, by their names: keys, and the type of each value.

A file may be damaged and still be JSON, above all one of an earlier version, which has no checksum. So a reader may rely on these
keys, and names the file when one is missing.
"""

from __future__ import annotations

from typing import Any

TEXT, COUNT, NUMBER, TABLE, LIST = str, int, (int, float), dict, list
OPTIONAL_TABLE = (dict, type(None))

FORMS: dict[str, dict[str, Any]] = {
    "inputs.json": {"settings": TABLE, "splits": TABLE, "prompts": TABLE, "teacher": TABLE, "student": TABLE},
    "from.json": {"repo": TEXT, "round": COUNT, "tag": TEXT, "commit": TEXT, "digest": TEXT, "branch": bool},
    "plan.json": {"weaknesses": LIST, "cells": LIST},
    "exam.json": {"chosen": TABLE, "rule": TEXT, "verdict": TEXT, "message": TEXT},
    "generated.json": {
        "asked": COUNT, "kept": COUNT, "rejected": TABLE, "prompt_tokens": COUNT, "completion_tokens": COUNT,
        "requests": COUNT, "seconds": NUMBER,
    },
    "metrics.json": {"test": OPTIONAL_TABLE, "dev": OPTIONAL_TABLE, "probe": OPTIONAL_TABLE, "training": TABLE, "seconds": NUMBER},
    "test-outcomes.json": {"classes": LIST, "expected": LIST, "student": TABLE, "seeds_only": OPTIONAL_TABLE},
    "manifest.json": {"digest": TEXT, "identity": TABLE, "shards": LIST, "environment": TABLE},
    "revision.json": {"repo": TEXT, "tag": TEXT, "commit": TEXT},
    "student.json": {"repo": TEXT, "tag": TEXT, "commit": TEXT},
    "evokd.json": {"student": TEXT, "classes": LIST, "files": TABLE},
    "suspects.json": {"suspected": LIST, "killers": TABLE},
    "tracked.json": {"to": TEXT, "round": COUNT},
    "training.json": {},
}  # fmt: skip

ENTRIES: dict[str, dict[str, dict[str, Any]]] = {
    "plan.json": {
        "cells": {"target": TEXT, "samples": COUNT},
        "weaknesses": {"name": TEXT, "missed": COUNT, "seen": COUNT, "wrong": LIST},
    },
    "manifest.json": {"shards": {"file": TEXT, "rows": COUNT, "content": TEXT}},
}
"""What each entry of a list in such a file holds. A person may write a plan: what has a default may be missing."""
CORRECTION = {"round": COUNT, "id": TEXT, "action": TEXT}
"""What each of `corrections` in a plan holds, at least."""
QUOTAS = ("cells", "refills")
QUOTA_KEYS = {"target", "samples", "difficulty", "contrast", "weakness", "text"}


def check_form(name: str, value: Any) -> None:
    """Raises ValueError when the value is not what a file of this name holds; files of other names may hold anything."""
    if name in FORMS:
        _check_table(value, FORMS[name], "it")
        for key, form in ENTRIES.get(name, {}).items():
            _check_entries(value[key], key, form)
        if name == "plan.json":
            _check_entries(value.get("corrections", []), "corrections", CORRECTION)
            refills = value.get("refills", [])
            if not isinstance(refills, list):
                raise ValueError(f"the 'refills' of it is {refills!r:.40}")
            for quotas in refills:
                _check_entries(quotas, "refills", ENTRIES["plan.json"]["cells"])
            _check_neighbours(value.get("neighbours", {}))


def _check_neighbours(value: Any) -> None:
    """Raises ValueError when it is no table of lists of labels."""
    lists = value.values() if isinstance(value, dict) else [None]
    if not all(isinstance(labels, list) and all(isinstance(label, str) for label in labels) for labels in lists):
        raise ValueError(f"the 'neighbours' of it is {value!r:.40}")


def _check_entries(entries: Any, key: str, form: dict[str, Any]) -> None:
    if not isinstance(entries, list):
        raise ValueError(f"an entry of {key!r} is {entries!r:.40}")
    for entry in entries:
        _check_table(entry, form, f"an entry of {key!r}")
        if unknown := entry.keys() - QUOTA_KEYS if key in QUOTAS else ():
            raise ValueError(f"an entry of {key!r} has {min(unknown)!r}, which is no part of a quota")


def _check_table(value: Any, form: dict[str, Any], what: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no table but {value!r:.40}")
    for key, kind in form.items():
        if key not in value:
            raise ValueError(f"{what} has no {key!r}")
        if not isinstance(value[key], kind) or (kind is not bool and isinstance(value[key], bool)):
            raise ValueError(f"the {key!r} of {what} is {value[key]!r:.40}")
