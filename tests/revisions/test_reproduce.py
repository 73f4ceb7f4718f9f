"""Reproduce against the local Hub: a deterministic teacher says everything again; of another it is told what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from evokd_data import localhub
from evokd_data.cli import cli
from evokd_data.errors import VerificationError, WorkspaceError
from evokd_data.localhub.child import RunningHub
from evokd_data.revisions.replay import replay
from evokd_data.revisions.reproduce import reproduce
from evokd_data.storage.journal import read_answers
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import read_json
from evokd_data.teachers.scripted import ScriptedEngine
from tests.support.example_task import RECIPE
from tests.support.published_runs import Played, published

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="module")
def run(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return published(server, tmp_path_factory.mktemp("run"), "org/colours", 4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def rows(run: Played, index: int) -> int:
    return len(ShardedSamples(run.recipe.task, run.workspace.round(index).shard_files()))


@pytest.mark.parametrize("index", [1, 3])
def test_the_scripted_teacher_says_everything_again(run: Played, cache: Path, tmp_path: Path, index: int) -> None:
    reproduced = reproduce(run.repo, index, out=tmp_path, cache_dir=cache, **run.at)
    assert reproduced.same and reproduced.reasons == [] and reproduced.examples == [] and reproduced.unasked == 0
    assert reproduced.rows == {
        "published": rows(run, index),
        "equal": rows(run, index),
        "differ": 0,
        "missing": 0,
        "new": 0,
    }
    assert reproduced.requests == reproduced.of_requests > 0
    assert {"generate", "label"} <= reproduced.answers.keys()
    assert all(set(counts) - {"equal"} == {"differ", "otherwise", "new"} for counts in reproduced.answers.values())
    assert read_json(tmp_path / "report.json")["same"]
    assert ("analyse" in reproduced.answers) == (index == 3)


def test_the_users_own_recipe_and_test_set_do_as_well(run: Played, cache: Path, tmp_path: Path) -> None:
    assert reproduce(run.repo, 3, recipe=run.recipe, out=tmp_path, cache_dir=cache, **run.at).same


def test_another_teacher_differs_and_it_is_told_why(run: Played, cache: Path, tmp_path: Path) -> None:
    reproduced = reproduce(
        run.repo, 3, out=tmp_path, overrides=("teacher.wrong_labels=0.9",), cache_dir=cache, **run.at
    )
    assert not reproduced.same
    assert reproduced.answers["generate"]["equal"] == sum(reproduced.answers["generate"].values())
    assert reproduced.answers["label"]["differ"] > 0 and reproduced.answers["label"]["equal"] > 0
    assert reproduced.rows["differ"] + reproduced.rows["missing"] > 0
    assert (
        reproduced.rows["equal"] + reproduced.rows["differ"] + reproduced.rows["missing"]
        == reproduced.rows["published"]
        == rows(run, 3)
    )
    assert "the teacher's wrong_labels: 0.3 then, 0.9 now" in reproduced.reasons
    assert any(line.startswith("label/") and "says now" in line for line in reproduced.examples)
    assert any(line.startswith("request ") and "published" in line for line in reproduced.examples)


def test_another_prompt_is_no_other_answer(run: Played, cache: Path, tmp_path: Path) -> None:
    reproduced = reproduce(run.repo, 3, out=tmp_path, overrides=("teacher.temperature=0.5",), cache_dir=cache, **run.at)
    assert reproduced.answers["generate"]["otherwise"] == sum(reproduced.answers["generate"].values())
    assert reproduced.answers["label"]["differ"] == 0


def test_some_requests_alone(run: Played, cache: Path, tmp_path: Path) -> None:
    reproduced = reproduce(run.repo, 3, limit=9, out=tmp_path, cache_dir=cache, **run.at)
    assert reproduced.same and reproduced.requests == 9 < reproduced.of_requests
    assert 0 < reproduced.rows["published"] < rows(run, 3)


def test_killed_it_asks_only_for_what_is_missing_and_never_mixes_teachers(
    run: Played, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    complete = ScriptedEngine.complete

    async def counted(self, prompt):
        asked.append(prompt.key)
        return await complete(self, prompt)

    monkeypatch.setattr(ScriptedEngine, "complete", counted)
    reproduce(run.repo, 3, limit=5, out=tmp_path, cache_dir=cache, **run.at)
    first = len(asked)
    reproduced = reproduce(run.repo, 3, out=tmp_path, cache_dir=cache, **run.at)
    assert reproduced.same and first > 0
    assert len(asked) == len(set(asked)) == sum(sum(counts.values()) for counts in reproduced.answers.values())
    with pytest.raises(WorkspaceError, match="begun with another recipe"):
        reproduce(run.repo, 3, out=tmp_path, overrides=("teacher.wrong_labels=0.9",), cache_dir=cache, **run.at)


def test_a_round_that_asked_nobody_is_told(run: Played, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="round-000: there is nothing to ask for again: it asked nobody"):
        reproduce(run.repo, 0, out=tmp_path, cache_dir=cache, **run.at)


def test_the_command_exits_with_1_when_anything_differs(run: Played, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", run.server.token)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    line = ["reproduce", run.repo, "--round", "2", "--endpoint", run.server.endpoint, "--out"]
    result = CliRunner().invoke(cli, [*line, str(tmp_path / "one"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["same"] is True
    result = CliRunner().invoke(cli, [*line, str(tmp_path / "two"), "--set", "teacher.wrong_labels=0.9"])
    assert result.exit_code == 1
    assert "what can explain it" in result.stdout and "wrong_labels" in result.stdout


MEASURED = RECIPE.replace("teacher_trust: off", "teacher_trust: force\nfilters: {label_confidence: 0.1}").replace(
    "per_class: 1", "per_class: 3"
)


def test_a_round_after_an_exam_with_second_opinions_is_replayed_and_reproduced(
    server: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exam's answers belong to no text; the second opinions are the journal's, so no student is needed."""
    monkeypatch.setattr("evokd_data.stages.exam.STUDENT_WEIGHTS", (2.0,))
    measured = published(server, tmp_path, "org/measured", 3, text=MEASURED)
    asked = {row["key"].split("/")[0] for row in read_answers(measured.workspace.round(1).journal)}
    assert {"exam", "generate", "label", "student"} <= asked
    for index in (1, 2):
        replayed = replay("org/measured", index, cache_dir=tmp_path / "cache", **measured.at)
        assert replayed.rows == rows(measured, index) > 0 and replayed.notes == []
        out = tmp_path / f"out{index}"
        reproduced = reproduce("org/measured", index, out=out, cache_dir=tmp_path / "cache", **measured.at)
        assert reproduced.same, reproduced.as_json()
        assert reproduced.answers["student"]["equal"] > 0
