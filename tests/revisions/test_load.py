"""Reload and verify against the local Hub: a round comes back as it was published, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from evokd_data import localhub, repo_layout
from evokd_data.errors import PublishError, VerificationError
from evokd_data.localhub.child import RunningHub
from evokd_data.progress import Progress
from evokd_data.publishers.hub import Hub
from evokd_data.revisions.load import fetch_rounds, list_rounds, load_round
from evokd_data.revisions.verify import examine, verify
from evokd_data.stages.publish import Publication
from evokd_data.storage.shards import ShardedSamples, row_sample
from evokd_data.storage.snapshot import encode_manifest, read_snapshot, with_checksum
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.fault_injection import hub_with_faults, set_faults
from tests.support.finished_runs import make_run

pytestmark = pytest.mark.slow

PART = "train-00000-of-00001.parquet"


@dataclass(frozen=True)
class Published:
    """Three rounds of a run on a Hub."""

    server: RunningHub
    repo: str
    workspace: Workspace
    recipe: Any

    @property
    def at(self) -> dict[str, Any]:
        return {"endpoint": self.server.endpoint, "token": self.server.token}

    @property
    def api(self) -> HfApi:
        return HfApi(self.server.endpoint, token=self.server.token)

    def rows(self, *rounds: int) -> list[Any]:
        paths = [path for index in rounds for path in self.workspace.round(index).shard_files()]
        return list(ShardedSamples(self.recipe.task, paths))

    def commit(self, tag: str, files: dict[str, bytes | None]) -> None:
        """A commit of somebody's on top of a round, and the tag moved to it."""
        operations = [
            CommitOperationDelete(path) if data is None else CommitOperationAdd(path, data)
            for path, data in files.items()
        ]
        commit = self.api.create_commit(self.repo, operations, commit_message="changed", repo_type="dataset")
        self.move(tag, commit.oid)

    def move(self, tag: str, commit: str) -> None:
        self.api.delete_tag(self.repo, tag=tag, repo_type="dataset")
        self.api.create_tag(self.repo, tag=tag, revision=commit, repo_type="dataset")


