"""Rights of callers, and requests that are refused to everyone."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import subprocess
import sys

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from evokd_data import localhub
from evokd_data.localhub.app import App, Hub
from evokd_data.localhub.auth import Authority, add_token, list_tokens, revoke_token
from evokd_data.localhub.errors import HubError
from evokd_data.localhub.root import Root
from evokd_data.localhub.server import UnsafeAddress, serve

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A Hub with tokens: an api per user, and one without a token."""
    root = tmp_path_factory.mktemp("guarded")
    people = {"alice": ("write", ("acme",)), "bob": ("write", ()), "carol": ("read", ("acme",)), "root": ("admin", ())}
    tokens = {user: add_token(root, user, role, orgs)[0] for user, (role, orgs) in people.items()}
    with localhub.running(root) as server:
        apis = {user: HfApi(endpoint=server.endpoint, token=token) for user, token in tokens.items()}
        apis["nobody"] = HfApi(endpoint=server.endpoint, token=False)
        apis["alice"].create_repo("acme/secret", repo_type="dataset", private=True)
        apis["alice"].create_repo("alice/open", repo_type="dataset")
        for repo in ("acme/secret", "alice/open"):
            add = [CommitOperationAdd("s.parquet", b"secret"), CommitOperationAdd("a.txt", b"a")]
            apis["alice"].create_commit(repo, add, commit_message="x", repo_type="dataset")
        yield server, apis, tokens


def _status(call, *args, **kwargs):
    with pytest.raises(HfHubHTTPError) as caught:
        call(*args, **kwargs)
    return caught.value.response.status_code


def test_a_private_repository_is_invisible_to_others(guarded):
    server, apis, tokens = guarded
    for user in ("alice", "carol", "root"):
        assert apis[user].dataset_info("acme/secret").private
        assert [info.id for info in apis[user].list_datasets(author="acme")] == ["acme/secret"]
    for user in ("bob", "nobody"):
        with pytest.raises(RepositoryNotFoundError):
            apis[user].dataset_info("acme/secret")
        with pytest.raises(RepositoryNotFoundError):
            apis[user].list_repo_refs("acme/secret", repo_type="dataset")
        assert list(apis[user].list_datasets(author="acme")) == []
    headers = {"Authorization": f"Bearer {tokens['bob']}"}
    for path in (
        "/datasets/acme/secret/resolve/main/a.txt",
        "/datasets/acme/secret",
        "/datasets/acme/secret/info/refs?service=git-upload-pack",
        "/api/datasets/acme/secret/xet-write-token/main",
    ):
        hidden = web.get(server.endpoint + path, headers=headers)
        missing = web.get(server.endpoint + path.replace("secret", "missing"), headers=headers)
        assert hidden.status_code == missing.status_code == 404
        assert hidden.content == missing.content
    assert "acme/secret" not in web.get(server.endpoint, headers=headers).text


def test_public_repositories_are_read_by_anyone_and_written_by_their_owners(guarded):
    _, apis, _ = guarded
    assert apis["nobody"].list_repo_files("alice/open", repo_type="dataset")
    add = [CommitOperationAdd("b.txt", b"b")]  # reusable as long as no commit succeeds
    commit = {"repo_id": "alice/open", "operations": add, "commit_message": "x", "repo_type": "dataset"}
    assert _status(apis["bob"].create_commit, **commit) == 403
    assert _status(apis["bob"].delete_repo, "alice/open", repo_type="dataset") == 403
    assert _status(apis["bob"].create_tag, "alice/open", tag="t", repo_type="dataset") == 403
    assert _status(apis["nobody"].create_commit, **commit) == 401
    apis["root"].create_commit(**commit)


def test_a_reader_cannot_write(guarded):
    _, apis, _ = guarded
    add = [CommitOperationAdd("b.txt", b"b")]
    assert _status(apis["carol"].create_commit, "acme/secret", add, commit_message="x", repo_type="dataset") == 403
    assert _status(apis["carol"].create_repo, "carol/mine", repo_type="dataset") == 403
    assert _status(apis["bob"].create_repo, "acme/mine", repo_type="dataset") == 403


def test_whoami_tells_user_orgs_and_role(guarded):
    _, apis, _ = guarded
    answer = apis["alice"].whoami()
    assert (answer["name"], [org["name"] for org in answer["orgs"]]) == ("alice", ["acme"])
    assert apis["carol"].whoami()["auth"]["accessToken"]["role"] == "read"


