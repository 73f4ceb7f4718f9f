"""A downloaded recipe is data: every setting of every plug is declared as one that it may decide, or as the user's."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evokd_data import settings
from evokd_data.errors import RecipeError
from evokd_data.published_recipe import SCALARS, load_published
from evokd_data.recipe import FAMILIES, load
from evokd_data.recipe import SCALARS as RECIPE_SCALARS
from evokd_data.recipe_sections import SECTIONS
from evokd_data.registry import resolve
from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support.example_task import RECIPE

CLASSES = {
    **SECTIONS,
    **{f"{key}: {name}": resolve(family.table, name) for key, family in FAMILIES.items() for name in family.table},
}
FIELDS = [(where, field) for where, cls in CLASSES.items() for field in dataclasses.fields(cls) if field.init]
USERS = {
    "path", "dataset", "config", "split", "urls", "api_key_env", "extra_body", "engine_args", "quantization", "address", "parts",
    "resources", "workers", "synonyms", "endpoint", "hub_root", "repo", "comparison",
}  # fmt: skip
"""Names that say where or with what rights, in whatever plug they occur."""


def test_every_setting_of_every_plug_is_declared() -> None:
    assert len(FIELDS) > 180
    undeclared = {
        f"{where}.{field.name}" for where, field in FIELDS if field.name not in settings.declared(CLASSES[where])
    }
    assert undeclared == set(), "declare them where they are defined: from_anyone, hub_name or from_user (settings.py)"
    assert SCALARS.keys() == set(RECIPE_SCALARS)


@pytest.mark.slow
def test_what_says_where_or_with_what_rights_is_the_users() -> None:
    for where, field in FIELDS:
        source, _ = settings.declared(CLASSES[where]).get(field.name, (settings.USER, None))
        kind = typing.get_type_hints(CLASSES[where], include_extras=True)[field.name]
        opens = "Path" in str(kind) or kind == typing.get_type_hints(CLASSES["teacher: vllm"])["engine_args"]
        if field.name in USERS or opens or field.name.endswith(("_env", "_url", "_urls", "_args", "_path", "_root")):
            assert source == settings.USER, f"{where}.{field.name}"
        if (
            field.name == "model" and where != "teacher: server"
        ):  # a server gets the name as a word, and opens nothing of ours
            assert source == settings.HUB_NAME, where


def test_an_undeclared_setting_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Undeclared(resolve(FAMILIES["teacher"].table, "scripted")):  # type: ignore[misc]
        plugin: str = ""

    monkeypatch.setattr("evokd_data.published_recipe.resolve", lambda table, name: Undeclared)
    monkeypatch.setattr(
        "evokd_data.recipe.resolve", lambda table, name: Undeclared if name == "scripted" else resolve(table, name)
    )
    taken = load_published(
        published(tmp_path, teacher={"engine": "scripted", "plugin": "evil", "wrong_labels": 0.3}), None
    )
    assert taken.withheld["teacher.plugin"] == "evil" and taken.recipe.teacher.plugin == ""


def published(folder: Path, **sections: Any) -> Path:
    """A recipe as a revision has it, with some sections of a stranger's."""
    table = {**load_yaml(RECIPE), **sections}
    path = folder / "recipe.yaml"
    path.write_text(dump_yaml(table), encoding="utf-8")
    return path


