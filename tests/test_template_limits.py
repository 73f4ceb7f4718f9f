"""Rendering a stranger's template ends, and stays small; the packaged templates render as before (tests/test_golden.py)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evokd_data.errors import RecipeError
from evokd_data.template_limits import BoundedEnvironment
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
    "escaped texts": DOUBLE.format(start="'<<<<'", step="{% set box.x = box.x|escape %}"),
    "JSON of JSON": DOUBLE.format(start="'\\\\'", step="{% set box.x = box.x|tojson %}"),
    "quoted texts": DOUBLE.format(start="'%%'", step="{% set box.x = box.x|urlencode %}"),
    "lists as texts": DOUBLE.format(start="'aaaa'", step="{% set box.x = [box.x, box.x]|string %}"),
    "a list as a text": "{{ ['x' * 100000] * 9000 }}",
    "a list in a concatenation": "{{ ((['x' * 100000] * 9000) ~ '')|length }}",
    "a list in a format": "{{ ('%s' * 9000)|format(*(['x' * 100000] * 9000))|length }}",
    "a format of one text": "{{ ('%(a)s' * 9000)|format(a='x' * 100000)|length }}",
    "a mapped filter": "{{ ('x' * 100000)|list|map('replace', 'x', 'y' * 100000)|map('length')|sum }}",
    "a kept text": "{% set box = namespace(x=[]) %}{% for a in range(99999) %}{% set box.x = [box.x, ('a' * 99999).upper()] %}{% endfor %}",
    "kept lists": "{% set box = namespace(x=[]) %}{% for a in range(99999) %}{% set box.x = [box.x, range(99999)|list] %}{% endfor %}",
    "deep lists": "{% set box = namespace(x=1) %}{% for a in range(99999) %}{% set box.x = [box.x] * 9999 %}{% endfor %}",
    "a table": "{{ {}.fromkeys(range(99999), 'x' * 99999)|length }}",
    "bytes": "{{ 'a'.encode().ljust(10**10)|length }}",
    "a number's bytes": "{{ (1).to_bytes(10**10, 'big')|length }}",
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


def test_nothing_that_draws_at_random_is_offered() -> None:
    """A prompt that differs from one rendering to the next finds no answer in the journal."""
    environment = BoundedEnvironment()
    assert not {"random", "lipsum"} & (environment.filters.keys() | environment.globals.keys())


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
