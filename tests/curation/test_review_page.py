"""The review page: its calls are refused to everybody else, and a person corrects samples with keys alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.curation.server import ReviewApplication, serve_review
from evokd_data.records import Span
from evokd_data.storage.corrections import CorrectionLog, open_log
from evokd_data.storage.workspace import Workspace
from tests.support.chromium_page import CHROMIUM, ChromiumPage, chromium_page
from tests.support.finished_runs import HOSTILE, make_run
from tests.support.tagging_runs import make_tagging_run

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH; on Debian: apt install chromium")


def opened(workspace: Workspace) -> ReviewedRun:
    return ReviewedRun(workspace, CorrectionLog(workspace.root))


def ask(review: ReviewedRun, calls: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
    """The answers of the application to (method, path below the token, arguments of httpx), one after the other."""
    application = ReviewApplication(review, "secret")

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5000") as client:
            return [await client.request(method, path, **arguments) for method, path, arguments in calls]

    return asyncio.run(send())


def test_other_hosts_other_sites_and_callers_without_the_token_are_refused(tmp_path: Path) -> None:
    review = opened(make_run(tmp_path)[1])
    first = review.samples[0]
    decision = {"row": [1, first.id], "action": "reject"}
    answers = ask(
        review,
        [
            ("GET", "/secret/", {"headers": {"host": "evil.example"}}),
            ("GET", "/secret/rows", {"headers": {"host": "127.evil.example"}}),
            ("POST", "/secret/decide", {"json": decision, "headers": {"origin": "http://evil.example"}}),
            ("POST", "/secret/decide", {"json": decision, "headers": {"sec-fetch-site": "cross-site"}}),
            ("POST", "/wrong/decide", {"json": decision}),
            ("GET", "/", {}),
            ("GET", "/secret/decide", {}),
            ("POST", "/secret/decide", {"content": b"x" * 1_000_001}),
        ],
    )
    assert [answer.status_code for answer in answers] == [403, 403, 403, 403, 404, 404, 404, 413]
    assert not review.log.path.exists()


def test_calls_decide_undo_and_apply_rules_and_say_what_is_wrong(tmp_path: Path) -> None:
    review = opened(make_run(tmp_path)[1])
    first = review.samples[0]
    key, rule = [1, first.id], {"rule": {"label": "books"}, "action": "reject"}
    page, rows, wrong, no_row, bad, done, shown, changed, applied, undone = ask(
        review,
        [
            ("GET", "/secret/", {}),
            ("GET", "/secret/rows?show=all&label=books", {}),
            ("POST", "/secret/decide", {"json": {"row": key, "action": "relabel", "value": "purple"}}),
            ("POST", "/secret/decide", {"json": {"row": [1, "nothing"], "action": "reject"}}),
            ("POST", "/secret/decide", {"content": b"[1"}),
            ("POST", "/secret/decide", {"json": {"row": key, "action": "relabel", "value": "books"}}),
            ("POST", "/secret/rule", {"json": rule}),
            ("POST", "/secret/rule", {"json": {**rule, "apply": 7}}),
            ("POST", "/secret/rule", {"json": {**rule, "apply": 8}}),
            ("POST", "/secret/undo", {"json": {}}),
        ],
    )
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert {row["target"] for row in rows.json()["rows"]} == {"books"}
    assert rows.json()["task"] == {"run": "intents", "labels": ["music", "weather", "books"], "spans": False}
    assert (wrong.status_code, no_row.status_code, bad.status_code) == (400, 400, 400)
    assert '"purple": cannot be right for' in wrong.text
    assert done.json()["row"]["decision"] == {"action": "relabel", "to": "books", "by_rule": False}
    assert shown.json()["matches"] == 8 and len(shown.json()["examples"]) == 3
    assert changed.status_code == 400 and "touches 8 rows by now, 7 were shown" in changed.text
    assert applied.json()["counts"] == {"samples": 24, "accept": 0, "relabel": 1, "reject": 8}
    assert undone.json()["counts"] == {"samples": 24, "accept": 0, "relabel": 1, "reject": 0}


def test_rows_come_in_the_order_of_doubt(tmp_path: Path) -> None:
    review = opened(make_run(tmp_path)[1])
    (answer,) = ask(review, [("GET", "/secret/rows", {})])
    rows = answer.json()["rows"]
    doubtful = [row for row in rows if row["doubt"]]
    assert rows[: len(doubtful)] == doubtful
    assert [row["confidence"] for row in doubtful] == sorted((row["confidence"] for row in doubtful), reverse=True)
    assert len(doubtful) == 16  # the student of these runs predicts the first of three labels everywhere


@contextmanager
def served(workspace: Workspace) -> Iterator[str]:
    """The page's address, while it is served by a thread."""
    ended, addresses = threading.Event(), list[str]()
    ready = threading.Event()

    def on_ready(address: str) -> None:
        addresses.append(address)
        ready.set()

    with open_log(workspace.root) as log:
        review = ReviewedRun(workspace, log)
        thread = threading.Thread(target=serve_review, args=(review, 0, on_ready, ended.wait), daemon=True)
        thread.start()
        assert ready.wait(60)
        try:
            yield addresses[0]
        finally:
            ended.set()
            thread.join(30)


