"""Bytes changed in a run's own files, derived from a seed: each is refused, or changes nothing that is read. See bench/faults.py.

files = RunFiles.at(folder)    a run with every kind of file
play(17, files)                the same hundred positions each time
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evokd_data.errors import EvokdError
from evokd_data.loop.rounds import open_run
from evokd_data.recipe import Recipe
from evokd_data.storage.journal import read_answers
from evokd_data.storage.shards import ShardedSamples, read_probe, read_rejections
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.example_task import play as play_rounds
from tests.support.example_task import quick
from tests.support.published_runs import write_recipe

POSITIONS = 100
LARGEST_CHANGE = 512  # bytes: a block of a disk
ROUNDS = 3
KINDS = ("shard", "rejections", "journal", "plan", "probe", "totals", "metrics", "manifest", "student")


def flip(path: Path, offset: int, mask: int = 0x04) -> None:
    """Change one byte as a failing disk would: size and name stay."""
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    overwrite(path, bytes(data), offset + 1)


def overwrite(path: Path, data: bytes, tick: int = 0) -> None:
    """Write the file anew. A coarse clock would hide a change from who looks at the file's time, so that moves on by `tick`."""
    before = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(before, before + tick + 1))


def altered(path: Path, most: int = 600) -> Iterator[int]:
    """Flips each byte of the file in turn; of a large one about `most`. The file is whole again after each."""
    original = path.read_bytes()
    for offset in range(0, len(original), max(1, len(original) // most)):
        flip(path, offset)
        yield offset
        path.write_bytes(original)


@dataclass
class RunFiles:
    """A run, its files by kind, and what is read from each kind."""

    recipe: Recipe
    runs: Path
    files: list[tuple[str, Path]] = field(default_factory=list)
    content: dict[Path, Any] = field(default_factory=dict)

    @staticmethod
    def at(folder: Path) -> RunFiles:
        recipe = quick(write_recipe(folder), "rounds.count=2")
        workspace = play_rounds(recipe, folder / "runs", ROUNDS)
        run = RunFiles(recipe, folder / "runs")
        for round_folder in workspace.rounds():
            for kind in KINDS:
                run.files += [(kind, path) for path in _paths(kind, round_folder) if path.exists()]
        run.content = {path: run.read(kind, path) for kind, path in run.files}
        return run

    def read(self, kind: str, path: Path) -> Any:
        """What the program takes from a file. Raises EvokdError."""
        task = self.recipe.task
        readers: dict[str, Callable[[], Any]] = {
            "shard": lambda: list(ShardedSamples(task, [path])),
            "rejections": lambda: list(read_rejections([path])),
            "probe": lambda: list(read_probe(task, path)),
            "journal": lambda: list(read_answers(path.parent)),
            "student": lambda: self._predictions(path.parent),
        }
        return readers.get(kind, lambda: read_json(path))()

    def _predictions(self, checkpoint: Path) -> Any:
        workspace = Workspace(self.runs / self.recipe.name)
        samples = list(ShardedSamples(self.recipe.task, workspace.round(1).shard_files()))
        examples = [self.recipe.task.supervise(sample) for sample in samples[:3]]
        return [row.tolist() for row in self.recipe.student.predict(examples, checkpoint)]

    def open(self) -> None:
        """What every command does first. Raises EvokdError."""
        with open_run(self.recipe, self.runs):
            pass


def _paths(kind: str, folder: Any) -> list[Path]:
    if kind == "shard":
        return list(folder.shard_files())
    if kind == "rejections":
        return list(folder.rejection_files())
    if kind == "journal":
        return sorted(folder.journal.glob("*.jsonl"))
    if kind == "student":
        return sorted(path for path in folder.student.iterdir() if path.is_file())
    return [{"totals": folder.generated}.get(kind) or getattr(folder, kind)]


@dataclass
class Outcome:
    """`positions` that were changed, `refused` of them, and how many were `silent`: believed, with another content."""

    seed: int
    positions: int = 0
    refused: int = 0
    silent: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


def play(seed: int, run: RunFiles, positions: int = POSITIONS) -> Outcome:
    """Change single bits, bytes, blocks, and cut files, at `positions` positions; all kinds of files have their turn."""
    chance, outcome = random.Random(seed), Outcome(seed)
    for number in range(positions):
        kind = KINDS[(seed * positions + number) % len(KINDS)]
        path = chance.choice([path for of_kind, path in run.files if of_kind == kind])
        original, stat = path.read_bytes(), path.stat()
        if not original:
            continue
        offset = chance.randrange(len(original))
        data, change = _changed(original, offset, chance)
        if data == original:
            continue
        overwrite(path, data, number)
        outcome.positions += 1
        outcome.by_kind[kind] = outcome.by_kind.get(kind, 0) + 1
        try:
            problem = _reading(run, kind, path, original, offset)
            outcome.refused += problem is None
            if problem:
                outcome.silent += 1
                outcome.violations.append(f"{path.parent.name}/{path.name}, {change} at byte {offset}: {problem}")
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return outcome


def _changed(original: bytes, offset: int, chance: random.Random) -> tuple[bytes, str]:
    data = bytearray(original)
    what = chance.choices(("a bit", "a byte", "a block of zeros", "cut", "a block of noise"), (70, 15, 6, 4, 5))[0]
    if what == "a bit":
        data[offset] ^= 1 << chance.randrange(8)
    elif what == "a byte":
        data[offset] = chance.randrange(256)
    elif what == "a block of zeros":
        data[offset : offset + LARGEST_CHANGE] = bytes(len(data[offset : offset + LARGEST_CHANGE]))
    elif what == "cut":
        del data[offset:]
    else:
        data[offset : offset + 64] = chance.randbytes(len(data[offset : offset + 64]))
    return bytes(data), what


def _reading(run: RunFiles, kind: str, path: Path, original: bytes, offset: int) -> str | None:
    """None when the change is refused; "" when it is believed and changes nothing; else what came of it."""
    try:
        run.open()
        content = run.read(kind, path)
    except EvokdError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    whole = run.content[path]
    is_tail = kind == "journal" and offset + LARGEST_CHANGE >= original.rstrip(b"\n").rfind(b"\n")
    if is_tail or (kind == "journal" and path.stat().st_size < len(original)):
        whole = whole[: len(content)]  # what is torn off at the end is asked again, as after a kill
    return "" if content == whole else "it is believed, with another content"
