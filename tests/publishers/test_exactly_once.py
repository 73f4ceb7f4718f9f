"""Publishing under faults and kills ends in one commit and one tag a round: some of the seeds of `make faults`."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from tests.support.concurrent_publishers import KINDS, ConcurrentPublish, make_runs, publish_concurrently
from tests.support.fault_scenarios import FAULTS, Ended, Sandbox, Scenario, attempt, play
from tests.support.faulty_hub import FaultyHub, Runs, digests, publish
from tests.support.load_scenarios import CASES, Load, Loads, run_load
from tests.support.repository_observer import RepoState, half_published, not_exactly_once
from tests.support.upload_volume import MOST, measure

pytestmark = pytest.mark.slow

numbers = itertools.count()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    with FaultyHub(folder / "hub") as hub:
        runs = Runs(folder / "runs")
        runs.get(rounds=3)
        yield Sandbox(hub, runs, folder)


@pytest.fixture(scope="module")
def expected(sandbox: Sandbox) -> list[str]:
    return digests(sandbox.runs.get(), 2)


@pytest.fixture(scope="module")
def loads(sandbox: Sandbox) -> Loads:
    return Loads.at(sandbox)


@pytest.fixture
def repo(sandbox: Sandbox) -> str:
    name = f"org/observed-{next(numbers)}"
    publish(sandbox.hub, sandbox.runs.get(), name, 2)
    return name


class TestScenarios:
    @pytest.mark.parametrize("seed", [98, 9, 33, 6, 77, 24])
    def test_trouble_ends_in_one_commit_and_one_tag_a_round(self, sandbox: Sandbox, seed: int) -> None:
        outcome = play(Scenario.of(seed), sandbox)
        assert outcome.violations == []
        assert outcome.fired

    def test_a_seed_makes_the_same_trouble_each_time(self) -> None:
        assert [Scenario.of(seed) for seed in range(50)] == [Scenario.of(seed) for seed in range(50)]

    def test_every_fault_and_every_kill_has_its_turn(self) -> None:
        kinds = {Scenario.of(seed).kind for seed in range(500)}
        assert kinds == {*FAULTS, "combination", "storm", "client killed", "server killed"}

    def test_an_error_of_a_stranger_and_one_without_advice_are_violations(self) -> None:
        def fails() -> None:
            raise KeyError("x")

        assert "none of ours" in attempt(fails).unclear("org/x")
        for text in ("org/x: it failed", "it failed; rerun"):
            assert "does not say where, or what to do" in Ended("PublishError", text).unclear("org/x")
        assert Ended("PublishError", "org/x: it failed; rerun").unclear("org/x") == ""


class TestConcurrentPublishers:
    """Two processes, one repository, one moment."""

    @pytest.mark.parametrize("seed", range(len(KINDS)), ids=KINDS)
    def test_one_wins_whole_and_the_other_is_told_who(self, sandbox: Sandbox, seed: int) -> None:
        make_runs(sandbox)
        outcome = publish_concurrently(ConcurrentPublish.of(seed), sandbox)
        assert outcome.violations == []
        assert outcome.winners == (2 if outcome.kind == "the same run" else 1)


class TestLoads:
    """Exactly the round's rows or exactly the error, with other rounds in the cache."""

    @pytest.mark.parametrize("case", CASES)
    def test_never_another_rounds_rows(self, loads: Loads, case: str) -> None:
        """Once with the round itself in the cache, and once, where there is such a case, without any byte of it."""
        seeds = range(list(CASES).index(case), 1000, len(CASES))
        drawn = [Load.of(seed) for seed in seeds]
        chosen = {load.is_cached: load for load in reversed(drawn) if load.is_cached or not load.has_files}
        assert True in chosen
        for load in chosen.values():
            assert run_load(load, loads).violations == [], load


class TestUploads:
    def test_a_fifth_round_sends_little_but_itself(self, sandbox: Sandbox) -> None:
        figures = measure(sandbox, xet=False)
        assert figures["round_bytes"] > 200_000
        assert 1 < figures["ratio"] <= MOST, figures


