from __future__ import annotations

from pathlib import Path

import pytest

from evokd_data.errors import RecipeError
from evokd_data.registry import resolve
from evokd_data.settings import build
from evokd_data.strategies import STRATEGIES
from evokd_data.tasks import TASKS
from evokd_data.templates import PACKAGED, Templates


def folder(path: Path, **templates: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, source in templates.items():
        (path / f"{name}.j2").write_text(source, encoding="utf-8")
    return path


def user(text: str) -> str:
    return f"{{% block user %}}{text}{{% endblock %}}"


SMALLEST: dict[str, dict[str, list[str]]] = {"classification": {"labels": ["a", "b"]}, "ner": {"types": ["a"]}}
STRATEGIES_OF_TASKS = [
    (task, name)
    for task, settings in SMALLEST.items()
    for name in STRATEGIES
    if not resolve(STRATEGIES, name)().accepts(build(resolve(TASKS, task), settings, task)[0])
]


def templates_of(name: str) -> tuple[str, ...]:
    """The templates of a strategy with its defaults, and with every switch turned."""
    switched = {"separation": False, "init": "auggpt"} if name == "evokd" else {}
    variants = [build(resolve(STRATEGIES, name), settings, name)[0] for settings in ({}, switched)]
    return tuple(template for strategy in variants for template in strategy.prompt_templates)


@pytest.mark.parametrize(("task", "name"), STRATEGIES_OF_TASKS)
def test_every_strategy_has_its_templates_for_every_task_it_accepts(task, name):
    assert set(SMALLEST) == set(TASKS)
    names = templates_of(name)
    assert set(Templates(task).sources(names)) >= {f"{template}.j2" for template in names}


def test_a_prompt_is_a_system_message_when_there_is_one_and_a_user_message(tmp_path):
    user_folder = folder(
        tmp_path, label=user("{{ text }}"), generate="{% block system %} be brief {% endblock %}" + user("go")
    )
    templates = Templates("classification", user_folder)
    assert [(m.role, m.content) for m in templates.render("label", {"text": "<hello>"})] == [("user", "<hello>")]
    assert [(m.role, m.content) for m in templates.render("generate", {})] == [("system", "be brief"), ("user", "go")]


def test_templates_a_folder_does_not_hold_come_from_the_package(tmp_path):
    user_templates = Templates("classification", folder(tmp_path, label=user("{{ text }}")))
    packaged = Templates("classification")
    assert user_templates.digests(["generate"]) == packaged.digests(["generate"])
    assert user_templates.digests(["label"]) != packaged.digests(["label"])


def test_the_digest_covers_what_a_template_includes(tmp_path):
    user_folder = folder(tmp_path, label=user("{% include 'style.j2' %}{{ text }}"), style="be kind")
    before = Templates("classification", user_folder).digests(["label"])
    assert sorted(before) == ["label.j2", "style.j2"]
    folder(tmp_path, style="be rude")
    assert Templates("classification", user_folder).digests(["label"]) != before


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ({}, "holds no *.j2 file"),
        ({"genrate": user("x")}, "is no template of the task; did you mean 'generate.j2'?"),
        ({"label": "\n\n{% block user %}{{ text"}, "prompts: label.j2, line 3: "),
        ({"label": user("{% include 'gone.j2' %}")}, "there is no gone.j2"),
        ({"label": user("{% include text %}")}, "whose name is only known when it is rendered"),
    ],
)
def test_a_folder_that_cannot_be_meant_is_refused(tmp_path, templates, message):
    with pytest.raises(RecipeError, match=message.replace("*", r"\*").replace("?", r"\?")):
        Templates("classification", folder(tmp_path / "own", **templates))


