"""A run of the colours task, with the scripted teacher and the linear student, published to a local Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import CommitOperationAdd, HfApi

from evokd_data import repo_layout
from evokd_data.digest import file_digest
from evokd_data.localhub.child import RunningHub
from evokd_data.progress import Progress
from evokd_data.publishers.hub import Hub
from evokd_data.recipe import Recipe
from evokd_data.repo_layout import round_tag
from evokd_data.stages.publish import Publication
from evokd_data.storage.snapshot import encode_manifest, with_checksum
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support.example_task import RECIPE, SEEDS, TEST, Rows, play, quick, write_rows

ROUGH = (
    RECIPE.replace("engine: scripted", "engine: scripted, wrong_labels: 0.3, broken_answers: 0.3")
    .replace("linear}", "linear, soft_labels: false}")
    .replace("count: 2", "count: 4")
    .replace("teacher_trust: off", "teacher_trust: off\nfilters: {label_disagreement: relabel}")
)
"""A recipe whose teacher makes errors, so that there are rejections of many kinds and weaknesses."""


@dataclass(frozen=True)
class Played:
    """A run on disk and the repository with its rounds."""

    server: RunningHub
    repo: str
    recipe: Recipe
    workspace: Workspace

    @property
    def at(self) -> dict[str, Any]:
        return {"endpoint": self.server.endpoint, "token": self.server.token}

    @property
    def api(self) -> HfApi:
        return HfApi(self.server.endpoint, token=self.server.token)

    @property
    def hub(self) -> Hub:
        return Hub(self.server.endpoint, self.server.token)

    def publish(self, index: int) -> None:
        Publication(self.recipe, self.hub, Progress()).publish(self.workspace, index)


def write_recipe(folder: Path, text: str = ROUGH, test: Rows = TEST) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "seeds.jsonl", SEEDS)
    write_rows(folder / "test.jsonl", test)
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def published(
    server: RunningHub, folder: Path, repo: str, rounds: int = 3, *overrides: str, text: str = ROUGH, test: Rows = TEST
) -> Played:
    """Play and publish rounds 0 to `rounds` - 1."""
    addresses = (f"publish.repo={repo}", f"publish.endpoint={server.endpoint}")
    recipe = quick(write_recipe(folder, text, test), *addresses, *overrides)
    played = Played(server, repo, recipe, play(recipe, folder / "runs", rounds))
    played.publish(rounds - 1)
    return played


def alter(
    played: Played,
    into: str,
    index: int,
    kind: str,
    change: Callable[[list[dict[str, Any]]], None],
    newest: int | None = None,
) -> str:
    """A copy of the repository at round `newest` (None: `index`) in which somebody changed rows of one kind of file of
    round `index` and corrected all manifests. Only contradictions between rows can reveal this."""

    def change_rows(folder: Path, manifest: dict[str, Any]) -> None:
        (path,) = [path for path in manifest["files"] if path.startswith(f"{kind}/{round_tag(index)}/")]
        table = pq.read_table(folder / path)
        rows = table.to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / path)
        manifest["files"][path] = {**entry(folder / path), "rows": len(rows)}

    return republish(played, into, index, change_rows, newest)


def alter_recipe(played: Played, into: str, index: int, change: Callable[[dict[str, Any]], None]) -> str:
    """A copy of the repository at round `index` whose recipe somebody changed, all manifests corrected: a stranger's."""

    def change_recipe(folder: Path, manifest: dict[str, Any]) -> None:
        table = load_yaml((folder / repo_layout.RECIPE).read_text(encoding="utf-8"))
        change(table)
        (folder / repo_layout.RECIPE).write_text(dump_yaml(table), encoding="utf-8")
        manifest["files"][repo_layout.RECIPE] = entry(folder / repo_layout.RECIPE)

    return republish(played, into, index, change_recipe)


def entry(file: Path) -> dict[str, Any]:
    return {"sha256": file_digest(file), "size": file.stat().st_size}


def republish(
    played: Played, into: str, index: int, change: Callable[[Path, dict[str, Any]], None], newest: int | None = None
) -> str:
    """A copy of the repository at round `newest` (None: `index`). `change` gets its folder and the manifest of round `index`,
    and may change both; the later manifests are corrected."""
    newest = index if newest is None else newest
    api, name = played.api, round_tag(index)
    folder = Path(
        api.snapshot_download(
            played.repo, repo_type="dataset", revision=round_tag(newest), local_dir=played.workspace.root / into
        )
    )
    manifest = read_json(folder / repo_layout.manifest(name))
    change(folder, manifest)
    (folder / repo_layout.manifest(name)).write_bytes(encode_manifest(with_checksum(manifest)))
    for later in range(index + 1, newest + 1):
        manifest = read_json(folder / repo_layout.manifest(round_tag(later)))
        manifest["previous"]["sha256"] = file_digest(folder / repo_layout.manifest(round_tag(later - 1)))
        (folder / repo_layout.manifest(round_tag(later))).write_bytes(encode_manifest(with_checksum(manifest)))
    repo = f"org/{into}"
    api.create_repo(repo, repo_type="dataset")
    files = [file for file in folder.rglob("*") if file.is_file() and ".cache" not in file.parts]
    added = [CommitOperationAdd(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]
    commit = api.create_commit(repo, added, commit_message="altered", repo_type="dataset")
    for number in range(newest + 1):
        api.create_tag(repo, tag=round_tag(number), revision=commit.oid, repo_type="dataset")
    return repo