def test_unknown_and_revoked_tokens_are_refused_at_once(guarded):
    server, _, _ = guarded
    assert _status(HfApi(endpoint=server.endpoint, token="hub_wrong").whoami) == 401
    token, record = add_token(server.root, "dave")
    api = HfApi(endpoint=server.endpoint, token=token)
    assert api.whoami()["name"] == "dave"
    revoke_token(server.root, record.id)
    assert _status(api.whoami) == 401
    assert HfApi(endpoint=server.endpoint, token=server.token).whoami()["name"] == "local"


def test_visibility_can_be_changed(guarded):
    _, apis, _ = guarded
    apis["alice"].create_repo("alice/moody", repo_type="dataset", private=True)
    apis["alice"].update_repo_settings("alice/moody", repo_type="dataset", private=False)
    assert not apis["nobody"].dataset_info("alice/moody").private


def test_knowing_a_digest_does_not_give_the_content(guarded):
    """All repositories share one LFS store. Without this rule a pointer would open every private repository."""
    server, apis, tokens = guarded
    (entry,) = apis["alice"].get_paths_info("acme/secret", "s.parquet", repo_type="dataset")
    apis["bob"].create_repo("bob/thief", repo_type="dataset", exist_ok=True)
    headers = {"Authorization": f"Bearer {tokens['bob']}"}
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{entry.lfs.sha256}\nsize {entry.size}\n"
    for operation in (
        {
            "key": "lfsFile",
            "value": {"path": "s.parquet", "algo": "sha256", "oid": entry.lfs.sha256, "size": entry.size},
        },
        {"key": "file", "value": {"path": "s.parquet", "content": pointer}},
    ):
        lines = [{"key": "header", "value": {"summary": "x"}}, operation]
        body = "\n".join(json.dumps(line) for line in lines)
        answer = web.post(f"{server.endpoint}/api/datasets/bob/thief/commit/main", content=body, headers=headers)
        assert (answer.status_code, "never uploaded" in answer.json()["error"]) == (400, True)
    objects = [{"oid": entry.lfs.sha256, "size": entry.size}]
    url = f"{server.endpoint}/datasets/bob/thief.git/info/lfs/objects/batch"
    (row,) = web.post(url, json={"operation": "download", "objects": objects}, headers=headers).json()["objects"]
    assert row["error"]["code"] == 404
    (row,) = web.post(url, json={"operation": "upload", "objects": objects}, headers=headers).json()["objects"]
    assert "upload" in row["actions"]  # an answer "already stored" would reveal that the content exists


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_git_clones_a_private_repository_with_the_token_as_password(guarded, tmp_path):
    server, _, tokens = guarded
    host = server.endpoint.removeprefix("http://")
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"}

    def clone(credentials, into):
        command = ["git", "clone", "-q", f"http://{credentials}{host}/datasets/acme/secret", str(tmp_path / into)]
        return subprocess.run(command, capture_output=True, env=settings, check=False).returncode

    assert clone("", "nobody") != 0
    assert clone(f"bob:{tokens['bob']}@", "bob") != 0
    assert clone(f"carol:{tokens['carol']}@", "carol") == 0
    assert (tmp_path / "carol" / "a.txt").read_text() == "a"
    answer = web.get(f"{server.endpoint}/datasets/acme/secret/info/refs?service=git-upload-pack")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_with_tokens_the_hub_serves_another_address(guarded):
    server, _, tokens = guarded
    with localhub.running(server.root, host="0.0.0.0") as exposed:
        endpoint = exposed.endpoint.replace("0.0.0.0", "127.0.0.1")
        assert HfApi(endpoint=endpoint, token=tokens["alice"]).whoami()["name"] == "alice"
        assert _status(HfApi(endpoint=endpoint, token=False).create_repo, "alice/x", repo_type="dataset") == 401


