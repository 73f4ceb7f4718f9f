"""What every publisher promises (`publishers.Publisher`), against a local Hub in a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from evokd_data import localhub
from evokd_data.errors import PublishError, RevisionConflict
from evokd_data.localhub.child import RunningHub
from evokd_data.publishers import PUBLISHERS, Publisher
from evokd_data.publishers.calls import RetryPolicy
from evokd_data.records import Bundle, Revision
from evokd_data.registry import resolve
from evokd_data.stages.publish import make_bundle
from tests.support.finished_runs import make_run

pytestmark = pytest.mark.slow
every_publisher = pytest.mark.parametrize("name", PUBLISHERS)
numbers = itertools.count()
SECRET = "hf_secret_that_no_message_holds"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


def make_bundles(folder: Path, variant: str = "") -> list[Bundle]:
    """The bundles of rounds 0 and 1 of a run. The seeds, and so round 0, are the same in all variants."""
    recipe, workspace = make_run(folder, 2, variant=variant)
    bundles = []
    for index in (0, 1):
        round_folder = workspace.round(index)
        bundles.append(make_bundle(recipe, workspace, round_folder, folder / f"draft-{index}"))
        manifest = bundles[-1].files[f"rounds/{round_folder.tag}/manifest.json"]
        (round_folder.root / "published.json").write_bytes(manifest.read_bytes())
    return bundles


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    return make_bundles(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def other_bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    return make_bundles(tmp_path_factory.mktemp("other"), " of somebody else")


@pytest.fixture
def repo() -> str:
    return f"org/contract-{next(numbers)}"


def publisher(name: str, server: RunningHub) -> Publisher:
    return resolve(PUBLISHERS, name)(endpoint=server.endpoint, token=server.token)


def history(server: RunningHub, repo: str) -> tuple[list[str], dict[str, str]]:
    """Titles of the commits, newest first, and tag -> commit, as an ordinary client sees them."""
    api = HfApi(server.endpoint, token=server.token)
    commits = [commit.title for commit in api.list_repo_commits(repo, repo_type="dataset")]
    tags = api.list_repo_refs(repo, repo_type="dataset").tags
    return commits, {tag.name: tag.target_commit for tag in tags}


def test_a_publisher_is_called_as_in_the_table(server: RunningHub) -> None:
    assert {name: publisher(name, server).name for name in PUBLISHERS} == {name: name for name in PUBLISHERS}


@every_publisher
def test_a_round_is_one_commit_and_one_tag_however_often_it_is_published(
    name: str, server: RunningHub, bundles: list[Bundle], repo: str
) -> None:
    revisions = [publisher(name, server).publish(replace(bundle, repo=repo)) for bundle in bundles]
    assert [(each.repo, each.tag) for each in revisions] == [(repo, "round-000"), (repo, "round-001")]
    assert all(isinstance(each, Revision) and len(each.commit) == 40 for each in revisions)
    commits, tags = history(server, repo)
    assert commits[:2] == [bundle.title for bundle in reversed(bundles)]
    assert tags == {each.tag: each.commit for each in revisions}
    again = [publisher(name, server).publish(replace(bundle, repo=repo)) for bundle in bundles]
    assert again == revisions and history(server, repo) == (commits, tags)


@every_publisher
def test_what_is_fetched_is_what_was_published_at_the_revision_asked_for(
    name: str, server: RunningHub, bundles: list[Bundle], repo: str, tmp_path: Path
) -> None:
    first, second = (publisher(name, server).publish(replace(bundle, repo=repo)) for bundle in bundles)
    for revision in (first, second):
        bundle = bundles[int(revision.tag[-3:])]
        for asked in (revision.tag, revision.commit):
            commit, folder = publisher(name, server).fetch(repo, asked, ["*"], tmp_path / asked)
            assert commit == revision.commit
            assert {path: (folder / path).read_bytes() for path in bundle.files} == {
                path: file.read_bytes() for path, file in bundle.files.items()
            }
    assert publisher(name, server).fetch(repo, "main", ["README.md"], tmp_path / "main")[0] == second.commit
    files = [path for path in (tmp_path / "main").rglob("*") if path.is_file() and ".cache" not in path.parts]
    assert [path.name for path in files] == ["README.md"], "only what matches the patterns is fetched"


@every_publisher
def test_a_revision_that_is_not_there_is_an_error_that_names_those_that_are(
    name: str, server: RunningHub, bundles: list[Bundle], repo: str, tmp_path: Path
) -> None:
    publisher(name, server).publish(replace(bundles[0], repo=repo))
    with pytest.raises(PublishError, match=rf"{repo}.*'round-007'.*round-000"):
        publisher(name, server).fetch(repo, "round-007", ["*"], tmp_path)


@every_publisher
def test_rounds_of_another_client_are_a_conflict_and_stay_as_they_are(
    name: str, server: RunningHub, bundles: list[Bundle], other_bundles: list[Bundle], repo: str
) -> None:
    for bundle in other_bundles:
        publisher(name, server).publish(replace(bundle, repo=repo))
    before = history(server, repo)
    with pytest.raises(RevisionConflict, match=f"{repo}.*round-001"):
        publisher(name, server).publish(replace(bundles[1], repo=repo))
    assert history(server, repo) == before


@every_publisher
def test_a_hub_that_does_not_answer_is_an_error_without_the_token(
    name: str, bundles: list[Bundle], repo: str, tmp_path: Path
) -> None:
    nowhere = resolve(PUBLISHERS, name)(
        endpoint="http://127.0.0.1:9", token=SECRET, retries=RetryPolicy(attempts=2, sleep=lambda _: None)
    )
    for call in (
        lambda: nowhere.publish(replace(bundles[0], repo=repo)),
        lambda: nowhere.fetch(repo, "round-000", ["*"], tmp_path),
    ):
        with pytest.raises(PublishError, match=rf"{repo}.*http://127\.0\.0\.1:9 does not answer") as caught:
            call()
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert SECRET not in repr(nowhere)