STRANGERS: dict[str, tuple[dict[str, Any], str]] = {
    "server": (
        {"teacher": {"engine": "server", "model": "m", "urls": ["http://attacker/v1"], "api_key_env": "HF_TOKEN"}},
        r"--set teacher.urls=\[\"http://attacker/v1\"\]\n.*--set teacher.api_key_env=\"HF_TOKEN\"",
    ),
    "engine arguments": (
        {"teacher": {"model": "org/m", "engine_args": {"worker_extension_cls": "evilmodule.Ext"}}},
        "--set teacher.engine_args=.*evilmodule",
    ),
    "model folder": ({"teacher": {"model": "/etc"}}, '--set teacher.model="/etc"'),
    "parent folder": ({"teacher": {"model": "../model"}}, '--set teacher.model="../model"'),
    "package, which importing would run": ({"teacher": {"model": "package:evil.module"}}, "--set teacher.model="),
    "cluster": (
        {"teacher": {"engine": "ray", "model": "org/m", "address": "10.0.0.1:6379", "parts": "s3://attacker", "workers": 9}},
        "teacher.workers=9\n.*teacher.address=.*\n.*teacher.parts=",
    ),
    "file": ({"strategy": {"name": "eda", "synonyms": "/etc/shadow"}}, '--set strategy.synonyms="/etc/shadow"'),
}  # fmt: skip


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_a_stranger_asks_for_is_listed_and_not_taken(tmp_path: Path, stranger: str) -> None:
    sections, listed = STRANGERS[stranger]
    taken = load_published(published(tmp_path, **sections), None)
    with pytest.raises(RecipeError, match=listed):
        taken.require(("teacher", "strategy"), "org/x@round-001", "with --set")
    written = str(settings.table(taken.recipe.teacher)) + str(settings.table(taken.recipe.strategy))
    assert not any(word in written for word in ("attacker", "HF_TOKEN", "evil", "/etc", "10.0.0.1", "../"))


def test_data_sources_hub_and_card_are_never_taken(tmp_path: Path) -> None:
    path = published(
        tmp_path, seeds={"path": "/etc/passwd", "per_class": 2}, test={"dataset": "evil/x", "revision": "main"},
        dev={"path": "/etc/passwd"}, publish={"repo": "a/b", "endpoint": "http://attacker", "hub_root": "/"},
        card={"comparison": "/etc/passwd"}, prompts="/etc",
    )  # fmt: skip
    recipe = load_published(path, None).recipe
    assert recipe.dev is None and recipe.publish is None and recipe.card.comparison is None and recipe.prompts is None
    assert recipe.seeds.per_class == 2
    assert not recipe.seeds.path.exists() and recipe.test.dataset is None  # type: ignore[union-attr]


def test_the_users_own_values_count(tmp_path: Path, recipe_file: Callable[..., Path]) -> None:
    path = published(tmp_path, **STRANGERS["server"][0])
    overrides = ["teacher.urls=[http://mine:8000/v1]", "teacher.api_key_env=null"]
    taken = load_published(path, None, overrides)
    taken.require(("teacher",), "org/x", "with --set")
    assert (taken.recipe.teacher.urls, taken.recipe.teacher.api_key_env) == (("http://mine:8000/v1",), None)  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match="api_key_env"):
        load_published(path, None, overrides[:1]).require(("teacher",), "org/x", "with --set")


def test_of_engine_arguments_only_the_users_are_left(tmp_path: Path) -> None:
    path = published(tmp_path, **STRANGERS["engine arguments"][0])
    taken = load_published(path, None, ["teacher.engine_args.seed=3"])
    taken.require(("teacher",), "org/x", "with --set")
    assert taken.recipe.teacher.engine_args == {"seed": 3}  # type: ignore[attr-defined]


def test_the_users_recipe_gives_what_is_withheld(tmp_path: Path, recipe_file: Callable[..., Path]) -> None:
    (tmp_path / "words.txt").write_text("big large\n", encoding="utf-8")
    user_recipe = load(recipe_file(), ["strategy.name=eda", "strategy.synonyms=words.txt"])
    folder = tmp_path / "stranger"
    folder.mkdir()
    taken = load_published(published(folder, **STRANGERS["file"][0]), None, user_recipe=user_recipe)
    taken.require(("strategy",), "org/x", "with --set")
    assert taken.recipe.strategy.synonyms == tmp_path / "words.txt"  # type: ignore[attr-defined]
    assert taken.withheld["strategy.synonyms"] == "/etc/shadow"
