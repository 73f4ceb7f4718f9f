"""The card: what it says, that it can be read by machines, and that nothing in it can be broken from outside."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evokd_data.errors import DataError
from evokd_data.loop.rounds import generate_next, train_next
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.recipe_sections import Card
from evokd_data.reporting import dataset_card
from evokd_data.stages.correct import plan_of_corrections
from evokd_data.stages.publish import make_bundle
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.ner import NER
from tests.support import ROOT
from tests.support.finished_runs import HOSTILE, facts_of_rounds, make_run
from tests.support.golden_files import golden


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, list[dataset_card.RoundFacts]]:
    loaded, workspace = make_run(tmp_path_factory.mktemp("card"))
    return loaded, facts_of_rounds(loaded, workspace, 3)


def settled(rounds: list[dataset_card.RoundFacts]) -> list[dataset_card.RoundFacts]:
    """With what differs from facts_of_round version of a library, or of a prompt, to the next set to something fixed."""
    fixed = []
    for facts_of_round in rounds:
        identity = {**facts_of_round.manifest["identity"], "prompts": {"generate.j2": "0" * 64}, "content": "c" * 64}
        files = {path: {**entry, "size": 1000} for path, entry in facts_of_round.manifest["files"].items()}
        environment = {**facts_of_round.manifest["environment"], "versions": {"evokd-data": "0.1.0"}}
        manifest = {
            **facts_of_round.manifest,
            "identity": identity,
            "files": files,
            "environment": environment,
            "digest": "d" * 64,
        }
        fixed.append(replace(facts_of_round, manifest=manifest))
    return fixed


def front(text: str) -> dict[str, Any]:
    """The metadata as the Hub's clients cut it out and read it."""
    _, block, _ = text.split("---\n", 2)
    return yaml.safe_load(block)


@pytest.mark.parametrize(("name", "rounds"), [("card-round-000.md", 1), ("card-round-002.md", 3)])
def test_the_card_is_the_golden_one(run: tuple[Recipe, list[dataset_card.RoundFacts]], name: str, rounds: int) -> None:
    loaded, round_facts = run
    rendered = dataset_card.render(loaded, "org/intents", settled(round_facts[:rounds]))
    assert rendered == golden(name, rendered)


def test_a_round_that_was_adopted_without_a_comparison_is_named(
    run: tuple[Recipe, list[dataset_card.RoundFacts]],
) -> None:
    loaded, [first, second, _] = run
    adoption = {"by": "seeds", "adopted": True, "against": 0, "compared": 0, "difference": None}
    alone = replace(second, metrics={**second.metrics, "adoption": adoption})
    sentence = "The test set has no part in that. Adopted without a comparison: round 1. Each seed has a label that no other has;"
    assert sentence in dataset_card.render(loaded, "o/n", [first, alone])
    assert "without a comparison" not in dataset_card.render(loaded, "o/n", [first, second])


