"""What a run takes over from a preview of its recipe, when the recipe was changed in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evokd_data.progress import Progress
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json


def begin_anew_after_a_preview(workspace: Workspace, frozen: Mapping[str, Any], progress: Progress) -> None:
    """Remove what a preview of the recipe left here before it was changed, but for the exam where that asks the same."""
    if not workspace.preview.exists() or not workspace.inputs.exists():
        return
    before, exam = read_json(workspace.inputs), workspace.round(1).exam
    content = read_json(exam) if exam.exists() and but_rounds(before) == but_rounds(frozen) else None
    if not workspace.discard_preview(frozen):
        return
    if content is not None:
        exam.parent.mkdir(parents=True, exist_ok=True)
        write_checked_json(exam, content)
        progress.note(
            f"{workspace.root}: held a preview with other rounds; its texts are removed, its exam still holds"
        )
        return
    changed = sorted(key for key in before if before[key] != frozen.get(key) and key not in ("settings", "recipe"))
    changed += sorted(
        key for key in before.get("settings", {}) if before["settings"][key] != frozen.get("settings", {}).get(key)
    )
    progress.note(
        f"{workspace.root}: held a preview of the recipe before it was changed ({', '.join(changed)}), which is removed; the exam is "
        "taken again"
    )


def but_rounds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was begun with, but for the number of texts."""
    settings = {key: value for key, value in inputs["settings"].items() if key != "rounds"}
    return {**inputs, "settings": settings, "recipe": None}
