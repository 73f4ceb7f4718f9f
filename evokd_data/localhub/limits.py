"""Limits of one request. Sizes are in bytes."""

from __future__ import annotations

from dataclasses import dataclass

MiB = 1024**2
GiB = 1024**3


@dataclass(frozen=True)
class Limits:
    """Defaults follow the public Hub's documented limits where it has one."""

    json_body: int = 16 * MiB  # 256 files of a preupload call, 1000 paths of a paths-info call
    commit_body: int = 4 * GiB // 3 + 64 * MiB  # 1 GiB of regular files in base64, and the rest of the lines
    commit_line: int = 48 * MiB  # one regular file in base64; clients send files above 10 MB as LFS
    commit_operations: int = 25_000
    paths_info: int = 1_000
    lfs_batch: int = 1_000
    lfs_object: int = 50 * GiB
    xorb: int = 64 * MiB + 64 * MiB // 10  # clients fill to 64 MiB and add headers
    shard: int = 64 * MiB + 64 * MiB // 10
    xet_chunk: int = 128 * 1024
    xet_file_terms: int = 1_000_000
    git_request: int = 16 * MiB
    card: int = 2 * MiB
    card_nodes: int = 200_000  # with aliases, a small YAML text stands for huge JSON
    free_disk: int = 256 * MiB  # stays free: a full disk breaks git, not only the upload
    headers_s: float = 30  # from a connection, or the first byte of a request, until its headers are there
    body_pause_s: float = 120  # longest wait for the next bytes of a request body
    lock_wait_s: float = 30


DEFAULT = Limits()