def test_a_template_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "label.j2").write_bytes(b"{% block user %}\xff{% endblock %}")
    with pytest.raises(RecipeError, match=r"label.j2 is not UTF-8"):
        Templates("classification", tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (user("{{ txet }}"), "'txet' is undefined; the variables are text"),
        (user("{{ 1 + text }}"), "TypeError"),
        (user("{{ 1 // 0 }}"), "ZeroDivisionError"),
        (user("  "), "has no text in {% block user %}"),
        ("{{ text }}", "has no text in {% block user %}"),
    ],
)
def test_a_template_that_cannot_be_rendered_names_itself(tmp_path, source, message):
    templates = Templates("classification", folder(tmp_path, label=source))
    with pytest.raises(RecipeError) as caught:
        templates.render("label", {"text": "hello"})
    assert "prompts: label.j2" in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    "attack", ["{{ ''.__class__.__mro__ }}", "{{ shown.append('x') }}", "{{ cycler.__init__.__globals__ }}"]
)
def test_a_template_cannot_reach_beyond_its_variables(tmp_path, attack):
    templates = Templates("classification", folder(tmp_path, label=user(attack + "{{ text }}")))
    with pytest.raises(RecipeError, match="SecurityError"):
        templates.render("label", {"text": "hello", "shown": []})


def test_a_template_cannot_include_a_file_from_elsewhere(tmp_path):
    (tmp_path / "secret.j2").write_text("key")
    with pytest.raises(RecipeError, match="there is no"):
        Templates("classification", folder(tmp_path / "own", label=user("{% include '../secret.j2' %}")))


def test_the_packaged_templates_are_all_used_by_some_strategy():
    names = {f"{template}.j2" for name in STRATEGIES for template in templates_of(name)} | {"explain.j2"}  # the pool's
    for task in TASKS:
        assert {path.name for path in (PACKAGED / task).glob("*.j2")} <= names


def test_a_block_is_rendered_again_when_anything_it_reads_is_another_object(tmp_path):
    (tmp_path / "label.j2").write_text(
        "{% block system %}{{ task.labels | join(',') }}{% endblock %}{% block user %}{{ text }}{% endblock %}"
    )
    templates = Templates("classification", tmp_path)
    task = {"labels": ["a", "b"]}
    first, again = (templates.render("label", {"task": task, "text": text}) for text in ("one", "two"))
    assert (first[0].content, first[1].content, again[1].content) == ("a,b", "one", "two")
    assert again[0] is first[0]
    assert templates.render("label", {"task": {"labels": ["c"]}, "text": "two"})[0].content == "c"
    with pytest.raises(RecipeError, match="'text' is undefined"):
        templates.render("label", {"task": task})


def test_a_block_that_includes_another_file_is_never_cached(tmp_path):
    (tmp_path / "label.j2").write_text(
        "{% block system %}{{ task }} {% include 'more.j2' %}{% endblock %}{% block user %}{{ text }}{% endblock %}"
    )
    (tmp_path / "more.j2").write_text("{{ text }}")
    templates = Templates("classification", tmp_path)
    task = "t"
    system_messages = [templates.render("label", {"task": task, "text": text})[0].content for text in ("one", "two")]
    assert system_messages == ["t one", "t two"]


TURNS = """{% block system %}You answer {{ mood }}.{% endblock %}
{% block demonstration_user %}{{ demonstration.text }}{% if loud %}!{% endif %}{% endblock %}
{% block demonstration_assistant %}{{ answers[demonstration.target] }}{% endblock %}
{% block user %}{{ text }}{% endblock %}"""


def test_demonstrations_are_turns_of_the_chat_where_the_template_has_blocks_for_them(tmp_path):
    (tmp_path / "label.j2").write_text(TURNS)
    (tmp_path / "generate.j2").write_text("{% block user %}{{ count }}{% endblock %}")
    templates = Templates("classification", tmp_path)
    assert templates.has_turns("label") and not templates.has_turns("generate")
    assert templates.variables("label") == {"mood", "demonstration", "loud", "answers", "text"}
    variables = {"mood": "well", "loud": False, "answers": {"red": "A"}, "text": "rose"}
    turns = [{"text": "ruby", "target": "red"}, {"text": "blood", "target": "red"}]
    messages = templates.render("label", variables, turns)
    assert [(message.role, message.content) for message in messages] == [
        ("system", "You answer well."),
        ("user", "ruby"), ("assistant", "A"), ("user", "blood"), ("assistant", "A"),
        ("user", "rose"),
    ]  # fmt: skip
    again = templates.render("label", {**variables, "text": "leaf"}, turns)
    assert again[:-1] == messages[:-1] and all(map(lambda a, b: a is b, again[1:-1], messages[1:-1])), "rendered once"
    assert templates.render("label", {**variables, "loud": True}, turns)[1].content == "ruby!"
    assert len(templates.render("label", variables)) == 2
