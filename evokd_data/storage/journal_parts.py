"""Journal parts: answers of a round that workers have left on shared storage before they are in the journal.

A worker returns a partition when it is complete, so a killed worker would lose all answers of its current partition. It
therefore writes its answers here every few seconds, one object at a time. The worker that writes the partition next begins with
them. A driver that is started again moves all parts into the round's journal. Parts whose answers are in the journal are
removed.

    URL/000120-000168-9f86d081-0003.jsonl     requests [120, 168), one attempt to write them, its fourth part

The storage is any folder or URL that fsspec can open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from evokd_data.errors import RecipeError
from evokd_data.storage.remote import open_url


class JournalParts:
    """The journal parts below `url`. Raises RecipeError when it cannot be opened."""

    def __init__(self, url: str) -> None:
        self._fs, self._base = open_url("teacher.parts", url, RecipeError)

    def write(self, name: str, lines: bytes) -> None:
        """Write the part `name`. If the writer is killed meanwhile, the part may end in a torn line."""
        self._fs.makedirs(self._base, exist_ok=True)
        self._fs.pipe_file(f"{self._base}/{name}.jsonl", lines)

    def read(self, prefix: str = "") -> Iterator[bytes]:
        """The content of each part whose name begins with `prefix`, in the order of names."""
        for path in self._paths(prefix):
            yield self._fs.cat_file(path)

    def remove(self, prefix: str = "") -> None:
        """Remove the parts whose names begin with `prefix`."""
        for path in self._paths(prefix):
            self._fs.rm_file(path)

    def clear(self) -> None:
        """Remove all parts and the folder."""
        self.remove()
        with suppress(Exception):  # the folder does not exist, or the storage has no folders
            self._fs.rmdir(self._base)

    def _paths(self, prefix: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            paths = self._fs.ls(self._base, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path for path in paths if path.rsplit("/", 1)[-1].startswith(prefix))
