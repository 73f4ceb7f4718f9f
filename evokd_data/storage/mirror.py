"""A copy of a run folder on storage that outlives the machine, kept while the run goes on, and the way back from it.

    URL/<run>/state-00000017.json                              which files the run folder has, and of which parts
    URL/<run>/round-001/journal/00000.jsonl.9f86d081884c7d65   a part: up to 8 MiB of the file, named by its digest

Nothing is ever changed in place and a state is written after all that it names, so the newest state is a folder that the
run can go on from, whenever its machine died. A run writes to one mirror from one folder: a state tells its writer. A
machine that takes a run over says so there before it reads, and the one that had it until then stops when it sees that.
Any URL that fsspec can open will do, or a folder that machines share.

One thread does it all, from the files alone: a run knows nothing of its mirror and does not wait for it. What is no
part of a run's result (tokens, logs, drafts) stays behind.
"""

from __future__ import annotations

import _thread
import hashlib
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from evokd_data.atomic_files import whole_file, write_json
from evokd_data.errors import MirrorError
from evokd_data.progress import Progress
from evokd_data.storage.remote import open_url, shown
from evokd_data.storage.workspace import Workspace, read_json

EVERY_S = 30.0
"""Seconds between two looks at the run folder: what answers a machine's death costs, with those in flight."""
PART = 8 * 2**20
"""Bytes. Of a journal, which only grows, no more than this is copied twice."""
AT_ONCE = 8  # parts on their way
STATE = re.compile(r"state-(\d{8})\.json")


@dataclass(frozen=True)
class Part:
    """Up to PART bytes of a file: how many (`size`), and their SHA-256 in hex."""

    size: int
    sha256: str

    def at(self, path: str) -> str:
        return f"{path}.{self.sha256[:16]}"


Files = dict[str, tuple[Part, ...]]
"""By path inside the run folder, "/" between names. A file's parts in order; all but the last have PART bytes."""


@contextmanager
def mirrored(workspace: Workspace, url: str | None, progress: Progress | None = None) -> Iterator[None]:
    """Keep a copy of the locked run folder under `url` as long as the block lasts; without one nothing happens.

    A folder without a run is first filled from the mirror. Raises MirrorError when the mirror cannot be read, or
    another folder writes to it, also in the middle of the block when that is the main thread's; at the end when the
    copy could not be finished.
    """
    if url is None:
        yield
        return
    mirror = Mirror(workspace, url, progress or Progress())
    mirror.open()
    ended = threading.Event()
    thread = threading.Thread(target=mirror.follow, args=(ended,), name="evokd-mirror", daemon=True)
    thread.start()
    over = False
    try:
        yield
        over = True
        ended.set()
        thread.join()
        mirror.finish()
    except BaseException as error:
        ended.set()
        thread.join()
        if mirror.lost is not None and isinstance(error, KeyboardInterrupt):
            raise mirror.lost from None
        if not over:
            with suppress(MirrorError):  # why the run stopped is worth more than why its copy lags
                mirror.finish()
        raise


