"""What a commit does, through unmodified clients."""

from __future__ import annotations

import io

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)
HEADER = b'{"key": "header", "value": {"summary": "s"}}\n'


def _commit(api, repo, files, **options):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message="a commit", repo_type="dataset", **options)


def _files(api, repo, revision="main"):
    return sorted(set(api.list_repo_files(repo, repo_type="dataset", revision=revision)) - {".gitattributes"})


def _read(hub, repo, path, revision="main"):
    return web.get(f"{hub.endpoint}/datasets/{repo}/resolve/{revision}/{path}")


def test_create_repo_twice_is_a_conflict_unless_allowed(api, dataset):
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(dataset, repo_type="dataset")
    assert caught.value.response.status_code == 409
    assert api.create_repo(dataset, repo_type="dataset", exist_ok=True).repo_id == dataset


def test_models_have_their_own_repositories(api, dataset, hub):
    api.create_repo(dataset, repo_type="model")
    api.create_commit(dataset, [CommitOperationAdd("model.safetensors", b"\0" * 99)], commit_message="weights")
    assert "model.safetensors" in api.list_repo_files(dataset)
    assert _files(api, dataset) == []
    api.delete_repo(dataset)
    assert not api.repo_exists(dataset)
    assert api.repo_exists(dataset, repo_type="dataset")


@pytest.mark.parametrize("way", ["xet", "lfs", "file object"])
def test_parquet_arrives_whole_whichever_way_it_is_sent(api, dataset, hub, parquet, tmp_path, monkeypatch, way):
    content = parquet(50_000, start=len(way))
    source = tmp_path / "shard.parquet"
    source.write_bytes(content)
    if way == "lfs":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with source.open("rb") as handle:
        result = _commit(
            api, dataset, {"data/shard.parquet": handle if way == "file object" else source, "a.txt": b"a"}
        )
    assert result.commit_url == f"{hub.endpoint}/datasets/{dataset}/commit/{result.oid}"
    assert _read(hub, dataset, "data/shard.parquet").content == content
    (info,) = api.get_paths_info(dataset, "data/shard.parquet", repo_type="dataset")
    assert info.lfs.size == len(content)


def test_a_stale_parent_is_refused_and_leaves_no_trace(api, dataset):
    first = api.dataset_info(dataset).sha
    head = _commit(api, dataset, {"a.txt": b"a"}, parent_commit=first).oid
    with pytest.raises(HfHubHTTPError) as caught:
        _commit(api, dataset, {"b.txt": b"b"}, parent_commit=first)
    assert caught.value.response.status_code == 412
    assert _files(api, dataset) == ["a.txt"]
    _commit(api, dataset, {"b.txt": b"b"}, parent_commit=head[:8])
    assert _files(api, dataset) == ["a.txt", "b.txt"]


def test_one_commit_adds_replaces_copies_and_deletes(api, dataset, hub, parquet):
    shard = parquet(10)
    _commit(api, dataset, {"old/x/a.txt": b"a", "old/b.txt": b"b", "keep.txt": b"1", "s.parquet": shard, "gone": b"g"})
    before = len(api.list_repo_commits(dataset, repo_type="dataset"))
    operations = [
        CommitOperationAdd("keep.txt", b"2"),
        CommitOperationDelete("old/", is_folder=True),
        CommitOperationDelete("gone"),
        CommitOperationCopy("s.parquet", "copy/s.parquet"),
        CommitOperationCopy("keep.txt", "copy/keep.txt"),
        CommitOperationAdd("deep/er/and/deeper/f", b"f"),
    ]
    api.create_commit(dataset, operations, commit_message="all at once", repo_type="dataset")
    assert _files(api, dataset) == ["copy/keep.txt", "copy/s.parquet", "deep/er/and/deeper/f", "keep.txt", "s.parquet"]
    assert _read(hub, dataset, "keep.txt").text == "2"
    assert _read(hub, dataset, "copy/s.parquet").content == shard
    assert len(api.list_repo_commits(dataset, repo_type="dataset")) == before + 1


def test_a_commit_that_deletes_a_missing_file_changes_nothing(api, dataset):
    operations = [CommitOperationAdd("a.txt", b"a"), CommitOperationDelete("missing.txt")]
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.create_commit(dataset, operations, commit_message="x", repo_type="dataset")
    assert _files(api, dataset) == []


