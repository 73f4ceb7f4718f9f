"""Which samples were in which exported file: `review-exports/<name>.json` in the run's folder.

Only a sample that was exported can have been deleted in the tool. A run goes on while its samples are annotated, and a file may be
imported twice: samples that came later must not count as deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from evokd_data.digest import digest
from evokd_data.errors import DataError
from evokd_data.storage.corrections import RowKey
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json

FOLDER = "review-exports"
NAME_DIGITS = 12


def record_export(workspace: Workspace, keys: Sequence[RowKey]) -> str:
    """Write down which samples an export holds. Returns its name, which follows from them: the same samples, the same name."""
    name = digest([list(key) for key in keys])[:NAME_DIGITS]
    path = _path(workspace, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checked_json(path, {"rows": [list(key) for key in keys]})
    return name


def exported_keys(workspace: Workspace, names: Collection[str], source: Path) -> set[RowKey]:
    """The samples of these exports. Raises DataError, which names the file that is imported, for one that this run did not make."""
    keys: set[RowKey] = set()
    for name in sorted(names):
        path = _path(workspace, name)
        if not (name.isalnum() and path.exists()):
            raise DataError(
                f"{source}: comes from the export {name!r}, which {workspace.root} knows nothing of, so nobody can tell what was deleted; "
                "import it with --missing leave"
            )
        keys |= {(int(index), str(sample)) for index, sample in read_json(path)["rows"]}
    return keys


def _path(workspace: Workspace, name: str) -> Path:
    return workspace.root / FOLDER / f"{name}.json"
