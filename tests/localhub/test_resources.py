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
