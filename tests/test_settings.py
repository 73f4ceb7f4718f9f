from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from evokd_data import settings


@dataclasses.dataclass(frozen=True)
class Oven:
    heat: Annotated[float, Field(gt=0)]
    name: str = "gas"
    trays: tuple[str, ...] = ()
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    manual: Path | None = None
    light: bool = dataclasses.field(default=True, metadata={"identity": False})

    def __post_init__(self):
        if self.name == "sun" and self.light:
            raise ValueError(f"name {self.name!r} needs no light")


def problems(**table):
    oven, messages = settings.build(Oven, table, "oven")
    assert oven is None
    return messages


def test_a_table_becomes_the_dataclass_with_lists_as_tuples_and_strings_as_paths():
    oven, messages = settings.build(Oven, {"heat": 1, "trays": ["a"], "manual": "m.pdf"}, "oven")
    assert not messages
    assert oven == Oven(1.0, trays=("a",), manual=Path("m.pdf"))
    assert isinstance(oven.heat, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"heat": 1, "hate": 2}, "oven.hate: no such setting; did you mean 'heat'?"),
        ({}, "oven.heat: is required"),
        ({"heat": "1"}, 'oven.heat: "1": input should be a valid number'),
        ({"heat": 0}, "oven.heat: 0: input should be greater than 0"),
        ({"heat": True}, "oven.heat: true: input should be a valid number"),
        ({"heat": 1, "name": 5}, "oven.name: 5: input should be a valid string"),
        ({"heat": 1, "name": None}, "oven.name: null: input should be a valid string"),
        ({"heat": 1, "trays": ["a", 2]}, "oven.trays.1: 2: input should be a valid string"),
        ({"heat": 1, "light": "yes"}, 'oven.light: "yes": input should be a valid boolean'),
        ({"heat": 1, "name": "sun"}, "oven: name 'sun' needs no light"),
        ({"heat": float("nan")}, "oven.heat: nan is not a finite number"),
        ({"heat": 1, "notes": {"a": float("inf")}}, "oven.notes.a: inf is not a finite number"),
    ],
)
def test_each_mistake_is_one_line_with_path_and_value(table, message):
    assert problems(**table) == [message]


def test_all_mistakes_are_told_at_once():
    assert len(problems(hate=1, heat="x", trays=3)) == 3


def test_a_long_value_is_quoted_in_part():
    (message,) = problems(heat="x" * 500)
    assert len(message) < 200


def test_the_table_of_a_dataclass_makes_the_same_dataclass_again():
    oven = Oven(2.5, "coal", ("a", "b"), {"k": "v"}, Path("x/y"), False)
    table = settings.table(oven)
    assert settings.build(Oven, json.loads(json.dumps(table)), "oven") == (oven, [])


def test_identity_leaves_out_what_cannot_change_a_row():
    assert set(settings.table(Oven(1.0))) - set(settings.identity(Oven(1.0))) == {"light"}


def test_the_json_schema_refuses_unknown_keys():
    schema = settings.json_schema(Oven)
    assert schema["required"] == ["heat"] and schema["additionalProperties"] is False


@dataclasses.dataclass(frozen=True)
class Stove(Oven):
    plates: int = 4
    """How many pots
    it carries."""
    name: str = "wood"
    """What burns in it."""
    colour: str = "black"


def test_the_docstring_below_a_setting_is_its_description_in_the_schema():
    properties = settings.json_schema(Stove)["properties"]
    assert properties["plates"]["description"] == "How many pots it carries."
    assert properties["name"] == {
        "description": "What burns in it.",
        "default": "wood",
        "title": "Name",
        "type": "string",
    }
    assert "description" not in properties["colour"]


def test_a_description_is_inherited_with_its_setting():
    @dataclasses.dataclass(frozen=True)
    class Range(Stove):
        name: str = "coal"

    assert settings.descriptions(Range) == settings.descriptions(Stove)
    assert settings.descriptions(Oven) == {}
