"""Freeing disk: large files no commit names, staged uploads, leftovers of killed servers."""

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
    """Counts of things removed; `freed_bytes` covers all of them, `packed_objects` those that `repack` moved."""

    lfs_objects: int = 0
    xorbs: int = 0
    temporary: int = 0
    freed_bytes: int = 0
    packed_objects: int = 0


def collect(root: Path, grace_s: float = 24 * 3600, *, repack: bool = False) -> Collected:
    """Remove what nothing refers to and nobody has touched for `grace_s` seconds.

    Safe beside running servers: commits wait meanwhile, reads do not. The grace period covers the time between an
    upload and the commit that names it, so it should exceed the longest publish; 0 is for a Hub at rest.
    """
    place = Root(Path(root)).prepare()
    store, done = Store(place), Collected()
    with place.lock("gc", wait_s=600):
        horizon = time.time() - grace_s
        _sweep_lfs(place, store, horizon, done)
    done.xorbs, freed = Staging(place).collect(grace_s)
    done.freed_bytes += freed
    _sweep_tmp(place, horizon, done)
    if repack:
        for repo_id in store.all():
            with store.writing(repo_id) as repo:
                done.packed_objects += repo.objects.repack()
    return done


def _sweep_lfs(root: Root, store: Store, horizon: float, done: Collected) -> None:
    wanted: set[str] = set()
    for repo_id in store.all():
        with store.open(repo_id) as repo:
            wanted |= referenced(repo)
    gone = []
    for path in root.lfs.glob("??/??/*"):
        stat = path.stat()
        if path.name not in wanted and stat.st_mtime <= horizon:
            path.unlink()
            gone.append(path.name)
            done.lfs_objects += 1
            done.freed_bytes += stat.st_size
    for repo_id in store.all() if gone else []:
        with store.open(repo_id) as repo:
            for oid in gone:
                repo.forget(oid)


def referenced(repo: Repository) -> set[str]:
    """sha256 of every large file that some commit of some branch, tag or pull request names."""
    oids: set[str] = set()
    trees: set[bytes] = set()
    starts = []
    for sha in repo.refs.as_dict().values():
        peeled = repo.git.object_store.peel(sha)[1]
        if isinstance(peeled, Commit):
            starts.append(peeled.id)
    for entry in repo.git.get_walker(include=starts) if starts else []:
        oids.update(pointer.oid for pointer in pointers(repo, entry.commit.tree, trees))
    return oids


def _sweep_tmp(root: Root, horizon: float, done: Collected) -> None:
    for path in root.tmp.iterdir():
        if path.stat().st_mtime > horizon:
            continue
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        done.freed_bytes += sum(each.stat().st_size for each in files)
        done.temporary += 1
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