def test_upload_links_cannot_be_forged_or_used_for_another_object(guarded, parquet):
    server, _, tokens = guarded
    headers = {"Authorization": f"Bearer {tokens['alice']}"}
    url = f"{server.endpoint}/datasets/alice/open.git/info/lfs/objects/batch"
    objects = [{"oid": "a" * 64, "size": 3}]
    (row,) = web.post(url, json={"operation": "upload", "objects": objects}, headers=headers).json()["objects"]
    href = row["actions"]["upload"]["href"]
    assert web.put(href, content=b"abc").status_code == 400  # not what the digest says
    assert web.put(href, content=b"abcd" * 999).status_code == 413
    assert web.put(href.replace("a" * 64, "b" * 64), content=b"abc").status_code == 403
    assert web.put(href[:-2] + "00", content=b"abc").status_code == 403
    assert web.put(href.partition("?")[0], content=b"abc").status_code == 403
    assert web.get(href).status_code == 403
    assert web.post(f"{server.endpoint}/_cas/x/v1/shards", content=b"x").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/datasets/local/../../../../etc/passwd",
        "/datasets/../tokens.json",
        "/datasets/%2e%2e/tokens.json/resolve/main/x",
        "/datasets/..%2f..%2ftokens.json",
        "/datasets/local/%2e%2e/resolve/main/hub.json",
        "/api/datasets/local/..",
        "/api/datasets/local/..%2f..%2f..",
        "/api/datasets/%00/x",
        "/api/datasets/local/{name}/revision/..",
        "/api/datasets/local/{name}/revision/..%2F..%2FHEAD",
        "/api/datasets/local/{name}/revision/refs%2F..%2F..%2Fhub.json",
        "/api/datasets/local/{name}/revision/%00",
        "/api/datasets/local/{name}/revision/%ff%fe",
        "/api/datasets/local/{name}/tree/main/..%2F..",
        "/api/datasets/local/{name}/tree/main/%2Fetc",
        "/datasets/local/{name}/resolve/main/../../../hub.json",
        "/datasets/local/{name}/resolve/main/..%2Fhub.json",
        "/datasets/local/{name}/resolve/main/%2e%2e/%2e%2e/hub.json",
        "/datasets/local/{name}/resolve/main/.git/config",
        "/datasets/local/{name}/resolve/..%2f..%2fhub.json/x",
        "/datasets/local/{name}/hub.json",
        "/datasets/local/{name}.git/hub.json",
        "/datasets/local/{name}/objects/info/packs",
        "/_lfs/..%2f..%2fsecret",
        "/_cas/..%2f../v1/shards",
        "//etc/passwd",
        "/spaces/local/{name}/resolve/main/x",
    ],
)
def test_no_address_leads_out_of_the_store(hub, dataset, path):
    import http.client

    connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"))  # sends the path as it is written
    connection.request("GET", path.replace("{name}", dataset.partition("/")[2]))
    answer = connection.getresponse()
    assert 400 <= answer.status < 500
    assert "error" in json.loads(answer.read())
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../x",
        "/etc/passwd",
        ".git/hooks/x",
        "a/.GIT/x",
        "a//b",
        "a\\b",
        "a\0b",
        "x" * 256,
        ".",
        "git~1/x",
        "",
    ],
)
def test_no_commit_writes_an_unsafe_path(hub, dataset, path):
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": {"path": path, "content": "x"}}]
    body = "\n".join(json.dumps(line) for line in lines)
    answer = web.post(f"{hub.endpoint}/api/datasets/{dataset}/commit/main", content=body)
    assert answer.status_code == 400


@pytest.mark.parametrize("name", ["..", "a..b", ".hidden", "a--b", "x.git", "a/b/c", "", "a b", "x" * 97, "é"])
def test_no_repository_has_an_unsafe_name(hub, name):
    body = {"name": name, "organization": "local", "type": "dataset"}
    assert web.post(f"{hub.endpoint}/api/repos/create", json=body).status_code == 400
    body = {"name": "fine", "organization": name or "api", "type": "dataset"}
    assert web.post(f"{hub.endpoint}/api/repos/create", json=body).status_code == 400


@pytest.mark.parametrize("name", ["..", "a..b", "x.lock", "-x", "a b", "HEAD", "0" * 40, "refs/heads/x", "a//b", "x\0"])
def test_no_tag_or_branch_has_an_unsafe_name(hub, dataset, name):
    body = {"tag": name}
    assert web.post(f"{hub.endpoint}/api/datasets/{dataset}/tag/main", json=body).status_code == 400


