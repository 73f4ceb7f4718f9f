"""The folder of a run: the paths of each stage's files. A file that exists is complete.

    runs/<name>/recipe.yaml  inputs.json  from.json  tokens/  student/best  .lock  .mirror  .recipe-folder
    runs/<name>/round-003/plan.json  shards/00000.arrow  rejections/00000.arrow  journal/  generated.json
                          probe.arrow  student/  test-outcomes.json  metrics.json  manifest.json  revision.json

A stage is done when its last file exists. Every file is written under a temporary name, synced, then renamed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import DRAFT, write_json, write_text
from evokd_data.errors import WorkspaceError
from evokd_data.repo_layout import round_index, round_tag
from evokd_data.storage.file_forms import check_form


@dataclass(frozen=True)
class RoundFolder:
    """The paths of one round."""

    root: Path
    index: int

    @property
    def tag(self) -> str:
        """The round's name, such as "round-003"."""
        return round_tag(self.index)

    @property
    def plan(self) -> Path:
        """Weaknesses and quotas, as `stages.plan` writes them."""
        return self.root / "plan.json"

    @property
    def exam(self) -> Path:
        """What the teacher's exam showed, when it was taken before this round (see `stages.exam`)."""
        return self.root / "exam.json"

    @property
    def shards(self) -> Path:
        """The folder of the shards: samples as Arrow files."""
        return self.root / "shards"

    @property
    def rejections(self) -> Path:
        """The folder of the rejections: one Arrow file for each shard."""
        return self.root / "rejections"

    @property
    def journal(self) -> Path:
        """The folder of the journal's segments."""
        return self.root / "journal"

    @property
    def generated(self) -> Path:
        """Totals of generation. When this file exists, all shards exist."""
        return self.root / "generated.json"

    @property
    def probe(self) -> Path:
        """The predictions of the student of the round before, made before training."""
        return self.root / "probe.arrow"

    @property
    def student(self) -> Path:
        """The folder of the checkpoint."""
        return self.root / "student"

    @property
    def metrics(self) -> Path:
        """Scores of the student, and figures of its training."""
        return self.root / "metrics.json"

    @property
    def test_outcomes(self) -> Path:
        """What the student made of each test text, without the texts (see `storage.outcome_files`). It is never published."""
        return self.root / "test-outcomes.json"

    @property
    def manifest(self) -> Path:
        """What the round is made of. When this file exists, the round is complete, published or not."""
        return self.root / "manifest.json"

    @property
    def revision(self) -> Path:
        """Repository, tag and commit of the published round."""
        return self.root / "revision.json"

    @property
    def pushed(self) -> Path:
        """Repository, tag and commit of the round's student in a model repository, when it was pushed."""
        return self.root / "student.json"

    def shard_files(self) -> list[Path]:
        """The shards, in index order."""
        return sorted(self.shards.glob("*.arrow"))

    def rejection_files(self) -> list[Path]:
        """The rejection files, in index order; one for each shard."""
        return sorted(self.rejections.glob("*.arrow"))


