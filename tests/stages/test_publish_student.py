"""A student in a model repository at the local Hub: one commit and one tag a round, a card that tells what it learned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard

from evokd_data import localhub
from evokd_data.cli import cli
from evokd_data.deployment.opening import open_model
from evokd_data.errors import PublishError, RecipeError, RevisionConflict, StudentError
from evokd_data.localhub.child import RunningHub
from evokd_data.loop.rounds import publish_complete, push_student_of_round, run_all
from evokd_data.progress import Progress
from evokd_data.revisions.verify import verify
from evokd_data.stages.publish_student import push_student
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.students.checkpoint import METADATA_FILE
from evokd_data.tasks import unlabelled
from evokd_data.yaml_files import dump_yaml, load_yaml
from tests.support.example_task import QUICK, play, quick
from tests.support.published_runs import Played, published, write_recipe

pytestmark = pytest.mark.slow

TEMPLATE = "{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, server: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", server.token)


def tags(api: HfApi, repo: str, repo_type: str = "model") -> dict[str, str]:
    return {ref.name: ref.target_commit for ref in api.list_repo_refs(repo, repo_type=repo_type).tags}


def commits(api: HfApi, repo: str) -> list[str]:
    return [commit.title for commit in api.list_repo_commits(repo)]


def playing(server: RunningHub, folder: Path, name: str, *overrides: str):
    addresses = [
        f"publish.repo=org/{name}",
        f"publish.student=org/{name}-student",
        f"publish.endpoint={server.endpoint}",
    ]
    return quick(write_recipe(folder), *addresses, "rounds.count=1", *overrides)


@pytest.fixture(scope="module")
def run(server: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Rounds 0 and 1, the student of each pushed before its round was published."""
    folder = tmp_path_factory.mktemp("run")
    recipe = playing(server, folder, "first", "card.license=mit", "card.title='A | <b>title</b>'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", server.token)
        run_all([recipe], folder / "runs", Progress())
    return Played(server, "org/first", recipe, Workspace(folder / "runs" / recipe.name))


def test_a_run_pushes_each_student_and_the_rounds_manifest_names_it(run: Played) -> None:
    models = tags(run.api, "org/first-student")
    assert commits(run.api, "org/first-student")[:2] == [
        f"round-00{i}: macro-F1 {read_json(run.workspace.round(i).metrics)['test']['macro_f1']:.2f}, trained on "
        f"{rows} samples of org/first"
        for i, rows in ((1, 3 + read_json(run.workspace.round(1).generated)["kept"]), (0, 3))
    ]
    for index in (0, 1):
        student = read_json(run.workspace.round(index).root / "published.json")["student"]
        assert student == {"repo": "org/first-student", "tag": f"round-00{index}", "commit": models[f"round-00{index}"]}
    assert verify("org/first", **run.at).round == 1


def test_the_checkpoint_comes_back_as_it_was(run: Played, tmp_path: Path) -> None:
    for index in (0, 1):
        into = tmp_path / str(index)
        run.api.snapshot_download("org/first-student", revision=f"round-00{index}", local_dir=into)
        files = {path.name: path.read_bytes() for path in run.workspace.round(index).student.iterdir()}
        assert {"evokd.json", "weights.npz"} <= set(files)
        assert {name: (into / name).read_bytes() for name in files} == files
        manifest = json.loads((into / "rounds" / f"round-00{index}" / "manifest.json").read_text())
        assert manifest["identity"]["dataset"] == {
            "repo": "org/first", "tag": f"round-00{index}", "digest": read_json(run.workspace.round(index).manifest)["digest"],
        }  # fmt: skip


def test_a_published_student_predicts_as_the_one_that_was_pushed(run: Played, tmp_path: Path) -> None:
    endpoint = run.server.endpoint
    opened = open_model("org/first-student@round-000", endpoint=endpoint)
    assert (opened.task, opened.student, opened.seed) == (run.recipe.task, run.recipe.student, run.recipe.seed)
    examples = [unlabelled(opened.task, text) for text in ("a red rose", "the deep sea")]
    ours, theirs = (
        student.predict(examples, checkpoint).tolist()
        for student, checkpoint in (
            (run.recipe.student, run.workspace.round(0).student),
            (opened.student, opened.checkpoint),
        )
    )
    assert ours == theirs
    assert open_model("org/first-student", endpoint=endpoint).name == "org/first-student@round-001"
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "a red rose"}) + "\n")
    line = ["predict", "org/first-student@round-001", str(tmp_path / "texts.jsonl"), "--endpoint", endpoint]
    result = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert json.loads(result.stdout)["text"] == "a red rose"
    with pytest.raises(PublishError, match="there is no revision 'round-007'"):
        open_model("org/first-student", 7, endpoint=endpoint)