def test_other_web_sites_cannot_use_a_visitor_to_write(hub, dataset):
    body = {"name": "x", "organization": "local", "type": "dataset"}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        assert web.post(f"{hub.endpoint}/api/repos/create", json=body, headers=headers).status_code == 403
    assert web.get(f"{hub.endpoint}/api/datasets/{dataset}", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "127.evil.example", "127.0.0.1.evil.example", "127.1", "127.0.0.1@evil.example", "localhost.evil.example", "a!b.evil.example",
        "evil.example,127.0.0.1", "0.0.0.0", "[::ffff:10.0.0.1]", "evil.example/127.0.0.1", "2130706433",
    ],
)  # fmt: skip
def test_a_name_that_only_looks_like_loopback_is_refused(hub, dataset, host):
    body = {"name": "rebound", "organization": "local", "type": "dataset"}
    for answer in (
        web.get(f"{hub.endpoint}/api/datasets/{dataset}", headers={"Host": host}),
        web.post(f"{hub.endpoint}/api/repos/create", json=body, headers={"Host": host}),
    ):
        assert answer.status_code in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9:80", "LOCALHOST:1", "[::1]:8480", "[::1]"])
def test_a_loopback_name_is_answered(hub, dataset, host):
    assert web.get(f"{hub.endpoint}/api/datasets/{dataset}", headers={"Host": host}).status_code == 200


def test_the_user_may_allow_another_name(tmp_path):
    program = (sys.executable, "-m", "evokd_data.localhub", "--allow-host", "hub.example")
    with localhub.running(tmp_path, program=program) as server:
        statuses = [
            web.get(f"{server.endpoint}/api/datasets", headers={"Host": host}).status_code
            for host in ("hub.example", "Hub.Example:8480", "other.example")
        ]
    assert statuses == [200, 200, 403]


def test_another_address_needs_tokens(tmp_path):
    with pytest.raises(UnsafeAddress, match="no tokens"):
        serve(tmp_path, "0.0.0.0")
    command = [sys.executable, "-m", "evokd_data.localhub", "--root", str(tmp_path), "--host", "0.0.0.0"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "no tokens" in process.stderr


def test_tokens_are_stored_as_hashes_in_a_private_file(tmp_path):
    token, record = add_token(tmp_path, "alice", "read", ("acme",))
    file = tmp_path / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    assert list_tokens(tmp_path) == [record]
    with pytest.raises(ValueError, match="role"):
        add_token(tmp_path, "alice", "owner")
    assert revoke_token(tmp_path, record.id) == record
    with pytest.raises(KeyError):
        revoke_token(tmp_path, record.id)
    # After the last token is revoked, callers without a token must still have no rights.
    with pytest.raises(HubError):
        Authority(Root(tmp_path), implicit=True).identify(f"Bearer {token}")
    assert Authority(Root(tmp_path), implicit=True).identify(None).anonymous


def test_a_client_that_has_its_answer_finds_the_line_in_the_log(tmp_path):
    log = tmp_path / "requests.log"
    root = Root(tmp_path).prepare()
    app = App(Hub(root, Authority(root, implicit=True)), log_file=log)
    lines = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        if message["type"] == "http.response.body" and not message.get("more_body"):
            lines.append(json.loads(log.read_text()))

    scope = {"type": "http", "method": "GET", "raw_path": b"/api/models", "query_string": b"", "scheme": "http"}
    scope |= {"headers": [(b"host", b"127.0.0.1:1")], "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2)}
    asyncio.run(app(scope, receive, send))
    assert [(line["path"], line["status"]) for line in lines] == [("/api/models", 200)]
    assert log.read_text().count("\n") == 1


def test_the_log_holds_no_secrets(hub, api, dataset, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    api.create_commit(dataset, [CommitOperationAdd("s.bin", b"\0log")], commit_message="x", repo_type="dataset")
    log = (hub.root / "requests.log").read_text()
    assert hub.token not in log
    assert "claim=" not in log
    rows = [json.loads(line) for line in log.splitlines()]
    row = next(row for row in rows if row["path"] == f"/api/datasets/{dataset}/commit/main")
    assert (row["method"], row["status"], row["user"]) == ("POST", 200, "local")
    assert row["ms"] > 0
    assert row["received"] > 0
    sent = next(row for row in rows if row["method"] == "PUT" and row["path"].startswith("/_lfs/"))
    assert sent["received"] == len(b"\0log")
    assert (hub.root / "server.log").read_text() == ""
