"""A secret in a recipe is refused and not repeated; one function blanks secrets out; tokens go over https or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from evokd_data.errors import PublishError, RecipeError, TeacherError
from evokd_data.publishers.hub import Hub
from evokd_data.recipe import load
from evokd_data.redaction import PLAIN_HTTP, is_loopback, may_receive_tokens, redact, secret_settings
from evokd_data.stages.publish import public_recipe
from evokd_data.storage.remote import without_credentials
from evokd_data.teachers.server.plug import Server
from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support.example_task import RECIPE

CANARY = "c4n4ryC4N4RYq7Zp93xLmW2vTb8K"
SHAPED = {
    "hub token": f"hf_{CANARY}",
    "provider's key": f"sk-{CANARY}",
    "bearer": f"Bearer {CANARY}",
    "address": f"https://bob:{CANARY}@host/v1",
    "query": f"https://host/v1?api_key={CANARY}&x=1",
    "web token": f"eyJ{CANARY}.{CANARY}.{CANARY}",
}


@pytest.mark.parametrize("shape", SHAPED)
def test_a_secret_is_blanked_out(shape: str) -> None:
    text = redact(f"POST {SHAPED[shape]} failed")
    assert CANARY not in text and text.startswith("POST ") and text.endswith("failed")


def test_what_is_no_secret_stays() -> None:
    for text in (
        "https://host:8000/v1?limit=3", "org/name@0123456789abcdef0123456789abcdef01234567", "mail bob@example.org about it",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "hf_hub and sk-learn", "s3://bucket/folder",
    ):  # fmt: skip
        assert redact(text) == text
    assert (
        list(secret_settings({"pad_token": "<pad>", "max_tokens": 12, "cache_key": "page", "api_key_env": "MY_KEY"}))
        == []
    )


FIELDS: dict[str, dict[str, Any]] = {
    "key of a body": {"extra_body": {"api_key": CANARY}},
    "nested": {"extra_body": {"plugins": [{"headers": {"Authorization": CANARY}}]}},
    "drawn at random": {"extra_body": {"note": CANARY}},
    "in a query": {"urls": [f"https://host/v1?api_key={CANARY}"]},
    "user of an address": {"urls": [f"https://bob:{CANARY}@host/v1"]},
    "the key itself": {"api_key_env": f"hf_{CANARY}"},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(field: str, tmp_path: Path) -> None:
    teacher = {"engine": "server", "model": "m", "urls": ["https://host/v1"], **FIELDS[field]}
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml({**load_yaml(RECIPE), "teacher": teacher}), encoding="utf-8")
    with pytest.raises(RecipeError) as raised:
        load(path)
    assert CANARY not in str(raised.value)
    assert f"teacher.{next(iter(FIELDS[field]))}" in str(raised.value)


@pytest.mark.parametrize("endpoint", [f"https://bob:{CANARY}@hub.example", f"nonsense://bob:{CANARY}@hub.example"])
def test_a_secret_in_an_endpoint_is_refused_and_not_repeated(endpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    publish = {"repo": "org/x", "endpoint": endpoint}
    path.write_text(dump_yaml({**load_yaml(RECIPE), "publish": publish}), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"publish\.endpoint") as raised:
        load(path)
    assert CANARY not in str(raised.value)


def test_what_is_published_and_said_of_addresses_holds_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml({"teacher": {"urls": [SHAPED["query"], SHAPED["address"]]}}), encoding="utf-8")
    assert CANARY not in public_recipe(path)
    assert without_credentials(f"s3://key:{CANARY}@bucket/x/") == "s3://bucket/x"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hub.example", True), ("http://127.0.0.1:8480", True), ("http://localhost", True), ("http://[::1]:80", True),
        ("http://hub.example", False), ("http://127.evil.example", False), ("http://10.0.0.1:8000/v1", False), ("http://[", False),
    ],
)  # fmt: skip
def test_tokens_go_over_https_or_stay_on_this_machine(url: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLAIN_HTTP, raising=False)
    assert url == "http://[" or may_receive_tokens(url) is allowed
    assert not (is_loopback(url) and not allowed)


def test_the_user_may_name_hosts_that_get_tokens_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLAIN_HTTP, "gpu-1, Gpu-2")
    assert may_receive_tokens("http://gpu-2:8000/v1") and not may_receive_tokens("http://gpu-3:8000/v1")


def test_the_hubs_token_is_not_sent_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLAIN_HTTP, raising=False)
    with pytest.raises(PublishError, match=f"unencrypted.*{PLAIN_HTTP}=hub.invalid"):
        Hub("http://hub.invalid", f"hf_{CANARY}").check("org/x")
    monkeypatch.setenv("HF_TOKEN", f"hf_{CANARY}")
    with pytest.raises(PublishError, match="unencrypted"):
        Hub("http://hub.invalid").refs("org/x")


def test_a_servers_key_is_not_sent_over_plain_http(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(PLAIN_HTTP, raising=False)
    monkeypatch.setenv("TEACHER_KEY", CANARY)

    async def serve() -> None:
        async with Server(model="m", urls=("http://gpu.invalid/v1",), api_key_env="TEACHER_KEY").serve(
            tmp_path / "log"
        ):
            pass

    with pytest.raises(TeacherError, match=r"teacher\.urls: http://gpu\.invalid/v1: an access token would go there"):
        asyncio.run(serve())