def publish(server: RunningHub, folder: Path, repo: str, rounds: int = 3) -> Published:
    recipe, workspace = make_run(folder, rounds)
    recipe = replace(recipe, publish=replace(recipe.publish, repo=repo, endpoint=server.endpoint, private=False))
    Publication(recipe, Hub(server.endpoint, server.token), Progress()).publish(workspace, rounds - 1)
    return Published(server, repo, workspace, recipe)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with hub_with_faults(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def published(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(server, tmp_path_factory.mktemp("run"), "org/intents")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests who damage nothing share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def warm(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm")
    load_round(published.repo, 1, cache_dir=folder, **published.at)
    return folder


@pytest.fixture
def faults(server: RunningHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set the faults of the Hub; nobody waits for it."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    yield partial(set_faults, server)
    set_faults(server)


def samples(published: Published, loaded: Any) -> list[Any]:
    names = loaded["train"].features["label"].names
    return [row_sample(published.recipe.task, {**row, "label": names[row["label"]]}) for row in loaded["train"]]


class TestLoad:
    def test_a_round_comes_back_with_all_before_it_in_order(self, published: Published, cache: Path) -> None:
        loaded = load_round(published.repo, 1, cache_dir=cache, **published.at)
        assert list(loaded) == ["train"]
        assert samples(published, loaded) == published.rows(0, 1)

    def test_a_round_has_a_number_and_a_tag_and_the_newest_needs_neither(
        self, published: Published, cache: Path
    ) -> None:
        for named in (2, "round-002", None):
            loaded = load_round(published.repo, named, cache_dir=cache, **published.at)
            assert samples(published, loaded) == published.rows(0, 1, 2)

    def test_a_commit_names_its_newest_round(self, published: Published, cache: Path) -> None:
        commit = Hub(published.server.endpoint, published.server.token).refs(published.repo).tags["round-001"]
        loaded = load_round(published.repo, commit, cache_dir=cache, **published.at)
        assert samples(published, loaded) == published.rows(0, 1)

    def test_some_rounds_and_one_alone(self, published: Published, cache: Path) -> None:
        only = load_round(published.repo, 1, only=True, cache_dir=cache, **published.at)
        assert samples(published, only) == published.rows(1)
        some = load_round(published.repo, 2, rounds=range(1, 3), cache_dir=cache, **published.at)
        assert samples(published, some) == published.rows(1, 2)
        with pytest.raises(PublishError, match=r"rounds \[3\]: the revision round-002 holds rounds 0 to 2"):
            load_round(published.repo, 2, rounds=[3], cache_dir=cache, **published.at)

    def test_columns_and_streaming(self, published: Published, cache: Path) -> None:
        loaded = load_round(published.repo, 1, columns=["label", "text"], cache_dir=cache, **published.at)
        assert set(loaded["train"].column_names) == {"label", "text"}
        streamed = load_round(published.repo, 1, streaming=True, cache_dir=cache, **published.at)
        assert samples(published, streamed) == published.rows(0, 1)

    def test_plain_datasets_gives_the_same_rows(self, published: Published, cache: Path, tmp_path: Path) -> None:
        code = f"""
import json, datasets
found = {{}}
for config in ("default", "round-001", "rejections", "journal", "probe"):
    rows = datasets.load_dataset("{published.repo}", config, revision="round-001", split="train")
    found[config] = [dict(row) for row in rows]
print(json.dumps(found))
"""
        home = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": published.server.endpoint, "HF_TOKEN": published.server.token}
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **home}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "malformed" not in done.stderr  # what `datasets` says of a card it takes nothing from
        plain = json.loads(done.stdout)
        ours = load_round(published.repo, 1, cache_dir=cache, **published.at)
        assert plain["default"] == [dict(row) for row in ours["train"]]
        assert plain["round-001"] == plain["default"][6:]
        assert (len(plain["rejections"]), len(plain["journal"])) == (1, 12)
        assert [row["id"] for row in plain["probe"]] == [row["id"] for row in plain["round-001"]]

    def test_the_local_hub_is_opened_for_the_call(
        self, published: Published, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(published.server.root.parent)
        (published.server.root.parent / "hub").symlink_to(published.server.root)
        loaded = load_round(published.repo, 0, endpoint="local", cache_dir=cache)
        assert samples(published, loaded) == published.rows(0)

    def test_rounds_are_listed(self, published: Published, cache: Path) -> None:
        rounds = list_rounds(published.repo, cache_dir=cache, **published.at)
        tags = {
            tag.name: tag.target_commit
            for tag in published.api.list_repo_refs(published.repo, repo_type="dataset").tags
        }
        assert [row["round"] for row in rounds] == [0, 1, 2]
        assert {row["tag"]: row["commit"] for row in rounds} == tags
        assert [row["rows"] for row in rounds] == [6, 12, 12]
        assert rounds[2]["metrics"]["test"]["macro_f1"] == pytest.approx(0.8)
        assert rounds[1]["rejected"] == {"duplicate": 1}
        assert all(row["bytes"] > 1000 for row in rounds)


class TestNeverAnotherRound:
    """With round 1 in the cache, round 2 comes whole or not at all."""

    @pytest.fixture
    def damaged(self, warm: Path, tmp_path: Path) -> Path:
        """A cache with round 1 of a repository in it, to damage or to lead astray."""
        return Path(shutil.copytree(warm, tmp_path / "cache", symlinks=True))

    # Not a download cut in the middle: the client resumes it for half a minute.
    @pytest.mark.parametrize("fault", [{"status": 503}, {"status": 404}, {"drop": "before"}])
    @pytest.mark.parametrize("match", ["/refs", r"/resolve/.*/rounds/", r"/resolve/.*/data/round-002", "."])
    def test_a_hub_that_does_not_answer_well(
        self, published: Published, damaged: Path, faults: Callable[..., None], match: str, fault: dict[str, Any]
    ) -> None:
        faults({"match": match, **fault})
        with pytest.raises((PublishError, VerificationError)) as caught:
            load_round(published.repo, 2, cache_dir=damaged, **published.at)
        assert published.repo in str(caught.value)

    @pytest.mark.parametrize("body", ["truncate", "alter"])
    @pytest.mark.parametrize("what", ["data/round-002", "rounds/round-002/manifest"])
    def test_a_file_that_is_served_damaged(
        self, published: Published, damaged: Path, faults: Callable[..., None], body: str, what: str
    ) -> None:
        faults({"match": f"GET .*/resolve/.*/{what}", "body": body, "seed": 3})
        with pytest.raises((PublishError, VerificationError)) as caught:
            load_round(published.repo, 2, cache_dir=damaged, **published.at)
        if isinstance(caught.value, VerificationError):
            assert what in str(caught.value)
        faults()
        loaded = load_round(published.repo, 2, cache_dir=damaged, **published.at)
        assert samples(published, loaded) == published.rows(0, 1, 2)

    @pytest.mark.parametrize("body", ["truncate", "alter"])
    def test_scores_that_are_served_damaged(
        self, published: Published, tmp_path: Path, faults: Callable[..., None], body: str
    ) -> None:
        faults({"match": "GET .*/resolve/.*/rounds/round-002/metrics", "body": body, "seed": 3})
        with pytest.raises((PublishError, VerificationError)):
            list_rounds(published.repo, cache_dir=tmp_path, **published.at)
        loaded = load_round(published.repo, 2, cache_dir=tmp_path, **published.at)  # reads none of them
        assert samples(published, loaded) == published.rows(0, 1, 2)

    @pytest.mark.parametrize("seed", range(6))
    def test_a_lying_list_of_tags(
        self, published: Published, damaged: Path, faults: Callable[..., None], seed: int
    ) -> None:
        """One byte of the answer is another: a wrong name, a wrong commit, or no JSON."""
        faults({"match": "/refs", "body": "alter", "seed": seed, "times": 1})
        try:
            loaded = load_round(published.repo, 2, cache_dir=damaged, **published.at)
        except (PublishError, VerificationError):
            loaded = load_round(published.repo, 2, cache_dir=damaged, **published.at)  # nothing wrong is remembered
        assert samples(published, loaded) == published.rows(0, 1, 2)

    def test_a_file_damaged_once_is_fetched_again(
        self, published: Published, damaged: Path, faults: Callable[..., None]
    ) -> None:
        faults({"match": r"GET .*/resolve/.*/data/round-002", "body": "alter", "times": 1})
        loaded = load_round(published.repo, 2, cache_dir=damaged, **published.at)
        assert samples(published, loaded) == published.rows(0, 1, 2)

    def test_a_damaged_cache_is_mended(self, published: Published, damaged: Path) -> None:
        (file,) = damaged.rglob(f"snapshots/*/data/round-001/{PART}")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.resolve().write_bytes(data)
        loaded = load_round(published.repo, 1, cache_dir=damaged, **published.at)
        assert samples(published, loaded) == published.rows(0, 1)

    def test_altered_arrow_files_are_made_again(self, published: Published, tmp_path: Path) -> None:
        load_round(published.repo, 1, cache_dir=tmp_path, **published.at)
        (file,) = tmp_path.rglob("*.arrow")
        whole, written = file.read_bytes(), file.stat().st_mtime_ns
        load_round(published.repo, 1, cache_dir=tmp_path, **published.at)
        assert file.stat().st_mtime_ns == written  # sound ones are not
        for altered in (whole.replace(b"round 1 text 3", b"round 1 text 9"), whole[: len(whole) // 2]):
            file.unlink()
            file.write_bytes(altered)
            loaded = load_round(published.repo, 1, cache_dir=tmp_path, **published.at)
            assert samples(published, loaded) == published.rows(0, 1)

    def test_without_a_hub_what_is_cached_loads_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with localhub.running(tmp_path / "root") as running:
            published = publish(running, tmp_path / "run", "org/intents")
            load_round(published.repo, 1, cache_dir=tmp_path / "cache", **published.at)
        monkeypatch.setattr("time.sleep", lambda _: None)
        loaded = load_round(published.repo, 1, cache_dir=tmp_path / "cache", **published.at)
        assert samples(published, loaded) == published.rows(0, 1)
        for index in (0, 2):
            with pytest.raises(PublishError, match=f"{running.endpoint} does not answer"):
                load_round(published.repo, index, cache_dir=tmp_path / "cache", **published.at)

    def test_offline_mode_reads_the_cache_and_asks_nobody(
        self, published: Published, damaged: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        loaded = load_round(
            published.repo, 2, cache_dir=damaged, **published.at
        )  # a Hub on this machine is not a network
        assert samples(published, loaded) == published.rows(0, 1, 2)
        monkeypatch.setattr("evokd_data.publishers.calls.is_loopback", lambda _: False)
        loaded = load_round(published.repo, 1, cache_dir=damaged, **published.at)
        assert samples(published, loaded) == published.rows(0, 1)
        with pytest.raises(PublishError, match="HF_HUB_OFFLINE keeps us from"):
            load_round(published.repo, 0, cache_dir=damaged, **published.at)

    def test_a_lost_tag_is_no_revision_though_it_is_cached(self, server: RunningHub, tmp_path: Path) -> None:
        published = publish(server, tmp_path / "run", "org/lost", 2)
        load_round(published.repo, 1, cache_dir=tmp_path, **published.at)
        published.api.delete_tag(published.repo, tag="round-001", repo_type="dataset")
        with pytest.raises(PublishError, match=r"no revision 'round-001' at .*; rounds there: round-000"):
            load_round(published.repo, 1, cache_dir=tmp_path, **published.at)

    def test_a_moved_tag_is_found_out(self, server: RunningHub, tmp_path: Path) -> None:
        published = publish(server, tmp_path / "run", "org/moved")
        load_round(published.repo, 1, cache_dir=tmp_path / "old", **published.at)
        tags = Hub(server.endpoint, server.token).refs(published.repo).tags
        for target, message in (("round-000", "round-001/manifest.json: is missing"), ("round-002", None)):
            published.move("round-001", tags[target])
            with pytest.raises(VerificationError, match="somebody moved the tag"):
                load_round(published.repo, 1, cache_dir=tmp_path / "old", **published.at)
            if message:
                with pytest.raises(VerificationError, match=message):
                    load_round(published.repo, 1, cache_dir=tmp_path / f"new-{target}", **published.at)
            else:  # rounds 0 to 1 are in round 2's commit too, and are what they were
                loaded = load_round(published.repo, 1, cache_dir=tmp_path / f"new-{target}", **published.at)
                assert samples(published, loaded) == published.rows(0, 1)

    def test_no_such_repository_and_no_such_round(self, published: Published, tmp_path: Path) -> None:
        with pytest.raises(PublishError, match="org/nothing: there is no such dataset"):
            load_round("org/nothing", 1, cache_dir=tmp_path, **published.at)
        with pytest.raises(PublishError, match="rounds there: round-000, round-001, round-002"):
            load_round(published.repo, 7, cache_dir=tmp_path, **published.at)
        with pytest.raises(PublishError, match="'main' names no round"):
            load_round(published.repo, "main", cache_dir=tmp_path, **published.at)
        published.api.create_repo("org/empty", repo_type="dataset", exist_ok=True)
        with pytest.raises(PublishError, match="org/empty: holds no rounds"):
            load_round("org/empty", cache_dir=tmp_path, **published.at)


@pytest.fixture(scope="module")
def original(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file of round 2's revision."""
    folder = tmp_path_factory.mktemp("original")
    Hub(published.server.endpoint, published.server.token).fetch(published.repo, "round-002", ["*"], folder)
    return folder


class TestVerify:
    @pytest.fixture
    def copy(self, original: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(original, tmp_path / "copy"))

    def problems(self, folder: Path, index: int = 2) -> list[str]:
        return examine("org/intents", f"round-{index:03d}", "0" * 40, folder, index).problems

    def test_a_published_round_is_what_it_says(self, published: Published, tmp_path: Path) -> None:
        for index in range(3):
            report = verify(published.repo, index, cache_dir=tmp_path, **published.at)
            assert report.digest == read_json(published.workspace.round(index).manifest)["digest"]
            assert (report.rounds, report.rows) == (index + 1, 6 + 12 * index)
        assert (report.rejections, report.answers, report.predictions, report.files) == (3, 24, 24, 24)
        assert verify(published.repo, cached=True, cache_dir=tmp_path, **published.at).round == 2

    def test_a_manifest_of_another_form_is_a_problem_beside_the_others(self, copy: Path) -> None:
        path = copy / repo_layout.manifest("round-002")
        manifest = read_json(path)
        del manifest["files"][repo_layout.plan("round-002")]
        path.write_bytes(encode_manifest(with_checksum(manifest)))
        problems = self.problems(copy)
        assert any(
            "round-002: holds something of another form than evokd-data writes (KeyError" in line for line in problems
        )
        assert any(line.startswith(f"{repo_layout.plan('round-002')}: is in no manifest") for line in problems)

    def test_one_changed_byte_in_any_file_is_found_and_named(self, copy: Path) -> None:
        assert self.problems(copy) == []
        files = [path for path in copy.rglob("*") if path.is_file() and ".cache" not in path.parts]
        checked = 0
        for file in files:
            path = file.relative_to(copy).as_posix()
            if path.startswith("."):
                continue
            whole = file.read_bytes()
            for offset in (0, 7, len(whole) // 3, len(whole) // 2, len(whole) - 1):
                data = bytearray(whole)
                data[offset] ^= 0x01
                file.write_bytes(data)
                problems = self.problems(copy)
                assert any(path in problem for problem in problems), f"{path} byte {offset}: {problems}"
                checked += 1
            file.write_bytes(whole)
        assert checked == 5 * 24

    def test_no_byte_of_a_manifest_can_change(self, copy: Path) -> None:
        path = copy / repo_layout.manifest("round-001")
        whole = path.read_bytes()
        for offset in range(0, len(whole), 3):
            data = bytearray(whole)
            data[offset] ^= 0x01
            path.write_bytes(data)
            _, problems = read_snapshot("org/intents", "round-002", "0" * 40, copy, 2)
            assert any(repo_layout.manifest("round-001") in problem for problem in problems), offset

    def test_a_missing_and_an_extra_file_are_named(self, copy: Path) -> None:
        (copy / "data/round-001" / PART).unlink()
        (copy / "data/round-002/more.parquet").write_bytes(b"x")
        assert self.problems(copy) == [
            f"data/round-001/{PART}: is missing",
            "data/round-002/more.parquet: is in no manifest",
        ]

    def test_a_missing_manifest_is_no_revision(self, copy: Path) -> None:
        (copy / repo_layout.manifest("round-001")).unlink()
        with pytest.raises(VerificationError, match=r"rounds/round-001/manifest.json: is missing"):
            self.problems(copy)

    def test_a_forged_manifest_does_not_hold(self, copy: Path) -> None:
        """Somebody changed a manifest and its checksum: rows, identity and the next round still contradict it."""
        path = copy / repo_layout.manifest("round-001")
        manifest = read_json(path)
        for change, words in (
            ({"environment": {}}, "rests on another manifest of round-001"),
            ({"digest": "f" * 64}, "is not that of its identity"),
            ({"identity": {**manifest["identity"], "content": "f" * 64}}, "is not that of its identity"),
            ({"round": 7}, "tells of round 7"),
        ):
            path.write_bytes(encode_manifest(with_checksum({**manifest, **change})))
            assert any(words in problem for problem in self.problems(copy)), words

    def test_rows_that_are_not_the_rounds_are_found_though_the_manifest_was_forged(
        self, copy: Path, tmp_path: Path
    ) -> None:
        import pyarrow.parquet as pq

        from evokd_data.digest import file_digest

        part = f"data/round-002/{PART}"
        table = pq.read_table(copy / part)
        label = table.column("label").to_pylist()
        label[3] = "weather" if label[3] != "weather" else "music"
        table = table.set_column(table.schema.get_field_index("label"), "label", [label])
        pq.write_table(table, copy / part)
        path = copy / repo_layout.manifest("round-002")
        manifest = read_json(path)
        entry = {"sha256": file_digest(copy / part), "size": (copy / part).stat().st_size, "rows": 12}
        path.write_bytes(encode_manifest(with_checksum({**manifest, "files": {**manifest["files"], part: entry}})))
        problems = self.problems(copy)
        assert any(
            "row 3" in problem and "its id is not that of its text and target" in problem for problem in problems
        )
        assert any("data/round-002: its rows digest to" in problem for problem in problems)

    def test_predictions_that_are_not_of_the_rows_are_found_though_the_manifest_was_forged(self, copy: Path) -> None:
        import pyarrow.parquet as pq

        from evokd_data.digest import file_digest

        part = f"probe/round-002/{PART}"
        table = pq.read_table(copy / part)
        path = copy / repo_layout.manifest("round-002")
        manifest = read_json(path)
        for forged, words in (
            (table.take([1, 0, *range(2, 12)]), r"row 0 (id "),
            (table.slice(0, 11), "ends at row 11"),
            (table.set_column(1, "expected", [["{}"] * 12]), "row 0 (id "),
        ):
            pq.write_table(forged, copy / part)
            entry = {"sha256": file_digest(copy / part), "size": (copy / part).stat().st_size, "rows": forged.num_rows}
            path.write_bytes(encode_manifest(with_checksum({**manifest, "files": {**manifest["files"], part: entry}})))
            (problem,) = self.problems(copy)
            assert problem.startswith("probe/round-002: ") and words in problem

    @pytest.mark.parametrize("path", ["rounds/../../../x", "/etc/passwd", "data//x", "data\\..\\x", "./x"])
    def test_a_manifest_cannot_name_files_elsewhere(self, copy: Path, path: str) -> None:
        file = copy / repo_layout.manifest("round-000")
        manifest = read_json(file)
        files = {**manifest["files"], path: {"sha256": "0" * 64, "size": 1}}
        file.write_bytes(encode_manifest(with_checksum({**manifest, "files": files})))
        with pytest.raises(VerificationError, match="lies outside of the repository"):
            self.problems(copy)

    def test_a_manifest_of_a_later_version_says_so(self, copy: Path) -> None:
        path = copy / repo_layout.manifest("round-000")
        path.write_bytes(encode_manifest(with_checksum({**read_json(path), "schema": "9"})))
        with pytest.raises(VerificationError, match="schema version '9', this version knows 1"):
            self.problems(copy)

    def test_a_file_changed_on_the_hub_is_named(self, server: RunningHub, tmp_path: Path) -> None:
        published = publish(server, tmp_path / "run", "org/changed", 2)
        card = Path(
            published.api.hf_hub_download(published.repo, "README.md", repo_type="dataset", cache_dir=tmp_path / "c")
        )
        published.commit("round-001", {"README.md": card.read_bytes().replace(b"evokd", b"evokD", 1)})
        with pytest.raises(VerificationError, match=r"org/changed@round-001: README.md: differs from its manifest"):
            verify(published.repo, 1, cache_dir=tmp_path / "fresh", **published.at)

    def test_a_round_changed_after_it_was_published_is_named(self, server: RunningHub, tmp_path: Path) -> None:
        published = publish(server, tmp_path / "run", "org/rewritten", 2)
        published.commit("round-001", {"rounds/round-000/extra.json": b"{}", "rounds/round-000/plan.json": None})
        with pytest.raises(VerificationError) as caught:
            verify(published.repo, 1, **published.at)
        lines = str(caught.value).splitlines()
        assert "org/rewritten@round-001: rounds/round-000/plan.json: is missing" in lines
        assert "org/rewritten@round-001: rounds/round-000/extra.json: is in no manifest" in lines
        assert "org/rewritten@round-001: rounds/round-000/plan.json: is not what it was at round-000" in lines

    def test_a_lost_earlier_tag_is_named(self, server: RunningHub, tmp_path: Path) -> None:
        published = publish(server, tmp_path / "run", "org/untagged", 2)
        published.api.delete_tag(published.repo, tag="round-000", repo_type="dataset")
        with pytest.raises(VerificationError, match="round-000: its tag is gone"):
            verify(published.repo, 1, **published.at)

    def test_files_can_be_fetched_for_a_replay(self, published: Published, tmp_path: Path) -> None:
        with_journal = fetch_rounds(
            Hub(published.server.endpoint, published.server.token), published.repo, 2,
            kinds=[repo_layout.DATA, repo_layout.JOURNAL], of=lambda newest: [newest - 1], also=[repo_layout.RECIPE, repo_layout.PROMPTS],
            into=tmp_path,
        )  # fmt: skip
        assert [path.parent.name for path in with_journal.paths(repo_layout.JOURNAL, [1])] == ["round-001"]
        assert (tmp_path / "prompts/label.j2").is_file() and (tmp_path / "recipe.yaml").is_file()
        assert not (tmp_path / "data/round-002").exists()
        assert read_snapshot(published.repo, "round-002", with_journal.commit, tmp_path, 2)[1] == []
