"""Garbage collection: large files that no commit names, staged uploads, leftovers of killed servers."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from dulwich.objects import Commit

from evokd_data.localhub.root import Root
from evokd_data.localhub.store import Repository, Store
from evokd_data.localhub.trees import pointers
from evokd_data.localhub.xet import Staging


@dataclass
class Collected:
    """How many files were removed. `freed_bytes` is the size of all of them; `repack` moved `packed_objects`."""

    lfs_objects: int = 0
    xorbs: int = 0
    temporary: int = 0
    freed_bytes: int = 0
    packed_objects: int = 0


def collect(root: Path, grace_s: float = 24 * 3600, *, repack: bool = False) -> Collected:
    """Remove the files that nothing refers to and nobody has touched for `grace_s` seconds.

    Servers may run meanwhile: commits wait, reads do not. The grace period covers the time between an upload and the commit
    that names it, so it should exceed the longest publish; 0 is for a Hub without clients. Raises HubError 503 when commits
    do not let it begin within 600 seconds.
    """
    hub_root = Root(Path(root)).prepare()
    store, collected = Store(hub_root), Collected()
    with hub_root.lock("gc", wait_s=600):
        horizon = time.time() - grace_s
        _sweep_lfs(hub_root, store, horizon, collected)
    collected.xorbs, freed = Staging(hub_root).collect(grace_s)
    collected.freed_bytes += freed
    _sweep_tmp(hub_root, horizon, collected)
    if repack:
        for repo_id in store.all():
            with store.writing(repo_id) as repo:
                collected.packed_objects += repo.objects.repack()
    return collected


def _sweep_lfs(root: Root, store: Store, horizon: float, collected: Collected) -> None:
    named: set[str] = set()
    for repo_id in store.all():
        with store.open(repo_id) as repo:
            named |= referenced(repo)
    removed = []
    for path in root.lfs.glob("??/??/*"):
        stat = path.stat()
        if path.name not in named and stat.st_mtime <= horizon:
            path.unlink()
            removed.append(path.name)
            collected.lfs_objects += 1
            collected.freed_bytes += stat.st_size
    for repo_id in store.all() if removed else []:
        with store.open(repo_id) as repo:
            for oid in removed:
                repo.remove_large_file(oid)


def referenced(repo: Repository) -> set[str]:
    """The sha256 of every large file that a commit of a branch, tag or pull request names."""
    oids: set[str] = set()
    visited_trees: set[bytes] = set()
    starts = []
    for sha in repo.refs.as_dict().values():
        peeled = repo.git.object_store.peel(sha)[1]
        if isinstance(peeled, Commit):
            starts.append(peeled.id)
    for entry in repo.git.get_walker(include=starts) if starts else []:
        oids.update(pointer.oid for pointer in pointers(repo, entry.commit.tree, visited_trees))
    return oids


def _sweep_tmp(root: Root, horizon: float, collected: Collected) -> None:
    for path in root.tmp.iterdir():
        if path.stat().st_mtime > horizon:
            continue
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        collected.freed_bytes += sum(file.stat().st_size for file in files)
        collected.temporary += 1
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