class TestRepositoryObserver:
    """The checks of the Hub's own files must detect what is wrong."""

    def problems(self, sandbox: Sandbox, repo: str, expected: list[str]) -> str:
        return "\n".join(not_exactly_once(RepoState(sandbox.hub.root, repo), expected))

    def test_two_rounds_are_two_commits_and_two_tags(self, sandbox: Sandbox, repo: str, expected: list[str]) -> None:
        state = RepoState(sandbox.hub.root, repo)
        assert self.problems(sandbox, repo, expected) == ""
        assert state.tags == {"round-000": state.commits[1], "round-001": state.commits[2]}
        assert [path for path in state.files(state.commits[2]) if path.startswith("data/")] == [
            "data/round-000/train-00000-of-00001.parquet",
            "data/round-001/train-00000-of-00001.parquet",
        ]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda api, repo, state: api.delete_tag(repo, tag="round-000", repo_type="dataset"), "round 0 has no tag"),
            (lambda api, repo, state: move(api, repo, "round-000", state.commits[2]), "tag round-000 sits on"),
            (lambda api, repo, state: move(api, repo, "round-002", state.commits[2]), "tag round-002 sits on"),
            (lambda api, repo, state: edit(api, repo, "README.md", b"x"), "README.md is"),
            (lambda api, repo, state: edit(api, repo, "NOTES.md", b"x"), "'NOTES.md'] in no manifest"),
            (lambda api, repo, state: edit(api, repo, "data/round-001/train-00000-of-00001.parquet", None), "missing"),
            (lambda api, repo, state: twice(api, repo), "3 commits for 2 rounds"),
        ],
    )
    def test_what_is_wrong_is_seen(
        self, sandbox: Sandbox, repo: str, expected: list[str], change: Callable[..., None], words: str
    ) -> None:
        change(HfApi(sandbox.hub.endpoint, token="x"), repo, RepoState(sandbox.hub.root, repo))
        assert words in self.problems(sandbox, repo, expected)

    def test_rounds_of_somebody_else_are_seen(self, sandbox: Sandbox, repo: str, expected: list[str]) -> None:
        assert "brings another round" in self.problems(sandbox, repo, [expected[0], "f" * 64])

    def test_a_large_file_that_is_gone_or_another_is_seen(
        self, sandbox: Sandbox, repo: str, expected: list[str]
    ) -> None:
        state = RepoState(sandbox.hub.root, repo)
        oid = state.files(state.commits[2])["data/round-001/train-00000-of-00001.parquet"][0]
        (file,) = (sandbox.hub.root / "lfs").rglob(oid)
        data = file.read_bytes()
        try:
            file.write_bytes(data[:-1] + b"x")
            assert "names a large file that is another" in self.problems(sandbox, repo, expected)
            file.unlink()
            assert "names a large file that is not there" in self.problems(sandbox, repo, expected)
        finally:
            file.write_bytes(data)

    def test_a_round_on_its_way_is_not_half_published(self, sandbox: Sandbox, repo: str, expected: list[str]) -> None:
        HfApi(sandbox.hub.endpoint, token="x").delete_tag(repo, tag="round-001", repo_type="dataset")
        state = RepoState(sandbox.hub.root, repo)
        assert list(half_published(state, expected)) == []
        assert self.problems(sandbox, repo, expected) == "tags ['round-000'] for 2 rounds"


def edit(api: HfApi, repo: str, path: str, data: bytes | None) -> None:
    operation = CommitOperationDelete(path) if data is None else CommitOperationAdd(path, data)
    api.create_commit(repo, [operation], commit_message=f"touch {path}", repo_type="dataset")


def move(api: HfApi, repo: str, tag: str, commit: str) -> None:
    if tag != "round-002":
        api.delete_tag(repo, tag=tag, repo_type="dataset")
    api.create_tag(repo, tag=tag, revision=commit, repo_type="dataset")


def twice(api: HfApi, repo: str) -> None:
    """The newest round once more, in other words."""
    path = "rounds/round-001/manifest.json"
    with tempfile.TemporaryDirectory() as cache:
        manifest = Path(api.hf_hub_download(repo, path, repo_type="dataset", cache_dir=cache)).read_bytes()
    edit(api, repo, path, json.dumps(json.loads(manifest)).encode())