def browse(
    address: str, folder: Path, look: Callable[[ChromiumPage], Awaitable[None]], width: int, *, dark: bool
) -> None:
    """Open the page in a new browser, use it, and require that nothing went wrong and nobody else was asked."""

    async def visit() -> None:
        async with chromium_page(folder / "profile") as page:
            await page.open(address, width, 900, dark=dark)
            await until(page, "document.querySelector('#rows > li') !== null")
            await look(page)
            for other_width, other_dark in ((500, False), (500, True), (1280, False), (1280, True)):
                await page.open(address, other_width, 900, dark=other_dark)
                await until(page, "document.querySelector('#rows > li') !== null")
                assert await page.run("document.documentElement.scrollWidth") <= other_width
                background = await page.run("getComputedStyle(document.body).backgroundColor")
                assert background == ("rgb(20, 23, 28)" if other_dark else "rgb(255, 255, 255)")
            assert page.errors == []
            assert all(request.startswith((address, "data:")) for request in page.requests), page.requests

    asyncio.run(visit())


async def until(page: ChromiumPage, condition: str) -> None:
    """Wait until what was asked for is answered and a condition holds."""
    for _ in range(600):
        if await page.run(f"!busy && ({condition})"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"never: {condition}; the page says {await page.run('document.body.innerText')}")


CURRENT = "document.querySelector('#rows > li[aria-current]')"


@needs_chromium
@pytest.mark.slow
def test_labels_are_corrected_with_keys_on_a_phone_in_the_dark(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path)

    async def look(page: ChromiumPage) -> None:
        texts = await page.run("[...document.querySelectorAll('.text')].map(node => node.textContent)")
        assert any(HOSTILE in text for text in texts)
        assert await page.run("document.querySelector('main b, main img, main a, main script')") is None
        await page.press("1")  # relabelled; the next one is looked at
        await until(page, "state.at === 1")
        await page.press("a")
        await until(page, "state.at === 2")
        await page.press("r", "k", "k", "k", "j")
        await until(page, "state.at === 1")
        assert await page.run("document.querySelectorAll('#rows > li.decided').length") == 3
        await page.press("u")
        await until(page, "document.querySelectorAll('#rows > li.decided').length === 2")
        await page.press("/")
        await page.call("Input.insertText", text="text 3 on")
        await until(page, "state.rows.length > 0 && state.rows.every(row => row.text.includes('text 3 on'))")
        await page.press("Enter", "m")
        await until(page, "document.querySelector('#rule').open && !document.querySelector('#rule-apply').disabled")
        matches = await page.run("state.matches")
        await page.run("document.querySelector('#rule-apply').click()")
        await until(page, "!document.querySelector('#rule').open")
        assert matches == 8

    with served(workspace) as address:
        browse(address, tmp_path, look, 500, dark=True)
    decisions = opened(workspace).decisions()
    actions = [decision.action for decision in decisions.values()]
    assert {action: actions.count(action) for action in set(actions)} == {"relabel": 1, "accept": 1, "reject": 8}
    relabelled = next(decision for decision in decisions.values() if decision.action == "relabel")
    assert relabelled.to == {"label": "music"}


@needs_chromium
@pytest.mark.slow
def test_spans_are_marked_by_word_with_keys(tmp_path: Path) -> None:
    workspace = make_tagging_run(tmp_path)

    async def look(page: ChromiumPage) -> None:
        await page.press("/")
        await page.call("Input.insertText", text="EU rejects")
        await until(page, "state.rows.length === 1 && state.rows[0].text.includes('EU')")
        await page.press("Enter")
        # 😀 EU rejects German call: "German call" becomes a place, then "German" alone.
        await page.press("ArrowRight", "ArrowRight", "ArrowRight", "shift+ArrowRight", "2")
        await until(page, f"{CURRENT}.querySelectorAll('mark').length === 2")
        assert await page.run(f"{CURRENT}.querySelectorAll('mark')[1].textContent") == "German call"
        await page.press("x", "ArrowLeft", "2")
        await until(page, f"[...{CURRENT}.querySelectorAll('mark')].map(n => n.textContent).join() === 'EU,German'")
        await page.press("a")
        await until(page, "state.rows[0].decision !== null")

    with served(workspace) as address:
        browse(address, tmp_path, look, 1280, dark=False)
    (correction,) = opened(workspace).corrections()
    assert correction.target == (Span(2, 4, "ORG", "EU"), Span(13, 19, "LOC", "German"))
    assert json.loads(opened(workspace).log.path.read_bytes())["to"]["spans"][1]["surface"] == "German"
