"""Labels of a published round are ClassLabels for every way in which `datasets` reads it, and text for every other reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset

from evokd_data import load_round, localhub
from evokd_data.errors import VerificationError
from evokd_data.localhub.child import RunningHub
from evokd_data.reporting.dataset_card import as_yaml
from evokd_data.storage.row_datasets import in_card, sample_features, text_features
from evokd_data.storage.shards import ShardedSamples, row_sample, sample_schema
from evokd_data.tasks.classification import Classification
from tests.support.example_tagging_task import places
from tests.support.example_task import TASK, play
from tests.support.published_runs import Played, alter_recipe, published

pytestmark = pytest.mark.slow

READERS = """
import json, sys
from datasets import List, load_dataset, load_dataset_builder

repo = sys.argv[1]

def described(rows):
    feature = rows.features["label"] if "label" in rows.features else rows.features["spans"].feature["type"]
    return {"type": type(feature).__name__, "names": getattr(feature, "names", None), "rows": [dict(row) for row in rows]}

at = {"revision": "round-001", "split": "train"}
print(json.dumps({
    "plain": described(load_dataset(repo, **at)),
    "streaming": described(load_dataset(repo, streaming=True, **at)),
    "round-001": described(load_dataset(repo, "round-001", **at)),
    "round-001, streaming": described(load_dataset(repo, "round-001", streaming=True, **at)),
    "batches": described(load_dataset(repo, streaming=True, **at).take(1000)),
    "size": load_dataset_builder(repo, revision="round-001").info.splits["train"].num_bytes,
}))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module", params=["classification", "ner"])
def played(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Played:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "classification":
        return published(hub, folder, "org/colours", 2)
    overrides = ("publish.repo=org/places", f"publish.endpoint={hub.endpoint}", "teacher_trust=off")
    recipe = places(folder, *overrides)
    tagged = Played(hub, "org/places", recipe, play(recipe, folder / "runs", 2))
    tagged.publish(1)
    return tagged


def with_names(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The row with the names of its classes, as the files have it."""
    if "label" in row:
        return {**row, "label": names[row["label"]]}
    return {**row, "spans": [{**span, "type": names[span["type"]]} for span in row["spans"]]}


def test_datasets_reads_class_labels_in_every_way(played: Played, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": played.server.endpoint, "HF_TOKEN": played.server.token}
    done = subprocess.run(
        [sys.executable, "-c", READERS, played.repo],
        env={**os.environ, **home}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "malformed" not in done.stderr  # what `datasets` says of a card it takes nothing from
    results = json.loads(done.stdout.splitlines()[-1])
    assert results.pop("size") > 0
    task = played.recipe.task
    for way, rows in results.items():
        assert (rows["type"], rows["names"]) == ("ClassLabel", list(task.labels)), way
        rounds = [played.workspace.round(index) for index in ((1,) if way.startswith("round-001") else (0, 1))]
        samples = list(ShardedSamples(task, [path for folder in rounds for path in folder.shard_files()]))
        assert len(samples) > 2
        assert [row_sample(task, with_names(row, rows["names"])) for row in rows["rows"]] == samples, way


@pytest.mark.parametrize("streaming", [False, True])
def test_load_round_has_the_same_features_and_text_on_demand(played: Played, tmp_path: Path, streaming: bool) -> None:
    task, at = played.recipe.task, {**played.at, "cache_dir": tmp_path, "streaming": streaming}
    rows = load_round(played.repo, 1, **at)["train"]
    text = load_round(played.repo, 1, class_labels=False, **at)["train"]
    assert rows.features == sample_features(task)
    assert text.features == text_features(sample_schema(task))
    assert [with_names(row, list(task.labels)) for row in rows] == [dict(row) for row in text]
    column = task.class_field.partition(".")[0]
    some = load_round(played.repo, 1, columns=["text", column], **at)["train"]
    assert some.features == {name: rows.features[name] for name in ("text", column)}


def test_the_files_hold_text(played: Played) -> None:
    from huggingface_hub import hf_hub_download

    name = "data/round-001/train-00000-of-00001.parquet"
    file = hf_hub_download(
        played.repo, name, repo_type="dataset", revision="round-001", endpoint=played.server.endpoint, token=played.server.token
    )  # fmt: skip
    (row, *_) = pq.read_table(file).to_pylist()
    labels = [row["label"]] if "label" in row else [span["type"] for span in row["spans"]]
    assert labels and set(labels) <= set(played.recipe.task.labels)


ODD = (
    "yes",
    "1",
    "0",
    "a: b",
    'a "b"',
    "'",
    "\\n",
    "می\u200cخواهم",
    "\u202eright to left",
    "😀",
    "null",
    "#c",
    "- d",
    "e\u2028f",
)


def test_names_of_classes_come_back_from_the_card_as_they_are_in_the_files() -> None:
    from datasets import DatasetInfo

    features = sample_features(Classification(labels=ODD))
    text = f"---\n{as_yaml({'dataset_info': [{'config_name': 'default', 'features': in_card(features)}]})}---\n"
    (info,) = yaml.safe_load(text.split("---\n")[1])["dataset_info"]  # as huggingface_hub reads it
    read = DatasetInfo._from_yaml_dict(info).features
    assert read == features
    rows = Dataset.from_dict({"label": list(ODD)}).cast_column("label", read["label"])
    assert rows["label"][:] == list(range(len(ODD)))


@pytest.fixture(scope="module")
def colours(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return published(hub, tmp_path_factory.mktemp("run"), "org/originals", 2)


STRANGE = (
    None, "text", {}, {"type": "unknown"}, {"type": ["classification"]}, {"type": "classification", "labels": ["one"]},
    {"type": "ner", "types": ["red"]}, {"type": "classification", "labels": ["red", "green", "blue"], "of_later": 1},
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(STRANGE)))
def test_where_the_recipe_names_no_task_that_fits_labels_are_text(colours: Played, tmp_path: Path, number: int) -> None:
    """A stranger's recipe, or that of a later version."""
    repo = alter_recipe(colours, f"strange-{number}", 1, lambda table: table.update(task=STRANGE[number]))
    rows = load_round(repo, 1, cache_dir=tmp_path, **colours.at)["train"]
    assert rows.features == text_features(sample_schema(TASK)) and set(rows["label"]) <= set(TASK.labels)


def test_a_label_that_the_recipe_does_not_name_is_an_error_that_says_how_to_read_on(
    colours: Played, tmp_path: Path
) -> None:
    task = {"type": "classification", "labels": ["red", "green"]}
    repo = alter_recipe(colours, "lacking", 1, lambda table: table.update(task=task))
    with pytest.raises(VerificationError, match=r"org/lacking@round-001: .*'?blue'?.*class_labels=False"):
        load_round(repo, 1, cache_dir=tmp_path, **colours.at)
    rows = load_round(repo, 1, class_labels=False, cache_dir=tmp_path, **colours.at)["train"]
    assert "blue" in rows["label"]