class Mirror:
    """The copy of `workspace` under `url`/<name of its folder>."""

    def __init__(self, workspace: Workspace, url: str, progress: Progress) -> None:
        self._root = workspace.root
        self._marks = workspace.inputs
        self._tokens = workspace.tokens.name
        self._progress = progress
        self._url = f"{shown(url)}/{workspace.root.name}"
        self._fs, base = open_url("--mirror", url, MirrorError)
        self._base = f"{base}/{workspace.root.name}"
        if "file" in self._fs.protocol and Path(self._base).resolve().is_relative_to(self._root.resolve()):
            raise MirrorError(f"--mirror {shown(url)}: holds the run folder itself, {self._root}; give another folder")
        self._own = workspace.root / ".mirror"  # whose states are this folder's
        self._writer = ""
        self._number = 0
        self._seen: dict[Path, tuple[tuple[int, int, int], tuple[Part, ...]]] = {}
        self._states: list[Files] = []  # the last two written
        self._made: set[str] = set()
        self._main = threading.current_thread() is threading.main_thread()
        self.lost: MirrorError | None = None
        """Set when another folder has taken the run over."""

    def open(self) -> None:
        """Fill an empty run folder; find out whether a filled one may write. Raises MirrorError."""
        with self._explained("read"):
            newest = self._newest()
            own = read_json(self._own)["writer"] if self._own.exists() else None
            if newest is not None:
                self._number, state = newest
                if self._marks.exists():
                    if state["writer"] != own:
                        raise self._taken(state)
                else:
                    own = None
            self._writer = own or secrets.token_hex(16)
            write_json(self._own, {"writer": self._writer})
        if newest is not None and own is None:
            files = _files(state, self._url)
            with self._explained("written"):
                self._write(files)
            with self._explained("read"):
                self._fetch(files)

    def follow(self, ended: threading.Event) -> None:
        """Copy what is new, every EVERY_S seconds, until `ended`. Failures are told once and tried again."""
        failing = False
        while not ended.wait(EVERY_S):
            try:
                self._copy()
                failing = False
            except MirrorError as error:
                self.lost = error
                if self._main and not ended.is_set():  # stop it: what it makes from here on, another makes too
                    _thread.interrupt_main()
                return
            except Exception as error:  # of whatever library the protocol belongs to
                if not failing:
                    self._progress.note(
                        f"{self._url}: cannot be written ({_said(error)}); tried again, the run goes on"
                    )
                failing = True

    def finish(self) -> None:
        """Raises MirrorError when the copy is not what the folder is."""
        if self.lost is not None:
            raise self.lost
        with self._explained("written", f"all is in {self._root}; run the command again to copy it"):
            self._copy()

    @contextmanager
    def _explained(
        self, verb: str, then: str = "check the address and the access, or go on without --mirror"
    ) -> Iterator[None]:
        try:
            yield
        except MirrorError:
            raise
        except Exception as error:
            raise MirrorError(f"{self._url}: cannot be {verb} ({_said(error)}); {then}") from error

    def _newest(self) -> tuple[int, dict[str, Any]] | None:
        """Number and content of the newest state that is whole: a machine may have died while it wrote one."""
        self._fs.invalidate_cache()
        try:
            paths = [entry.rsplit("/", 1)[-1] for entry in self._fs.ls(self._base, detail=False)]
        except FileNotFoundError:
            return None
        numbers = sorted((int(found[1]) for path in paths if (found := STATE.fullmatch(path))), reverse=True)
        for number in numbers:
            with suppress(ValueError):
                return number, json.loads(self._fs.cat_file(self._at(_state(number))))
        return None

    def _taken(self, state: Mapping[str, Any]) -> MirrorError:
        return MirrorError(
            f"{self._url}: is written from another folder, on {state['host']}; to go on from what is there, "
            f"put {self._root} aside, or give --runs another folder; to go on from here, give another --mirror"
        )

    def _copy(self) -> None:
        """Raises MirrorError when another folder writes to the mirror, and what the file system raises."""
        files = self._look()
        if self._states and self._states[-1] == files:
            return
        newest = self._newest()
        if newest is None:  # not begun, or somebody has removed it: nothing is there
            self._states = []
        else:
            self._number = newest[0]
            if newest[1]["writer"] != self._writer:
                raise self._taken(newest[1])
            if not self._states:
                self._states = [_files(newest[1], self._url)]
                if self._states[-1] == files:
                    return
        there = {part.at(path) for state in self._states for path, parts in state.items() for part in parts}
        self._each(
            self._put,
            [
                (path, place, part)
                for path, parts in files.items()
                for place, part in enumerate(parts)
                if part.at(path) not in there
            ],
        )
        newest = self._newest()  # once more: parts may have taken long
        if newest is not None and newest[1]["writer"] != self._writer:
            raise self._taken(newest[1])
        self._write(files)

    def _write(self, files: Files) -> None:
        self._number += 1
        state = {
            "writer": self._writer,
            "host": socket.gethostname(),
            "files": {path: [[part.size, part.sha256] for part in parts] for path, parts in sorted(files.items())},
        }
        self._pipe(_state(self._number), json.dumps(state, separators=(",", ":")).encode())
        kept = {part.at(path) for path, parts in files.items() for part in parts}
        if self._states:
            kept |= {part.at(path) for path, parts in self._states[-1].items() for part in parts}
        gone = {part.at(path) for state in self._states for path, parts in state.items() for part in parts} - kept
        self._states = [*self._states[-1:], files]
        # A machine that is being filled reads the newest state, or the one before; what neither names is waste.
        for path in [*gone, _state(self._number - 2)]:
            with suppress(Exception):
                self._fs.rm_file(self._at(path))

    def _look(self) -> Files:
        """The folder as it is: complete, as far as it goes, though the run writes to it meanwhile.

        A stage's last file lies above the files that it vouches for, and is listed before them; journals are read last,
        for a shard must not be there without the answers it was made from.
        """
        for _ in range(3):  # stale shards are removed, folders replaced
            with suppress(FileNotFoundError):
                return {path.relative_to(self._root).as_posix(): self._parts(path) for path in self._paths()}
        raise OSError(f"{self._root}: files vanish as they are read")

    def _paths(self) -> list[Path]:
        found = []
        for folder, folders, names in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".") and name != self._tokens]
            found += [Path(folder, name) for name in names if not name.startswith(".") and not name.endswith(".log")]
        return sorted(found, key=_is_journal)

    def _parts(self, path: Path) -> tuple[Part, ...]:
        """Read again only when the file is another one or has changed; of a journal that grew, only its end."""
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            before, parts = self._seen.get(path, ((0, 0, 0), ()))
            if before == mark:
                return parts
            kept = _is_journal(path) and before[0] == mark[0]
            parts = tuple(part for part in parts if part.size == PART) if kept else ()
            end = _end_of_lines(file, stat.st_size) if _is_journal(path) else stat.st_size
            file.seek(len(parts) * PART)
            while (rest := end - file.tell()) > 0 and (data := file.read(min(PART, rest))):
                parts += (Part(len(data), hashlib.sha256(data).hexdigest()),)
        self._seen[path] = mark, parts
        return parts

    def _put(self, one: tuple[str, int, Part]) -> None:
        path, place, part = one
        with (self._root / path).open("rb") as file:
            file.seek(place * PART)
            data = file.read(part.size)
        if hashlib.sha256(data).hexdigest() != part.sha256:
            self._seen.pop(self._root / path, None)
            raise OSError(f"{path} changed while it was copied")
        self._pipe(part.at(path), data)

    def _pipe(self, path: str, data: bytes) -> None:
        at = self._at(path)
        folder = at.rsplit("/", 1)[0]
        if folder not in self._made:
            self._fs.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        self._fs.pipe_file(at, data)

    def _fetch(self, files: Files) -> None:
        # What marks a folder as a run's comes last: a fetch that was cut off begins again.
        mark = self._marks.relative_to(self._root).as_posix()
        self._progress.note(f"fetching {len(files)} files of the run from {self._url}")
        self._each(self._get, [(path, parts) for path, parts in files.items() if path != mark])
        if mark in files:
            self._get((mark, files[mark]))

    def _get(self, one: tuple[str, tuple[Part, ...]]) -> None:
        path, parts = one
        with whole_file(self._root / path) as draft, draft.open("wb") as file:
            for part in parts:
                data = self._fs.cat_file(self._at(part.at(path)))
                if hashlib.sha256(data).hexdigest() != part.sha256:
                    raise MirrorError(
                        f"{self._url}/{part.at(path)}: is damaged, its SHA-256 is not {part.sha256}; "
                        f"begin without it, in another --runs, or from a published round with --from"
                    )
                file.write(data)

    def _each(self, do: Any, what: Iterable[Any]) -> None:
        """The first error, once those on their way have ended."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="evokd-mirror") as pool:
            for done in [pool.submit(do, one) for one in what]:
                try:
                    done.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise

    def _at(self, path: str) -> str:
        return f"{self._base}/{path}"


def _state(number: int) -> str:
    return f"state-{number:08d}.json"


def _files(state: Mapping[str, Any], url: str) -> Files:
    """Raises MirrorError for a path that leads out of the run folder."""
    for path in state["files"]:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise MirrorError(f"{url}: names the file {path!r}, outside of a run folder; give another --mirror")
    return {path: tuple(Part(*part) for part in parts) for path, parts in state["files"].items()}


def _is_journal(path: Path) -> bool:
    return path.parent.name == "journal"


def _end_of_lines(file: BinaryIO, size: int) -> int:
    """Where the last whole line ends. What stands behind was not written yet, or never will be."""
    place = size
    while place > 0:
        start = max(0, place - 2**16)
        file.seek(start)
        if (found := file.read(place - start).rfind(b"\n")) >= 0:
            return start + found + 1
        place = start
    return 0


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
