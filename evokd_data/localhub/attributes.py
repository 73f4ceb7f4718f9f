"""Which files are large: `.gitattributes`, and what a new repository's says."""

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
    """Is a file of that path, size in bytes and first bytes stored as a large file?"""
    rules = compile_gitattributes_patterns(parse_git_attributes(io.BytesIO(gitattributes or b"")))

    def is_large(path: str, size: int, sample: bytes) -> bool:
        wanted = match_path(rules, path.encode()).get(b"filter")
        return wanted == b"lfs" or size > LFS_THRESHOLD or _binary(sample)

    return is_large


def ignore_rule(gitignore: bytes | None) -> Callable[[str], bool]:
    if not gitignore:
        return lambda path: False
    rules = IgnoreFilter(read_ignore_patterns(io.BytesIO(gitignore)))
    return lambda path: bool(rules.is_ignored(path))


def _binary(sample: bytes) -> bool:
    """Not UTF-8 text; a character cut in two by the end of the sample is still text."""
    if b"\0" in sample:
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=False)
    except UnicodeDecodeError:
        return True
    return False
