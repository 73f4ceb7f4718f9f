"""Parts of a round's journal, left by its writers on storage that they share with the driver.

A writer that is killed has told nobody of the partition it was at. What it was answered until then lies here, in objects
of a few seconds' answers each: whoever writes the partition next begins with them, and a driver that is started again
takes them all into the round's journal. What has arrived in the journal is removed.

    PLACE/000120-000168-9f86d081-0003.jsonl     requests [120, 168), one attempt at them, its fourth part

Any folder or URL that fsspec can open will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from evokd_data.errors import RecipeError
from evokd_data.storage.remote import open_url


class JournalParts:
    """The parts at `place`. Raises RecipeError when it cannot be opened."""

    def __init__(self, place: str) -> None:
        self._fs, self._base = open_url("teacher.parts", place, RecipeError)

    def write(self, name: str, lines: bytes) -> None:
        """A part that is there is whole, or ends in a torn line."""
        self._fs.makedirs(self._base, exist_ok=True)
        self._fs.pipe_file(f"{self._base}/{name}.jsonl", lines)

    def read(self, beginning: str = "") -> Iterator[bytes]:
        """The parts whose names begin so, in their order."""
        for path in self._paths(beginning):
            yield self._fs.cat_file(path)

    def remove(self, beginning: str = "") -> None:
        for path in self._paths(beginning):
            self._fs.rm_file(path)

    def clear(self) -> None:
        """Remove all of them, and the folder."""
        self.remove()
        with suppress(Exception):  # there is none, or such storage knows no folders
            self._fs.rmdir(self._base)

    def _paths(self, beginning: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            paths = self._fs.ls(self._base, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path for path in paths if path.rsplit("/", 1)[-1].startswith(beginning))
