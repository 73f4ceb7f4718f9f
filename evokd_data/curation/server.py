"""The review page, served to this machine alone.

Whoever calls must name a loopback address as the Host, which keeps out pages whose own name was made to lead here, and must know the
token in the path, which keeps out everybody else on this machine's browser. The page asks for nothing but this server.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.curation.rules import Rule, agrees_with_student, matching_rows, row_key, suspicious_first
from evokd_data.errors import DataError, EvokdError
from evokd_data.localhub.errors import HubError
from evokd_data.localhub.other_sites import refuse_other_sites
from evokd_data.localhub.server import serve_application
from evokd_data.localhub.wire import Message, Receive, Scope, Send
from evokd_data.records import TokenExample
from evokd_data.storage.corrected_rounds import RELABEL
from evokd_data.storage.corrections import Decision, RowKey, keys_of

PAGE = Path(__file__).with_name("page")
MAX_BODY = 1_000_000
MAX_ROWS = 200
"""Rows of one answer."""
SHOWN_MATCHES = 3


def serve_review(
    review: ReviewedRun,
    port: int = 0,
    ready: Callable[[str], None] | None = None,
    until: Callable[[], None] | None = None,
) -> None:
    """Serve the page until interrupted, or `until` returns. `ready` is called with its address, which holds the token.

    Raises OSError when the port cannot be listened on.
    """
    application = ReviewApplication(review, secrets.token_urlsafe(24))
    address = f"/{application.token}/"
    serve_application(application, "127.0.0.1", port, ready=ready and (lambda root: ready(root + address)), until=until)


class ReviewApplication:
    """The page and its calls, by the ASGI protocol."""

    def __init__(self, review: ReviewedRun, token: str) -> None:
        self.token = token
        self._calls = ReviewCalls(review)
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        assert scope["type"] == "http"
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        try:
            refuse_other_sites(scope["method"], headers, headers.get("host", ""), ())
            token, _, name = scope["path"].removeprefix("/").partition("/")
            if not secrets.compare_digest(token.encode(), self.token.encode()):
                raise HubError(404, "There is no such page; open the address that evokd-data review printed")
            if name == "" and scope["method"] == "GET":
                await _send(send, 200, *_page())
                return
            body = await _body(receive)
            value = await asyncio.to_thread(self._answer, scope, name, body)
            await _send(send, 200, json.dumps(value, ensure_ascii=False).encode(), "application/json")
        except HubError as error:
            await _send(send, error.status, str(error).encode(), "text/plain; charset=utf-8")
        except EvokdError as error:
            await _send(send, 400, str(error).encode(), "text/plain; charset=utf-8")
        except OSError as error:  # the decision was not taken
            await _send(
                send,
                507,
                f"{error}; free space or mend the disk, and decide again".encode(),
                "text/plain; charset=utf-8",
            )

    def _answer(self, scope: Scope, name: str, body: bytes) -> Any:
        """The answer of a call. One is answered at a time."""
        with self._lock:
            if scope["method"] == "GET" and name == "rows":
                return self._calls.rows(dict(parse_qsl(scope["query_string"].decode("latin-1"))))
            call = {"decide": self._calls.decide, "undo": self._calls.undo, "rule": self._calls.rule}.get(name)
            if scope["method"] != "POST" or call is None:
                raise HubError(404, "There is no such call")
            try:
                content = json.loads(body)
            except ValueError:
                content = None
            if not isinstance(content, dict):
                raise DataError("the call holds no JSON object; reload the page")
            return call(content)


class ReviewCalls:
    """What the page can ask for. Rows come in the order of `rules.suspicious_first`."""

    def __init__(self, review: ReviewedRun) -> None:
        self._review = review
        self._order = suspicious_first(review)

    def rows(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Rows from position `start` of the order on which fit `show` (open, decided, all), `label` and `search`: {"rows", "next": the
        position to go on from or None, "task", "counts"}."""
        review, decisions = self._review, self._review.decisions()
        show, label, search = query.get("show", "open"), query.get("label", ""), query.get("search", "").casefold()
        start = query.get("start", "0")
        rows: list[dict[str, Any]] = []
        position = int(start) if start.isdecimal() else 0
        while position < len(self._order) and len(rows) < MAX_ROWS:
            key = self._order[position]
            position += 1
            if show != "all" and (key in decisions) != (show == "decided"):
                continue
            sample = review.sample(key)
            if (label and not review.task.carries(sample.target, label)) or search not in sample.text.casefold():
                continue
            rows.append(self._row(key, decisions))
        following = position if position < len(self._order) else None
        return {"rows": rows, "next": following, "task": self._task(), "counts": self._counts()}

    def decide(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write down the decision about one row: {"row": [round, id], "action", "value"}."""
        key = row_key(content.get("row"))
        self._review.decide([key], str(content.get("action")), content.get("value"))
        return {"row": self._row(key, self._review.decisions()), "counts": self._counts()}

    def undo(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Undo the last decision. Returns the rows that it was about."""
        undone = self._review.undo()
        keys = [key for record in self._review.log.records if record["n"] == undone for key in keys_of(record)]
        decisions = self._review.decisions()
        return {
            "rows": [self._row(key, decisions) for key in keys if key in self._review.index_of],
            "counts": self._counts(),
        }

    def rule(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """What a rule would touch: {"matches", "examples"}; with "apply", the number of rows that were shown, it is applied as well."""
        review = self._review
        rule = Rule.of(content.get("rule"))
        action, value = str(content.get("action")), content.get("value")
        if action == RELABEL and not isinstance(value, str):
            raise DataError("rule: spans cannot be given to many texts at once; reject or confirm them")
        keys = matching_rows(review, rule)
        if (expected := content.get("apply")) is not None:
            if expected != len(keys):
                raise DataError(f"rule: touches {len(keys)} rows by now, {expected} were shown; look again")
            if keys:
                review.decide(keys, action, value, rule=dict(content["rule"]))
        examples = [review.sample(key).text for key in keys[:SHOWN_MATCHES]]
        return {"matches": len(keys), "examples": examples, "counts": self._counts()}

    def _row(self, key: RowKey, decisions: Mapping[RowKey, Decision]) -> dict[str, Any]:
        review, sample = self._review, self._review.sample(key)
        prediction, decision = review.predictions.get(key), decisions.get(key)
        example = review.task.supervise(sample)
        return {
            "row": list(key),
            "text": sample.text,
            "target": _shown(sample.target),
            "words": [list(pair) for pair in example.offsets] if isinstance(example, TokenExample) else None,
            "intended": sample.origin.intended,
            "predicted": None if prediction is None else _shown(prediction.predicted),
            "confidence": None if prediction is None else prediction.confidence,
            "doubt": agrees_with_student(review, key) is False,
            "decision": decision
            and {
                "action": decision.action,
                "to": None if decision.to is None else _shown(review.task.from_row(decision.to)),
                "by_rule": decision.by_rule,
            },
        }

    def _task(self) -> dict[str, Any]:
        task = self._review.task
        has_spans = task.target_of(task.labels[0]) is None
        return {"run": self._review.workspace.root.name, "labels": list(task.labels), "spans": has_spans}

    def _counts(self) -> dict[str, int]:
        decisions = self._review.decisions().values()
        actions = [decision.action for decision in decisions]
        return {
            "samples": len(self._order),
            **{action: actions.count(action) for action in ("accept", "relabel", "reject")},
        }


def _shown(target: Any) -> Any:
    """A target as the page has it: a label, or a list of spans, whose offsets count characters."""
    if isinstance(target, str):
        return target
    return [{"start": span.start, "end": span.end, "type": span.type} for span in target]


def _page() -> tuple[bytes, str, dict[str, str]]:
    """The page, its type, and headers that let it load nothing and run no script but its own."""
    nonce = secrets.token_urlsafe(16)
    text = (PAGE / "review.html").read_text(encoding="utf-8")
    for name in ("review.css", "review.js"):
        text = text.replace(f"{{{{ {name} }}}}", (PAGE / name).read_text(encoding="utf-8"))
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer"}
    return text.replace("{{ nonce }}", nonce).encode(), "text/html; charset=utf-8", headers


async def _body(receive: Receive) -> bytes:
    """The body of a call. Raises HubError 413 for one that is too long."""
    body = b""
    while True:
        message: Message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise HubError(413, "The call is too long")
        if not message.get("more_body"):
            return body


async def _send(send: Send, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
    fixed = {
        "content-type": kind,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    lines = [(key.encode(), value.encode()) for key, value in {**fixed, **(headers or {})}.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
