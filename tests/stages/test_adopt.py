"""Whether a round's student is adopted: by dev or cross-fitted seeds, never by test; two rounds in a row that are not end a run."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from evokd_data.generation.boosting import Boosting
from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.generation.seed_student import cross_fitted, folds_of
from evokd_data.loop.rounds import open_run, run_rounds
from evokd_data.progress import Progress
from evokd_data.records import Completion, Prompt
from evokd_data.seeds import load_splits
from evokd_data.stages.adopt import adopt, best_round, best_student, ends_early, link_best
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.strategies.trust import paired_difference
from evokd_data.students.checkpoint import METADATA_FILE
from evokd_data.teachers.scripted import ScriptedEngine
from tests.support.example_task import SEEDS, TEST, play, quick, sample, write_rows


def run(recipe, runs, **more: bool) -> Workspace:
    with open_run(recipe, runs) as opened, asyncio.Runner() as loop:
        teacher = TeacherOnDemand(recipe.teacher, runs / "log")
        try:
            run_rounds(loop, opened, teacher, Progress(), **more)
        finally:
            loop.run(teacher.__aexit__(None, None, None))
    return Workspace(runs / recipe.name)


@pytest.mark.parametrize(
    ("scores", "earlier", "difference", "error"),
    [
        ([1, 1, 0, 1], [1, 1, 0, 1], 0.0, 0.0),
        ([1, 1, 1, 1], [1, 0, 1, 0], 0.5, math.sqrt(1 / 3 / 4)),
        ([0, 0, 1, 1], [1, 1, 1, 1], -0.5, math.sqrt(1 / 3 / 4)),
        ([1.0], [0.5], 0.5, 0.0),
        ([], [], 0.0, 0.0),
    ],
)
def test_the_difference_is_paired_and_has_its_standard_error(scores, earlier, difference, error):
    assert paired_difference(scores, earlier) == (pytest.approx(difference), pytest.approx(error))


def test_round_0_is_adopted_and_a_better_round_too(recipe_file, tmp_path):
    workspace = play(quick(recipe_file(), "rounds.count=1", "seeds.per_class=3"), tmp_path, 2)
    first, second = (read_json(workspace.round(index).metrics)["adoption"] for index in (0, 1))
    assert (first["adopted"], first["best"], first["against"], first["by"], first["n"]) == (True, 0, None, "seeds", 9)
    assert second["against"] == 0 and second["n"] == len(second["scores"]) == 9
    assert second["adopted"] is (second["difference"] >= -second["standard_error"])


def test_a_seed_that_is_alone_in_its_class_counts_between_rounds_that_both_have_texts_of_its_class(
    recipe_file, tmp_path
):
    """Without synthetic texts its class cannot be known: as a mistake of round 0 it would speak for every round 1."""
    workspace = play(quick(recipe_file(), "rounds.count=2", "seeds.per_class=1"), tmp_path, 3)
    adoptions = [read_json(workspace.round(index).metrics)["adoption"] for index in range(3)]
    assert list(adoptions[0]["scores"].values()) == [None, None, None] and adoptions[0]["mean"] == 0.0
    assert None not in adoptions[1]["scores"].values()
    assert {key: adoptions[1][key] for key in ("against", "compared", "difference", "standard_error", "adopted", "best")} == {
        "against": 0, "compared": 0, "difference": None, "standard_error": None, "adopted": True, "best": 1,
    }  # fmt: skip
    assert (adoptions[2]["against"], adoptions[2]["compared"]) == (1, 3) and adoptions[2]["difference"] is not None


def test_of_seeds_of_which_some_are_alone_in_their_class_the_others_are_compared(recipe_file, tmp_path):
    few = {"red": ["red door", "red car"], "green": ["green door", "green car"], "blue": ["blue door"]}
    write_rows(tmp_path / "few.jsonl", few)
    workspace = play(quick(recipe_file(), "rounds.count=1", "seeds={path: few.jsonl}"), tmp_path, 2)
    first, second = (read_json(workspace.round(index).metrics)["adoption"] for index in (0, 1))
    assert list(first["scores"].values()).count(None) == 1 and None not in second["scores"].values()
    assert (second["n"], second["compared"]) == (5, 4) and second["difference"] is not None


WARNING = {"warning": "by itself the seeds-only student labels 90 of 161 texts as they were asked for, the teacher 64"}


def adoption_of(recipe, workspace: Workspace, index: int):
    return adopt(recipe, workspace, index, load_splits(recipe))


def test_a_doubted_round_is_adopted_only_where_real_texts_show_that_it_is_better(recipe_file, tmp_path):
    """Its texts show that the teacher knows less than the seeds. With one seed a class no text speaks for it; without doubt none has to."""
    recipe = quick(recipe_file(), "rounds.count=2", "seeds.per_class=1")
    workspace = play(recipe, tmp_path, 2)
    generated = workspace.round(1).generated
    assert adoption_of(recipe, workspace, 1)["adopted"]
    write_checked_json(generated, {**read_json(generated), **WARNING})
    adoption = adoption_of(recipe, workspace, 1)
    assert (adoption["doubted"], adoption["compared"], adoption["adopted"], adoption["best"]) == (True, 0, False, 0)
    assert not ends_early(recipe, workspace, 1)
    write_checked_json(workspace.round(1).metrics, {**read_json(workspace.round(1).metrics), "adoption": adoption})
    assert "nothing can show" in ends_early(recipe, workspace, 1), "no later round can be compared either"
    trusting = quick(recipe_file(), "rounds.count=2", "seeds.per_class=1", "teacher_trust=force")
    adoption = adoption_of(trusting, workspace, 1)
    assert (adoption["doubted"], adoption["adopted"]) == (False, True)
    assert not ends_early(trusting, workspace, 1), "who trusts the teacher by force can let an ended run go on"


@pytest.mark.parametrize(("earlier", "adopted"), [(0.0, True), (1.0, False)])
def test_a_doubted_round_that_is_surely_better_on_seeds_is_adopted_and_one_that_is_as_good_is_not(
    recipe_file, tmp_path, earlier, adopted
):
    separable = {colour: [f"{colour} {word}" for word in ("door", "car", "hat", "kite")] for colour in SEEDS}
    write_rows(tmp_path / "many.jsonl", separable)
    recipe = quick(recipe_file(), "rounds.count=1", "seeds={path: many.jsonl}")
    workspace = play(recipe, tmp_path, 2)
    generated, metrics = workspace.round(1).generated, workspace.round(0).metrics
    write_checked_json(generated, {**read_json(generated), **WARNING})
    content = read_json(metrics)
    scores = read_json(workspace.round(1).metrics)["adoption"]["scores"]
    content["adoption"]["scores"] = {text: earlier * score for text, score in scores.items()}
    write_checked_json(metrics, content)
    adoption = adoption_of(recipe, workspace, 1)
    assert adoption["doubted"] and adoption["compared"] == 12 and adoption["difference"] >= 0
    assert adoption["adopted"] is adopted


def test_doubt_of_a_round_that_was_not_adopted_stays_with_the_next(recipe_file, tmp_path):
    """Its texts are learned there, too. The doubt stands in the metrics, which are published: a restored round has it."""
    recipe = quick(recipe_file(), "rounds.count=2", "seeds.per_class=1")
    workspace = play(recipe, tmp_path, 3)
    assert not adoption_of(recipe, workspace, 2)["doubted"]
    metrics = workspace.round(1).metrics
    content = read_json(metrics)
    write_checked_json(metrics, {**content, "adoption": {**content["adoption"], "doubted": True}})
    assert not adoption_of(recipe, workspace, 2)["doubted"], "it was adopted all the same, so real texts spoke for it"
    content["adoption"] |= {"doubted": True, "adopted": False, "best": 0}
    write_checked_json(metrics, content)
    adoption = adoption_of(recipe, workspace, 2)
    assert (adoption["doubted"], adoption["against"], adoption["adopted"]) == (True, 0, False)
    plan = workspace.round(2).plan
    write_checked_json(plan, {**read_json(plan), "corrections": []})
    assert not adoption_of(recipe, workspace, 2)["doubted"], "a person has looked at the texts"


def test_texts_are_paired_by_what_they_are_not_by_their_place(recipe_file, tmp_path):
    """A branch with another random seed asks the seeds in another order, or others of them."""
    recipe = quick(recipe_file(), "seeds.per_class=1")
    workspace = play(recipe, tmp_path, 2)
    earlier, later = {"a": 1.0, "b": 0.0, "c": 1.0, "old": 1.0}, {"c": 1.0, "a": 1.0, "new": 0.0, "b": 0.5}
    path = workspace.round(0).metrics
    write_checked_json(path, {**read_json(path), "adoption": {"adopted": True, "best": 0, "scores": earlier}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evokd_data.stages.adopt._seed_scores", lambda *_: later)
        adoption = adoption_of(recipe, workspace, 1)
    assert (adoption["compared"], adoption["difference"]) == (3, pytest.approx(0.5 / 3, abs=1e-6))


def test_a_doubted_round_ends_the_run_unless_it_has_gone_on_already(recipe_file, tmp_path, monkeypatch):
    """Whose texts are doubted is set here, because the scripted teacher knows its task; all else is the loop's."""
    monkeypatch.setattr("evokd_data.stages.adopt._doubted", lambda recipe, workspace, index: index == 1)

    def rounds_after(count: int, **more: bool) -> list[int]:
        recipe = quick(recipe_file(), "seeds.per_class=1", "teacher_test_texts=0", f"rounds.count={count}")
        return [folder.index for folder in run(recipe, tmp_path, **more).rounds()]

    assert rounds_after(3) == [0, 1]
    assert best_student(Workspace(tmp_path / "colours")).index == 0
    assert rounds_after(3) == [0, 1], "the same command does not go on either"
    assert rounds_after(2, every_round=True) == [0, 1, 2]
    assert rounds_after(3) == [0, 1, 2, 3], "it went on after round 1, so it does not end there again"