def test_a_static_student_comes_back_with_all_it_needs(
    server: RunningHub, tiny_static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model2vec.inference import StaticModelPipeline

    recipe = playing(server, tmp_path, "static", "rounds.count=0", f"student={{kind: static, model: {tiny_static}}}")
    run_all([recipe], tmp_path / "runs", Progress())
    api = HfApi(server.endpoint, server.token)
    folder = Path(api.snapshot_download("org/static-student", revision="round-000", local_dir=tmp_path / "student"))
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "model2vec" and "StaticModelPipeline.from_pretrained" in card.text
    opened = open_model("org/static-student", endpoint=server.endpoint)
    monkeypatch.setattr("evokd_data.students.base_model.download_model", None)  # the base model is asked for nowhere
    (row,) = opened.predict(["a red rose"])
    assert StaticModelPipeline.from_pretrained(folder).predict(["a red rose"]) == [row["label"]]


def test_a_zero_shot_student_comes_back_with_the_model_that_it_names(
    server: RunningHub, tiny_gliclass: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = HfApi(server.endpoint, server.token)
    api.create_repo("org/gliclass-tiny")
    files = [CommitOperationAdd(path.name, path.read_bytes()) for path in sorted(tiny_gliclass.iterdir())]
    commit = api.create_commit("org/gliclass-tiny", files, commit_message="the model").oid
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{server.endpoint}/{TEMPLATE}")
    student = "student={kind: gliclass, model: org/gliclass-tiny, revision: main}"
    recipe = playing(server, tmp_path, "zero", "rounds.count=0", student)
    run_all([recipe], tmp_path / "runs", Progress())
    folder = Path(api.snapshot_download("org/zero-student", revision="round-000", local_dir=tmp_path / "student"))
    metadata = json.loads((folder / METADATA_FILE).read_text())
    assert metadata["base"] == {"model": "org/gliclass-tiny", "revision": commit}
    card = ModelCard.load(folder / "README.md")
    assert (card.data.base_model, card.data.library_name) == (["org/gliclass-tiny"], "evokd-data")
    assert "has learned nothing from rounds 0 to 0" in card.text and "have a licence of their own" in card.text
    assert "trained on" not in card.text and "It learned" not in card.text
    ours = open_model(recipe.name, runs=tmp_path / "runs").predict(["a red rose", ""])
    for name in ("org/zero-student", str(folder)):
        assert open_model(name, endpoint=server.endpoint).predict(["a red rose", ""]) == ours
    (folder / "recipe.yaml").unlink()  # the metadata alone name model and classes
    assert open_model(str(folder)).predict(["a red rose", ""]) == ours


def test_a_student_whose_model_is_a_folder_elsewhere_is_not_opened(
    server: RunningHub, tiny_gliclass: Path, tmp_path: Path
) -> None:
    recipe = playing(server, tmp_path, "far", "rounds.count=0", f"student={{kind: gliclass, model: {tiny_gliclass}}}")
    run_all([recipe], tmp_path / "runs", Progress())
    with pytest.raises(StudentError, match=r"needs a base model that is not with it .*; name its run there"):
        open_model("org/far-student", endpoint=server.endpoint)


def test_a_repository_without_a_student_is_named(run: Played) -> None:
    run.api.create_repo("org/nothing")
    run.api.create_commit(
        "org/nothing", [CommitOperationAdd("README.md", b"nothing")], commit_message="nothing", repo_type="model"
    )
    with pytest.raises(PublishError, match="org/nothing: holds no student"):
        open_model("org/nothing", endpoint=run.server.endpoint)
    with pytest.raises(PublishError, match=r"holds no student \(evokd.json is missing\)"):
        open_model("org/nothing@main", endpoint=run.server.endpoint)


def test_a_strangers_student_names_no_file_of_this_machine(run: Played, tmp_path: Path) -> None:
    """Its recipe asks for a folder as its model, its metadata for a file outside: neither is opened."""
    folder = Path(run.api.snapshot_download("org/first-student", revision="round-001", local_dir=tmp_path / "student"))
    recipe = load_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["student"] = {"kind": "frozen", "model": str(tmp_path / "secret")}
    (folder / "recipe.yaml").write_text(dump_yaml(recipe), encoding="utf-8")
    with pytest.raises(StudentError, match="needs a base model that is not with it"):
        open_model(str(folder))
    metadata = json.loads((folder / METADATA_FILE).read_text())
    metadata["files"]["../../secret"] = "0" * 64
    run.api.create_repo("org/stranger")
    files = {METADATA_FILE: json.dumps(metadata).encode()}
    run.api.create_commit(
        "org/stranger",
        [CommitOperationAdd(name, data) for name, data in files.items()],
        commit_message="x",
        repo_type="model",
    )
    with pytest.raises(PublishError, match=r"names '../../secret', which is no file beside it"):
        open_model("org/stranger@main", endpoint=run.server.endpoint)


def test_the_card_tells_scores_data_and_licence(run: Played, tmp_path: Path) -> None:
    file = run.api.hf_hub_download("org/first-student", "README.md", revision="round-001", local_dir=tmp_path)
    model_card = ModelCard.load(file)
    data, test = model_card.data, read_json(run.workspace.round(1).metrics)["test"]
    assert (data.license, data.language, data.library_name) == ("mit", ["en"], "evokd-data")
    assert (data.pipeline_tag, data.datasets) == ("text-classification", ["org/first"])
    scores = {result.metric_name: result for result in data.eval_results}
    assert scores["macro-F1"].metric_value == test["macro_f1"]
    assert scores["accuracy"].metric_value == test["accuracy"]
    assert (scores["macro-F1"].dataset_type, scores["macro-F1"].dataset_revision) == ("org/first", "round-001")
    text = model_card.text
    assert "<b>" not in text and f"n = {test['n']}" in text
    assert f"{test['intervals']['macro_f1'][0]:.3f} to {test['intervals']['macro_f1'][1]:.3f}" in text
    assert "{{" not in text and "| red |" in text


def test_pushing_again_does_nothing_twice(run: Played, tmp_path: Path) -> None:
    before = commits(run.api, "org/first-student")
    pushed = push_student_of_round(run.recipe, run.workspace.root.parent, 1, Progress())
    run.workspace.round(1).pushed.rename(tmp_path / "student.json")  # killed before it was written
    assert push_student_of_round(run.recipe, run.workspace.root.parent, None, Progress()) == replace(
        pushed, endpoint=run.server.endpoint
    )
    assert read_json(run.workspace.round(1).pushed) == read_json(tmp_path / "student.json")
    assert commits(run.api, "org/first-student") == before


def test_a_student_pushed_afterwards_names_the_rounds_commit(server: RunningHub, tmp_path: Path) -> None:
    first = published(server, tmp_path, "org/later", 2)
    recipe = replace(first.recipe, publish=replace(first.recipe.publish, student="org/later-student"))
    push_student(recipe, first.workspace, 1, first.hub)
    file = first.api.hf_hub_download("org/later-student", "README.md", local_dir=tmp_path)
    (result, *_) = ModelCard.load(file).data.eval_results
    assert result.dataset_revision == tags(first.api, "org/later", "dataset")["round-001"]
    assert "student" not in read_json(first.workspace.round(1).root / "published.json")
    with pytest.raises(RevisionConflict, match=r"org/later-student: holds the student of round 1; that of round 0"):
        push_student(recipe, first.workspace, 0, first.hub)


def test_another_student_under_the_same_tag_is_a_conflict(server: RunningHub, tmp_path: Path) -> None:
    first = playing(server, tmp_path / "first", "twice", "rounds.count=0")
    play(first, tmp_path / "first" / "runs", 1)
    publish_complete(first, tmp_path / "first" / "runs", Progress())
    second = playing(server, tmp_path / "second", "twice", "rounds.count=0", "student.epochs=3", "student.min_steps=40")
    play(second, tmp_path / "second" / "runs", 1)
    with pytest.raises(RevisionConflict, match=r"the tag round-000 is taken.*another publish.student"):
        push_student_of_round(second, tmp_path / "second" / "runs", 0, Progress())


def test_a_recipe_that_names_no_repository_says_what_to_add(run: Played) -> None:
    recipe = replace(run.recipe, publish=replace(run.recipe.publish, student=None))
    with pytest.raises(RecipeError, match=r"publish.student: names no model repository; add it"):
        push_student_of_round(recipe, run.workspace.root.parent, None, Progress())


def test_a_run_that_goes_on_elsewhere_takes_the_student_from_its_repository(run: Played, tmp_path: Path) -> None:
    notes: list[str] = []

    class Heard(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    recipe = playing(run.server, tmp_path, "first", "rounds.count=2", "card.license=mit")
    (there,) = run_all([recipe], tmp_path / "runs", Heard(), "org/first@round-001")
    # That of round 0 is not needed: what it made of round 1 is published with it.
    assert [n for n in notes if "student" in n] == ["round 1: the student is that of org/first-student@round-001"]
    ours, theirs = there.workspace.round(1).student / METADATA_FILE, run.workspace.round(1).student / METADATA_FILE
    assert ours.read_bytes() == theirs.read_bytes()
    assert list(tags(run.api, "org/first-student")) == ["round-000", "round-001", "round-002"]
    assert verify("org/first", **run.at).round == 2


def test_the_command_pushes_the_last_round(server: RunningHub, tmp_path: Path) -> None:
    recipe = playing(server, tmp_path, "commanded", "rounds.count=0")
    play(recipe, tmp_path / "runs", 1)
    line = ["push-student", str(recipe.path), "--runs", str(tmp_path / "runs"), "--set", "rounds.count=0"]
    for setting in (*QUICK, "publish.repo=org/commanded", "publish.student=org/commanded-student"):
        line += ["--set", setting]
    result = CliRunner().invoke(cli, [*line, "--set", f"publish.endpoint={server.endpoint}"])
    assert result.exit_code == 0, result.output
    commit = tags(Played(server, "", recipe, Workspace(tmp_path)).api, "org/commanded-student")["round-000"]
    assert result.stdout.strip() == f"org/commanded-student round-000 {commit}"
