"""corrections.jsonl: what a person decided about the samples of a run, append-only, one JSON line with its checksum for each decision.

    {"n": 7, "action": "relabel", "rows": [[1, "9f86d0..."]], "to": {"label": "refund"}, "rule": null}
    {"n": 8, "action": "reject", "rows": [[1, "60303a..."], [2, "fd61a0..."]], "to": null, "rule": {"phrase": "as an AI"}}
    {"n": 9, "action": "undo", "rows": [], "to": null, "rule": null, "undoes": 8}

A row is named by its round and its id. A rule is one line with all its rows, so it is there whole or not at all. A line is synced before
its decision is believed; a torn last line, which kill -9 leaves, is cut off. Of two decisions about a row the later one counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import sync_folder
from evokd_data.errors import WorkspaceError
from evokd_data.storage.journal_lines import decode_line, encode_line

NAME = "corrections.jsonl"
UNDO = "undo"

RowKey = tuple[int, str]
"""A sample of a run: its round and its id."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision that counts for one row. `to` holds the task's columns of the new target, None unless the action is "relabel".

    `n` is the number of its record, `by_rule` whether the record is a rule.
    """

    n: int
    action: str
    to: Mapping[str, Any] | None
    by_rule: bool


class CorrectionLog:
    """The corrections of the run in the folder `root`. Open one with `open_log` to add to it; reading needs no lock."""

    def __init__(self, root: Path) -> None:
        self.path = root / NAME
        self.records: list[dict[str, Any]] = []
        self._size = 0
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        with self.path.open("rb") as file:
            for line in file:
                row = decode_line(line)
                if row is None and not line.endswith(b"\n"):
                    break  # torn by a kill; `open_log` cuts it off
                if row is None or not _is_record(row):
                    raise WorkspaceError(
                        f"{self.path}: damaged at byte {self._size}; restore the file from a copy, or remove that line and decide again "
                        "what it decided"
                    )
                self.records.append(row)
                self._size += len(line)

    def add(
        self,
        after: int,
        action: str,
        rows: Sequence[RowKey],
        to: Mapping[str, Any] | None = None,
        rule: Mapping[str, Any] | None = None,
        undoes: int | None = None,
    ) -> int:
        """Append a decision and sync it. Returns its number, which is greater than all before and than `after`.

        `after` is the last number that a round has taken up: in a restored run the lines before it are not on this machine.
        """
        number = max(after, self.records[-1]["n"] if self.records else 0) + 1
        record: dict[str, Any] = {
            "n": number,
            "action": action,
            "rows": [list(row) for row in rows],
            "to": to,
            "rule": rule,
        }
        if undoes is not None:
            record["undoes"] = undoes
        is_new = not self.path.exists()
        line = encode_line(record)
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError:  # the disk is full: no decision may follow half a line
            self.cut_torn_line()
            raise
        if is_new:
            sync_folder(self.path.parent)
        self.records.append(record)
        self._size += len(line)
        return number

    def cut_torn_line(self) -> None:
        """Cut off what a killed process left behind the last whole line."""
        if self.path.exists() and self.path.stat().st_size > self._size:
            with self.path.open("r+b") as file:
                file.truncate(self._size)
                os.fsync(file.fileno())

    def open_records(self, after: int) -> Iterator[dict[str, Any]]:
        """The records with a number above `after` that are not undone, in order."""
        recent = [record for record in self.records if record["n"] > after]
        undone = {record.get("undoes") for record in recent if record["action"] == UNDO}
        return (record for record in recent if record["action"] != UNDO and record["n"] not in undone)

    def decisions(self, after: int) -> dict[RowKey, Decision]:
        """The decision that counts for each row, from the records with a number above `after`."""
        decisions: dict[RowKey, Decision] = {}
        for record in self.open_records(after):
            decision = Decision(record["n"], record["action"], record["to"], record["rule"] is not None)
            decisions.update(dict.fromkeys(keys_of(record), decision))
        return decisions


def keys_of(record: Mapping[str, Any]) -> list[RowKey]:
    """The rows of a record."""
    return [(key[0], key[1]) for key in record["rows"]]


@contextmanager
def open_log(root: Path) -> Iterator[CorrectionLog]:
    """The corrections of a run, for one process at a time: it alone appends. A run may go on meanwhile.

    Raises WorkspaceError when another process reviews the run, or a line was altered.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(root / ".review.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise WorkspaceError(f"{root}: is reviewed by another process; close that one first") from None
    except OSError as error:
        raise WorkspaceError(f"{root}: cannot be locked ({error.strerror}); copy the run to a local disk") from None
    try:
        log = CorrectionLog(root)
        log.cut_torn_line()
        yield log
    finally:
        lock.release()


def _is_record(row: Mapping[str, Any]) -> bool:
    rows = row.get("rows")
    return (
        type(row.get("n")) is int
        and isinstance(row.get("action"), str)
        and isinstance(rows, list)
        and all(isinstance(key, list) and [type(part) for part in key] == [int, str] for key in rows)
        and {"to", "rule"} <= row.keys()
    )
