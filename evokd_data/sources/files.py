"""Opening the user's files: as text in UTF-8 or as bytes, compressed or not, with errors that name the file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO

from evokd_data.errors import DataError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")


def suffix(path: Path) -> str:
    """The suffix that says how the content is laid out, in lower case: ".jsonl" for seeds.JSONL.gz."""
    inner = path.with_suffix("") if compression(path) else path
    return inner.suffix.lower()


def compression(path: Path) -> str:
    """One of COMPRESSIONS, or ""."""
    return path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The content, decompressed."""
    file: Any
    match compression(path):
        case ".gz":
            file = gzip.GzipFile(path)
        case ".bz2":
            file = bz2.BZ2File(path)
        case ".xz":
            file = lzma.LZMAFile(path)  # noqa: SIM115 - closed below, as the others are
        case ".zst":
            import pyarrow as pa

            file = io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
        case _:
            file = path.open("rb")
    with file:
        yield file


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """The content, decompressed, as text without a byte order mark. `newline` as in `open`."""
    with open_bytes(path) as file:
        yield io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what reading the file may raise into a DataError with what to do."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path, error)) from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; paths are relative to the recipe") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; name one file in it") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if compression(path) and not getattr(error, "strerror", None):
            raise DataError(f"{path}: cannot be decompressed ({error}); is it a whole {path.suffix} file?") from None
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); give a file that can be read") from None


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """The line and byte of the file: the decoder's own error counts from the beginning of what it was last given."""
    with open_bytes(path) as file:
        start, lines = 0, _lines(file)
        for number, line in enumerate(lines, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as exact:
                where = f"byte {start + exact.start}, line {number}"
                return f"{path}: not UTF-8 ({exact.reason} at {where}); convert the file"
            start += len(line)
    return f"{path}: not UTF-8 ({error.reason}); convert the file"


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    yield from file
