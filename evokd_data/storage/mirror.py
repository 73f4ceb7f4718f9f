"""Mirror: a copy of a run folder on storage that outlives the machine. It is updated while the run works, and can be fetched.

    URL/<run>/state-00000017.json                              the files of the run folder, and the blocks of each
    URL/<run>/round-001/journal/00000.jsonl.9f86d081884c7d65   a block: up to 8 MiB of the file, named by its digest

No object is ever changed, and a state is written after all blocks that it names. So the newest state is always a complete
folder from which the run can go on, whenever its machine died. Only one folder writes to a mirror: each state names its
writer. A machine that takes a run over writes a state before it fetches the files; the machine that worked on the run until then
stops when it reads that state. The storage is any URL that fsspec can open, or a folder that machines share.

One thread does all of this, and it looks only at the files: the run does not know its mirror and does not wait for it. Files that
are not part of a run's result (token caches, logs, drafts) are not copied.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from evokd_data.atomic_files import whole_file, write_json
from evokd_data.errors import MirrorError
from evokd_data.progress import Progress
from evokd_data.storage.remote import open_url, without_credentials
from evokd_data.storage.workspace import Workspace, read_json

INTERVAL_S = 30.0
"""Seconds between two updates: the answers of this time, and those in flight, are lost when the machine dies."""
BLOCK_BYTES = 8 * 2**20
"""The most of a journal that is copied twice: a journal only grows, so its full blocks never change."""
PARALLEL_TRANSFERS = 8
STATE = re.compile(r"state-(\d{8})\.json")


@dataclass(frozen=True)
class Block:
    """Up to BLOCK_BYTES bytes of a file: their number (`size`) and their SHA-256 in hex."""

    size: int
    sha256: str

    def object_path(self, path: str) -> str:
        """The block's path in the mirror, when it belongs to the file `path`."""
        return f"{path}.{self.sha256[:16]}"


Files = dict[str, tuple[Block, ...]]
"""Path inside the run folder, with "/" -> the file's blocks, in order. All but the last have BLOCK_BYTES bytes."""


@contextmanager
def mirrored(workspace: Workspace, url: str | None, progress: Progress | None = None) -> Iterator[None]:
    """Keep a copy of the locked run folder under `url` during the block. Does nothing when `url` is None.

    A folder without a run is first filled from the mirror. Raises MirrorError when the mirror cannot be read or another
    folder writes to it (in the main thread also in the middle of the block), and at the end of the block when the copy
    could not be finished.
    """
    if url is None:
        yield
        return
    mirror = Mirror(workspace, url, progress or Progress())
    mirror.open()
    ended = threading.Event()
    thread = threading.Thread(target=mirror.follow, args=(ended,), name="evokd-mirror", daemon=True)
    thread.start()
    block_completed = False
    try:
        yield
        block_completed = True
        ended.set()
        thread.join()
        mirror.finish()
    except BaseException as error:
        ended.set()
        thread.join()
        if mirror.lost is not None and isinstance(error, KeyboardInterrupt):
            raise mirror.lost from None
        if not block_completed:
            with suppress(MirrorError):  # the reason why the run stopped matters more than an incomplete copy
                mirror.finish()
        raise