def test_a_tagging_task_has_a_card_too(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    """Other columns, other scores, types for labels."""
    loaded, round_facts = run
    score = {"n": 9, "micro_f1": 0.75, "macro_f1": 0.5, "intervals": {"macro_f1": [0.4, 0.6]}}
    round_facts = [replace(facts_of_round, metrics={"test": score}) for facts_of_round in round_facts]
    task = NER(types=("person", "place"), type_descriptions={"place": "somewhere"})
    text = dataset_card.render(replace(loaded, task=task), "o/n", round_facts)
    assert "Classes: person, place." in text and "| place | somewhere |" in text
    assert "| micro-F1 |" in text and "| 0.750 |" in text
    metadata = front(text)
    assert metadata["task_categories"] == ["token-classification"]
    columns = {column["name"]: column for column in metadata["dataset_info"][0]["features"]}
    assert [field["name"] for field in columns["spans"]["list"]] == ["start", "end", "type", "surface"]


def test_what_is_cut_of_the_test_texts_and_what_intervals_cannot_show_is_said(
    run: tuple[Recipe, list[dataset_card.RoundFacts]],
) -> None:
    loaded, round_facts = run
    *earlier, newest = round_facts
    test = {**newest.metrics["test"], "truncated": 4, "notes": ["The test set has no text of <b>."]}
    cut = [*earlier, replace(newest, metrics={**newest.metrics, "test": test})]
    sentence = " 4 of these texts are longer than what the student reads. "
    text = dataset_card.render(loaded, "o/n", cut)
    assert sentence in text
    assert " The test set has no text of &#60;b&#62;. It does not hold the spread" in text
    assert sentence not in dataset_card.render(loaded, "o/n", round_facts)


def corrected(round_facts: list[dataset_card.RoundFacts], **counts: int) -> list[dataset_card.RoundFacts]:
    """The rounds, the last of which a person made."""
    *earlier, newest = round_facts
    totals = {
        **newest.manifest["totals"],
        "rejected": {},
        "corrections": {"accept": 0, "relabel": 0, "reject": 0, **counts},
    }
    plan = plan_of_corrections(newest.index, [], 1)
    return [*earlier, replace(newest, plan=plan, manifest={**newest.manifest, "totals": totals})]


def test_the_exam_of_an_earlier_round_stands_in_the_card_of_a_corrected_round(
    run: tuple[Recipe, list[dataset_card.RoundFacts]],
) -> None:
    loaded, (first, second, third) = run
    exam = {"questions": 12, "form": "codes", "accuracy": 0.75, "low": 0.47, "high": 0.91, "student": None}
    labelling = {"rule": "relabel", "threshold": 0.6, "student_weight": 0.0}
    examined = replace(second, plan={**second.plan, "exam": exam, "labelling": labelling})
    text = dataset_card.render(loaded, "o/n", corrected([first, examined, third], relabel=1))
    assert (
        "## How well the teacher labels\n\nBefore round 1 the teacher labelled 12 seeds, each left out of the demonstrations, in "
        "several forms. In the best one (codes) it was right on 0.750 of them (95 % interval 0.470 to 0.910). A text is kept with "
        "the label that it is given, whatever it was asked for, if that label is right with a probability of at least 0.6.\n"
    ) in text


def test_limits_say_whose_the_labels_are(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    loaded, round_facts = run
    untouched, relabelled, rejected = (
        dataset_card.render(loaded, "o/n", rounds).split("## Limits")[1]
        for rounds in (round_facts, corrected(round_facts, relabel=2), corrected(round_facts, reject=1))
    )
    assert "blind spots; nobody read each of them. Labels are the teacher's.\n" in untouched
    read = "blind spots. A person corrected some of them, one by one or by a rule; nobody read each of the others. "
    assert f"{read}Labels are the teacher's, but for those that the person gave.\n" in relabelled
    assert f"{read}Labels are the teacher's.\n" in rejected


def test_a_round_is_called_aimed_only_where_a_plan_has_weaknesses(
    run: tuple[Recipe, list[dataset_card.RoundFacts]],
) -> None:
    loaded, round_facts = run
    first, second, third = round_facts
    unaimed = replace(second, plan={**second.plan, "weaknesses": []})
    lead = "a language model, the teacher, wrote and labelled the rest"
    assert f"in 1 further round {lead} (strategy `evokd`)." in dataset_card.render(loaded, "o/n", [first, unaimed])
    assert (
        f"in 2 further rounds {lead}, from round 2 on aimed at what a small student still got wrong (EvoKD)."
        in dataset_card.render(loaded, "o/n", [first, unaimed, third])
    )


def test_datasets_reads_the_cards_columns_and_sizes(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    """Where it cannot, `load_dataset` says that dataset_info is malformed, and takes none of it."""
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    loaded, round_facts = run
    metadata = front(dataset_card.render(loaded, "o/n", round_facts))
    infos = DatasetInfosDict.from_dataset_card_data(DatasetCardData(**metadata))
    rounds = ["round-000", "round-001", "round-002"]
    assert sorted(infos) == ["default", "journal", "probe", "rejections", *rounds]
    for name in ("default", *rounds):
        assert infos[name].features["label"].names == list(loaded.task.labels), name
    for name, info in infos.items():
        assert info.splits is not None and info.features is not None, name
        assert info.splits["train"].num_bytes == info.download_size > 0, name
    assert infos["default"].splits["train"].num_examples == sum(facts.rows for facts in round_facts)


def test_metadata_names_only_configs_with_files(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    loaded, round_facts = run
    first, last = (
        front(dataset_card.render(loaded, "o/n", round_facts[:1])),
        front(dataset_card.render(loaded, "o/n", round_facts)),
    )
    assert [config["config_name"] for config in first["configs"]] == ["default", "round-000"]
    names = [config["config_name"] for config in last["configs"]]
    assert names == ["default", "round-000", "round-001", "round-002", "rejections", "journal", "probe"]
    assert last["configs"][0]["data_files"][0]["path"] == [
        f"data/round-00{index}/train-00000-of-00001.parquet" for index in range(3)
    ]
    sizes = [
        sum(entry["size"] for path, entry in facts.manifest["files"].items() if path.startswith("data/"))
        for facts in round_facts
    ]
    assert last["dataset_info"][0]["splits"] == [{"name": "train", "num_bytes": sum(sizes), "num_examples": 30}]


def test_metadata_is_what_the_hub_knows(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    from huggingface_hub import DatasetCard

    loaded, round_facts = run
    data = DatasetCard(dataset_card.render(loaded, "o/n", round_facts)).data.to_dict()
    assert data["license"] == "cc0-1.0"
    assert data["language"] == ["en"]
    assert data["task_categories"] == ["text-classification"]
    assert data["size_categories"] == ["n<1K"]
    assert {"synthetic", "evokd", "knowledge-distillation"} <= set(data["tags"])
    assert "base_model" not in data  # the scripted teacher is on no Hub


def test_a_teacher_of_the_hub_is_named_as_base_model(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    loaded, round_facts = run
    teacher = {"engine": "vllm", "model": "Qwen/Qwen3-8B", "revision": "abc"}
    manifest = {**round_facts[-1].manifest, "identity": {**round_facts[-1].manifest["identity"], "teacher": teacher}}
    assert dataset_card.metadata(loaded, [*round_facts[:-1], replace(round_facts[-1], manifest=manifest)])[
        "base_model"
    ] == ["Qwen/Qwen3-8B"]


def test_a_branch_says_where_it_comes_from(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    loaded, round_facts = run
    assert "branch" not in dataset_card.render(loaded, "o/n", round_facts)
    origin = {"repo": "org/first", "tag": "round-001", "commit": "c" * 40, "digest": "d" * 64}
    first_of_branch = replace(
        round_facts[2],
        manifest={**round_facts[2].manifest, "identity": {**round_facts[2].manifest["identity"], "from": origin}},
    )
    text = dataset_card.render(loaded, "o/n", [*round_facts[:2], first_of_branch])
    assert (
        "This is a branch of `org/first`: what comes before `round-002` was published there, and is here file by file as "
        f"it was. Branched off at `round-001`, commit `{'c' * 40}`, digest `{'d' * 64}`.\n"
    ) in text
    assert front(text)["source_datasets"] == ["org/first"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "value", ["no", "y", "1e3", "0o14", "2024-01-01", "null", "~", "- a", "a: b", "{x", "'", '"\n---\nx: 1']
)
def test_words_stay_words_for_yaml_readers_of_both_versions(
    run: tuple[Recipe, list[dataset_card.RoundFacts]], value: str
) -> None:
    from ruamel.yaml import YAML

    loaded, round_facts = run
    text = dataset_card.render(
        replace(loaded, card=Card(license=value, languages=(value,), title=value)), "o/n", round_facts
    )
    _, block, _ = text.split("---\n", 2)
    for read in (yaml.safe_load(block), YAML(typ="safe", pure=True).load(block)):
        assert (read["license"], read["language"], read["pretty_name"]) == (value, [value], value)


@pytest.mark.slow
def test_hostile_words_cannot_break_the_page(tmp_path: Path) -> None:
    loaded, workspace = make_run(tmp_path, 3, labels=(HOSTILE, "weather", "books"))
    assert isinstance(loaded.task, Classification)
    task = replace(loaded.task, description=HOSTILE, label_descriptions={HOSTILE: HOSTILE})
    hostile = replace(loaded, task=task, card=Card(title=HOSTILE))
    round_facts = facts_of_rounds(loaded, workspace, 3)
    text = dataset_card.render(hostile, "org/intents", round_facts)
    assert front(text)["pretty_name"].replace("\ufffd", "\u202e") == HOSTILE
    body = text.split("---\n", 2)[2]
    for markup in ("<b", "`a`", "](y)", "\n# &#34;no", "\u202e", "&amp;", "246912"):
        assert markup not in body.replace("[Macro-F1 on the test set by round](card", "")
    rows = [line for line in body.splitlines() if line.startswith("|")]
    by_table: dict[int, set[int]] = {}
    table = 0
    for before, line in zip(["", *body.splitlines()], body.splitlines(), strict=False):
        if line.startswith("|"):
            table += not before.startswith("|")
            by_table.setdefault(table, set()).add(line.count("|"))
    assert rows and all(len(counts) == 1 for counts in by_table.values()), "a quota broke its row"
    assert "&#124;" in body  # it is shown, as text


def test_the_learning_curve_is_an_image_of_its_numbers(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    loaded, round_facts = run
    root = ElementTree.fromstring(dataset_card.learning_curve(loaded, round_facts))
    name = "{http://www.w3.org/2000/svg}"
    heights = [float(circle.attrib["cy"]) for circle in root.findall(f"{name}circle")]
    assert len(heights) == 3 and heights == sorted(heights, reverse=True)  # the student got better
    assert len(root.findall(f"{name}line[@stroke-linecap]")) == 3
    ElementTree.fromstring(dataset_card.learning_curve(loaded, round_facts[:1]))


def test_a_score_of_one_or_zero_fits_into_the_curve(run: tuple[Recipe, list[dataset_card.RoundFacts]]) -> None:
    loaded, round_facts = run
    for value in (0.0, 1.0):
        metrics = {
            "test": {**round_facts[0].metrics["test"], "macro_f1": value, "intervals": {"macro_f1": [value, value]}}
        }
        root = ElementTree.fromstring(dataset_card.learning_curve(loaded, [replace(round_facts[0], metrics=metrics)]))
        height = float(root.find("{http://www.w3.org/2000/svg}circle").attrib["cy"])  # type: ignore[union-attr]
        assert 30 <= height <= 265


def compared(folder: Path, **changes: Any) -> Path:
    """The committed comparison, with an arm of a hostile name."""
    results = json.loads((ROOT / "docs/results/compare-snips-intents/results.json").read_text())
    results["arms"][HOSTILE] = results["arms"]["evokd"]
    path = folder / "results.json"
    path.write_text(json.dumps({**results, **changes}), encoding="utf-8")
    return path


def test_the_card_shows_the_comparison_its_recipe_names(
    run: tuple[Recipe, list[dataset_card.RoundFacts]], tmp_path: Path
) -> None:
    loaded, round_facts = run
    assert "## Beside other strategies" not in dataset_card.render(loaded, "org/intents", round_facts)
    with_comparison = replace(loaded, card=replace(loaded.card, comparison=compared(tmp_path)))
    text = dataset_card.render(with_comparison, "org/intents", round_facts)
    section = text.split("## Beside other strategies")[1].split("## What was rejected")[0]
    assert "| evokd | evokd | 10 | 0.9685 | 0.0069 | 216 | 23139 |" in section
    assert "| evokd | static | 10 | -0.0015 | -0.0095 to +0.0066 |" in section and "not distinguishable" in section
    assert HOSTILE not in section
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows} == {8, 10}
    away = replace(loaded, card=replace(loaded.card, comparison=tmp_path / "elsewhere.json"))
    assert dataset_card.render(away, "org/intents", round_facts) == dataset_card.render(
        loaded, "org/intents", round_facts
    )


def test_a_comparison_that_is_none_is_told(run: tuple[Recipe, list[dataset_card.RoundFacts]], tmp_path: Path) -> None:
    loaded, round_facts = run
    with_comparison = replace(loaded, card=replace(loaded.card, comparison=compared(tmp_path, arms=[])))
    with pytest.raises(DataError, match=r"card\.comparison: .*results\.json is no results\.json of evokd-data compare"):
        dataset_card.render(with_comparison, "org/intents", round_facts)


@pytest.mark.slow
def test_rows_that_were_left_out_are_counted_from_the_users_file_to_the_card(tmp_path: Path) -> None:
    loaded, workspace = make_run(tmp_path, rounds=0)
    seeds = tmp_path / "seeds.jsonl"
    test_text = json.loads((tmp_path / "test.jsonl").read_text().splitlines()[0])
    again = json.loads(seeds.read_text().splitlines()[0])
    with seeds.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in (test_text, again, again))
    shutil.rmtree(workspace.root)
    generate_next(loaded, tmp_path / "runs", Progress())
    train_next(loaded, tmp_path / "runs", Progress())
    bundle = make_bundle(loaded, workspace, workspace.round(0), tmp_path / "draft")
    rows = len(seeds.read_text().splitlines())
    manifest = json.loads(bundle.files["rounds/round-000/manifest.json"].read_text())
    assert manifest["totals"]["left_out"] == {"seeds": {"rows": rows, "in_test": 1, "repeated": 2}}
    card = bundle.files["README.md"].read_text()
    left_out = "3 were left out (1 in the test set, too; 2 like an earlier row, text and label)."
    assert f"\nOf the {rows} rows given as seeds, {left_out}\n" in card
