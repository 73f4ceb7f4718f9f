"""Publishing against the local Hub over HTTP, by unmodified clients: one commit and one tag a round, whatever happens."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from evokd_data import localhub
from evokd_data.errors import PublishError, RevisionConflict, VerificationError
from evokd_data.localhub.auth import add_token
from evokd_data.localhub.child import RunningHub
from evokd_data.progress import Progress
from evokd_data.publishers.calls import RetryPolicy
from evokd_data.publishers.hub import Hub
from evokd_data.recipe import Recipe
from evokd_data.records import Revision
from evokd_data.revisions.load import list_rounds
from evokd_data.stages.publish import Publication, make_bundle, public_recipe
from evokd_data.storage.snapshot import without_checksum
from evokd_data.storage.workspace import Workspace, read_json
from tests.support.fault_injection import hub_with_faults, set_faults
from tests.support.finished_runs import make_run

pytestmark = pytest.mark.slow

COMMIT = r"POST /api/datasets/.*/commit/"
TAG = r"POST /api/datasets/.*/tag/"
REFS = r"GET /api/datasets/.*/refs"
numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with hub_with_faults(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def faults(server: RunningHub) -> Iterator[Callable[..., None]]:
    """Set the faults of the Hub; afterwards there are none."""
    yield partial(set_faults, server)
    set_faults(server)


@pytest.fixture
def api(server: RunningHub) -> HfApi:
    return HfApi(server.endpoint, token=server.token)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Recipe, Workspace]]:
    """A run by variant, made once. Its files do not depend on the repository it is published to."""
    runs_by_variant: dict[str, tuple[Recipe, Workspace]] = {}

    def run(variant: str = "") -> tuple[Recipe, Workspace]:
        if variant not in runs_by_variant:
            runs_by_variant[variant] = make_run(tmp_path_factory.mktemp("run"), 3, variant=variant)
        return runs_by_variant[variant]

    return run


class Publisher:
    """A publication that never waits. It records the waits, and forgets what it published before."""

    def __init__(self, server: RunningHub, run: tuple[Recipe, Workspace], repo: str, **retries: Any) -> None:
        recipe, self.workspace = run
        assert recipe.publish is not None
        self.waits: list[float] = []
        self.notes: list[str] = []
        self.repo = repo
        hub = Hub(
            server.endpoint,
            server.token,
            retries=RetryPolicy(sleep=self.waits.append, jitter=lambda: 1.0, **retries),
            note=self.notes.append,
        )
        publish = replace(recipe.publish, repo=repo, endpoint=server.endpoint)
        self.publication = Publication(replace(recipe, publish=publish), hub, Progress())
        self.forget()

    def publish(self, index: int) -> Revision:
        return self.publication.publish(self.workspace, index)

    def forget(self) -> None:
        for folder in self.workspace.rounds():
            folder.revision.unlink(missing_ok=True)
            (folder.root / "published.json").unlink(missing_ok=True)
        self.publication._tags = None


@pytest.fixture
def repo() -> str:
    return f"org/data-{next(numbers)}"


@pytest.fixture
def publisher(server: RunningHub, runs: Callable[[str], tuple[Recipe, Workspace]], repo: str) -> Publisher:
    return Publisher(server, runs(""), repo)


def titles(api: HfApi, repo: str) -> list[str]:
    """Of all commits, oldest first."""
    return [commit.title for commit in reversed(api.list_repo_commits(repo, repo_type="dataset"))]


def tags(api: HfApi, repo: str) -> dict[str, str]:
    return {tag.name: tag.target_commit for tag in api.list_repo_refs(repo, repo_type="dataset").tags}


def commits(api: HfApi, repo: str) -> list[str]:
    return [commit.commit_id for commit in reversed(api.list_repo_commits(repo, repo_type="dataset"))]


def assert_one_commit_and_tag_each(api: HfApi, repo: str, rounds: int) -> None:
    commit_ids = commits(api, repo)
    assert len(commit_ids) == rounds + 1, titles(api, repo)
    assert tags(api, repo) == {f"round-{index:03d}": commit_ids[index + 1] for index in range(rounds)}


def test_each_round_is_one_commit_and_one_tag_and_missing_ones_come_first(
    publisher: Publisher, api: HfApi, repo: str
) -> None:
    revision = publisher.publish(2)
    assert_one_commit_and_tag_each(api, repo, 3)
    assert titles(api, repo)[1:] == [
        "round-000: 6 samples, macro-F1 0.40",
        "round-001: 12 samples, macro-F1 0.60",
        "round-002: 12 samples, macro-F1 0.80",
    ]
    assert revision == Revision(repo, "round-002", tags(api, repo)["round-002"], publisher.publication.hub.address)
    assert api.repo_info(repo, repo_type="dataset").private
    stored = read_json(publisher.workspace.round(1).revision)
    assert stored == {
        "repo": repo,
        "tag": "round-001",
        "commit": tags(api, repo)["round-001"],
        "endpoint": revision.endpoint,
    }


def test_a_revision_holds_every_file_of_its_rounds(publisher: Publisher, api: HfApi, repo: str) -> None:
    publisher.publish(1)
    part = "train-00000-of-00001.parquet"
    always = {".gitattributes", "README.md", "recipe.yaml", "card/learning-curve.svg"}
    prompts = {f"prompts/{stage}.j2" for stage in ("analyse", "generate", "label")}
    round_0 = {f"data/round-000/{part}", *(f"rounds/round-000/{name}.json" for name in ("manifest", "plan", "metrics"))}
    round_1 = {path.replace("000", "001", 1) for path in round_0} | {
        f"rejections/round-001/{part}",
        f"journal/round-001/{part}",
        f"probe/round-001/{part}",
    }
    first, second = (
        set(api.list_repo_files(repo, repo_type="dataset", revision=tag)) for tag in ("round-000", "round-001")
    )
    assert first == always | prompts | round_0
    assert second == always | prompts | round_0 | round_1


def test_publish_twice_makes_one_commit(publisher: Publisher, api: HfApi, repo: str) -> None:
    first = publisher.publish(1)
    assert publisher.publish(1) == first
    publisher.forget()  # as if killed before revision.json was written
    assert publisher.publish(1) == first
    assert_one_commit_and_tag_each(api, repo, 2)


def test_a_published_round_costs_one_look(publisher: Publisher, repo: str, server: RunningHub) -> None:
    publisher.publish(1)
    publisher.publication._tags = None
    before = (server.root / "requests.log").read_text(encoding="utf-8").count("\n")
    publisher.publish(1)
    assert (server.root / "requests.log").read_text(encoding="utf-8").count("\n") == before + 1


@pytest.mark.parametrize(
    "fault", [{"drop": "after"}, {"drop": "during"}, {"drop": "before"}, {"status": 503, "when": "after"}]
)
@pytest.mark.parametrize("match", [COMMIT, TAG])
def test_a_lost_answer_ends_in_one_commit(
    publisher: Publisher, api: HfApi, repo: str, faults: Callable[..., None], match: str, fault: dict[str, Any]
) -> None:
    faults({"match": match, "times": 1, **fault})
    publisher.publish(0)
    assert_one_commit_and_tag_each(api, repo, 1)
    assert len(publisher.waits) == 1


@pytest.mark.parametrize("match", [COMMIT, TAG, REFS, "POST /api/repos/create", "POST .*/paths-info/"])
def test_a_busy_hub_is_waited_for_as_long_as_it_asks(
    publisher: Publisher, api: HfApi, repo: str, faults: Callable[..., None], match: str
) -> None:
    faults(
        {"match": match, "times": 2, "status": 503},
        {"match": match, "times": 1, "status": 429, "headers": {"Retry-After": "77"}},
    )
    publisher.publish(0)
    assert_one_commit_and_tag_each(api, repo, 1)
    assert publisher.waits == [1, 2, 77]
    assert "HTTP 429: fault injected" in publisher.notes[-1]


def test_a_used_up_rate_limit_window_is_waited_for(
    publisher: Publisher, repo: str, faults: Callable[..., None]
) -> None:
    faults({"match": COMMIT, "times": 1, "status": 429, "headers": {"RateLimit": '"api";r=0;t=41'}})
    publisher.publish(0)
    assert publisher.waits == [42]


def test_a_wait_of_hours_is_said_not_waited(publisher: Publisher, repo: str, faults: Callable[..., None]) -> None:
    faults({"match": COMMIT, "status": 429, "headers": {"Retry-After": "3600"}})
    with pytest.raises(PublishError, match=f"{repo}: the Hub asks to wait 3600 s"):
        publisher.publish(0)
    assert publisher.waits == []


def test_a_hub_that_stays_down_is_given_up_and_a_rerun_finishes(
    publisher: Publisher, api: HfApi, repo: str, faults: Callable[..., None]
) -> None:
    publisher.publish(0)
    faults({"match": COMMIT, "status": 500})
    with pytest.raises(PublishError, match=r"does not answer \(HTTP 500: fault injected\).*rerun"):
        publisher.publish(1)
    assert publisher.waits == [1, 2, 4, 8, 16, 32, 60]
    assert_one_commit_and_tag_each(api, repo, 1)
    assert not publisher.workspace.round(1).revision.exists()
    assert not list(publisher.workspace.root.rglob("*.draft"))
    faults()
    publisher.publish(1)
    assert_one_commit_and_tag_each(api, repo, 2)


def test_a_commit_without_its_tag_gets_it_by_a_rerun(
    publisher: Publisher, api: HfApi, repo: str, faults: Callable[..., None]
) -> None:
    faults({"match": TAG, "status": 503})
    with pytest.raises(PublishError):
        publisher.publish(0)
    assert tags(api, repo) == {}
    faults()
    edit(api, repo, "README.md", "mended by hand\n")  # the round's commit is not the head any more
    revision = publisher.publish(0)
    assert revision.commit == commits(api, repo)[1]


def test_time_limits_end_a_call_that_would_never_end(
    publisher: Publisher, api: HfApi, repo: str, faults: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evokd_data.publishers.calls.READ_TIMEOUT_S", 0.5)
    faults({"match": COMMIT, "times": 1, "delay_s": 1.5})
    publisher.publish(0)
    assert len(publisher.waits) >= 1
    assert_one_commit_and_tag_each(api, repo, 1)


def test_the_clients_own_settings_are_as_they_were(publisher: Publisher) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import _http, are_progress_bars_disabled

    before = _http._GLOBAL_CLIENT_FACTORY, are_progress_bars_disabled(), get_session().timeout
    publisher.publish(0)
    assert (_http._GLOBAL_CLIENT_FACTORY, are_progress_bars_disabled(), get_session().timeout) == before


def edit(api: HfApi, repo: str, path: str, text: str) -> str:
    operation = CommitOperationAdd(path, text.encode())
    return api.create_commit(repo, [operation], commit_message=f"touch {path}", repo_type="dataset").oid


def test_the_loser_of_a_race_is_told_who_won(
    server: RunningHub, runs: Callable[[str], tuple[Recipe, Workspace]], publisher: Publisher, api: HfApi, repo: str
) -> None:
    other = Publisher(server, runs(" other"), repo)
    other.publish(1)
    publisher.forget()
    publisher.publish(0)  # seeds are the same: the round that is there is ours
    with pytest.raises(RevisionConflict, match=r"tag round-001 is taken.*'round-001: 12 samples.*' by local"):
        publisher.publish(1)
    assert_one_commit_and_tag_each(api, repo, 2)


def test_somebody_who_wins_between_look_and_commit_is_found_out(
    server: RunningHub, runs: Callable[[str], tuple[Recipe, Workspace]], publisher: Publisher, api: HfApi, repo: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    publisher.publish(0)
    other = Publisher(server, runs(" other"), repo)
    original = HfApi.create_commit

    def overtaken(self: HfApi, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(HfApi, "create_commit", original)
        other.publish(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "create_commit", overtaken)
    with pytest.raises(RevisionConflict, match="'round-001: 12 samples"):
        publisher.publish(1)
    assert_one_commit_and_tag_each(api, repo, 2)


def test_two_racing_publishers_of_one_run_end_in_one_commit(
    server: RunningHub, tmp_path: Path, api: HfApi, repo: str
) -> None:
    """Two machines with the same rounds: whoever comes second finds its round there."""
    publishers = [Publisher(server, make_run(tmp_path / str(n), 2), repo, first_wait_s=0.01) for n in range(2)]
    for each in publishers:
        each.publication = replace_sleep(each)
    errors: list[BaseException] = []

    def publish(each: Publisher) -> None:
        try:
            each.publish(1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=publish, args=(each,)) for each in publishers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_one_commit_and_tag_each(api, repo, 2)


def replace_sleep(publisher: Publisher) -> Publication:
    """Wait after all, a little."""
    import time

    hub = publisher.publication.hub
    return Publication(
        publisher.publication.recipe,
        replace(hub, retries=replace(hub.retries, sleep=lambda s: time.sleep(min(s, 0.05)))),
        Progress(),
    )


def test_rounds_of_somebody_else_are_never_built_upon(publisher: Publisher, api: HfApi, repo: str) -> None:
    publisher.publish(0)
    edit(api, repo, "data/round-000/extra.parquet", "foreign")
    with pytest.raises(RevisionConflict, match=r"moved to [0-9a-f]{7} \('touch data/round-000/extra.parquet' by local"):
        publisher.publish(1)
    assert tags(api, repo).keys() == {"round-000"}


def test_a_repository_that_holds_other_data_is_refused(publisher: Publisher, api: HfApi, repo: str) -> None:
    api.create_repo(repo, repo_type="dataset")
    edit(api, repo, "data/train.csv", "a,b\n")
    with pytest.raises(RevisionConflict, match="holds data already"):
        publisher.publish(0)


def test_an_edited_card_does_not_stop_the_next_round(publisher: Publisher, api: HfApi, repo: str) -> None:
    publisher.publish(0)
    edit(api, repo, "NOTES.md", "read me\n")
    publisher.publish(1)
    assert titles(api, repo)[2:] == ["touch NOTES.md", "round-001: 12 samples, macro-F1 0.60"]
    assert "NOTES.md" in api.list_repo_files(repo, repo_type="dataset", revision="round-001")


def test_a_tag_on_another_commit_is_a_conflict(publisher: Publisher, api: HfApi, repo: str) -> None:
    publisher.publish(0)
    api.create_tag(repo, tag="round-001", revision=commits(api, repo)[0], repo_type="dataset")
    with pytest.raises(RevisionConflict, match=r"tag round-001 is taken.*initial commit"):
        publisher.publish(1)
    assert len(commits(api, repo)) == 2  # not even the commit was made


def test_a_tag_that_appears_elsewhere_meanwhile_is_a_conflict(
    publisher: Publisher, api: HfApi, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = HfApi.create_tag

    def overtaken(self: HfApi, repo_id: str, **kwargs: Any) -> None:
        monkeypatch.setattr(HfApi, "create_tag", original)
        original(self, repo_id, **{**kwargs, "revision": commits(api, repo)[0]})
        original(self, repo_id, **kwargs)  # exist_ok: says nothing

    monkeypatch.setattr(HfApi, "create_tag", overtaken)
    with pytest.raises(RevisionConflict, match="tag round-000 is taken"):
        publisher.publish(0)


def test_a_manifest_damaged_on_its_way_back_is_asked_for_again(
    publisher: Publisher, repo: str, faults: Callable[..., None]
) -> None:
    faults({"match": "GET .*/resolve/.*/manifest.json", "body": "alter", "times": 2})
    publisher.publish(0)
    stored = (publisher.workspace.round(0).root / "published.json").read_bytes()
    assert without_checksum(stored) is not None


@pytest.mark.skipif(
    tuple(map(int, huggingface_hub.__version__.split(".")[:2])) < (1, 20), reason="older clients let the Hub choose LFS"
)
def test_files_travel_by_xet_where_the_hub_takes_them(
    publisher: Publisher, api: HfApi, repo: str, tmp_path: Path
) -> None:
    """As on the real Hub. In a process of its own: the client's Xet cache is set up once."""
    publisher.publish(0)
    code = f"""
import sys
from dataclasses import replace
from pathlib import Path
from evokd_data import recipe
from evokd_data.publishers.hub import Hub
from evokd_data.stages.publish import Publication
from evokd_data.storage.workspace import Workspace
Hub.is_the_hub = lambda self: True
root = Path({str(publisher.workspace.root)!r})
loaded = recipe.load(root.parents[1] / "recipe.yaml")
loaded = replace(loaded, publish=replace(loaded.publish, repo={repo!r}, endpoint={publisher.publication.hub.address!r}))
with Publication.of(loaded) as publication:
    publication.publish(Workspace(root), 1)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": str(publisher.publication.hub.token)}
    for name in ("HF_HUB_DISABLE_XET", "HF_XET_CACHE"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_one_commit_and_tag_each(api, repo, 2)
    assert (tmp_path / "xet").exists()


def test_only_the_rounds_own_bytes_travel(publisher: Publisher, repo: str, server: RunningHub) -> None:
    publisher.publish(1)
    log = server.root / "requests.log"
    before = log.read_text(encoding="utf-8").count("\n")
    publisher.publish(2)
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[before:]]
    sent = [line["path"].removeprefix("/_lfs/").split("?")[0] for line in lines if line["method"] == "PUT"]
    files = read_json(publisher.workspace.round(2).root / "published.json")["files"]
    digests = [entry["sha256"] for path, entry in files.items() if path.endswith(".parquet")]
    assert sorted(sent) == sorted(digests)
    assert all("/round-002/" in path for path in files if path.startswith(("data", "rejections", "journal", "rounds")))
    assert [line["path"].rsplit("/", 2)[-2] for line in lines if line["method"] == "POST"].count("commit") == 1


def test_a_bundle_is_the_same_bytes_each_time(
    runs: Callable[[str], tuple[Recipe, Workspace]], tmp_path: Path, server: RunningHub
) -> None:
    recipe, workspace = runs(" bundle")
    first, second = (make_bundle(recipe, workspace, workspace.round(0), tmp_path / name) for name in "ab")
    assert {path: file.read_bytes() for path, file in first.files.items()} == {
        path: file.read_bytes() for path, file in second.files.items()
    }


def test_shards_that_are_not_the_manifests_are_not_published(server: RunningHub, tmp_path: Path, repo: str) -> None:
    run = make_run(tmp_path, 2)
    publisher = Publisher(server, run, repo)
    publisher.publish(0)
    shards = run[1].round(1).shard_files()
    shards[0].write_bytes(shards[1].read_bytes())
    with pytest.raises(VerificationError, match=r"shards: its rows \(content"):
        publisher.publish(1)


def test_nothing_published_names_a_place_on_this_machine(
    publisher: Publisher, api: HfApi, repo: str, tmp_path: Path
) -> None:
    publisher.publish(1)
    folder = Path(api.snapshot_download(repo, repo_type="dataset", cache_dir=tmp_path))
    local_names = [str(publisher.workspace.root).split("/runs/")[0].encode(), b"/home/somebody", b"127.0.0.1"]
    for file in folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not any(name in data for name in local_names), file
    manifest = read_json(folder / "rounds/round-001/manifest.json")
    assert manifest["environment"]["engine"]["model"] == "teacher"


def test_absolute_paths_of_a_recipe_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "task: {type: classification, labels: [/b/, ~x/y], description: /not/a/path}\n"
        "teacher: {model: /data/models/qwen, url: 'https://me:secret@example.org/v1', args: [~/x/y.jinja, a/b]}\n"
        "student: {model: '~/bert', revision: null}\npublish: {repo: o/n, endpoint: 'http://10.0.0.1:80', hub_root: /srv/hub}\n",
        encoding="utf-8",
    )
    text = public_recipe(path)
    assert (
        "/data" not in text
        and "~/" not in text
        and "secret" not in text
        and "10.0.0.1" not in text
        and "/srv" not in text
    )
    for value in ("/b/", "~x/y", "/not/a/path", "qwen", "https://example.org/v1", "y.jinja", "a/b", "bert", "o/n"):
        assert value in text


class TestBeforeAnyWorkIsDone:
    """`Publication.of` finds out what would stop a publication after an hour of generating."""

    def opened(self, runs: Callable[[str], tuple[Recipe, Workspace]], **publish: Any) -> Any:
        recipe, _ = runs("")
        assert recipe.publish is not None
        return Publication.of(replace(recipe, publish=replace(recipe.publish, **publish)))

    def test_no_publish_section_is_no_publication(self, runs: Callable[[str], tuple[Recipe, Workspace]]) -> None:
        with Publication.of(replace(runs("")[0], publish=None)) as publication:
            assert publication is None

    def test_a_local_hub_is_started_and_found_again(
        self, runs: Callable[[str], tuple[Recipe, Workspace]], tmp_path: Path
    ) -> None:
        """Another port each time, the same revision.json."""
        revisions = set()
        for _ in range(2):
            with self.opened(runs, endpoint="local", hub_root=tmp_path / "hub", repo="me/x") as publication:
                revisions.add(publication.publish(runs("")[1], 0))
        assert len(revisions) == 1
        assert revisions.pop().endpoint == "local"

    def test_a_hub_that_is_not_there(
        self, runs: Callable[[str], tuple[Recipe, Workspace]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        monkeypatch.setenv("HF_TOKEN", "hf_sesame")
        with (
            pytest.raises(PublishError, match=r"http://127.0.0.1:9 does not answer .*check the network, the address"),
            self.opened(runs, endpoint="http://127.0.0.1:9"),
        ):
            pass

    def test_a_token_nobody_knows_is_named_by_no_one(
        self, runs: Callable[[str], tuple[Recipe, Workspace]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        caplog.set_level(logging.DEBUG)
        add_token(tmp_path / "root", "alice")
        monkeypatch.setenv("HF_TOKEN", "hf_open_sesame")
        with (
            localhub.running(tmp_path / "root") as running,
            pytest.raises(PublishError, match="does not know this access token") as caught,
            self.opened(runs, endpoint=running.endpoint),
        ):
            pass
        assert "sesame" not in str(caught.value) + repr(caught.value.__cause__) + caplog.text

    def test_rights(
        self, runs: Callable[[str], tuple[Recipe, Workspace]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tmp_path / "root"
        tokens = {role: add_token(root, "alice", role, ("lab",))[0] for role in ("read", "write")}
        cases = [
            (None, "lab/x", "no access token .* run: hf auth login"),
            (tokens["read"], "lab/x", "may only read"),
            (tokens["write"], "other/x", "its namespaces: alice, lab"),
        ]
        with localhub.running(root) as running:
            for token, repo, message in cases:
                monkeypatch.delenv("HF_TOKEN", raising=False)
                if token:
                    monkeypatch.setenv("HF_TOKEN", token)
                with (
                    pytest.raises(PublishError, match=message),
                    self.opened(runs, endpoint=running.endpoint, repo=repo),
                ):
                    pass
            monkeypatch.setenv("HF_TOKEN", tokens["write"])
            with self.opened(runs, endpoint=running.endpoint, repo="lab/x") as publication:
                publication.publish(runs("")[1], 0)

    def test_a_reader_without_a_token_is_told_that_there_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not that a token is unknown: a missing and a private repository look the same to such a reader."""
        monkeypatch.delenv("HF_TOKEN", raising=False)
        add_token(tmp_path / "root", "alice")
        with localhub.running(tmp_path / "root") as running:
            for repo in ("alice/secret", "alice/nothing"):
                with pytest.raises(PublishError) as caught:
                    list_rounds(repo, endpoint=running.endpoint)
                assert str(caught.value) == (
                    f"{repo}: {running.endpoint} has no such dataset for a reader without an access token; check the id, "
                    "and for one that is private run: hf auth login, or set HF_TOKEN"
                )
            with pytest.raises(
                PublishError, match=r"^a--b/c: the Hub refuses '--' and '\.\.' in a name; choose another$"
            ):
                list_rounds("a--b/c", endpoint=running.endpoint)
            with pytest.raises(
                PublishError, match=r"^\.\./mine: .*; a folder with a local Hub is given as --endpoint local:FOLDER$"
            ):
                list_rounds("../mine", endpoint=running.endpoint)