class Mirror:
    """The copy of `workspace` under `url`/<name of its folder>."""

    def __init__(self, workspace: Workspace, url: str, progress: Progress) -> None:
        self._root = workspace.root
        self._run_marker = workspace.inputs  # a folder with this file holds a run
        self._tokens = workspace.tokens.name
        self._progress = progress
        self._url = f"{without_credentials(url)}/{workspace.root.name}"
        self._fs, base = open_url("--mirror", url, MirrorError)
        self._base = f"{base}/{workspace.root.name}"
        if "file" in self._fs.protocol and Path(self._base).resolve().is_relative_to(self._root.resolve()):
            raise MirrorError(
                f"--mirror {without_credentials(url)}: holds the run folder itself, {self._root}; give another folder"
            )
        self._writer_file = workspace.root / ".mirror"
        self._writer = ""
        self._number = 0  # of the newest state
        self._blocks: dict[Path, tuple[tuple[int, int, int], tuple[Block, ...]]] = {}  # file -> (stat, blocks)
        self._states: list[Files] = []  # the last two that were written
        self._folders: set[str] = set()  # that exist in the mirror
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self.lost: MirrorError | None = None
        """Set when another folder has taken the run over."""

    def open(self) -> None:
        """Fill an empty run folder from the mirror. Raises MirrorError when the folder may not write to the mirror."""
        with self._explained("read"):
            newest = self._newest_state()
            writer = read_json(self._writer_file)["writer"] if self._writer_file.exists() else None
            if newest is not None:
                self._number, state = newest
                if self._run_marker.exists():
                    if state["writer"] != writer:
                        raise self._taken_over(state)
                else:
                    writer = None
            self._writer = writer or secrets.token_hex(16)
            write_json(self._writer_file, {"writer": self._writer})
        if newest is not None and writer is None:
            files = _files(state, self._url)
            with self._explained("written"):
                self._write_state(files)
            with self._explained("read"):
                self._fetch(files)

    def follow(self, ended: threading.Event) -> None:
        """Copy new content every INTERVAL_S seconds, until `ended`. A failure is reported once and tried again."""
        failing = False
        while not ended.wait(INTERVAL_S):
            try:
                self._copy()
                failing = False
            except MirrorError as error:
                self.lost = error
                if self._in_main_thread and not ended.is_set():  # stop the run: another machine does the same work now
                    _thread.interrupt_main()
                return
            except Exception as error:  # each protocol has a library with errors of its own
                if not failing:
                    self._progress.note(
                        f"{self._url}: cannot be written ({_reason(error)}); tried again, the run goes on"
                    )
                failing = True

    def finish(self) -> None:
        """Copy the last changes. Raises MirrorError when the copy cannot be completed."""
        if self.lost is not None:
            raise self.lost
        with self._explained("written", f"all is in {self._root}; run the command again to copy it"):
            self._copy()

    @contextmanager
    def _explained(
        self, verb: str, advice: str = "check the address and the access, or go on without --mirror"
    ) -> Iterator[None]:
        try:
            yield
        except MirrorError:
            raise
        except Exception as error:
            raise MirrorError(f"{self._url}: cannot be {verb} ({_reason(error)}); {advice}") from error

    def _newest_state(self) -> tuple[int, dict[str, Any]] | None:
        """Number and content of the newest complete state. A machine may have died while it wrote a newer one."""
        self._fs.invalidate_cache()
        try:
            names = [entry.rsplit("/", 1)[-1] for entry in self._fs.ls(self._base, detail=False)]
        except FileNotFoundError:
            return None
        numbers = sorted((int(match[1]) for name in names if (match := STATE.fullmatch(name))), reverse=True)
        for number in numbers:
            with suppress(ValueError):
                return number, json.loads(self._fs.cat_file(self._url_path(_state_name(number))))
        return None

    def _taken_over(self, state: Mapping[str, Any]) -> MirrorError:
        return MirrorError(
            f"{self._url}: is written from another folder, on {state['host']}; to go on from what is there, "
            f"put {self._root} aside, or give --runs another folder; to go on from here, give another --mirror"
        )

    def _copy(self) -> None:
        """Copy new content, then write a state.

        Raises MirrorError when another folder writes to the mirror, and any error of the file system.
        """
        files = self._folder_content()
        if self._states and self._states[-1] == files:
            return
        newest = self._newest_state()
        if newest is None:  # the mirror is new, or somebody has removed it
            self._states = []
        else:
            self._number = newest[0]
            if newest[1]["writer"] != self._writer:
                raise self._taken_over(newest[1])
            if not self._states:
                self._states = [_files(newest[1], self._url)]
                if self._states[-1] == files:
                    return
        copied = {path for state in self._states for path in _object_paths(state)}
        self._transfer(
            self._put,
            [
                (path, number, block)
                for path, blocks in files.items()
                for number, block in enumerate(blocks)
                if block.object_path(path) not in copied
            ],
        )
        newest = self._newest_state()  # once more, because the transfer may have taken long
        if newest is not None and newest[1]["writer"] != self._writer:
            raise self._taken_over(newest[1])
        self._write_state(files)

    def _write_state(self, files: Files) -> None:
        """Write the next state, and remove the objects that neither it nor the state before names."""
        self._number += 1
        state = {
            "writer": self._writer,
            "host": socket.gethostname(),
            "files": {path: [[block.size, block.sha256] for block in blocks] for path, blocks in sorted(files.items())},
        }
        self._pipe(_state_name(self._number), json.dumps(state, separators=(",", ":")).encode())
        # A machine that is fetching the run reads the newest state or the one before it.
        needed = {path for state_files in (*self._states[-1:], files) for path in _object_paths(state_files)}
        unneeded = {path for state_files in self._states for path in _object_paths(state_files)} - needed
        self._states = [*self._states[-1:], files]
        for path in [*unneeded, _state_name(self._number - 2)]:
            with suppress(Exception):
                self._fs.rm_file(self._url_path(path))

    def _folder_content(self) -> Files:
        """The files of the run folder and their blocks, consistent although the run writes to the folder meanwhile.

        A stage's last file lies in a folder above the files it vouches for, so it is read before them. Journals are
        read last, because a shard must not be in the mirror without the answers it was made from.
        """
        for _ in range(3):  # a file may vanish: the run removes stale shards and replaces folders
            with suppress(FileNotFoundError):
                return {path.relative_to(self._root).as_posix(): self._file_blocks(path) for path in self._paths()}
        raise OSError(f"{self._root}: files vanish as they are read")

    def _paths(self) -> list[Path]:
        paths: list[Path] = []
        for folder, folders, names in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".") and name != self._tokens]
            paths += [Path(folder, name) for name in names if not name.startswith(".") and not name.endswith(".log")]
        return sorted(paths, key=_is_journal)

    def _file_blocks(self, path: Path) -> tuple[Block, ...]:
        """The blocks of a file. It is read only when it changed since the last call; of a grown journal, only the end."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            stat = (status.st_ino, status.st_size, status.st_mtime_ns)
            last_stat, blocks = self._blocks.get(path, ((0, 0, 0), ()))
            if last_stat == stat:
                return blocks
            has_grown = _is_journal(path) and last_stat[0] == stat[0]
            blocks = tuple(block for block in blocks if block.size == BLOCK_BYTES) if has_grown else ()
            end = _end_of_lines(file, status.st_size) if _is_journal(path) else status.st_size
            file.seek(len(blocks) * BLOCK_BYTES)
            while (remaining := end - file.tell()) > 0 and (data := file.read(min(BLOCK_BYTES, remaining))):
                blocks += (Block(len(data), hashlib.sha256(data).hexdigest()),)
        self._blocks[path] = stat, blocks
        return blocks

    def _put(self, path: str, number: int, block: Block) -> None:
        """Copy block `number` of a file into the mirror."""
        with (self._root / path).open("rb") as file:
            file.seek(number * BLOCK_BYTES)
            data = file.read(block.size)
        if hashlib.sha256(data).hexdigest() != block.sha256:
            self._blocks.pop(self._root / path, None)
            raise OSError(f"{path} changed while it was copied")
        self._pipe(block.object_path(path), data)

    def _pipe(self, path: str, data: bytes) -> None:
        url_path = self._url_path(path)
        folder = url_path.rsplit("/", 1)[0]
        if folder not in self._folders:
            self._fs.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        self._fs.pipe_file(url_path, data)

    def _fetch(self, files: Files) -> None:
        # The file that makes the folder a run comes last, so that an interrupted fetch begins again.
        marker = self._run_marker.relative_to(self._root).as_posix()
        self._progress.note(f"fetching {len(files)} files of the run from {self._url}")
        self._transfer(self._get, [(path, blocks) for path, blocks in files.items() if path != marker])
        if marker in files:
            self._get(marker, files[marker])

    def _get(self, path: str, blocks: Iterable[Block]) -> None:
        """Fetch a file from the mirror. Raises MirrorError when a block is damaged."""
        with whole_file(self._root / path) as draft, draft.open("wb") as file:
            for block in blocks:
                data = self._fs.cat_file(self._url_path(block.object_path(path)))
                if hashlib.sha256(data).hexdigest() != block.sha256:
                    raise MirrorError(
                        f"{self._url}/{block.object_path(path)}: is damaged, its SHA-256 is not {block.sha256}; "
                        f"begin without it, in another --runs, or from a published round with --from"
                    )
                file.write(data)

    def _transfer(self, function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Call `function` with each tuple of arguments, in parallel.

        Raises the first error, when the calls in progress have ended; the others are not begun.
        """
        with ThreadPoolExecutor(PARALLEL_TRANSFERS, thread_name_prefix="evokd-mirror") as pool:
            for call in [pool.submit(function, *values) for values in arguments]:
                try:
                    call.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise

    def _url_path(self, path: str) -> str:
        return f"{self._base}/{path}"


def _state_name(number: int) -> str:
    return f"state-{number:08d}.json"


def _files(state: Mapping[str, Any], url: str) -> Files:
    """The files of a state. Raises MirrorError for a path that leads out of the run folder."""
    for path in state["files"]:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise MirrorError(f"{url}: names the file {path!r}, outside of a run folder; give another --mirror")
    return {path: tuple(Block(*block) for block in blocks) for path, blocks in state["files"].items()}


def _object_paths(files: Files) -> set[str]:
    """The paths in the mirror of all blocks of some files."""
    return {block.object_path(path) for path, blocks in files.items() for block in blocks}


def _is_journal(path: Path) -> bool:
    return path.parent.name == "journal"


def _end_of_lines(file: BinaryIO, size: int) -> int:
    """The offset after the last complete line. The run is still writing any bytes behind it, or died while it wrote them."""
    end = size
    while end > 0:
        start = max(0, end - 2**16)
        file.seek(start)
        if (newline := file.read(end - start).rfind(b"\n")) >= 0:
            return start + newline + 1
        end = start
    return 0


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
