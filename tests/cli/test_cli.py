"""The command line as a stranger meets it: one message for each mistake, never a traceback; results alone on stdout."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from evokd_data.cli import COMMANDS, cli
from evokd_data.generation.near_duplicates import normal_form
from evokd_data.storage.workspace import Workspace
from tests.support.example_task import QUICK, contents, play, quick

FAST = [part for override in QUICK for part in ("--set", override)]
HEAVY = ("torch", "vllm", "transformers", "datasets", "pyarrow", "pandas", "accelerate")


def call(*arguments: object) -> Result:
    """An error nobody foresaw is raised here; one that was foreseen is an exit code."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evokd_data", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_help_lists_is_there_and_explains_itself(name):
    shown = call(name, "--help")
    assert shown.exit_code == 0 and "Usage:" in shown.stdout
    assert name in call("--help").stdout


def test_a_misspelt_command_names_the_nearest():
    result = call("genrate", "x")
    assert result.exit_code == 2 and "no command 'genrate'; did you mean 'generate'?" in result.stderr


def test_check_says_what_is_sound_and_every_problem_of_the_rest(recipe_file, tmp_path):
    good = recipe_file(**{"labels: [red": "noun: remark, labels: [red"})
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text().replace("count: 2", "count: two").replace("per_class", "perclass"))
    result = call("check", good, bad, tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert result.stdout == f"{good}: sound: classification with 3 classes, 3 seeds (9 rows), 9 test texts (9 rows)\n"
    assert len(result.stderr.splitlines()) == 3


def test_check_asks_whether_a_folder_beside_the_recipe_was_meant(recipe_file, tmp_path, monkeypatch):
    path = recipe_file()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    models = [
        "--set", "teacher={engine: vllm, model: qwen-0.5b, revision: main}",
        "--set", "student={kind: transformer, model: me/bert, revision: main}",
    ]  # fmt: skip
    assert "did you mean" not in call("check", path, *models).stderr
    for folder in ("qwen-0.5b", "me/bert"):
        (tmp_path / folder).mkdir(parents=True)
    shown = call("check", path, *models)
    assert shown.exit_code == 0
    for key, folder in (("teacher", "qwen-0.5b"), ("student", "me/bert")):
        assert (
            f"note: {key}.model: {folder!r} is written like a name on the Hub, and a folder of that name lies beside the recipe; "
            f"did you mean './{folder}'?\n"
        ) in shown.stderr
    served = "teacher={engine: server, model: qwen-0.5b, urls: ['http://127.0.0.1:9/v1'], dialect: vllm}"
    assert "did you mean" not in call("check", path, "--set", served).stderr


def test_check_says_which_models_of_the_hub_it_did_not_look_for(recipe_file):
    models = (
        "--set",
        "teacher={engine: vllm, model: org/teacher}",
        "--set",
        "student={kind: frozen, model: org/encoder}",
    )
    shown = call("check", recipe_file(), *models)
    for key, name in (("teacher", "org/teacher"), ("student", "org/encoder")):
        assert (
            f"note: {key}.model: '{name}' is not on this machine; the Hub was not asked for it (--online does)"
            in shown.stderr
        )
    assert "the Hub was not asked" not in call("check", recipe_file()).stderr


def test_check_warns_of_names_that_are_codes_and_of_the_default_noun(recipe_file, tmp_path):
    path = recipe_file(**{"labels: [red": "label_names: {red: RED}, labels: [red"})
    for name, colour in (("seeds", "red"), ("test", "red")):
        file = tmp_path / f"{name}.jsonl"
        file.write_text(file.read_text().replace(f'"label": "{colour}"', '"label": "HUM_1"'))
    path.write_text(
        path.read_text().replace("label_names: {red: RED}, labels: [red", "label_names: {HUM_1: HUM_1}, labels: [HUM_1")
    )
    shown = call("check", path)
    assert shown.exit_code == 0
    assert "note: task.noun: text is the default, and every prompt says it" in shown.stderr
    assert "note: task.label_names: HUM_1: the name is the code itself" in shown.stderr
    assert "{HUM_1: in words}" in shown.stderr and "green" not in shown.stderr
    described = ["--set", "task.label_descriptions={HUM_1: a colour like blood}", "--set", "task.noun=remark"]
    assert "task.label_names" not in call("check", path, *described).stderr
    assert "task.noun" not in call("check", path, *described).stderr
    named = call("check", path, "--set", "task.label_names={HUM_1: warm colour}").stderr
    assert "task.label_names" not in named and "task.noun" in named


def test_the_columns_of_rounds_are_explained():
    shown = call("rounds", "--help").stdout
    assert "samples   texts that this round added; round 0 is the seeds" in shown
    assert "F1        the score of its student" in shown and "finished  when the round was complete, UTC" in shown


@pytest.mark.slow
def test_check_and_help_load_nothing_heavy(recipe_file):
    path = recipe_file()
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); sys.argv[0] = 'evokd-data'; "
    for arguments in (["check", str(path)], ["--help"], ["generate", "--help"], ["schema"]):
        done = subprocess.run(
            [sys.executable, "-c", blocked + "from evokd_data.cli import main; main()", *arguments],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_schema_prints_json():
    assert json.loads(call("schema").stdout)["title"] == "evokd-data recipe"


@pytest.mark.slow
def test_the_result_is_on_stdout_and_all_else_on_stderr(recipe_file, tmp_path):
    path = recipe_file()
    assert call("generate", path, *FAST).stdout == "runs/colours/round-000/shards\n"
    trained = call("train-round", path, *FAST)
    assert json.loads(trained.stdout)["test"]["n"] == 9
    assert "round 0: train-round: macro-F1" in trained.stderr
    done = call("run", path, *FAST)
    commands = re.findall(r"^  evokd-data (.*?) +#", done.stderr, re.MULTILINE)
    assert len(commands) == 5 and "95 % interval" in done.stderr
    assert call("show", "colours").stdout.splitlines()[-1] in done.stderr.splitlines()  # whether the rounds helped
    assert commands[2] == "review runs/colours" and commands[4] == "predict runs/colours FILE"
    for command in (*commands[:2], f"{commands[2]} --status", commands[3]):
        assert call(*command.split()).exit_code == 0, command
    assert done.stdout == f"colours {contents(Workspace(tmp_path / 'runs' / 'colours'))[-1]} not published\n"
    assert "round 0: generate: done before" in done.stderr and "round 2: generate: kept 24" in done.stderr


@pytest.mark.slow
def test_show_prints_a_table_the_plan_and_json_without_none(recipe_file):
    path = recipe_file(
        **{
            "engine: scripted": "engine: scripted, wrong_labels: 0.5",
            "linear}": "linear, soft_labels: false}",
            "strategy:": "filters: {label_disagreement: relabel}\nstrategy:",
        }
    )
    call("run", path, "--set", "rounds.count=1", *FAST)
    call("generate", path, *FAST)
    table, plan = call("show", "colours"), call("show", "runs/colours", "--plan", 2)
    assert table.exit_code == plan.exit_code == 0
    assert "None" not in table.stdout + plan.stdout
    first_words = [line.split()[0].rstrip(",") for line in table.stdout.splitlines()[2:]]
    # "Adopted without a comparison ..." and "On 9 test texts ..." are sentences below the table.
    assert first_words == ["seeds", "teacher", "teacher", "0", "1", "2", "Adopted", "On"]
    assert "confused:" in plan.stdout
    kept, dropped = call("show", "colours", "--samples"), call("show", "colours", "--rejections", "--round", 1)
    assert kept.exit_code == dropped.exit_code == 0, kept.output + dropped.output
    assert kept.stdout.startswith("round 2: samples") and 2 < len(kept.stdout.splitlines()) <= 12
    shown = json.loads(call("show", "colours", "--json").stdout)
    assert [set(entry) for entry in shown["rounds"]] == [
        {"round", "asked", "corrected", "kept", "rejected", "metrics", "tokens", "seconds", "digest", "revision"}
    ] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nothing"], "runs/nothing: no run; give a folder under runs/"),
        (["show", "some/folder"], "some/folder: no run"),
        (["generate", "none.yaml"], "none.yaml: no such recipe"),
        (["train-round", "recipe.yaml"], "runs/colours: nothing is generated; next: evokd-data generate recipe.yaml"),
        (["run", "recipe.yaml", "recipe.yaml"], "'colours' is that of recipe.yaml too"),
        (["generate", "recipe.yaml", "--set", "rounds.count"], "--set rounds.count: not of the form a.b=value"),
        (["generate", "recipe.yaml", "--runs", "recipe.yaml"], "Directory 'recipe.yaml' is a file"),
        (["generate", "recipe.yaml", "--runs", "recipe.yaml/runs"], "recipe.yaml/runs/colours: cannot hold a run (Not a directory"),
        (["generate", "recipe.yaml", "--runs", "/proc/nowhere"], "/proc/nowhere/colours: cannot hold a run"),
        (["generate", "recipe.yaml", "--set", "name=taken", "--runs", "."], "taken: cannot hold a run (File exists"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message_and_an_exit_code(recipe_file, tmp_path, arguments, message):
    recipe_file()
    (tmp_path / "taken").write_text("a file where the run's folder should be")
    result = call(*arguments)
    assert result.exit_code != 0 and message in result.stderr and not result.stdout


@pytest.mark.slow
def test_a_disk_error_in_the_middle_is_a_message_and_verbose_tells_where(recipe_file, tmp_path):
    path = recipe_file()
    play(quick(path), tmp_path / "runs", 1)
    folder = Workspace(tmp_path / "runs" / "colours").round(1)
    folder.root.mkdir()
    folder.shards.write_text("a file where a folder should be")
    result = call("generate", path, *FAST)
    assert result.exit_code == 1 and "File exists" in result.stderr and "Traceback" not in result.stderr
    done = start("--verbose", "generate", path, *FAST)
    assert "Traceback" in done.communicate(timeout=60)[1] and done.returncode == 1


def test_a_changed_recipe_shows_the_difference(recipe_file):
    path = recipe_file()
    call("generate", path)
    result = call("generate", path, "--set", "rounds.samples=30")
    assert result.exit_code == 1
    assert '-   "samples": 24' in result.stderr and '+   "samples": 30' in result.stderr


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.slow
def test_a_second_process_is_turned_away_ctrl_c_exits_130_and_the_same_command_goes_on(recipe_file, tmp_path):
    path = recipe_file()
    play(quick(path), tmp_path / "runs", 1)
    slow = start("generate", path, *FAST, "--set", "teacher.latency_s=0.3", "--set", "teacher.window=2")
    try:
        wait_for(tmp_path / "runs" / "colours" / "round-001" / "journal" / "00000.jsonl", slow)
        second = call("generate", path, *FAST)
        assert second.exit_code == 1 and "another evokd-data process works on this run" in second.stderr
        assert call("show", "colours").exit_code == 0
        slow.send_signal(signal.SIGINT)
        _, stderr = slow.communicate(timeout=60)
    finally:
        slow.kill()
    assert (
        slow.returncode == 130 and "stopped; the same command goes on from here" in stderr and "Traceback" not in stderr
    )
    assert call("generate", path, *FAST).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("gap_s", [0.0, 0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
def test_two_ctrl_c_end_with_130_and_without_a_traceback_however_close_they_are(recipe_file, tmp_path, gap_s):
    path = recipe_file()
    play(quick(path), tmp_path / "runs", 1)
    slow = start("generate", path, *FAST, "--set", "teacher.latency_s=0.3", "--set", "teacher.window=2")
    try:
        wait_for(tmp_path / "runs" / "colours" / "round-001" / "journal" / "00000.jsonl", slow)
        slow.send_signal(signal.SIGINT)
        time.sleep(gap_s)
        slow.send_signal(signal.SIGINT)
        _, stderr = slow.communicate(timeout=60)
    finally:
        slow.kill()
    assert slow.returncode == 130, stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_texts_names_and_labels_of_any_script_come_through(recipe_file, tmp_path):
    path = recipe_file(**{"name: colours": "name: c-颜色-größe", "which colour": "цвет 😀 which colour"})
    for file in (path, tmp_path / "seeds.jsonl", tmp_path / "test.jsonl"):
        file.write_text(file.read_text().replace("blue", "синий"), encoding="utf-8")
    assert call("run", path, "--set", "rounds.count=1", *FAST).exit_code == 0
    shown = call("show", "c-颜色-größe", "--plan", 1)
    assert "синий" in shown.stdout


@pytest.mark.slow
def test_output_that_nobody_reads_to_the_end_is_no_error(recipe_file, tmp_path):
    play(quick(recipe_file()), tmp_path / "runs", 1)
    process = start("show", "colours", "--json")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()


def test_the_command_is_installed_under_its_name():
    assert find_spec("evokd_data.__main__")
    script = Path(sys.executable).with_name("evokd-data")
    assert os.access(script, os.X_OK)
    assert "Usage: evokd-data" in subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60).stdout


@pytest.mark.slow
def test_show_tells_which_text_a_duplicate_repeats_and_which_reasons_there_are(recipe_file):
    path = recipe_file(**{"name: evokd": "name: eda", "samples: 24": "samples: 60"})
    call("run", path, "--set", "rounds.count=1", *FAST)
    result = call("show", "colours", "--rejections", "duplicate", "--count", 3, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rejections"]
    assert len(rows) == 3 and {row["reason"] for row in rows} == {"duplicate"}
    for row in rows:
        assert normal_form(row["detail"]) == normal_form(row["text"])
    wrong = call("show", "colours", "--rejections", "near_duplicat")
    assert wrong.exit_code == 1 and "'near_duplicat' is no reason; did you mean 'near_duplicate'?" in wrong.stderr
    assert "has no round 7; it has 0, 1" in call("show", "colours", "--samples", "--round", 7).stderr


def test_a_table_without_rows_is_one_line_and_one_of_rounds_fits_80_columns(recipe_file, tmp_path, monkeypatch):
    play(quick(recipe_file()), tmp_path / "runs", 2)
    assert call("show", "colours", "--rejections", "truncated").stdout == "round 1: rejections: none\n"
    monkeypatch.setattr("evokd_data.cli.console._console", lambda to_stderr: Console(width=80, highlight=False))
    lines = call("show", "colours").stdout.splitlines()
    heading = next(line for line in lines if line.startswith("round "))
    assert heading.split()[:3] == ["round", "kept", "rejected"] and "revision" not in heading
    table, verdict = [line for line in lines[:-1] if not line.startswith("Adopted without a comparison")], lines[-1]
    assert max(map(len, table)) <= 80 and [line for line in table if re.match(r"1 +24 +0 ", line)]
    assert verdict.startswith("On 9 test texts macro-F1 is ")


@pytest.mark.parametrize("command", ["verify", "load", "replay", "reproduce", "rounds"])
def test_a_round_written_into_the_repositorys_name_is_answered_with_the_option(command):
    result = call(command, "org/name@round-003")
    assert result.exit_code == 1
    assert result.stderr == "Error: org/name@round-003: the round is an option here; write: org/name --round 3\n"


@pytest.mark.slow
def test_a_column_that_a_file_lacks_is_answered_with_the_commands_options(recipe_file, tmp_path):
    play(quick(recipe_file()), tmp_path / "runs", 1)
    (tmp_path / "own.csv").write_text("remark,kind\nthe sky,blue\n")
    for command, options in (("predict", "--text COLUMN"), ("evaluate", "--text COLUMN, --label COLUMN")):
        result = call(command, "colours", "own.csv")
        assert result.exit_code == 1
        assert result.stderr == f"Error: own.csv, row 1: no column 'text'; valid: kind, remark; name it: {options}\n"


@pytest.mark.slow
def test_evaluate_warns_of_texts_that_the_student_has_learned(recipe_file, tmp_path):
    play(quick(recipe_file(**{", per_class: 1": ""})), tmp_path / "runs", 1)
    lines = (tmp_path / "seeds.jsonl").read_text() + (tmp_path / "test.jsonl").read_text()
    (tmp_path / "all.jsonl").write_text(lines)
    both = call("evaluate", "colours", "all.jsonl", "--json")
    alone = json.loads(call("evaluate", "colours", "test.jsonl", "--json").stdout)
    assert json.loads(both.stdout)["n"] == 18 and alone["n"] == 9
    assert both.stderr == (
        "warning: 9 of 18 texts are seeds of this run, which the student has learned; macro-F1 on the other 9: "
        f"{alone['macro_f1']:.3f}\n"
    )
    assert call("evaluate", "colours", "test.jsonl", "--json").stderr == ""
