"""The fault injection that other tests use: faults fire as their rules say, and as often as they say."""

from __future__ import annotations

from functools import partial

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from evokd_data.publishers.calls import is_unreachable
from tests.support.fault_injection import ROUTE, fault_counts, hub_with_faults, parse_rules, set_faults

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    with hub_with_faults(tmp_path_factory.mktemp("faulty")) as server:
        api = HfApi(endpoint=server.endpoint, token=server.token)
        api.create_repo("local/d", repo_type="dataset")
        api.create_commit(
            "local/d", [CommitOperationAdd("s.bin", bytes(range(256)) * 40)], commit_message="x", repo_type="dataset"
        )
        yield server, api


@pytest.fixture
def inject(faulty):
    server, _ = faulty
    yield partial(set_faults, server)
    set_faults(server)


def _commit(api, name):
    return api.create_commit("local/d", [CommitOperationAdd(name, b"x")], commit_message=name, repo_type="dataset")


@pytest.mark.parametrize("status", [409, 412, 429, 500, 503])
def test_a_status_instead_of_the_work(faulty, inject, status):
    server, api = faulty
    inject({"match": "POST .*/commit/", "status": status, "times": 1, "headers": {"Retry-After": "0"}})
    head = api.dataset_info("local/d").sha
    with pytest.raises(HfHubHTTPError, match="fault injected") as caught:
        _commit(api, f"status-{status}")
    assert caught.value.response.status_code == status
    assert caught.value.response.headers["Retry-After"] == "0"
    assert api.dataset_info("local/d").sha == head
    _commit(api, f"status-{status}")
    assert fault_counts(server) == [(2, 1)]


def test_clients_retry_a_429_of_preupload(faulty, inject):
    server, api = faulty
    inject({"match": "POST .*/preupload/", "status": 429, "times": 1, "headers": {"RateLimit": '"api";r=0;t=0'}})
    _commit(api, "retried")
    assert fault_counts(server) == [(2, 1)]


@pytest.mark.parametrize(("moment", "committed"), [("before", False), ("after", True)])
def test_a_connection_cut_around_a_commit(faulty, inject, moment, committed):
    server, api = faulty
    inject({"match": "POST .*/commit/", "drop": moment, "times": 1})
    head = api.dataset_info("local/d").sha
    with pytest.raises(Exception, match=r"(?i)disconnected|reset|closed", check=is_unreachable):
        _commit(api, f"cut-{moment}")
    assert (api.dataset_info("local/d").sha != head) == committed
    assert fault_counts(server) == [(1, 1)]


def test_a_status_after_the_work(faulty, inject):
    _, api = faulty
    inject({"match": "POST .*/commit/", "status": 504, "when": "after", "times": 1})
    head = api.dataset_info("local/d").sha
    with pytest.raises(HfHubHTTPError):
        _commit(api, "gateway")
    assert api.dataset_info("local/d").sha != head


def test_a_connection_cut_within_a_file(faulty, inject):
    server, _ = faulty
    inject({"match": "GET /datasets/local/d/resolve/.*/s.bin", "drop": "during", "times": 1})
    url = f"{server.endpoint}/datasets/local/d/resolve/main/s.bin"
    received = b""
    with pytest.raises(httpx.RemoteProtocolError), web.stream("GET", url) as answer:
        for block in answer.iter_raw():
            received += block
    assert received == (bytes(range(256)) * 40)[:5120]
    assert web.get(url).content == bytes(range(256)) * 40
    inject({"match": "GET /api/whoami", "drop": "during"})
    with pytest.raises(httpx.RemoteProtocolError):
        web.get(f"{server.endpoint}/api/whoami-v2")


def test_a_damaged_body_is_a_well_formed_answer(faulty, inject):
    server, _ = faulty
    url = f"{server.endpoint}/datasets/local/d/resolve/main/s.bin"
    original = web.get(url).content
    inject(
        {"match": "GET .*s.bin", "body": "truncate", "times": 1}, {"match": "GET .*s.bin", "body": "alter", "seed": 5}
    )
    short = web.get(url)
    assert (short.status_code, short.content) == (200, original[: len(original) // 2])
    altered = web.get(url).content
    assert len(altered) == len(original)
    assert sum(a != b for a, b in zip(altered, original, strict=True)) == 1
    inject({"match": "GET .*s.bin", "body": "alter", "seed": 5})
    assert web.get(url).content == altered  # the same seed, the same byte


def test_rules_count_skip_and_fire_by_the_same_chances_again(faulty, inject):
    server, _ = faulty
    chance = {"match": "GET /api/whoami", "status": 500, "probability": 0.5, "seed": 3}
    statuses = []
    for _ in range(2):
        inject(chance)
        statuses.append([web.get(f"{server.endpoint}/api/whoami-v2").status_code for _ in range(20)])
    assert statuses[0] == statuses[1]
    assert set(statuses[0]) == {200, 500}
    assert fault_counts(server) == [(20, statuses[0].count(500))]
    inject({"match": "whoami", "status": 418, "skip": 2, "times": 2}, {"match": "whoami", "headers": {"X-Late": "1"}})
    answers = [web.get(f"{server.endpoint}/api/whoami-v2") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 418, 418, 200]
    assert [answer.headers.get("X-Late") for answer in answers] == ["1", "1", None, None, "1"]
    assert fault_counts(server) == [(5, 2), (3, 3)]


def test_a_delay_lets_the_request_through(faulty, inject):
    server, _ = faulty
    inject({"match": "whoami", "delay_s": 0.2})
    answer = web.get(f"{server.endpoint}/api/whoami-v2")
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.2


def test_a_hub_without_the_middleware_has_no_faults(hub):
    assert web.get(f"{hub.endpoint}{ROUTE}").status_code == 404
    assert web.post(f"{hub.endpoint}{ROUTE}", json=[]).status_code == 404


@pytest.mark.parametrize(
    "rule",
    [
        {"match": "["},
        {"status": 500},
        {"match": "x", "drop": "sometimes"},
        {"match": "x", "status": 500, "drop": "after"},
        {"match": "x", "colour": "red"},
        {"match": "x", "status": 101},
        3,
    ],
)
def test_a_wrong_rule_is_named(faulty, rule):
    with pytest.raises(ValueError, match="fault rule 1"):
        parse_rules([{"match": "fine"}, rule])
    assert web.post(f"{faulty[0].endpoint}{ROUTE}", json=[{"match": "fine"}, rule]).status_code == 400
