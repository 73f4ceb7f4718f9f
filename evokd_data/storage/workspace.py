"""The folder of a run: where each stage's files lie, written so that a file that is there is whole.

    runs/<name>/recipe.yaml  inputs.json  from.json  tokens/  .lock  .mirror
    runs/<name>/round-003/plan.json  shards/00000.arrow  rejections/00000.arrow  journal/  generated.json
                          probe.arrow  student/  metrics.json  manifest.json  revision.json

A stage is done when its last file is there; every file is written beside its place, synced, then renamed.
"""

from __future__ import annotations

import difflib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evokd_data.errors import WorkspaceError


@dataclass(frozen=True)
class RoundFolder:
    """The paths of one round."""

    root: Path
    index: int

    @property
    def tag(self) -> str:
        return tag(self.index)

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def shards(self) -> Path:
        return self.root / "shards"

    @property
    def rejections(self) -> Path:
        return self.root / "rejections"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def generated(self) -> Path:
        """Totals of generation; its presence means that all shards are there."""
        return self.root / "generated.json"

    @property
    def probe(self) -> Path:
        return self.root / "probe.arrow"

    @property
    def student(self) -> Path:
        return self.root / "student"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def manifest(self) -> Path:
        """The round is complete, published or not."""
        return self.root / "manifest.json"

    @property
    def revision(self) -> Path:
        return self.root / "revision.json"

    @property
    def pushed(self) -> Path:
        """The model repository's commit with the round's student, when it was pushed."""
        return self.root / "student.json"

    def shard_files(self) -> list[Path]:
        """In index order."""
        return sorted(self.shards.glob("*.arrow"))

    def rejection_files(self) -> list[Path]:
        """In index order; one for each shard."""
        return sorted(self.rejections.glob("*.arrow"))


@dataclass(frozen=True)
class Workspace:
    """The folder `root` of one run."""

    root: Path

    def round(self, index: int) -> RoundFolder:
        return RoundFolder(self.root / tag(index), index)

    def rounds(self) -> list[RoundFolder]:
        """Every round begun, in order. Folders of other names, such as a copy put aside, are no rounds."""
        numbers = [path.name.removeprefix("round-") for path in self.root.glob("round-*") if path.is_dir()]
        found = sorted(
            int(number) for number in numbers if number.isdecimal() and tag(int(number)) == f"round-{number}"
        )
        return [self.round(index) for index in found]

    def before(self, index: int) -> list[RoundFolder]:
        """The rounds before `index`, in order."""
        return [self.round(earlier) for earlier in range(index)]

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs.json"

    @property
    def origin(self) -> Path:
        """The published round that the run goes on from, when it did not begin at round 0."""
        return self.root / "from.json"

    @property
    def tokens(self) -> Path:
        """What students have tokenised; can be removed at any time."""
        return self.root / "tokens"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run against every other process. Raises WorkspaceError at once when it is held already.

        Drafts of files that a killed process left behind are removed.
        """
        import fcntl

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / ".lock").open("a+")
        except OSError as error:
            raise WorkspaceError(
                f"{self.root}: cannot hold a run ({error.strerror}: {error.filename}); give --runs a folder to write to"
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceError(
                    f"{self.root}: another evokd-data process works on this run; wait for it, or give the recipe another name"
                ) from None
            except OSError as error:
                raise WorkspaceError(
                    f"{self.root}: cannot be locked ({error.strerror}); give --runs a folder on a local disk"
                ) from None
            for draft in [*self.root.rglob(f".*{DRAFT}")]:
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)
            yield

    def freeze(self, recipe: str, inputs: Mapping[str, Any]) -> None:
        """Keep the resolved recipe and the digests of all it names; refuse a run that was begun with others.

        `recipe` is kept for people, `inputs` decides: settings that cannot change a row are not in it.
        Raises WorkspaceError showing what differs.
        """
        if self.inputs.exists():
            frozen = read_json(self.inputs)
            if frozen != inputs:
                raise WorkspaceError(
                    f"{self.root}: this run was begun with another recipe or other data:\n{_difference(frozen, inputs)}\n"
                    f"give the changed recipe another name, or remove {self.root} to begin again"
                )
        else:
            write_json(self.inputs, inputs)
        if not self.recipe.exists() or self.recipe.read_text(encoding="utf-8") != recipe:
            write_text(self.recipe, recipe)


DRAFT = ".draft"  # ends the names of files and folders being written


def tag(index: int) -> str:
    """The name of a round everywhere: its folder, its tag, its config in the card."""
    return f"round-{index:03d}"


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    def lines(value: Mapping[str, Any]) -> list[str]:
        return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).splitlines()

    changed = difflib.unified_diff(lines(before), lines(after), "frozen", "now", lineterm="", n=1)
    return "\n".join(line for line in changed if not line.startswith("@@"))


def read_json(path: Path) -> Any:
    """Raises WorkspaceError when the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkspaceError(f"{path}: is missing; rerun the stage that writes it") from None
    except ValueError as error:
        raise WorkspaceError(f"{path}: is damaged ({error}); remove it and rerun the stage that writes it") from None


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; on leaving the block it is synced and renamed to `path`, on an error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp: its files are closed to colleagues, and what the umask gives cannot be asked for without changing it.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}{DRAFT}")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: `path` appears complete or not at all; an unfinished one of an earlier try is removed."""
    draft = path.with_name(f".{path.name}{DRAFT}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:  # a copied model's files may be read-only
                    os.fsync(opened.fileno())
        shutil.rmtree(path, ignore_errors=True)
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
