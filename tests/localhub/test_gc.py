"""Garbage collection removes only files that nothing refers to."""

from __future__ import annotations

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from evokd_data import localhub
from evokd_data.localhub.gc import collect

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


@pytest.fixture
def server(tmp_path):
    with localhub.running(tmp_path / "hub") as started:
        yield started


def _add(api, path, content, **options):
    return api.create_commit(
        "local/d", [CommitOperationAdd(path, content)], commit_message="x", repo_type="dataset", **options
    )


def test_only_unreferenced_objects_are_removed(server, parquet):
    api = HfApi(endpoint=server.endpoint, token=server.token)
    api.create_repo("local/d", repo_type="dataset")
    api.create_repo("local/other", repo_type="dataset")
    _add(api, "tagged.parquet", parquet(10))
    api.create_tag("local/d", tag="v1", tag_message="annotated", repo_type="dataset")
    deletions = [CommitOperationDelete("tagged.parquet")]
    api.create_commit("local/d", deletions, commit_message="gone from main", repo_type="dataset")
    _add(api, "pulled.parquet", parquet(11), create_pr=True)
    uploaded = CommitOperationAdd("never-committed.parquet", parquet(12))
    api.preupload_lfs_files("local/d", [uploaded], repo_type="dataset")
    other = [CommitOperationAdd("other.parquet", parquet(13))]
    api.create_commit("local/other", other, commit_message="x", repo_type="dataset")
    api.delete_repo("local/other", repo_type="dataset")
    (server.root / "tmp" / "body-left-over").write_bytes(b"x" * 100)

    assert collect(server.root, grace_s=3600).lfs_objects == 0
    before = sum(path.stat().st_size for path in server.root.rglob("*") if path.is_file())
    collected = collect(server.root, grace_s=0)
    after = sum(path.stat().st_size for path in server.root.rglob("*") if path.is_file())
    assert collected.lfs_objects == 2  # the uncommitted one, and the one of the deleted repository
    assert collected.xorbs >= 1
    assert collected.temporary == 1
    assert 0 < before - after <= collected.freed_bytes
    for revision, name in (("v1", "tagged"), ("refs%2Fpr%2F1", "pulled")):
        assert web.get(f"{server.endpoint}/datasets/local/d/resolve/{revision}/{name}.parquet").status_code == 200
    assert collect(server.root, grace_s=0).lfs_objects == 0

    # The client remembers which chunks it sent; a new address makes it send them again.
    _add(api, "never-committed.parquet", parquet(12))
    _add(api, "other.parquet", parquet(13))
    assert web.get(f"{server.endpoint}/datasets/local/d/resolve/main/other.parquet").content == parquet(13)


def test_repacking_keeps_every_revision(server):
    api = HfApi(endpoint=server.endpoint, token=server.token)
    api.create_repo("local/d", repo_type="dataset")
    commits = [_add(api, "a.txt", str(number).encode()).oid for number in range(5)]
    assert collect(server.root, grace_s=0, repack=True).packed_objects >= 15
    for number, commit in enumerate(commits):
        assert web.get(f"{server.endpoint}/datasets/local/d/resolve/{commit}/a.txt").text == str(number)
    _add(api, "a.txt", b"after")
    assert web.get(f"{server.endpoint}/datasets/local/d/resolve/main/a.txt").text == "after"