def test_an_unchanged_commit_is_none(api, dataset, parquet):
    files = {"a.txt": b"a", "s.parquet": parquet(5)}
    first = _commit(api, dataset, files)
    assert _commit(api, dataset, files).oid == first.oid
    assert len(api.list_repo_commits(dataset, repo_type="dataset")) == 2


def test_a_thousand_files_make_one_commit(api, dataset):
    _commit(api, dataset, {f"d{i % 7}/f{i}.txt": str(i).encode() for i in range(1000)})
    assert len(_files(api, dataset)) == 1000
    assert len(api.list_repo_commits(dataset, repo_type="dataset")) == 2
    pages = list(api.list_repo_tree(dataset, repo_type="dataset", recursive=True))
    assert len(pages) == 1000 + 7 + 1  # more than one page


def test_a_broken_card_is_refused_before_and_at_the_commit(api, dataset, hub):
    with pytest.raises(ValueError, match="YAML"):
        _commit(api, dataset, {"README.md": b"---\na: [\n---\n"})
    lines = [
        b'{"key": "header", "value": {"summary": "s"}}',
        b'{"key": "file", "value": {"path": "README.md", "content": "---\\na: [\\n---\\n"}}',
    ]
    assert web.post(f"{hub.endpoint}/api/datasets/{dataset}/commit/main", content=b"\n".join(lines)).status_code == 400
    _commit(api, dataset, {"README.md": b"---\nlicense: mit\ntags: [a]\n---\n# Hi"})
    info = api.dataset_info(dataset)
    assert info.card_data.license == "mit"
    assert info.tags == ["a", "license:mit"]


def test_commits_go_to_branches_only(api, dataset):
    api.create_tag(dataset, tag="v1", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="not a branch"):
        _commit(api, dataset, {"a.txt": b"a"}, revision="v1")
    with pytest.raises(RevisionNotFoundError):
        _commit(api, dataset, {"a.txt": b"a"}, revision="nowhere")


def test_a_pull_request_is_a_commit_beside_main(api, dataset):
    result = _commit(api, dataset, {"a.txt": b"a"}, create_pr=True)
    assert result.pr_num == 1
    assert _files(api, dataset) == []
    assert _files(api, dataset, "refs/pr/1") == ["a.txt"]
    assert [
        pull.ref for pull in api.list_repo_refs(dataset, repo_type="dataset", include_pull_requests=True).pull_requests
    ]


def test_an_ignored_file_is_left_out(api, dataset):
    _commit(api, dataset, {".gitignore": b"*.tmp\n"})
    _commit(api, dataset, {"a.tmp": b"a", "b.txt": b"b"})
    assert _files(api, dataset) == [".gitignore", "b.txt"]


def test_a_folder_cannot_become_a_file(api, dataset):
    _commit(api, dataset, {"d/a.txt": b"a", "f": b"f"})
    for path in ("d", "f/a.txt"):
        with pytest.raises(HfHubHTTPError) as caught:
            _commit(api, dataset, {path: b"x"})
        assert caught.value.response.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"key": "file", "value": {"path": "a", "content": ""}}',
        b'{"key": "header", "value": {"summary": ""}}',
        b'{"key": "header", "value": {"summary": "s", "parentCommit": "main"}}',
        HEADER + b'{"key": "file", "value": {"path": 3}}',
        HEADER + b'{"key": "file", "value": {"path": "a", "content": 1}}',
        HEADER + b'{"key": "rename", "value": {"path": "a"}}',
        HEADER + b'{"key": "file", "value": {"path": "a", "content": "*", "encoding": "base64"}}',
        HEADER + b'{"key": "lfsFile", "value": {"path": "a", "oid": "x"}}',
        HEADER + b'{"key": "lfsFile", "value": {"path": "a", "oid": "' + b"0" * 64 + b'"}}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_commit_is_a_bad_request(dataset, hub, body):
    answer = web.post(f"{hub.endpoint}/api/datasets/{dataset}/commit/main", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_open_file_objects_of_any_size_are_taken(api, dataset, hub):
    _commit(api, dataset, {"empty.parquet": io.BytesIO(b""), "empty.txt": b""})
    assert _read(hub, dataset, "empty.parquet").content == b""
    assert _files(api, dataset) == ["empty.parquet", "empty.txt"]
