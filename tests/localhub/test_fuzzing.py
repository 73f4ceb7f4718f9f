"""Whatever a request to a local Hub holds, the answer is never that the server failed."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow
EXAMPLES = settings(
    max_examples=int(os.environ.get("EVOKD_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SEGMENTS = (
    "api", "datasets", "models", "repos", "create", "delete", "commit", "preupload", "tree", "main", "refs", "tag", "branch",
    "paths-info", "resolve", "raw", "info", "lfs", "objects", "batch", "_lfs", "_cas", "xorbs", "shards", "git-upload-pack",
    "whoami-v2", "validate-yaml", "local", "x", "..", "%2e%2e", "%00", "%ff", "a%2fb", "CON", "0" * 40, "0" * 64, "", "?", "*",
)  # fmt: skip
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=12), st.just("x" * 5000)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
        ["path", "key", "value", "summary", "oid", "size", "files", "objects", "paths", "name", "type", "content", "operation"]
    ), inner, max_size=5)),
    max_leaves=10,
)  # fmt: skip
bodies = st.one_of(st.binary(max_size=200), values.map(lambda value: json.dumps(value).encode()))
headers = st.dictionaries(
    st.sampled_from(["Range", "Content-Encoding", "If-None-Match", "Content-Type", "Accept", "Authorization", "X-Xet-Range"]),
    st.sampled_from(["bytes=5-1", "bytes=-0", "bytes=0-99999999999999999999", "gzip", "br", "*", "application/json",
                     "application/x-ndjson", "Bearer x", "Basic %%%", "Bearer " + "a" * 5000, "multipart/form-data"]),
    max_size=3,
)  # fmt: skip


def sound(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.request.method, answer.request.url, answer.text[:300])


@EXAMPLES
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]),
    segments=st.lists(st.sampled_from(SEGMENTS), max_size=7),
    query=st.sampled_from(
        ["", "?limit=-1", "?limit=x", "?cursor=%ff", "?recursive=maybe&expand=1", "?a=" + "b" * 3000]
    ),
    content=bodies,
    fields=headers,
)
def test_any_request_is_answered(
    hub: Any, method: str, segments: list[str], query: str, content: bytes, fields: dict[str, str]
) -> None:
    sound(httpx.request(method, f"{hub.endpoint}/{'/'.join(segments)}{query}", content=content, headers=fields))


ROUTES = (
    "POST api/datasets/{}/commit/main", "POST api/datasets/{}/preupload/main", "POST api/datasets/{}/paths-info/main",
    "POST api/datasets/{}/tag/main", "POST api/datasets/{}/branch/x", "POST datasets/{}.git/info/lfs/objects/batch",
    "POST api/repos/create", "DELETE api/repos/delete", "POST api/validate-yaml", "POST datasets/{}/git-upload-pack",
    "GET api/datasets/{}/tree/main/x", "GET datasets/{}/resolve/main/x", "GET api/datasets/{}/commits/main",
)  # fmt: skip


@EXAMPLES
@given(
    route=st.sampled_from(ROUTES),
    lines=st.lists(values, max_size=3),
    content=st.one_of(st.none(), bodies),
    fields=headers,
)
def test_any_body_on_a_known_route_is_answered(
    hub: Any, dataset: str, route: str, lines: list[Any], content: bytes | None, fields: dict[str, str]
) -> None:
    method, path = route.split(" ")
    if content is None:
        content = b"\n".join(json.dumps(line).encode() for line in lines)
    sound(httpx.request(method, f"{hub.endpoint}/{path.format(dataset)}", content=content, headers=fields))
