"""Killed servers, racing writers and killed parents: acknowledged commits stay, and no process or lock is left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from dulwich.repo import Repo
from huggingface_hub import CommitOperationAdd, HfApi

from evokd_data import localhub
from evokd_data.errors import PublishError
from evokd_data.localhub.child import HubDidNotStart
from evokd_data.publishers.open_hub import open_hub

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


def _repo(root: Path, name: str) -> Path:
    return root / "repos" / "datasets" / f"{name}.git"


def _history(root: Path, name: str) -> list[str]:
    """The ids of the commits of main. Reads every object of each commit, so that a damaged store fails here."""
    with Repo(str(_repo(root, name))) as repo:
        commits = []
        for entry in repo.get_walker(include=[repo.refs[b"refs/heads/main"]]):
            commits.append(entry.commit.id.decode())
            for item in repo.object_store.iter_tree_contents(entry.commit.tree):
                repo.object_store[item.sha].check()
        return commits


@pytest.mark.timeout(60)
def test_acknowledged_commits_survive_kill_9(tmp_path):
    acknowledged = []
    for life in range(4):
        with localhub.running(tmp_path) as server:
            api = HfApi(endpoint=server.endpoint, token=server.token)
            api.create_repo("local/d", repo_type="dataset", exist_ok=True)
            enough = threading.Event()

            def publish(url=f"{server.endpoint}/api/datasets/local/d/commit/main", life=life, enough=enough):
                # Not with huggingface_hub, which would retry for half a minute after the server is killed.
                for number in range(1000):
                    lines = [{"key": "header", "value": {"summary": "x"}}]
                    for i in range(20):
                        lines.append({"key": "file", "value": {"path": f"f{life}-{number}-{i}", "content": "x"}})
                    try:
                        answer = web.post(url, content="\n".join(json.dumps(line) for line in lines))
                    except httpx.TransportError:
                        return
                    acknowledged.append(answer.raise_for_status().json()["commitOid"])
                    if number >= 2 + life:
                        enough.set()

            writer = threading.Thread(target=publish)
            writer.start()
            assert enough.wait(30)
            os.kill(server.pid, signal.SIGKILL)
            writer.join()
    history = _history(tmp_path, "local/d")
    assert set(acknowledged) <= set(history)
    assert len(acknowledged) >= 18
    # Each kill may leave one commit that was made but not acknowledged.
    assert len(history) <= len(acknowledged) + 1 + 4


def test_locks_of_a_killed_server_are_cleared(tmp_path):
    with localhub.running(tmp_path) as server:
        api = HfApi(endpoint=server.endpoint, token=server.token)
        api.create_repo("local/d", repo_type="dataset")
        stale = [
            _repo(tmp_path, "local/d") / name for name in ("refs/heads/main.lock", "refs/tags/v1.lock", "HEAD.lock")
        ]
        for path in stale:
            path.touch()
        api.create_commit("local/d", [CommitOperationAdd("a", b"a")], commit_message="x", repo_type="dataset")
        api.create_tag("local/d", tag="v1", repo_type="dataset")
    assert not any(path.exists() for path in stale)


def test_two_racing_processes_make_one_commit_per_parent(tmp_path):
    """Two servers share one root, with one client each. The clients commit only onto a parent that they have read."""
    racer = """
import sys
from huggingface_hub import HfApi, CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError
api, won, lost = HfApi(endpoint=sys.argv[1], token=sys.argv[2]), 0, 0
for number in range(1000):
    if won == 12:
        break
    head = api.dataset_info("local/d").sha
    try:
        api.create_commit("local/d", [CommitOperationAdd(f"{sys.argv[3]}-{won}", b"x")], commit_message="x",
                          repo_type="dataset", parent_commit=head)
        won += 1
    except HfHubHTTPError as error:
        assert error.response.status_code in (409, 412), error
        lost += 1
print(won, lost)
"""
    with localhub.running(tmp_path) as first, localhub.running(tmp_path) as second:
        HfApi(endpoint=first.endpoint, token=first.token).create_repo("local/d", repo_type="dataset")
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", racer, server.endpoint, server.token, name], stdout=subprocess.PIPE, text=True
            )
            for server, name in ((first, "first"), (second, "second"))
        ]
        results = [process.communicate(timeout=60)[0].split() for process in racers]
    assert [won for won, _ in results] == ["12", "12"]
    history = _history(tmp_path, "local/d")
    assert len(history) == 1 + 24
    with Repo(str(_repo(tmp_path, "local/d"))) as repo:
        head = repo[repo.refs[b"refs/heads/main"]]
        assert len(list(repo.object_store.iter_tree_contents(head.tree))) == 1 + 24  # no lost update


def test_racing_threads_never_lose_an_update(hub, api, dataset):
    """A commit without a parent goes onto whatever commit the branch is at."""

    def write(name):
        for number in range(5):
            lines = (
                '{"key": "header", "value": {"summary": "x"}}\n{"key": "file", "value": {"path": "%s", "content": "x"}}'
            )
            web.post(
                f"{hub.endpoint}/api/datasets/{dataset}/commit/main", content=lines % f"{name}-{number}"
            ).raise_for_status()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(api.list_repo_files(dataset, repo_type="dataset")) == 1 + 20
    assert len(api.list_repo_commits(dataset, repo_type="dataset")) == 1 + 20


def test_a_server_ends_with_its_parent_also_when_that_is_killed(tmp_path):
    code = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom evokd_data import localhub\n"
        "with localhub.running(Path(sys.argv[1])) as hub:\n"
        "    print(hub.pid, hub.endpoint, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    endpoint = parent.stdout.split()[1]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            web.get(endpoint)
        except httpx.TransportError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the server outlived its parent")


def test_leaving_the_block_ends_the_server_quietly(tmp_path):
    with localhub.running(tmp_path) as server:
        web.get(server.endpoint)
    with pytest.raises(httpx.TransportError):
        web.get(server.endpoint)
    assert (tmp_path / "server.log").read_text() == ""


def test_a_server_that_cannot_start_says_why(tmp_path, hub):
    port = int(hub.endpoint.rpartition(":")[2])
    with pytest.raises(HubDidNotStart, match="cannot listen"), localhub.running(tmp_path, port=port):
        pass


def test_a_local_hub_that_does_not_start_is_an_error_with_advice(tmp_path):
    (tmp_path / "repos").write_text("a file where a folder should be")
    advice = r"did not start(.|\n)*choose another folder: publish\.hub_root"
    with pytest.raises(PublishError, match=advice), open_hub("local", root=tmp_path, create=True):
        pass
