"""Data sets on the Hub as sources, written and read by the `datasets` library; and what `check --online` asks the Hub."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import CommitOperationAdd

from evokd_data.recipe import load
from evokd_data.seeds import load_splits

pytestmark = pytest.mark.slow

PUSH = """
from datasets import ClassLabel, Dataset, Features, List, Value

classes = ClassLabel(names=["negative", "positive"])
tags = ClassLabel(names=["O", "B-ORG", "I-ORG"])
sets = {
    "train": ({"text": Value("string"), "label": classes}, {"text": ["good", "bad"], "label": [1, 0]}),
    "hidden": ({"text": Value("string"), "label": classes}, {"text": ["good", "bad"], "label": [-1, -1]}),
    "null": ({"text": Value("string"), "label": classes}, {"text": ["good", "bad"], "label": [1, None]}),
    "inside": ({"text": Value("string"), "answer": {"label": classes}}, {"text": ["good"], "answer": [{"label": 1}]}),
    "tags": ({"tokens": List(Value("string")), "ner_tags": List(tags)},
             {"tokens": [["the", "EU"], ["EU"]], "ner_tags": [[-100, 1], [1]]}),
    "hiddentags": ({"tokens": List(Value("string")), "ner_tags": List(tags)}, {"tokens": [["EU"]], "ner_tags": [[-1]]}),
    "spans": ({"text": Value("string"), "spans": List({"start": Value("int32"), "end": Value("int32"), "type": ClassLabel(names=["PER", "ORG"])})},
              {"text": ["EU rejects"], "spans": [[{"start": 0, "end": 2, "type": 1}]]}),
}
for name, (features, columns) in sets.items():
    Dataset.from_dict(columns, Features(features)).push_to_hub("REPO", config_name=name, split="train")
"""

READ = """
import json
from evokd_data.errors import DataError
from evokd_data.recipe_sections import Pool, Source
from evokd_data.seeds import read_pool, read_samples
from evokd_data.tasks.classification import Classification
from evokd_data.tasks.ner import NER

labels, types = Classification(("negative", "positive")), NER(("ORG", "PER"))

def outcome(task, config, **settings):
    try:
        samples = read_samples(Source(dataset="REPO", revision="main", config=config, **settings), task, "test").samples
    except DataError as error:
        return str(error)
    return [[s.text, s.target if isinstance(s.target, str) else [[x.start, x.end, x.type] for x in s.target]] for s in samples]

def texts(task, config):
    return list(read_pool(Pool(dataset="REPO", revision="main", config=config), task)[0])

results = {
    "train": outcome(labels, "train"), "hidden": outcome(labels, "hidden"), "null": outcome(labels, "null"),
    "inside": outcome(labels, "inside", label="answer.label"), "tags": outcome(types, "tags"),
    "hiddentags": outcome(types, "hiddentags"), "spans": outcome(types, "spans"),
    "pool": texts(labels, "hidden"), "pool of null": texts(labels, "null"), "pool of tags": texts(types, "hiddentags"),
    "no revision": outcome(labels, "train", split="nope"),
}
print(json.dumps(results))
"""


def test_class_numbers_become_names_at_every_depth_and_numbers_without_a_name_are_errors(dataset, in_client):
    in_client(PUSH.replace("REPO", dataset))
    results = json.loads(in_client(READ.replace("REPO", dataset)).splitlines()[-1])
    where = f"test: {dataset}@main (train), row "
    no_class = "no class of the column (0: negative, 1: positive); name a split that has labels"
    assert results["train"] == [["good", "positive"], ["bad", "negative"]]
    assert results["hidden"] == f"{where}1: column 'label' holds -1, which marks hidden labels: {no_class}"
    assert results["null"] == f"{where}2: column 'label' holds None; labels are names, written as strings"
    assert results["inside"] == [["good", "positive"]]
    assert results["tags"] == [["the EU", [[4, 6, "ORG"]]], ["EU", [[0, 2, "ORG"]]]]
    assert results["hiddentags"] == (
        f"{where}1: column 'ner_tags' holds [-1, which marks hidden labels: no class of the column (0: O, 1: B-ORG, 2: I-ORG)]; "
        "name a split that has labels"
    )
    assert results["spans"] == [["EU rejects", [[0, 2, "ORG"]]]]
    assert results["pool"] == results["pool of null"] == ["good", "bad"]
    assert results["pool of tags"] == ["EU"]
    assert "cannot be loaded" in results["no revision"] and "\n" not in results["no revision"]


INIT = """
import os
os.chdir("FOLDER")
from evokd_data.cli import cli
cli(["init", "REPO", "--out", "mine.yaml", *ARGUMENTS], standalone_mode=False)
"""

BOTH_SPLITS = """
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

