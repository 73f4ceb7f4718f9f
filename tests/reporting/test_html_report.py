"""The report's page: what it says of a run, how large it is, and that foreign text in it is text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evokd_data.atomic_files import write_json
from evokd_data.cli import cli
from evokd_data.errors import DataError, WorkspaceError
from evokd_data.printable import _CONTROL
from evokd_data.records import Completion, Message, Origin, Prompt, Rejection, Sample, Sampling, Weakness
from evokd_data.reporting.html_report import MAX_BYTES, REPORT, page, payload, renew, report
from evokd_data.reporting.report_sections.browser import browser
from evokd_data.reporting.report_sections.embedding import neutralised, script_json
from evokd_data.reporting.report_sections.run_files import read_run
from evokd_data.reporting.report_sections.weaknesses import weaknesses
from evokd_data.reporting.significance import fisher_exact, interval_of_difference
from evokd_data.storage import shards
from evokd_data.storage.journal import Journal, read_answers
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.tasks import sample_id
from tests.support.example_tagging_task import places
from tests.support.example_task import QUICK, play
from tests.support.finished_runs import make_run, make_score
from tests.support.hostile_runs import hostile_run

pytestmark = pytest.mark.slow


def shown(*workspaces: Workspace, comparison: Path | None = None) -> dict[str, Any]:
    """The payload as the page's script reads it."""
    content = payload([read_run(workspace) for workspace in workspaces], comparison)
    return json.loads(script_json(neutralised(content)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three rounds by hand; the student of round r is right on 8 + 4 r of 20 test texts of each class."""
    _, workspace = make_run(tmp_path_factory.mktemp("made"))
    return workspace


@pytest.fixture(scope="module")
def intents(made: Workspace) -> dict[str, Any]:
    (run,) = shown(made)["runs"]
    return run


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two rounds of a tagging task, played with the scripted teacher."""
    folder = tmp_path_factory.mktemp("slots")
    (run,) = shown(play(places(folder, "teacher_trust=force"), folder / "runs", 3))["runs"]
    return run


def test_two_sentences_say_what_was_done_and_whether_it_is_noise(intents: dict[str, Any]) -> None:
    outcome = intents["outcome"]
    what_was_done, result = outcome["sentences"]
    assert what_was_done == (
        "In 2 rounds the large model scripted was asked for 27 texts after the pattern of 6 labelled examples; 24 of them (89 %) "
        "passed all filters, and the small model linear learned them."
    )
    assert result == (
        "On 60 test texts macro-F1 is 0.800 in round 2, the last one, against 0.400 of the student of round 0, which knows the "
        "seeds alone: a difference of +0.400 (95 % interval +0.236 to +0.558), outside noise: higher."
    )
    assert outcome["verdict"] == {"kind": "higher", "words": "outside noise: higher"}


def test_a_difference_within_its_interval_is_noise(tmp_path: Path) -> None:
    recipe, workspace = make_run(tmp_path, rounds=2)
    metrics = read_json(workspace.round(1).metrics)
    write_json(workspace.round(1).metrics, {**metrics, "test": make_score(recipe, 0)})
    outcome = shown(workspace)["runs"][0]["outcome"]
    assert outcome["verdict"] == {"kind": "inside", "words": "inside noise"}
    assert outcome["sentences"][1].endswith("inside noise.")


def test_an_adopted_round_is_the_one_the_gate_took(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path)
    for index, best in ((0, 0), (1, 1), (2, 1)):
        path = workspace.round(index).metrics
        write_json(path, {**read_json(path), "adoption": {"adopted": index == best, "best": best, "scores": {}}})
    run = shown(workspace)["runs"][0]
    assert "0.600 in round 1, the adopted one" in run["outcome"]["sentences"][1]
    assert [point["best"] for point in run["curve"]["points"]] == [False, True, False]
    assert [row["adopted"] for row in run["rounds"]] == [True, True, False]


def test_a_run_that_adopted_no_round_says_so(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path)
    for index in range(3):
        path = workspace.round(index).metrics
        write_json(path, {**read_json(path), "adoption": {"adopted": not index, "best": 0, "scores": {}}})
    outcome = shown(workspace)["runs"][0]["outcome"]
    assert outcome["verdict"] == {"kind": "inside", "words": "no round was adopted"}
    assert outcome["sentences"][1] == (
        "On 60 test texts macro-F1 is 0.400 with the seeds alone (round 0), and no later round was adopted."
    )


def test_the_curve_has_a_point_for_each_round(intents: dict[str, Any]) -> None:
    points = intents["curve"]["points"]
    assert [(point["round"], point["value"]) for point in points] == [(0, 0.4), (1, 0.6), (2, 0.8)]
    assert all(point["low"] < point["value"] < point["high"] for point in points)
    assert (intents["curve"]["metric"], intents["curve"]["n"], intents["curve"]["lines"]) == ("macro-F1", 60, [])


def test_the_student_has_a_confusion_matrix_for_each_round_and_a_line_for_each_class(intents: dict[str, Any]) -> None:
    student = intents["student"]
    assert student["labels"] == ["music", "weather", "books"]
    assert student["confusions"][2] == [[0, 0, 16], [0, 1, 4], [1, 1, 16], [1, 2, 4], [2, 0, 4], [2, 2, 16]]
    assert [(entry["name"], entry["f1"], entry["support"]) for entry in student["classes"]] == [
        (label, [0.4, 0.6, 0.8], 20) for label in student["labels"]
    ]


def test_a_weakness_has_its_texts_and_what_became_of_it(intents: dict[str, Any]) -> None:
    weaknesses = intents["weaknesses"]
    assert [(w["round"], w["expected"], w["got"], w["asked"], w["kept"]) for w in weaknesses] == [
        (1, "music", "books", 4, 12),
        (2, "music", "books", 4, 12),
    ]
    last = weaknesses[-1]
    assert last["test"] == {
        "before": {"round": 1, "missed": 0, "n": 20},
        "after": {"round": 2, "missed": 0, "n": 20},
        "verdict": "inside noise",
    }
    assert last["fresh"] == {"before": {"round": 1, "missed": 0, "n": 4}, "after": None, "verdict": ""}
    assert len(last["texts"]) == 4


def test_a_weakness_has_the_advice_that_the_teacher_gave(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=2)
    with Journal(workspace.round(1).journal) as journal:
        prompt = Prompt("analyse/confused:music>books", "analyse", (Message("user", "why?"),), 1, Sampling(0.0, 64))
        journal.add(prompt, Completion(json.dumps({"advice": " songs about books "}), "stop", 9, 9))
    assert [weakness["advice"] for weakness in shown(workspace)["runs"][0]["weaknesses"]] == ["songs about books"]


def test_rejections_and_tokens_are_those_of_the_rounds(intents: dict[str, Any]) -> None:
    (duplicate,) = intents["rejections"]["reasons"]
    assert (duplicate["reason"], duplicate["count"], duplicate["by_round"]) == ("duplicate", 3, [1, 2])
    assert duplicate["examples"][0]["detail"] == "abc (1.00)"
    assert intents["spending"]["total"] == {
        "prompt_tokens": 300, "completion_tokens": 150, "generate_s": 3.0, "train_s": 6.0, "cost_usd": None
    }  # fmt: skip


def test_costs_count_the_teachers_own_test_at_the_recipes_prices(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=2)
    recipe = json.loads((tmp_path / "recipe.yaml").read_text(encoding="utf-8"))
    write_json(workspace.recipe, {**recipe, "prices": {"prompt": 2.0, "completion": 10.0}})
    write_json(workspace.round(1).generated, {**read_json(workspace.round(1).generated), "cost_usd": 0.0007})
    with Journal(workspace.teacher_test_journal) as journal:
        prompt = Prompt("test/with_seeds/000000", "label", (Message("user", "which?"),), 1, Sampling(0.0, 4))
        journal.add(prompt, Completion("music", "stop", 1000, 100))
    costs = shown(workspace)["runs"][0]["spending"]
    assert [(row["round"], row["prompt_tokens"], row["cost_usd"]) for row in costs["rounds"]] == [
        (0, 0, None),
        (1, 100, 0.0007),
        (None, 1000, 0.003),
    ]
    assert costs["priced"] and costs["total"]["cost_usd"] == pytest.approx(0.0037)


def test_the_matrix_of_the_teacher_counts_kept_and_rejected_labels(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=2, rows=6, shard=6)
    folder = workspace.round(1)
    origin = Origin(1, 0, 0, "evokd", intended="music")
    shards.write_rejections(
        folder.rejection_files()[0],
        [
            Rejection("label_disagreement", "a", origin, "asked for music, labelled books (0.91)"),
            Rejection("label_uncertain", "b", origin, "asked for music, labelled music (0.40)"),
            Rejection("too_short", "c", origin, "1 characters"),
        ],
    )
    teacher = shown(workspace)["runs"][0]["teacher"]
    assert teacher["matrix"]["cells"] == [[2, 2, 2, 0], [0, 2, 0, 1], [0, 0, 2, 1], [1, 1, 2, 0]]
    assert (teacher["matrix"]["asked"], teacher["matrix"]["agreed"]) == (8, 7)
    assert teacher["exam"] is None and teacher["test"] == []


def test_every_row_is_in_the_browser_with_prompt_and_answer(intents: dict[str, Any]) -> None:
    rows = intents["browser"]
    assert (len(rows["rows"]), rows["total"], rows["kept_total"], rows["asked_rows"]) == (33, 33, 30, 27)
    assert [sum(row[1] == index for row in rows["rows"]) for index in range(3)] == [6, 13, 14]
    assert sum(row[2] >= 0 for row in rows["rows"]) == 3 and rows["reasons"] == ["duplicate"]
    assert len(rows["answers_of"]) == 27
    number = next(n for n, row in enumerate(rows["rows"]) if row[0] == "round 2 text 7 on weather")
    (answer,) = (rows["answers"][index] for index in rows["answers_of"][str(number)])
    assert answer[0] == "generate" and json.loads(answer[2]) == {"texts": ["round 2 text 1 on weather"]}
    assert rows["messages"][answer[1][1]][1].startswith("write text 1 ")


def test_a_run_with_spans_shows_them_in_the_text(slots: dict[str, Any]) -> None:
    rows = slots["browser"]
    person, place = rows["labels"].index("person"), rows["labels"].index("place")
    seeds = [row[0] for row in rows["rows"] if row[1] == 0]
    assert ["", person, "Ada", " went by train to ", place, "Oslo", ""] in seeds
    assert rows["spans"] and rows["total"] == len(rows["rows"]) > 40
    assert slots["student"]["confusions"] == [] and slots["curve"]["metric"] == "micro-F1"
    assert slots["teacher"]["matrix"]["columns"] == ["person", "place", "no span"]
    assert slots["teacher"]["exam"]["questions"] == 2 and slots["teacher"]["exam"]["classes"] == []
    assert slots["weaknesses"] == []  # the student of the made-up texts is never wrong


def test_a_weakness_of_spans_is_counted_among_the_texts_that_have_the_type(tmp_path: Path) -> None:
    recipe = places(tmp_path, "teacher_trust=force")
    workspace = play(recipe, tmp_path / "runs", 3)
    rows = shards.read_table(workspace.round(1).probe).to_pylist()
    nothing = shards.target_text(recipe.task, ())
    for row in rows[:5]:
        row["predicted"] = nothing
    shards.write_rows(workspace.round(1).probe, shards.probe_schema(), rows)
    plan = read_json(workspace.round(2).plan)
    name = Weakness("missed", "place", "", 0, 0).name
    plan["cells"][0]["weakness"] = name
    plan["weaknesses"] = [
        {
            "name": name,
            "kind": "missed",
            "expected": "place",
            "got": "",
            "missed": 5,
            "seen": 24,
            "wrong": [],
            "right": [],
        }
    ]
    write_checked_json(workspace.round(2).plan, plan)
    (weakness,) = shown(workspace)["runs"][0]["weaknesses"]
    assert weakness["fresh"] == {"before": {"round": 1, "missed": 5, "n": 24}, "after": None, "verdict": ""}
    assert weakness["test"] is None and weakness["asked"] == plan["cells"][0]["samples"]


def test_a_control_character_moves_no_span(tmp_path: Path) -> None:
    """It becomes six characters on the page; the spans after it are where they were."""
    recipe = places(tmp_path)
    workspace = play(recipe, tmp_path / "runs", 1)
    target = recipe.task.read_example(
        {"text": "\u202eAda\x1b in Oslo", "spans": [{"text": "Oslo", "type": "place"}]}, ""
    )[1]
    sample = Sample(
        sample_id(recipe.task, "\u202eAda\x1b in Oslo", target),
        "\u202eAda\x1b in Oslo",
        target,
        Origin(0, -1, 0, "seed"),
    )
    shards.write_shard(workspace.round(0).shard_files()[0], recipe.task, [sample], 0, 0)
    (row,) = neutralised(browser(read_run(workspace), 10**6))["rows"]
    assert row[0] == ["\\u202eAda\\u001b in ", 1, "Oslo", ""]


def test_lineage_names_digests_revisions_and_commands(made: Workspace, tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=2)
    write_json(workspace.round(1).revision, {"repo": "org/intents", "tag": "round-001", "commit": "c" * 40})
    lineage = shown(workspace)["runs"][0]["lineage"]
    manifest = read_json(workspace.round(1).manifest)
    assert lineage["rounds"][1] == {
        "round": 1,
        "digest": manifest["digest"],
        "content": manifest["identity"]["content"],
        "rows": 12,
        "revision": {"repo": "org/intents", "tag": "round-001", "commit": "c" * 40},
    }
    assert lineage["recipe"] == read_json(workspace.inputs)["recipe"]
    assert "evokd-data load org/intents --round 1" in [each["command"] for each in lineage["commands"]]
    assert "/home/somebody" not in json.dumps(shown(workspace))
    assert [each["command"] for each in shown(made)["runs"][0]["lineage"]["commands"]] == [
        "evokd-data show intents",
        "evokd-data predict intents texts.csv",
    ]


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=1)
    for name in ("metrics", "generated", "manifest", "plan"):
        getattr(workspace.round(0), name).unlink()
    run = shown(workspace)["runs"][0]
    assert run["curve"] is None and run["student"] is None and run["rejections"] is None and run["weaknesses"] == []
    assert run["outcome"]["verdict"]["kind"] == "unknown"
    assert report([workspace], tmp_path / "page.html").stat().st_size < 200_000


def test_runs_stand_side_by_side(made: Workspace, tmp_path: Path) -> None:
    _, other = make_run(tmp_path, rounds=2, variant=" again")
    content = shown(made, other)
    entries = content["side_by_side"]["runs"]
    assert [(entry["best"]["round"], entry["best"]["value"], entry["asked"]) for entry in entries] == [
        (2, 0.8, 27),
        (1, 0.6, 13),
    ]
    assert entries[0]["minus_first"] is None
    assert entries[1]["minus_first"] == {
        "mean": -0.2,
        "low": pytest.approx(-0.3587, abs=1e-4),
        "high": pytest.approx(-0.0350, abs=1e-4),
        "verdict": "lower",
    }
    assert content["side_by_side"]["same_test"] and len(content["runs"]) == 2
    assert shown(made)["side_by_side"] is None


RESULTS = {
    "metric": "macro_f1",
    "budget": {"rounds": 1, "samples_per_round": 12},
    "test": {"n": 60, "digest": "d" * 64},
    "arms": {
        "evokd": {"strategy": "evokd", "macro_f1": [0.8, 0.6], "kept": [18, 18], "tokens": [900, 700],
                  "score_by_round": [[0.4, 0.8], [0.4, 0.6]]},
    },
    "differences": [
        {"arm": "uniform", "reference": "evokd", "n": 2, "mean": -0.1, "low": -0.4, "high": 0.2, "p_holm": 0.3,
         "p": 0.3, "p_signed_rank": 0.5, "verdict": "not distinguishable"}
    ],
}  # fmt: skip


def test_the_arms_of_a_comparison_are_shown(made: Workspace, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    write_json(results, RESULTS)
    arms = shown(made, comparison=results)["arms"]
    assert arms["arms"][0]["points"] == [
        {"round": 0, "value": 0.4, "low": 0.4, "high": 0.4},
        {"round": 1, "value": 0.7, "low": pytest.approx(0.558579), "high": pytest.approx(0.841421)},
    ]
    assert arms["differences"][0]["verdict"] == "not distinguishable"
    for other in (tmp_path / "no.json", made.inputs):
        with pytest.raises(
            DataError, match=r"results\.json of evokd-data compare|results\.json that evokd-data compare"
        ):
            shown(made, comparison=other)
    out = tmp_path / "page.html"
    called = CliRunner().invoke(cli, ["report", str(made.root), "--out", str(out), "--compare", str(results)])
    assert (called.exit_code, called.output) == (0, f"{out}\n")


def test_the_comparison_that_the_recipe_names_is_shown(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=1)
    write_json(tmp_path / "results.json", RESULTS)
    assert shown(workspace)["arms"] is None
    recipe = json.loads((tmp_path / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["card"]["comparison"] = str(tmp_path / "results.json")
    write_json(workspace.recipe, recipe)
    assert [arm["name"] for arm in shown(workspace)["arms"]["arms"]] == ["evokd"]


def test_beside_a_code_stands_the_label_that_it_means(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=2)
    plan = read_json(workspace.round(1).plan)
    form = {"answer": "codes", "turns": False, "demonstrations": 0}
    write_json(
        workspace.round(1).plan,
        {**plan, "labelling": {"form": form, "rule": "reject", "threshold": 0.5, "student_weight": 0.0}},
    )
    with Journal(workspace.round(1).journal) as journal:
        prompt = Prompt("label/000000/000001/000000", "label", (Message("user", "which?"),), 1, Sampling(0.0, 4))
        journal.add(prompt, Completion("B", "stop", 5, 1, {"A": -2.3, "B": -0.105}))
    rows = shown(workspace)["runs"][0]["browser"]
    number = next(n for n, row in enumerate(rows["rows"]) if row[0] == "round 1 text 1 on weather")
    written, labelled = (rows["answers"][index] for index in rows["answers_of"][str(number)])
    assert written[0] == "generate" and written[5] == []
    assert labelled == ["label", labelled[1], "B", "stop", 6, [["B = weather", 0.9], ["A = music", 0.1]]]


def test_a_file_of_another_form_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=1)
    metrics = read_json(workspace.round(0).metrics)
    write_json(workspace.round(0).metrics, {**metrics, "test": {**metrics["test"], "per_class": {"music": {}}}})
    with pytest.raises(WorkspaceError, match="does not hold what the report reads"):
        report([workspace], tmp_path / "page.html")


class _Elements(HTMLParser):
    """The elements of a page, and what stands in its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)


def test_hostile_texts_are_text(tmp_path: Path) -> None:
    plain = _Elements()
    plain.feed(page(payload([read_run(make_run(tmp_path / "plain", rounds=2)[1])])))
    text = report([hostile_run(tmp_path / "hostile")], tmp_path / "page.html").read_text(encoding="utf-8")
    attacked = _Elements()
    attacked.feed(text)
    assert attacked.tags == plain.tags and len(attacked.scripts) == 3
    assert not _CONTROL.search(text) and not set(attacked.scripts[0]) & set("<>&")
    rows = json.loads(attacked.scripts[0])["runs"][0]["browser"]["rows"]
    texts = {row[0] for row in rows}
    assert {"</script><img src=x onerror=\"window.owned='img'\">", "\\u202ereversed\\u2066 and isolated"} <= texts


def test_the_policy_names_the_scripts_by_digest_and_allows_no_address(made: Workspace, tmp_path: Path) -> None:
    text = report([made], tmp_path / "page.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"unsafe|https?:|data:|\*", policy)
    assert not re.search(r'<(?:link|img|iframe)|(?:src|href)="(?!#)', text.partition('id="data"')[0])


@pytest.mark.parametrize(("words", "whole"), [(12, True), (70, False)])
def test_ten_thousand_samples_take_less_than_three_megabytes(words: int, whole: bool, tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, 6, rows=2000, words=words, shard=500)
    path = report([workspace], tmp_path / "page.html")
    assert path.stat().st_size < MAX_BYTES == 3_000_000
    (content,) = re.findall(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    rows = json.loads(content)["runs"][0]["browser"]
    assert rows["total"] == 10_021
    assert (len(rows["rows"]) == rows["total"]) is whole
    assert len(rows["rows"]) > 3_000 and {row[1] for row in rows["rows"]} == set(range(6))


def test_the_interval_of_a_difference_and_an_exact_test_are_the_published_ones() -> None:
    """Newcombe 1998, Table II, (a) 56/70 and 48/80 by method 10; Fisher's tea: 3 of 4 and 1 of 4."""
    low, high = interval_of_difference(56 / 70, (0.6918, 0.8769), 48 / 80, (0.4904, 0.7004))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    assert fisher_exact(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher_exact(0, 6, 3, 6) == pytest.approx(2 * 20 / 220)


def test_a_damaged_journal_leaves_out_what_cannot_be_read_and_says_so(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=2)
    whole = shown(workspace)["runs"][0]["browser"]
    segment = next(workspace.round(1).journal.glob("*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    place = max(number for number, line in enumerate(lines) if b'"text"' in line)
    lines[place] = lines[place].replace(b'"text"', b'"tuxt"')
    segment.write_bytes(b"".join(lines))
    with pytest.raises(WorkspaceError, match="damaged at byte"):
        list(read_answers(workspace.round(1).journal))

    run = shown(workspace)["runs"][0]
    remark = f"left out of the report: intents/round-001/journal/{segment.name}: damaged at byte "
    assert run["outcome"]["remarks"][0].startswith(remark)
    assert len(run["browser"]["rows"]) == len(whole["rows"])
    assert 0 < len(run["browser"]["answers"]) == len(whole["answers"]) - 1
    result = CliRunner().invoke(cli, ["report", str(workspace.root), "--out", str(tmp_path / "r.html")])
    assert result.exit_code == 0 and f"warning: {remark}" in result.stderr
    assert remark in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_page_is_written_anew_only_where_it_shows_the_run_alone(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name)[1] for name in ("one", "two"))
    path = first.root / REPORT
    assert renew(first) == "" and not path.exists()
    report([first], path)
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + "<!-- of an earlier round -->", encoding="utf-8")
    assert renew(first) == f"{path}: written anew" and path.read_text(encoding="utf-8") == whole
    report([first, second], path)
    both = path.read_text(encoding="utf-8")
    assert "shows other runs or a comparison, too, and stays as it is" in renew(first)
    assert path.read_text(encoding="utf-8") == both
    path.write_text("<p>mine</p>", encoding="utf-8")
    assert "is no page of this version" in renew(first) and path.read_text(encoding="utf-8") == "<p>mine</p>"


def test_a_run_that_goes_on_writes_its_page_anew(recipe_file: Any, tmp_path: Path) -> None:
    def run(*overrides: str) -> str:
        path = recipe_file(**{"samples: 24": "samples: 6"})
        sets = [part for override in (*QUICK, *overrides) for part in ("--set", override)]
        return CliRunner().invoke(cli, ["run", str(path), *sets, "--runs", str(tmp_path / "runs")]).stderr

    assert "written anew" not in run("rounds.count=1")
    workspace = Workspace(tmp_path / "runs" / "colours")
    page = report([workspace], workspace.root / REPORT)
    before = page.read_bytes()
    assert f"{page}: written anew" in run("rounds.count=2") and page.read_bytes() != before
    shown_run = CliRunner().invoke(cli, ["show", "colours", "--runs", str(tmp_path / "runs")])
    assert (
        shown_run.exit_code == 0
        and CliRunner().invoke(cli, ["report", "colours", "--runs", str(tmp_path / "runs")]).exit_code == 0
    )


def test_a_mistake_found_on_corrected_texts_is_compared_with_none_on_fresh_ones(tmp_path: Path) -> None:
    _, workspace = make_run(tmp_path, rounds=4)
    before = {entry["round"]: entry["fresh"] for entry in weaknesses(read_run(workspace))}
    assert before[2]["before"] == {"round": 1, "missed": 0, "n": 4} and before[2]["after"]["round"] == 3
    for index in (1, 3):
        plan = workspace.round(index).plan
        write_checked_json(plan, {**read_json(plan), "corrections": []})
    after = {entry["round"]: entry["fresh"] for entry in weaknesses(read_run(workspace))}
    assert after[2] == {"before": {"round": 1, "missed": 0, "n": 4, "corrected": True}, "after": None, "verdict": ""}
