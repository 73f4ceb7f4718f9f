"""The `datasets` library in its own process, which finds the Hub by HF_ENDPOINT as a user's process does."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import CommitOperationAdd

pytestmark = pytest.mark.slow
CARD = b"---\nconfigs:\n- config_name: default\n  data_files: data/*.parquet\n---\n"


def test_load_dataset_gives_the_rows_of_the_tag(api, dataset, parquet, in_client):
    for number in (1, 2, 3):
        files = {"README.md": CARD, f"data/round-{number:03}.parquet": parquet(10, start=10 * number)}
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit(dataset, operations, commit_message=f"round {number}", repo_type="dataset")
        api.create_tag(dataset, tag=f"round-{number:03}", repo_type="dataset")
    code = f"""
import json, datasets, huggingface_hub
results = {{}}
for tag in ("round-002", "round-001"):
    results[tag] = datasets.load_dataset("{dataset}", revision=tag, split="train")["a"][:]
stream = datasets.load_dataset("{dataset}", revision="round-003", split="train", streaming=True)
results["stream"] = [row["a"] for row in stream]
with huggingface_hub.HfFileSystem().open("hf://datasets/{dataset}@round-001/data/round-001.parquet") as handle:
    handle.seek(-4, 2)
    results["fs"] = handle.read().decode()
results["glob"] = huggingface_hub.HfFileSystem().glob("datasets/{dataset}@round-002/data/*.parquet")
print(json.dumps(results))
"""
    results = json.loads(in_client(code).splitlines()[-1])
    assert results["round-001"] == list(range(10, 20))
    assert results["round-002"] == list(range(10, 30))
    assert results["stream"] == list(range(10, 40))
    assert results["fs"] == "PAR1"
    assert [path.rpartition("/")[2] for path in results["glob"]] == ["round-001.parquet", "round-002.parquet"]


def test_push_to_hub_works_with_a_default_client(api, dataset, in_client):
    code = f"""
import datasets
datasets.Dataset.from_dict({{"text": ["a", "b"] * 500}}).push_to_hub("{dataset}", split="train")
print(datasets.load_dataset("{dataset}", split="train").num_rows)
"""
    assert in_client(code).splitlines()[-1] == "1000"
    assert "data/train-00000-of-00001.parquet" in api.list_repo_files(dataset, repo_type="dataset")
