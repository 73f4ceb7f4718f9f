"""git clone, and the pages for a browser."""

from __future__ import annotations

import shutil
import subprocess

import httpx
import pytest
from dulwich import porcelain
from huggingface_hub import CommitOperationAdd

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


@pytest.fixture
def published(api, dataset, parquet):
    files = {
        "README.md": b"# <b>Hello</b>",
        "data/s.parquet": parquet(10),
        **{f"f{i}.txt": b"%d" % i for i in range(30)},
    }
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(dataset, operations, commit_message="a round", repo_type="dataset")
    api.create_tag(dataset, tag="round/1", tag_message="first", repo_type="dataset")
    return dataset


def _pointer(path):
    lines = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    return lines["oid"].removeprefix("sha256:"), int(lines["size"])


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
@pytest.mark.parametrize("suffix", ["", ".git"])
def test_git_clones_and_fetches(hub, api, published, parquet, tmp_path, suffix):
    def git(*arguments):
        command = ["git", "-c", "filter.lfs.smudge=cat", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false"]
        settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"}
        process = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=settings)
        assert process.returncode == 0, process.stderr
        return process.stdout

    clone = tmp_path / "clone"
    git("clone", "-q", f"{hub.endpoint}/datasets/{published}{suffix}", str(clone))
    assert (clone / "README.md").read_text() == "# <b>Hello</b>"
    assert (clone / "f29.txt").read_text() == "29"
    assert git("-C", str(clone), "tag").split() == ["round/1"]
    git("-C", str(clone), "fsck", "--strict")
    api.create_commit(published, [CommitOperationAdd("new.txt", b"n")], commit_message="more", repo_type="dataset")
    git("-C", str(clone), "pull", "-q")
    assert (clone / "new.txt").read_text() == "n"
    # As git-lfs does: read the pointer, ask for a link with the batch call, download.
    oid, size = _pointer(clone / "data" / "s.parquet")
    request = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}
    url = f"{hub.endpoint}/datasets/{published}.git/info/lfs/objects/batch"
    (row,) = web.post(url, json=request).json()["objects"]
    assert web.get(row["actions"]["download"]["href"]).content == parquet(10)


def test_a_clone_without_git_and_no_push(hub, published, tmp_path):
    with porcelain.clone(f"{hub.endpoint}/datasets/{published}", str(tmp_path / "clone")) as repo:
        assert (tmp_path / "clone" / "README.md").exists()
        assert b"refs/tags/round/1" in repo.refs
    answer = web.get(f"{hub.endpoint}/datasets/{published}/info/refs?service=git-receive-pack")
    assert answer.status_code == 403


def test_a_browser_shows_repositories_readme_and_files(hub, published):
    index = web.get(hub.endpoint)
    assert index.headers["Content-Type"].startswith("text/html")
    assert f'href="/datasets/{published}"' in index.text
    assert hub.endpoint in index.text
    page = web.get(f"{hub.endpoint}/datasets/{published}")
    assert "# &lt;b&gt;Hello&lt;/b&gt;" in page.text
    assert "round%2F1" in page.text
    old = web.get(f"{hub.endpoint}/datasets/{published}/tree/round%2F1")
    assert old.status_code == 200
    assert "data/s.parquet" in old.text
    assert web.get(f"{hub.endpoint}/datasets/local/none").status_code == 404
    readme = web.get(f"{hub.endpoint}/datasets/{published}/resolve/main/README.md")
    assert readme.headers["Content-Type"].startswith("text/plain")  # never HTML, because users wrote the files
    assert readme.headers["X-Content-Type-Options"] == "nosniff"