@dataclass(frozen=True)
class Workspace:
    """The folder `root` of one run."""

    root: Path

    def round(self, index: int) -> RoundFolder:
        """The folder of round `index`, which need not exist yet."""
        return RoundFolder(self.root / round_tag(index), index)

    def rounds(self) -> list[RoundFolder]:
        """Every round that was begun, in order. Folders with other names, such as a backup copy, are ignored."""
        indices = {path.name: round_index(path.name) for path in self.root.glob("round-*") if path.is_dir()}
        complete = sorted(index for name, index in indices.items() if index is not None and name == round_tag(index))
        return [self.round(index) for index in complete]

    def before(self, index: int) -> list[RoundFolder]:
        """The rounds before `index`, in order."""
        return [self.round(earlier) for earlier in range(index)]

    def earlier_shards(self, index: int) -> list[Path]:
        """The shards of all rounds before `index`, in index order."""
        return [path for folder in self.before(index) for path in folder.shard_files()]

    @property
    def recipe(self) -> Path:
        """The resolved recipe, for people to read."""
        return self.root / "recipe.yaml"

    @property
    def recipe_folder(self) -> Path:
        """The folder of the recipe's file on this machine, to which its relative paths refer; the run's when that is not known."""
        try:
            return Path(self._recipe_folder.read_text(encoding="utf-8").rstrip("\n"))
        except FileNotFoundError:
            return self.root

    @property
    def _recipe_folder(self) -> Path:
        # Hidden, so that a mirror leaves it out: the folder of one machine is of no use on another.
        return self.root / ".recipe-folder"

    def remember_recipe_folder(self, folder: Path) -> None:
        """Record where the recipe's file lies, for whoever opens the run by its name alone."""
        if self.recipe_folder != folder.resolve():
            write_text(self._recipe_folder, f"{folder.resolve()}\n")

    @property
    def best_student(self) -> Path:
        """A link to the checkpoint of the last adopted round: what is pushed and deployed (see `stages.adopt.link_best`)."""
        return self.root / "student" / "best"

    @property
    def exports(self) -> Path:
        """The folder of exported students."""
        return self.root / "export"

    @property
    def compared(self) -> Path:
        """The folder of other students that learned this run's samples, for a comparison; one folder each."""
        return self.root / "compared"

    @property
    def inputs(self) -> Path:
        """Digests of all that the run was begun with. When this file exists, the folder holds a run."""
        return self.root / "inputs.json"

    @property
    def origin(self) -> Path:
        """The published round that the run goes on from, when it did not begin at round 0."""
        return self.root / "from.json"

    @property
    def seed_student(self) -> Path:
        """The checkpoint of the student that knows the seeds alone; the teacher's labels are pooled with its opinion."""
        return self.root / "seed-student"

    @property
    def teacher_test(self) -> Path:
        """The teacher's own scores on the test set (see `stages.teacher_test`)."""
        return self.root / "teacher_test.json"

    @property
    def tracked(self) -> Path:
        """What an experiment tracker was told (see `reporting.tracking`)."""
        return self.root / "tracked.json"

    @property
    def teacher_test_journal(self) -> Path:
        """The answers that these scores come from. No round reads them."""
        return self.root / "teacher-test-journal"

    @property
    def preview(self) -> Path:
        """What the last preview showed. It is there while nothing but previews and exams was made in the folder."""
        return self.root / "preview.json"

    @property
    def spent(self) -> Path:
        """The seconds that the run's processes have worked, where its budget has hours."""
        return self.root / "spent.json"

    @property
    def tokens(self) -> Path:
        """The students' cache of token ids. It can be removed at any time."""
        return self.root / "tokens"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run against every other process. Raises WorkspaceError at once when another process has locked it.

        Drafts of files that a killed process left behind are removed.
        """
        from filelock import FileLock, Timeout

        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"{self.root}: cannot hold a run ({error.strerror}: {error.filename}); give --runs a folder to write to"
            ) from None
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise WorkspaceError(
                f"{self.root}: another evokd-data process works on this run, or another Run of this program: wait for it, close it, or "
                "give the recipe another name"
            ) from None
        except OSError as error:
            raise WorkspaceError(
                f"{self.root}: cannot be locked ({error.strerror}); give --runs a folder on a local disk that you can write to"
            ) from None
        try:
            for draft in [*self.root.rglob(f".*{DRAFT}")]:
                shutil.rmtree(draft) if draft.is_dir() and not draft.is_symlink() else draft.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def begin_preview(self) -> None:
        """Mark a folder without a run as one that holds a preview only. Call it before `freeze`."""
        if not self.inputs.exists() and not self.preview.exists():
            write_json(self.preview, {})

    def discard_preview(self, inputs: Mapping[str, Any]) -> bool:
        """Remove what previews of another recipe, or of other data, left here. Returns whether something was removed.

        A folder in which a run has begun is never touched: its marker is gone.
        """
        if not self.preview.exists() or not self.inputs.exists() or read_json(self.inputs) == inputs:
            return False
        if any(folder.manifest.exists() or (folder.index and folder.plan.exists()) for folder in self.rounds()):
            return False
        for path in [*(folder.root for folder in self.rounds()), self.seed_student, self.tokens]:
            shutil.rmtree(path, ignore_errors=True)
        self.recipe.unlink(missing_ok=True)
        self.inputs.unlink()
        return True

    def freeze(self, recipe: str, inputs: Mapping[str, Any]) -> None:
        """Write the resolved recipe and the digests of all it names, or compare them with those the run was begun with.

        `recipe` is written for people. Only `inputs` is compared: it holds no setting that cannot change a row.
        Raises WorkspaceError with the differences.
        """
        if self.inputs.exists():
            frozen = read_json(self.inputs)
            if frozen != inputs:
                raise WorkspaceError(
                    f"{self.root}: this run was begun with another recipe or other data:\n{_difference(frozen, inputs)}\n"
                    f"give the changed recipe another name, and another publish.repo where it publishes, or remove {self.root} to begin again"
                )
        else:
            write_json(self.inputs, inputs)
        if not self.recipe.exists() or self.recipe.read_text(encoding="utf-8", errors="replace") != recipe:
            write_text(self.recipe, recipe)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    def lines(value: Mapping[str, Any]) -> list[str]:
        return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).splitlines()

    changed = difflib.unified_diff(lines(before), lines(after), "frozen", "now", lineterm="", n=1)
    return "\n".join(line for line in changed if not line.startswith("@@"))


def write_checked_json(path: Path, value: Any) -> None:
    """Write a JSON file as `write_json` does, with its checksum in a file beside it. Every reader compares the two.

    A new file's checksum is written first, so that a complete file is never without it. Where a file is written again, its checksum
    is removed first and written last: after a kill in between either content stands there without one, and never with the other's.
    """
    write_checked_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_checked_text(path: Path, text: str) -> None:
    """The same for a text."""
    checksum, digest = _checksum_file(path), hashlib.sha256(text.encode()).hexdigest() + "\n"
    if path.exists():
        checksum.unlink(missing_ok=True)
        write_text(path, text)
        write_text(checksum, digest)
    else:
        write_text(checksum, digest)
        write_text(path, text)


def read_checked(path: Path) -> str:
    """The text of a file, compared with the checksum beside it. Files of earlier versions have none.

    Raises FileNotFoundError, and WorkspaceError when the file was altered since it was written.
    """
    data = path.read_bytes()
    checksum = _checksum_file(path)
    if (
        checksum.exists()
        and hashlib.sha256(data).hexdigest() != checksum.read_text(encoding="utf-8", errors="replace").strip()
    ):
        raise WorkspaceError(
            f"{path}: was altered since it was written: it differs from {checksum.name}; if you changed it yourself, "
            f"remove {checksum}; else {RESTORE}"
        )
    return data.decode("utf-8")


RESTORE = (
    "restore it from a copy (--mirror) or a published round (--from); when its round has no manifest.json yet, remove it "
    "and rerun the same command: the answers are in the journal"
)


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def read_json(path: Path) -> Any:
    """The value in a JSON file, of the form that `file_forms` has for its name.

    Raises WorkspaceError when the file is missing, damaged or altered since it was written.
    """
    try:
        value = json.loads(read_checked(path))
        check_form(path.name, value)
        return value
    except FileNotFoundError:
        raise WorkspaceError(f"{path}: is missing; rerun the stage that writes it") from None
    except (ValueError, RecursionError) as error:
        raise WorkspaceError(f"{path}: is damaged ({error}); remove it and rerun the stage that writes it") from None
