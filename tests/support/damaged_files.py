"""Files that something damaged: torn, emptied, overwritten, of another form. Every command names the file, or works.

damage(path, "nested")     damages a file in place
call(["show", ...])        a command; an error that no command should end with is raised
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from evokd_data.cli import cli
from tests.support.altered_files import overwrite

HANGS_S = 60
DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda data, chance: b"",
    "half": lambda data, chance: data[: len(data) // 2],
    "a bit": lambda data, chance: _flipped(data, chance),
    "noise": lambda data, chance: chance.randbytes(max(64, len(data))),
    "zeros": lambda data, chance: bytes(max(64, len(data))),
    "no UTF-8": lambda data, chance: data[:7] + b"\xff\xfe\x80" + data[7:],
    "nested": lambda data, chance: b"[" * 3000,
    "nested table": lambda data, chance: b'{"a":' * 3000,
    "long integer": lambda data, chance: b'{"rows": ' + b"9" * 6000 + b"}",
    "a list": lambda data, chance: b"[]\n",
    "null": lambda data, chance: b"null\n",
    "a string": lambda data, chance: b'"x"\n',
    "an empty table": lambda data, chance: b"{}\n",
    "numbers": lambda data, chance: b'{"rows": -5, "round": 1e400, "digest": NaN}\n',
    "a line more": lambda data, chance: data + b'{"a": 1}\n',
}


def _flipped(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return b"\x00"
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def damage(path: Path, name: str, seed: int = 0) -> None:
    """Damage the file as `name` says. A checksum beside it is taken along: files of earlier versions have none."""
    overwrite(path, DAMAGES[name](path.read_bytes(), random.Random(seed)), seed)


def without_checksum(path: Path) -> None:
    """As an earlier version left the file: what is in it must be read with care."""
    path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)


def replace_by_pipe(path: Path) -> None:
    """A pipe in the file's place, that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def call(arguments: list[str]) -> tuple[int, str]:
    """Exit code and messages of a command. Raises what no command should end with, and AssertionError when it hangs."""

    def hang(*_: object) -> None:
        raise AssertionError(f"{arguments} hangs")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANGS_S)
    try:
        result = CliRunner().invoke(cli, arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def restored(pristine: Path, copy: Path) -> Path:
    """`copy` as a new copy of the folder `pristine`."""
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(pristine, copy))
