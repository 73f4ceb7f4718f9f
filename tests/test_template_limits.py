"""Rendering a stranger's template ends, and stays small; the packaged templates render as before (tests/test_golden.py)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evokd_data.errors import RecipeError
from evokd_data.templates import Templates

DOUBLE = "{{% set box = namespace(x={start}) %}}{{% for a in range(60) %}}{step}{{% endfor %}}x"
BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x",
    "joined texts": DOUBLE.format(start="'aaaa'", step="{% set box.x = box.x ~ box.x %}"),
    "added texts": DOUBLE.format(start="'aaaa'", step="{% set box.x = box.x + box.x %}"),
    "added lists": DOUBLE.format(start="[1]", step="{% set box.x = box.x + box.x %}"),
    "blocks": DOUBLE.format(start="'aaaa'", step="{% set y %}{{ box.x }}{{ box.x }}{% endset %}{% set box.x = y %}"),
    "a product": "{{ 'a' * 10**10 }}",
    "a power": "{{ 9**9**9 }}",
    "a width": "{{ 'a'|center(10**10) }}",
    "a method": "{{ 'a'.ljust(10**10) }}",
    "a format": "{{ '%9999999999d'|format(1) }}",
    "a format's operator": "{{ '%9999999999d' % 1 }}",
    "replacements": "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
    "a macro that calls itself": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "much output": "{% for a in range(99999) %}{{ 'a' * 100000 }}{% endfor %}",
    "much text": "{% for a in range(99999) %}" + "text " * 1000 + "{% endfor %}",
    "a joined list": "{{ (['x' * 100000] * 900)|join }}",
}


def templates(folder: Path, body: str) -> Templates:
    (folder / "generate.j2").write_text(f"{{% block user %}}{body}{{% endblock %}}", encoding="utf-8")
    return Templates("classification", folder)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_template_that_would_not_end_is_refused(bomb: str, tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(
        RecipeError, match=r"generate\.j2 cannot be rendered: (TemplateTooLarge|SecurityError|TemplateAss)"
    ):
        templates(tmp_path, BOMBS[bomb]).render("generate", {})
    assert time.process_time() - started < 10


def test_an_honest_template_renders_as_before_and_as_often_as_it_is_asked(tmp_path: Path) -> None:
    body = (
        "{% for x in items %}{{ loop.index }}/{{ loop.length }} {{ x|upper }}{{ ', ' if not loop.last }}{% endfor %} "
        "{{ items|join('+') }} {{ 'a-b'|replace('-', '_') }} {{ '%.1f'|format(0.25) }} {{ '=' * 3 }} {{ [1] + [2] }}"
    )
    prompts = templates(tmp_path, body)
    for _ in range(3):
        (message,) = prompts.render("generate", {"items": ["a", "b"] * 400})[-1:]
        assert message.content.startswith("1/800 A, 2/800 B")
        assert message.content.endswith("a_b 0.2 === [1, 2]")
