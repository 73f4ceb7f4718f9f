"""YAML by the 1.2 rules, and the bounds on what a stranger's file may stand for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from evokd_data.errors import RecipeError
from evokd_data.recipe import load
from evokd_data.yaml_files import MAX_CHARACTERS, dump_yaml, load_yaml, load_yaml_with_lines


def test_numbers_and_words_are_read_by_the_1_2_rules():
    assert load_yaml("{rate: 2e-5, labels: [yes, no, on], quoted: '1'}") == {
        "rate": 2e-5,
        "labels": ["yes", "no", "on"],
        "quoted": "1",
    }


def test_what_is_written_is_read_again():
    table = {"name": "a", "labels": ["yes", "2e-5", "null", ""], "nested": {"x": [1, {"y": None}]}}
    assert load_yaml(dump_yaml(table)) == table


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (bomb(9), "stands for more than 200000 values, aliases written out"),
        ("[" * 3000 + "]" * 3000, "nested more than 64 deep"),
        ("a: &a {b: *a}", "the alias *a stands within what it names; write the value out"),
        ("a: " + "x" * MAX_CHARACTERS, f"{MAX_CHARACTERS + 3} characters, at most {MAX_CHARACTERS} are read"),
        ("a: [1", "expected"),
        ("a: *nobody", "found undefined alias"),
    ],
)
@pytest.mark.parametrize("load", [load_yaml, load_yaml_with_lines])
def test_what_is_no_yaml_or_too_much_is_refused_at_once(load, text, problem):
    started = time.monotonic()
    with pytest.raises(ValueError, match=problem.replace("*", r"\*")) as caught:
        load(text)
    assert "\n" not in caught.value.args[0]
    assert time.monotonic() - started < 30, "a bomb of 10^9 values would take hours"


def test_aliases_that_stand_for_little_are_read():
    assert load_yaml("a: &a [1, 2]\nb: *a\nc: [*a, *a]") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}


def test_what_is_no_file_and_what_is_too_large_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(2**31)
    for name in ("pipe.yaml", "large.yaml"):
        with pytest.raises(RecipeError, match=name):
            load(tmp_path / name)
