"""Tags and branches, and reading files by them."""

from __future__ import annotations

import re

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


@pytest.fixture
def rounds(api, dataset, parquet):
    """A dataset with two rounds; returns {tag: commit}."""
    commits = {}
    for number in (1, 2):
        files = {"README.md": f"# round {number}".encode(), f"data/round-{number}.parquet": parquet(10 * number)}
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        commit = api.create_commit(dataset, operations, commit_message=f"round {number}\n\nmore", repo_type="dataset")
        tag = f"round-{number:03}"
        api.create_tag(
            dataset, tag=tag, revision=commit.oid, tag_message="annotated" if number == 2 else None, repo_type="dataset"
        )
        commits[tag] = commit.oid
    return commits


def test_tags_name_commits_also_when_annotated(api, dataset, rounds):
    refs = api.list_repo_refs(dataset, repo_type="dataset")
    assert {tag.name: tag.target_commit for tag in refs.tags} == rounds
    assert [(branch.name, branch.target_commit) for branch in refs.branches] == [("main", rounds["round-002"])]
    assert api.dataset_info(dataset, revision="round-001").sha == rounds["round-001"]


def test_a_tag_never_moves(api, dataset, rounds):
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag(dataset, tag="round-001", repo_type="dataset")
    assert caught.value.response.status_code == 409
    api.create_tag(dataset, tag="round-001", repo_type="dataset", exist_ok=True)
    assert api.dataset_info(dataset, revision="round-001").sha == rounds["round-001"]
    api.delete_tag(dataset, tag="round-001", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(dataset, revision="round-001")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(dataset, tag="round-001", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(dataset, tag="x", revision="nowhere", repo_type="dataset")


def test_history_is_listed_newest_first(api, dataset, rounds):
    commits = api.list_repo_commits(dataset, repo_type="dataset")
    assert [commit.title for commit in commits] == ["round 2", "round 1", "initial commit"]
    assert commits[0].commit_id == rounds["round-002"]
    assert commits[0].message == "more"
    assert commits[0].authors == ["local"]


def test_a_history_longer_than_a_page_is_listed_completely(api, dataset, hub):
    for number in range(5):
        api.create_commit(
            dataset, [CommitOperationAdd("n", str(number).encode())], commit_message=str(number), repo_type="dataset"
        )
    first = web.get(f"{hub.endpoint}/api/datasets/{dataset}/commits/main?limit=4")
    following = web.get(re.fullmatch(r'<(.*)>; rel="next"', first.headers["Link"])[1])
    titles = [row["title"] for row in first.json() + following.json()]
    assert titles == ["4", "3", "2", "1", "0", "initial commit"]
    assert "Link" not in following.headers


def test_a_snapshot_holds_the_files_of_its_revision(api, dataset, rounds, hub, tmp_path):
    for tag, names in {"round-001": ["round-1.parquet"], "round-002": ["round-1.parquet", "round-2.parquet"]}.items():
        folder = snapshot_download(
            dataset, repo_type="dataset", revision=tag, cache_dir=tmp_path, endpoint=hub.endpoint, token=hub.token
        )
        assert rounds[tag] in folder
        assert sorted(path.name for path in (tmp_path / folder).glob("data/*")) == names


def test_a_file_has_the_content_of_its_revision(dataset, rounds, hub, tmp_path):
    def read(revision):
        path = hf_hub_download(
            dataset, "README.md", repo_type="dataset", revision=revision, cache_dir=tmp_path, endpoint=hub.endpoint
        )
        return (tmp_path / path).read_text()

    assert read("round-001") == "# round 1"
    assert read(rounds["round-002"]) == read("main") == "# round 2"
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(dataset, "no.txt", repo_type="dataset", cache_dir=tmp_path, endpoint=hub.endpoint)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(
            dataset, "README.md", repo_type="dataset", revision="no", cache_dir=tmp_path, endpoint=hub.endpoint
        )
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("local/none", "README.md", repo_type="dataset", cache_dir=tmp_path, endpoint=hub.endpoint)


def test_revisions_may_hold_slashes(api, dataset, rounds, hub, tmp_path):
    api.create_branch(dataset, branch="exp/one", revision="round-001", repo_type="dataset")
    api.create_tag(dataset, tag="try/1", revision="exp/one", repo_type="dataset")
    api.create_commit(
        dataset, [CommitOperationAdd("x y.txt", b"x")], commit_message="x", revision="exp/one", repo_type="dataset"
    )
    assert "x y.txt" in api.list_repo_files(dataset, revision="exp/one", repo_type="dataset")
    assert "x y.txt" not in api.list_repo_files(dataset, revision="try/1", repo_type="dataset")
    options = {"repo_type": "dataset", "cache_dir": tmp_path, "endpoint": hub.endpoint}
    assert hf_hub_download(dataset, "x y.txt", revision="exp/one", **options)
    assert hf_hub_download(dataset, "data/round-1.parquet", revision="refs/heads/exp/one", **options)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_branch(dataset, branch="exp/one", repo_type="dataset")
    assert caught.value.response.status_code == 409
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_branch(dataset, branch="exp", repo_type="dataset")
    assert caught.value.response.status_code == 409
    api.delete_branch(dataset, branch="exp/one", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_files(dataset, revision="exp/one", repo_type="dataset")


def test_folders_are_listed_one_by_one_or_recursively(api, dataset, rounds):
    def paths(**options):
        return [entry.path for entry in api.list_repo_tree(dataset, repo_type="dataset", **options)]

    assert paths() == [".gitattributes", "README.md", "data"]
    assert paths(path_in_repo="data") == ["data/round-1.parquet", "data/round-2.parquet"]
    assert len(paths(recursive=True)) == 5
    with pytest.raises(EntryNotFoundError):
        paths(path_in_repo="nowhere")
    expanded = {
        entry.path: entry for entry in api.list_repo_tree(dataset, repo_type="dataset", recursive=True, expand=True)
    }
    assert expanded["data/round-1.parquet"].last_commit.oid == rounds["round-001"]
    assert expanded["data"].last_commit.oid == rounds["round-002"]
    entries = api.get_paths_info(dataset, ["README.md", "data", "nowhere"], repo_type="dataset")
    assert [entry.path for entry in entries] == ["README.md", "data"]


def test_repositories_are_listed_by_author(api, dataset, rounds, hub):
    assert dataset in [info.id for info in api.list_datasets(author="local")]
    assert list(api.list_datasets(author="nobody")) == []
    assert web.head(f"{hub.endpoint}/api/datasets/{dataset}").status_code == 200
    info = api.dataset_info(dataset, files_metadata=True)
    assert {row.rfilename: row.lfs is not None for row in info.siblings}["data/round-1.parquet"]


@pytest.mark.parametrize("path", ["README.md", "data/round-2.parquet"])
def test_ranges_of_a_file(dataset, rounds, hub, path):
    url = f"{hub.endpoint}/datasets/{dataset}/resolve/round-002/{path}"
    complete = web.get(url)
    size = len(complete.content)
    assert complete.headers["X-Repo-Commit"] == rounds["round-002"]
    assert complete.headers["Accept-Ranges"] == "bytes"
    for byte_range, status, part in [
        ("bytes=0-3", 206, complete.content[:4]),
        ("bytes=4-", 206, complete.content[4:]),
        ("bytes=-4", 206, complete.content[-4:]),
        (f"bytes=2-{size + 99}", 206, complete.content[2:]),
        ("bytes=0-1,3-4", 200, complete.content),
        ("lines=0-1", 200, complete.content),
    ]:
        answer = web.get(url, headers={"Range": byte_range})
        assert (answer.status_code, answer.content) == (status, part), byte_range
    assert answer.headers["Content-Length"] == str(size)
    past = web.get(url, headers={"Range": f"bytes={size}-"})
    assert past.status_code == 416
    assert past.headers["Content-Range"] == f"bytes */{size}"
    head = web.head(url)
    assert head.headers["ETag"] == complete.headers["ETag"]
    assert head.headers["Content-Length"] == str(size)
    assert head.content == b""
