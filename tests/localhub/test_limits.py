"""Requests that are too large or malformed cost the server little and never break it."""

from __future__ import annotations

import asyncio
import io
import json
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evokd_data.localhub.buffered_body import BufferedBody
from evokd_data.localhub.card import read_card
from evokd_data.localhub.commit import commit
from evokd_data.localhub.errors import HubError
from evokd_data.localhub.lfs import LfsStore
from evokd_data.localhub.limits import Limits
from evokd_data.localhub.names import RepoId
from evokd_data.localhub.root import Root
from evokd_data.localhub.store import Store
from evokd_data.localhub.wire import BodyStream, error_reply

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


def _lines(*rows):
    return io.BytesIO("\n".join(json.dumps(row) for row in rows).encode())


@pytest.mark.parametrize(
    ("limits", "files"),
    [({"commit_line": 1000}, {"a": "x" * 2000}), ({"commit_operations": 3}, dict.fromkeys("abcd", ""))],
)
def test_a_commit_too_large_leaves_nothing(tmp_path, limits, files):
    root = Root(tmp_path).prepare()
    store, repo_id = Store(root), RepoId("datasets", "a", "b")
    store.create(repo_id, private=False, first_files={}, author=b"a <a@b>")
    body = _lines(
        {"key": "header", "value": {"summary": "x"}},
        *({"key": "file", "value": {"path": path, "content": content}} for path, content in files.items()),
    )
    with pytest.raises(HubError) as caught:
        commit(store, LfsStore(root), repo_id, "main", body, b"a <a@b>", Limits(**limits), pull=False)
    assert caught.value.status == 413
    assert list(root.tmp.iterdir()) == []


def test_a_body_beyond_its_limit_is_cut_short_and_removed(tmp_path):
    root = Root(tmp_path).prepare()
    body = BufferedBody(root, limit=2_000_000)
    with pytest.raises(HubError) as caught:
        for _ in range(100):
            body.write(b"x" * 500_000)
    assert caught.value.status == 413
    assert body.size <= 2_500_000
    body.close()
    assert list(root.tmp.iterdir()) == []


def test_a_body_that_stops_arriving_is_a_timeout(tmp_path):
    messages = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive():
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop()

    async def check():
        body = BodyStream(receive, pause_s=0.05)
        with pytest.raises(HubError) as caught:
            await body.into(BufferedBody(Root(tmp_path).prepare(), limit=100))
        assert caught.value.status == 408
        assert not await body.drain()

    asyncio.run(check())


def test_a_body_is_refused_before_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1000}))
    with pytest.raises(HubError) as caught:
        BufferedBody(Root(tmp_path).prepare(), limit=10**9).write(b"x" * 2_000_000)
    assert caught.value.status == 507


def test_too_many_paths_and_too_large_bodies(hub, dataset):
    url = f"{hub.endpoint}/api/datasets/{dataset}/paths-info/main"
    assert web.post(url, data={"paths": ["x"] * 1001}).status_code == 413
    assert web.post(url, data={"paths": ["x"] * 1000}).json() == []
    body = {"content": "x" * 17 * 1024**2}
    assert httpx.post(f"{hub.endpoint}/api/validate-yaml", json=body).status_code == 413


def test_any_text_of_an_error_makes_a_valid_header():
    for message in ("ends with a space ", "two\nlines\r\n", "ä\0", ""):
        value = error_reply(HubError(404, message)).headers["X-Error-Message"]
        assert value == value.strip()
        assert value.isascii()
        assert value.isprintable()


def test_a_card_that_stands_for_too_many_values_is_refused():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    card, problem = read_card(f"---\n{bomb}---\n")
    assert card == {}
    assert "more than" in problem
    assert read_card("---\n- a list\n---\n")[1]
    assert read_card("---\ndate: 2024-01-01\nn: .nan\nyes: yes\n---\n") == (
        {"date": "2024-01-01", "n": None, "yes": "yes"},
        None,
    )
    assert read_card("no block\n---\na: [\n---\n") == ({}, None)


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=12)
    | st.text(alphabet="./~^:@{}[]\\*? -aé\0", max_size=8)
    | st.sampled_from(["refs/heads", "refs", "HEAD", "a" * 7, "main/x", "refs/heads/main/x", "@", "main.lock"])
)
def test_no_name_breaks_the_server(hub, dataset, name):
    quoted = quote(name.encode("utf-8", "surrogatepass"), safe="")
    for method, path, body in (
        ("GET", f"/api/datasets/{dataset}/revision/{quoted}", None),
        ("GET", f"/api/datasets/{dataset}/tree/main/{quoted}", None),
        ("GET", f"/datasets/{dataset}/resolve/main/{quoted}", None),
        ("POST", f"/api/datasets/{dataset}/tag/main", {"tag": name}),
        ("DELETE", f"/api/datasets/{dataset}/tag/{quoted}", None),
        ("POST", f"/api/datasets/{dataset}/commit/{quoted}", {"key": "header", "value": {"summary": name}}),
    ):
        if path.rpartition("/")[2] in (".", ".."):
            continue  # the client resolves such paths itself
        answer = web.request(method, hub.endpoint + path, json=body)
        assert answer.status_code < 500, (method, path, body)