@pytest.mark.parametrize(
    ("lost", "won", "equal", "adopted"),
    [(1, 0, 5, True), (2, 0, 4, True), (3, 0, 3, False), (4, 2, 0, True), (5, 1, 0, False), (20, 10, 170, False), (12, 10, 170, True)],
)  # fmt: skip
def test_a_round_is_not_adopted_where_it_loses_more_texts_than_chance_gives(
    recipe_file, tmp_path, lost, won, equal, adopted
):
    """Two of six lost and none won are worse by 1.6 standard errors, and one time in four chance."""
    recipe = quick(recipe_file(), "seeds.per_class=1")
    workspace = play(recipe, tmp_path, 2)
    before, after = [1.0] * lost + [0.0] * won + [1.0] * equal, [0.0] * lost + [1.0] * won + [1.0] * equal
    earlier, scores = (dict(zip(map(str, range(len(values))), values, strict=True)) for values in (before, after))
    path = workspace.round(0).metrics
    write_checked_json(path, {**read_json(path), "adoption": {"adopted": True, "best": 0, "scores": earlier}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evokd_data.stages.adopt._seed_scores", lambda *_: scores)
        assert adoption_of(recipe, workspace, 1)["adopted"] is adopted


@pytest.mark.parametrize("texts", [3, 11, 20, 41, 52])
def test_one_text_lost_is_no_loss_and_one_text_won_no_proof_however_many_there_are(recipe_file, tmp_path, texts):
    """Difference and error are both 1 / n then; the last bits of a float must not decide."""
    recipe = quick(recipe_file(), "seeds.per_class=1")
    workspace = play(recipe, tmp_path, 2)
    lost, won = ([1.0] * texts, [0.0] + [1.0] * (texts - 1)), ([0.0] + [1.0] * (texts - 1), [1.0] * texts)
    for (before, after), doubted, adopted in ((lost, False, True), (won, True, False)):
        for index, values in ((0, before), (1, after)):
            scores = dict(zip(map(str, range(texts)), values, strict=True))
            path = workspace.round(index).metrics
            write_checked_json(
                path, {**read_json(path), "adoption": {"adopted": True, "best": index, "scores": scores}}
            )
        generated = workspace.round(1).generated
        write_checked_json(generated, {**read_json(generated), **(WARNING if doubted else {})})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("evokd_data.stages.adopt._seed_scores", lambda *_, scores=scores: scores)
            assert adoption_of(recipe, workspace, 1)["adopted"] is adopted


def test_rounds_of_wrong_labels_are_not_adopted_and_two_of_them_end_the_run(recipe_file, tmp_path, monkeypatch):
    """Seeds of a class share a word, so the student of round 0 is right on dev; the teacher mixes up the labels, and is believed."""
    mixed_up = {"red": "green", "green": "blue", "blue": "red"}
    complete = ScriptedEngine.complete

    async def mix_up(self, prompt: Prompt) -> Completion:
        answer = await complete(self, prompt)
        return Completion(mixed_up.get(answer.text, answer.text), "stop", 1, 1)

    monkeypatch.setattr(ScriptedEngine, "complete", mix_up)
    separable = {colour: [f"{colour} {word}" for word in ("door", "car", "hat", "kite")] for colour in SEEDS}
    dev = {colour: [f"{colour} {word}" for word in ("tree", "bus", "cup", "ship", "road")] for colour in SEEDS}
    write_rows(tmp_path / "many.jsonl", separable)
    write_rows(tmp_path / "dev.jsonl", dev)
    recipe = quick(
        recipe_file(), "seeds={path: many.jsonl}", "dev={path: dev.jsonl}", "rounds.count=5",
        "rounds.samples=60", "filters.label_disagreement=relabel", "student.epochs=8", "training.seed_weight=0.1",
        "teacher_test_texts=0",
    )  # fmt: skip
    workspace = run(recipe, tmp_path)
    adoptions = [read_json(folder.metrics)["adoption"] for folder in workspace.rounds()]
    assert adoptions[0]["by"] == "dev" and adoptions[0]["mean"] == 1.0
    assert [adoption["adopted"] for adoption in adoptions] == [True, False, False], adoptions
    assert best_round(workspace, 2) == 0 and ends_early(recipe, workspace, 2) and not ends_early(recipe, workspace, 1)
    assert [folder.index for folder in workspace.rounds()] == [0, 1, 2]
    assert run(recipe, tmp_path).rounds()[-1].index == 2, "the same command does not go on either"


def test_the_test_set_decides_nothing(recipe_file, tmp_path):
    first = play(quick(recipe_file(), "rounds.count=1", "name=first"), tmp_path, 2)
    write_rows(
        tmp_path / "other.jsonl", {label: texts[:1] for label, texts in zip(TEST, reversed(TEST.values()), strict=True)}
    )
    second = play(quick(recipe_file(), "rounds.count=1", "name=second", "test={path: other.jsonl}"), tmp_path, 2)
    adoptions = [read_json(workspace.round(1).metrics)["adoption"] for workspace in (first, second)]
    assert adoptions[0] == adoptions[1]


def test_a_seed_weighs_more_than_a_synthetic_sample_and_as_much_as_itself_alone(recipe_file, tmp_path):
    recipe = quick(recipe_file(), "training.seed_weight=4")
    workspace = play(recipe, tmp_path, 2)
    seed, synthetic = sample("a text", "red"), sample("a text", "red", round=1, request=0)
    assert Boosting.up_to(recipe, workspace, 0).example(seed).weight == 1.0
    assert Boosting.up_to(recipe, workspace, 1).example(seed).weight == 4.0
    assert Boosting.up_to(recipe, workspace, 1).example(synthetic).weight == 1.0
    assert Boosting.up_to(recipe, workspace, 0).keys != Boosting.up_to(recipe, workspace, 1).keys


def test_folds_hold_each_seed_once_and_a_labels_seeds_lie_in_different_ones(recipe_file):
    recipe = quick(recipe_file())
    seeds = [sample(f"{label} {number}", label) for label in SEEDS for number in range(6)]
    folds = folds_of(recipe, seeds)
    assert sorted(seed.id for fold in folds for seed in fold) == sorted(seed.id for seed in seeds)
    assert len(folds) == 6
    for fold in folds:
        assert sorted(str(seed.target) for seed in fold) == sorted(SEEDS)


def test_a_fold_is_predicted_by_a_student_that_never_saw_it(recipe_file):
    """One seed of the class "red" contradicts all others: a student that had learned it would predict it."""
    recipe = quick(recipe_file(), "student.epochs=30")
    odd = sample("blue door", "red")
    seeds = [
        odd,
        *(sample(f"{label} {word}", label) for label in SEEDS for word in ("door", "car", "hat", "kite", "box")),
    ]
    folds = folds_of(recipe, seeds)
    rows = cross_fitted(recipe, recipe.student.quick(), folds, seeds)
    predicted = {
        seed.id: recipe.task.classes[int(max(range(3), key=row.__getitem__))]
        for fold, rows_of_fold in zip(folds, rows, strict=True)
        for seed, row in zip(fold, rows_of_fold, strict=True)
    }
    assert predicted[odd.id] == "blue"


@pytest.fixture
def two_rounds(recipe_file, tmp_path) -> Workspace:
    return play(quick(recipe_file()), tmp_path / "runs", 2)


def adopt_only(workspace: Workspace, best: int) -> None:
    """Let the metrics of the last round say that the student of round `best` stays."""
    path = workspace.rounds()[-1].metrics
    metrics = read_json(path)
    metrics["adoption"] = {**metrics["adoption"], "adopted": best == metrics["round"], "best": best}
    write_checked_json(path, metrics)


def test_student_best_is_a_link_to_the_last_adopted_student_and_moves_with_the_run(two_rounds, tmp_path):
    assert two_rounds.best_student.resolve() == best_student(two_rounds).student.resolve()
    assert two_rounds.best_student.readlink() == Path("..") / best_student(two_rounds).tag / "student"
    two_rounds.root.rename(tmp_path / "moved")
    moved = Workspace(tmp_path / "moved")
    assert (moved.best_student / METADATA_FILE).exists()
    assert moved.best_student.resolve() == best_student(moved).student


@pytest.mark.parametrize("killed", ["before the link", "in the middle", "with an older link"])
def test_a_link_that_a_kill_left_missing_or_old_is_made_again_when_the_run_is_opened(
    two_rounds, recipe_file, tmp_path, killed
):
    if killed == "with an older link":
        adopt_only(two_rounds, 0)
        link_best(two_rounds)
        assert two_rounds.best_student.resolve() == two_rounds.round(0).student
        adopt_only(two_rounds, 1)
        two_rounds.round(1).manifest.unlink()  # the metrics were written, and nothing after them
    else:
        two_rounds.best_student.unlink()
    if killed == "in the middle":
        (two_rounds.best_student.parent / ".best.0123.draft").symlink_to(
            "../round-001/student", target_is_directory=True
        )
    with open_run(quick(tmp_path / "recipe.yaml"), tmp_path / "runs") as opened:
        assert opened.workspace.best_student.resolve() == best_student(two_rounds).student.resolve()
    assert [path.name for path in two_rounds.best_student.parent.iterdir()] == ["best"]
    assert (two_rounds.round(1).student / METADATA_FILE).exists(), "what a draft of the link named is still there"


def test_a_link_is_not_made_over_what_somebody_put_there(two_rounds, caplog):
    two_rounds.best_student.unlink()
    two_rounds.best_student.mkdir()
    (two_rounds.best_student / "notes.txt").write_text("mine")
    link_best(two_rounds)
    assert (two_rounds.best_student / "notes.txt").read_text() == "mine" and "cannot be made a link" in caplog.text
