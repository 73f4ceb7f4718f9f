"""Which files are stored as large files: the rules of `.gitattributes`, and the `.gitattributes` of a new repository."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable

from dulwich.attrs import compile_gitattributes_patterns, match_path, parse_git_attributes
from dulwich.ignore import IgnoreFilter, read_ignore_patterns

LFS_THRESHOLD = 10 * 1000 * 1000  # bytes, as on the public Hub

_BINARY = """
    7z arrow avro bin bz2 ckpt ftz gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl
    pt pth rar safetensors tar tflite tgz wasm xz zip zst pcm sam raw aac flac mp3 ogg wav bmp gif png tiff jpg jpeg
    webp mp4 webm db duckdb sqlite
""".split()  # noqa: SIM905
DEFAULT_ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in [*(f"*.{ending}" for ending in _BINARY), "*tfevents*", "saved_model/**/*", "*.tar.*"]
).encode()


def lfs_rule(gitattributes: bytes | None) -> Callable[[str, int, bytes], bool]:
    """A function of a file's path, size in bytes and first bytes: whether the file is stored as a large file."""
    rules = compile_gitattributes_patterns(parse_git_attributes(io.BytesIO(gitattributes or b"")))

    def is_large(path: str, size: int, sample: bytes) -> bool:
        filter_name = match_path(rules, path.encode()).get(b"filter")
        return filter_name == b"lfs" or size > LFS_THRESHOLD or _is_binary(sample)

    return is_large


def ignore_rule(gitignore: bytes | None) -> Callable[[str], bool]:
    """A function of a file's path: whether `.gitignore` leaves the file out."""
    if not gitignore:
        return lambda path: False
    rules = IgnoreFilter(read_ignore_patterns(io.BytesIO(gitignore)))
    return lambda path: bool(rules.is_ignored(path))


def _is_binary(sample: bytes) -> bool:
    """Whether a file is no UTF-8 text. A character that the end of the sample cuts in two counts as text."""
    if b"\0" in sample:
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=False)
    except UnicodeDecodeError:
        return True
    return False
