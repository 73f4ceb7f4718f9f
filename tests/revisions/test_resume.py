"""Going on from a published round on a machine that holds nothing else, against the local Hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from evokd_data import localhub
from evokd_data.cli import cli
from evokd_data.errors import WorkspaceError
from evokd_data.localhub.child import RunningHub
from evokd_data.loop.rounds import run_all
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe
from evokd_data.revisions import resume
from evokd_data.revisions.diff import diff
from evokd_data.revisions.replay import replay
from evokd_data.revisions.verify import verify
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.templates import PACKAGED
from tests.support.example_task import TEST, contents, play, quick
from tests.support.published_runs import ROUGH, Played, published, write_recipe

pytestmark = pytest.mark.slow

ROUNDS = 5  # of the whole run: 0 to 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The run as it is when nobody leaves it."""
    folder = tmp_path_factory.mktemp("whole")
    return play(quick(write_recipe(folder)), folder / "runs", ROUNDS)


@pytest.fixture(scope="module")
def run(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Rounds 0 to 2 of it, published."""
    return published(server, tmp_path_factory.mktemp("run"), "org/colours", 3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, server: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", server.token)


def recipe(server: RunningHub, folder: Path, repo: str, *overrides: str, **files) -> Recipe:
    """The run's recipe on another machine."""
    addresses = (f"publish.repo={repo}", f"publish.endpoint={server.endpoint}")
    return quick(write_recipe(folder, **files), *addresses, *overrides)


def go_on(loaded: Recipe, folder: Path, origin: str | None) -> Workspace:
    run_all([loaded], folder / "runs", Progress(), origin)
    return Workspace(folder / "runs" / loaded.name)


def digests(workspace: Workspace) -> list[str]:
    return [read_json(folder.manifest)["digest"] for folder in workspace.rounds()]


def test_a_run_goes_on_as_if_nobody_had_left_it(server: RunningHub, whole: Workspace, tmp_path: Path) -> None:
    first = published(server, tmp_path / "first", "org/onward", 3)
    there = go_on(recipe(server, tmp_path / "second", "org/onward"), tmp_path / "second", "org/onward@round-002")
    assert contents(there) == contents(whole)
    assert digests(there) == digests(whole)
    for folder, expected in zip(there.rounds(), whole.rounds(), strict=True):
        assert folder.plan.read_bytes() == expected.plan.read_bytes()
        assert read_json(folder.metrics)["test"] == read_json(expected.metrics)["test"]
    report = verify("org/onward", cache_dir=tmp_path / "cache", **first.at)
    assert (report.round, report.digest) == (4, digests(whole)[-1])
    commits = first.api.list_repo_commits("org/onward", repo_type="dataset")
    assert [commit.title.split(":")[0] for commit in commits][:ROUNDS] == [f"round-00{i}" for i in (4, 3, 2, 1, 0)]
    assert "from" not in read_json(there.round(3).manifest)["identity"]


def test_a_restored_round_is_the_one_that_was(run: Played, server: RunningHub, tmp_path: Path) -> None:
    loaded = recipe(server, tmp_path, run.repo, "rounds.count=2")
    there = go_on(loaded, tmp_path, run.repo)
    for index in range(3):
        before, now = run.workspace.round(index), there.round(index)
        for name in ("shard_files", "rejection_files"):
            ours, theirs = getattr(now, name)(), getattr(before, name)()
            assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
        for name in ("plan", "metrics", "revision"):
            assert getattr(now, name).read_bytes() == getattr(before, name).read_bytes()
        made_here = {"round_files"}  # the restored generated.json tells less
        assert read_json(now.manifest) == {
            key: value for key, value in read_json(before.manifest).items() if key not in made_here
        }
        assert read_json(now.generated) == read_json(before.generated)
        assert (now.root / "published.json").read_bytes() == (before.root / "published.json").read_bytes()
        assert index == 0 or now.probe.read_bytes() == before.probe.read_bytes()
    assert [there.round(index).student.exists() for index in range(3)] == [False, False, True]


def test_a_round_that_has_no_probe_is_probed_again(run: Played, server: RunningHub, tmp_path: Path) -> None:
    """As rounds were published before probes were."""
    first = published(server, tmp_path / "first", "org/unprobed", 2)
    before = first.workspace.round(2)
    play(first.recipe, tmp_path / "first" / "runs", 1)
    original = before.probe.rename(before.root / "original")
    first.publish(2)
    there = go_on(recipe(server, tmp_path, "org/unprobed", "rounds.count=3"), tmp_path, "org/unprobed")
    assert there.round(2).probe.read_bytes() == original.read_bytes()
    assert there.round(3).plan.exists()


def test_a_branch_has_its_own_repository_that_begins_with_the_rounds_it_starts_from(
    run: Played, server: RunningHub, tmp_path: Path
) -> None:
    shutil.copytree(PACKAGED / "classification", tmp_path / "prompts")
    with (tmp_path / "prompts" / "generate.j2").open("a", encoding="utf-8") as file:
        file.write("{# changed #}\n")
    text = f"prompts: prompts\n{ROUGH.replace('{name: evokd}', '{name: evokd, targeted: 0.6}')}"
    loaded = recipe(server, tmp_path, "org/branch", "rounds.count=3", "name=branch", text=text)
    there = go_on(loaded, tmp_path, "org/colours@round-002")

    tags = {ref.name: ref.target_commit for ref in run.api.list_repo_refs(run.repo, repo_type="dataset").tags}
    identity = read_json(there.round(3).manifest)["identity"]
    digest = digests(run.workspace)[2]
    assert identity["from"] == {
        "repo": "org/colours", "tag": "round-002", "commit": tags["round-002"], "digest": digest,
    }  # fmt: skip
    assert identity["parent"] == digest
    page = Path(run.api.hf_hub_download("org/branch", "README.md", repo_type="dataset", cache_dir=tmp_path / "cache"))
    assert f"Branched off at `round-002`, commit `{tags['round-002']}`, digest `{digest}`." in page.read_text()
    at = {**run.at, "cache_dir": tmp_path / "cache"}
    assert verify("org/branch", 2, **at).digest == digest
    assert verify("org/branch", **at).rounds == 4
    assert replay("org/branch", 3, **at).rows == read_json(there.round(3).manifest)["identity"]["rows"]
    assert replay("org/branch", 2, **at).rows

    def files(repo: str) -> dict[str, str]:
        tree = run.api.list_repo_tree(repo, repo_type="dataset", revision="round-002", recursive=True)
        return {file.path: file.blob_id for file in tree if hasattr(file, "blob_id")}

    assert files("org/branch") == files("org/colours")

    changes = diff("org/branch", 2, 3, **at)
    assert {"setting": "strategy.targeted", "from": 0.3, "to": 0.6} in changes["recipe"]
    assert "+{# changed #}" in changes["prompts"]["prompts/generate.j2"]

    commits = run.api.list_repo_commits("org/branch", repo_type="dataset")
    go_on(loaded, tmp_path, None)  # the folder remembers where it started
    go_on(loaded, tmp_path, "org/colours@round-002")
    assert run.api.list_repo_commits("org/branch", repo_type="dataset") == commits


def test_another_repository_alone_makes_a_branch(run: Played, server: RunningHub, tmp_path: Path) -> None:
    there = go_on(recipe(server, tmp_path, "org/fork", "rounds.count=2"), tmp_path, "org/colours@1")
    identity = read_json(there.round(2).manifest)["identity"]
    assert identity["from"]["tag"] == "round-001"
    assert identity["content"] == read_json(run.workspace.round(2).manifest)["identity"]["content"]
    verify("org/fork", cache_dir=tmp_path / "cache", **run.at)


@pytest.mark.parametrize(
    "overrides, files, message",
    [
        (["student.epochs=2"], {}, "student are not those of org/colours@round-002"),
        (["task.description=other"], {}, "task are not those of"),
        ([], {"test": {**TEST, "red": ["a new text"]}}, "test are not those of"),
        (["strategy.easy=0.2"], {}, "publish.repo: 'org/colours' holds rounds of another strategy"),
        (["teacher.wrong_labels=0.1"], {}, "holds rounds of another teacher"),
    ],
)
def test_what_cannot_go_on_is_told_before_anything_is_written(
    run: Played, server: RunningHub, tmp_path: Path, overrides: list[str], files: dict, message: str
) -> None:
    loaded = recipe(server, tmp_path, run.repo, *overrides, **files)
    with pytest.raises(WorkspaceError, match=message):
        go_on(loaded, tmp_path, "org/colours@round-002")
    assert [path.name for path in (tmp_path / "runs" / loaded.name).iterdir()] == [".lock"]


def test_an_older_round_of_the_same_repository_is_no_place_to_go_on_from(
    run: Played, server: RunningHub, tmp_path: Path
) -> None:
    with pytest.raises(WorkspaceError, match="org/colours: has rounds up to 2; go on from there: --from org/colours"):
        go_on(recipe(server, tmp_path, run.repo), tmp_path, "org/colours@round-001")


def test_a_folder_with_rounds_of_its_own_is_left_alone(run: Played, server: RunningHub, tmp_path: Path) -> None:
    loaded = recipe(server, tmp_path, "org/other")
    play(loaded, tmp_path / "runs", 1)
    with pytest.raises(WorkspaceError, match="holds rounds already, they were not begun from org/colours@round-002"):
        go_on(loaded, tmp_path, "org/colours@round-002")


def test_a_folder_begun_from_one_round_does_not_go_on_from_another(
    run: Played, server: RunningHub, tmp_path: Path
) -> None:
    loaded = recipe(server, tmp_path, run.repo, "rounds.count=2")
    go_on(loaded, tmp_path, "org/colours@round-002")
    with pytest.raises(WorkspaceError, match="was begun from org/colours@round-002, not from org/colours@round-001"):
        go_on(loaded, tmp_path, "org/colours@round-001")


def test_killed_while_it_restores_it_is_finished_by_any_next_command(
    run: Played, server: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = recipe(server, tmp_path, run.repo, "rounds.count=2")
    restore_round = resume._restore_round

    def die(snapshot, recipe, folder):
        restore_round(snapshot, recipe, folder)
        if folder.index == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(resume, "_restore_round", die)
    with pytest.raises(KeyboardInterrupt):
        go_on(loaded, tmp_path, "org/colours@round-002")
    there = Workspace(tmp_path / "runs" / loaded.name)
    assert [folder.index for folder in there.rounds()] == [0]
    monkeypatch.undo()
    monkeypatch.setenv("HF_TOKEN", server.token)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    there = go_on(loaded, tmp_path, None)
    assert contents(there) == contents(run.workspace)


def test_the_commands_take_a_round_to_go_on_from(
    run: Played, server: RunningHub, whole: Workspace, tmp_path: Path
) -> None:
    loaded = recipe(server, tmp_path, "org/colours")
    line = [str(loaded.path), "--runs", str(tmp_path / "runs"), "--from", "org/colours@round-002"]
    for override in ("publish.repo=org/colours", f"publish.endpoint={server.endpoint}", *("student.buckets=1024",
                     "student.min_steps=10", "student.epochs=1")):  # fmt: skip
        line += ["--set", override]
    result = CliRunner().invoke(cli, ["generate", *line])
    assert result.exit_code == 0, result.output
    there = Workspace(tmp_path / "runs" / "colours")
    assert result.stdout.strip() == str(there.round(3).shards)
    task = loaded.task
    expected = list(ShardedSamples(task, whole.round(3).shard_files()))
    assert list(ShardedSamples(task, there.round(3).shard_files())) == expected
    result = CliRunner().invoke(cli, ["run", *line, "--set", "rounds.count=2"])
    assert result.exit_code == 0, result.output