features = Features({"review": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
def rows(split, count):
    return Dataset.from_dict({"review": [f"{split} text number {i}" for i in range(count)], "label": [i % 2 for i in range(count)]}, features)
DatasetDict({"train": rows("some", 40), "test": rows("other", 30)}).push_to_hub("REPO")
"""


def test_init_takes_a_data_set_on_the_hub_at_its_newest_commit(api, dataset, in_client, tmp_path):
    in_client(BOTH_SPLITS.replace("REPO", dataset))
    commit = api.dataset_info(dataset).sha
    code = INIT.replace("REPO", dataset).replace("FOLDER", str(tmp_path))
    shown = in_client(code.replace("ARGUMENTS", "[]"))
    assert f"{dataset}@{commit} (train): 40 texts, read from 'review' and 'label'" in shown
    recipe = load(tmp_path / "mine.yaml")
    assert (
        recipe.task.labels == ("negative", "positive")
        and f"# Made from {dataset}@{commit} (train)" in recipe.path.read_text()
    )
    splits = load_splits(recipe)
    assert (len(splits.seeds), len(splits.test)) == (20, 20)
    in_client(code.replace("ARGUMENTS", "['--force', '--test-split', 'test']"))
    splits = load_splits(load(tmp_path / "mine.yaml"))
    assert (len(splits.seeds), len(splits.test)) == (40, 30)


RECIPE = """\
name: online
task: {type: classification, labels: [negative, positive]}
seeds: {dataset: REPO, revision: REVISION}
test: {path: test.jsonl}
teacher: {engine: scripted}
student: {kind: STUDENT}
publish: {repo: PUBLISH}
"""
CHECK = """
import sys
from evokd_data.cli import cli
cli(["check", *sys.argv[1:], "recipe.yaml"], standalone_mode=False)
assert not {"torch", "transformers", "datasets", "vllm"} & set(sys.modules)
"""


@pytest.fixture
def check(api, dataset, in_client, tmp_path, monkeypatch):
    """What `check` prints, on stdout and stderr, of a recipe that names this data set."""
    api.create_commit(
        dataset,
        [CommitOperationAdd("rows.jsonl", b'{"text": "good", "label": "positive"}\n')],
        commit_message="rows",
        repo_type="dataset",
    )
    api.create_repo("local/model", exist_ok=True)
    (tmp_path / "test.jsonl").write_text('{"text": "fine", "label": "positive"}\n')
    monkeypatch.chdir(tmp_path)

    def run(*flags: str, repo=dataset, revision="main", student="linear", publish="local/online") -> str:
        recipe = RECIPE.replace("REPO", repo).replace("REVISION", revision)
        (tmp_path / "recipe.yaml").write_text(recipe.replace("STUDENT", student).replace("PUBLISH", publish))
        code = CHECK.replace("import sys\n", f"import sys\nsys.argv[1:] = {list(flags)!r}\nsys.stderr = sys.stdout\n")
        return in_client(
            code.replace("cli([", "try:\n  cli([").replace(
                "False)\n", "False)\nexcept SystemExit as e: print('exit', e.code)\n"
            )
        )

    return run


def test_check_online_asks_whether_the_data_set_and_its_revision_are_there(check, dataset):
    assert "sound" in check("--online")
    offline = check(revision="no-such-branch")
    assert "sound" in offline
    assert f"seeds: {dataset}@no-such-branch (train): it was not looked for (--online asks the Hub)" in offline
    for repo, revision, error in (
        (dataset, "no-such-branch", "RevisionNotFoundError"),
        ("local/nothing", "main", "RepositoryNotFoundError"),
    ):
        output = check("--online", repo=repo, revision=revision)
        assert f"seeds: {repo}@{revision} (train): cannot be loaded: {error}" in output
        assert "exit 1" in output and "sound" not in output


def test_check_online_asks_for_models_and_for_the_right_to_publish(check):
    student = "transformer, model: local/model, revision: "
    assert "sound" in check("--online", student=student + "main")
    output = check("--online", student=student + "a1" * 20)
    assert "student.revision: 'local/model' has no revision" in output and "exit 1" in output
    assert "sound" in check(student=student + "a1" * 20)
    output = check("--online", publish="local/online, endpoint: 'http://127.0.0.1:9'")
    assert "local/online: http://127.0.0.1:9 does not answer" in output and "exit 1" in output
    assert "student.model: 'local/none' is neither" in check(
        "--online", student="transformer, model: local/none, revision: main"
    )
