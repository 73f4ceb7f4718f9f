"""What a client can use up of a Hub: connections, the disk, and a handler's patience with what is no gzip."""

from __future__ import annotations

import errno
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from evokd_data.localhub import buffered_body
from evokd_data.localhub.buffered_body import BufferedBody
from evokd_data.localhub.errors import HubError
from evokd_data.localhub.names import check_path
from evokd_data.localhub.root import Root
from evokd_data.localhub.server import serve

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Hub needs POSIX locks")


def test_half_sent_headers_are_given_up_and_others_are_answered(tmp_path: Path) -> None:
    ready, stop = threading.Event(), threading.Event()
    address: list[str] = []

    def tell(endpoint: str) -> None:
        address.append(endpoint)
        ready.set()

    server = threading.Thread(
        target=serve, args=(tmp_path,), kwargs={"ready": tell, "until": stop.wait, "headers_s": 0.5}, daemon=True
    )
    server.start()
    assert ready.wait(30)
    host, port = address[0].removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"GET /api/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    with httpx.Client(base_url=address[0], timeout=30) as web:
        assert web.get("/api/datasets").status_code == 200
        time.sleep(1)
        assert web.get("/api/datasets").status_code == 200  # an idle connection with whole requests is kept
    for connection in slow:
        connection.settimeout(10)
        assert connection.recv(100) == b""  # closed by the server
        connection.close()
    stop.set()
    server.join(15)


def test_a_disk_that_fills_while_a_body_arrives_is_507(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(tmp_path).prepare()
    monkeypatch.setattr(buffered_body, "CHECK_SPACE_EVERY", 2**20)
    body = BufferedBody(root, limit=2**40)
    body.write(b"x" * 2**21)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with pytest.raises(HubError) as raised:
        body.write(b"x" * 2**21)
    assert raised.value.status == 507
    body.close()


def test_a_disk_that_is_full_is_507_and_not_500(tmp_path: Path) -> None:
    class Full:
        def write(self, chunk: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    body = BufferedBody(Root(tmp_path).prepare(), limit=2**40, on_disk=True)
    body.write(b"x")
    body._file = Full()  # type: ignore[assignment]
    with pytest.raises(HubError) as raised:
        body.write(b"x")
    assert raised.value.status == 507


def test_what_is_no_gzip_is_a_bad_request(hub, dataset) -> None:
    answer = httpx.post(
        f"{hub.endpoint}/datasets/{dataset}/git-upload-pack", content=b"no gzip", headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 400 and "not gzip" in answer.text


@pytest.mark.parametrize(
    "path",
    ["CON", "data/con.txt", "aux.tar.gz", "COM1", "lpt9.parquet", "NUL .txt", "com\u00b2", "CONIN$",
     "a\u200bb.txt", "\ufeffa", "a\u202etxt.exe", "a\u2060b", "a\u200db", "\u3164", "a/\u2800/b", "a\U000e0041"],
)  # fmt: skip
def test_a_path_that_is_a_device_or_holds_what_nobody_sees_is_refused(path: str) -> None:
    with pytest.raises(HubError, match=r"rename it") as raised:
        check_path(path)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "path", ["console.txt", "com/x", "data/auxiliary.parquet", "COM10", "\u0645\u06cc\u200c\u0634\u0648\u062f.txt",
             "\U0001f469\u200d\U0001f52c.png", "\u2764\ufe0f.txt", "na\u00efve cafe\u0301/\u6771\u4eac.csv"],
)  # fmt: skip
def test_a_path_of_any_language_is_kept(path: str) -> None:
    assert check_path(path) == path


def test_a_commit_with_such_a_path_is_a_bad_request_and_leaves_nothing(hub, dataset) -> None:
    header = b'{"key": "header", "value": {"summary": "s"}}\n'
    for path in ("CON", "a\\u200bb"):
        line = f'{{"key": "file", "value": {{"path": "{path}", "content": ""}}}}'.encode()
        answer = httpx.post(f"{hub.endpoint}/api/datasets/{dataset}/commit/main", content=header + line)
        assert answer.status_code == 400 and "rename it" in answer.json()["error"]
    listed = httpx.get(f"{hub.endpoint}/api/datasets/{dataset}/tree/main").json()
    assert [entry["path"] for entry in listed] == [".gitattributes"]
