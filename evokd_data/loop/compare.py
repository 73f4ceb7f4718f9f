"""Compare recipes over random seeds and shots at equal budgets. Each trial is an ordinary run; then arms are compared. Recipes that
differ in their student alone may share the runs of the first: see `same_shards`.

Writes results.json, README.md and plots. It can be stopped and rerun: each run's folder shows what is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from evokd_data.atomic_files import write_json, write_text
from evokd_data.errors import RecipeError
from evokd_data.loop.rounds import LockedRun, open_run, run_all
from evokd_data.loop.same_shards import (
    TrainedStudent,
    differ,
    refuse_other_differences,
    student_facts,
    train_students,
    trained_student,
)
from evokd_data.progress import Progress
from evokd_data.recipe import Recipe, load
from evokd_data.reporting import comparison_tables
from evokd_data.reporting.primary_metric import NAMES, primary_metric
from evokd_data.reporting.run_summary import summary
from evokd_data.reporting.significance import differences
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace

NOTES = "notes.md"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a comparison. `arm` is the recipe's name."""

    arm: str
    seed: int
    shots: int | None
    recipe: Recipe


def trials(
    recipes: Sequence[Path],
    seeds: Sequence[int],
    shots: Sequence[int | None],
    overrides: Iterable[str] = (),
    same_shards: bool = False,
) -> list[Trial]:
    """One trial for every recipe, seed and number of shots (k; None: all seeds).

    Raises RecipeError when the recipes have different budgets or test sets, or the same name; with `same_shards` also when they
    differ in anything but name and student.
    """
    all_trials = []
    for k in shots:
        for seed in seeds:
            for path in recipes:
                arm = load(path, overrides)
                name = f"{arm.name}-{k or 'all'}shot-seed{seed}"
                trial_overrides = [
                    *overrides,
                    f"seed={seed}",
                    f"name={name}",
                    "publish=null",
                    "budget=null",
                    "teacher_test_texts=0",
                ]
                trial_overrides += [] if k is None else [f"seeds.per_class={k}"]
                all_trials.append(Trial(arm.name, seed, k, load(path, trial_overrides)))
    arms = [trial.recipe for trial in all_trials[: len(recipes)]]
    names = [trial.arm for trial in all_trials[: len(recipes)]]
    problems = []
    if len(set(names)) < len(names):
        problems.append(f"compare: two recipes have one name ({', '.join(names)}); give each its own")
    budgets = {
        f"{trial.arm}: {trial.recipe.rounds.count} x {trial.recipe.rounds.samples}"
        for trial in all_trials
        if trial.recipe.strategy.name != "none"
    }
    if len({budget.split(": ")[1] for budget in budgets}) > 1:
        problems.append(
            f"compare: unequal budgets ({'; '.join(sorted(budgets))}); set rounds.count and rounds.samples alike"
        )
    if len({recipe.test for recipe in arms}) > 1:
        problems.append("compare: the recipes have different test sets; nothing could be compared")
    if problems:
        raise RecipeError(*problems)
    if same_shards:
        refuse_other_differences(arms)
    return all_trials


def compare(
    trials: Sequence[Trial], runs: Path, into: Path, command: str, progress: Progress, same_shards: bool = False
) -> dict[str, Any]:
    """Run every trial, write the results into the folder `into`, and return them.

    With `same_shards` only the first recipe's trials are runs, and the other students learn the samples of these. The text of the
    file `NOTES` in this folder is appended to the page each time the page is written.
    """
    leaders = [trial for trial in trials if not same_shards or trial.arm == trials[0].arm]
    led = run_all([trial.recipe for trial in leaders], runs, progress, every_round=True)
    runs_of = {(trial.seed, trial.shots, trial.arm): run for trial, run in zip(leaders, led, strict=True)}
    finished = []
    for trial in trials:
        run = runs_of.get((trial.seed, trial.shots, trial.arm)) or runs_of[trial.seed, trial.shots, trials[0].arm]
        finished.append(run)
        if run.recipe is not trial.recipe:
            with open_run(run.recipe, runs, progress=progress) as locked:
                train_students(locked, trial.recipe, progress)
    results = collect(trials, finished, command)
    into.mkdir(parents=True, exist_ok=True)
    write_json(into / "results.json", results)
    notes_file = into / NOTES
    notes = notes_file.read_text(encoding="utf-8") if notes_file.exists() else ""
    write_text(into / "README.md", "\n".join(filter(None, (page(results), notes))))
    from evokd_data.reporting.plots import plot

    plot(results, into)
    return results


def collect(trials: Sequence[Trial], finished: Sequence[LockedRun], command: str) -> dict[str, Any]:
    """Everything that the page and the plots show, as one table for JSON. `finished` holds for each trial the run whose samples its
    student learned.

    {"command", "metric", "test": {"n", "digest"}, "differences": [...],
     "arms": {arm: {"seeds", "macro_f1", ..., "score_by_round", "kept_by_round", ...}}, "students": as `student_facts`
    gives them, None where all arms have the same student}; `metric` is the primary metric, by which arms are compared; lists over seeds are aligned with `seeds`. With several k an arm is called "name, k-shot".
    """
    several_shots = len({trial.shots for trial in trials}) > 1
    arms: dict[str, dict[str, Any]] = {}
    students: dict[str, TrainedStudent] = {}
    for trial, run in zip(trials, finished, strict=True):
        name = f"{trial.arm}, {trial.shots}-shot" if several_shots else trial.arm
        rounds, student = summary(run.workspace)["rounds"], trained_student(run, trial.recipe)
        students.setdefault(name, student)
        tests = student.tests
        metric = primary_metric(tests[-1]).key
        arm = arms.setdefault(
            name,
            {"strategy": trial.recipe.strategy.name, "shots": trial.shots, "seeds": [],
             **{key: [] for key in NAMES if key in tests[-1]},
             "kept": [], "tokens": [], "score_by_round": [], "kept_by_round": [], "tokens_by_round": [],
             "class_f1_by_round": [], "class_samples_by_round": []},
        )  # fmt: skip
        # A zero-shot student beside another's run has learned none of its samples, and needs no teacher for its score.
        shares = int(trial.recipe.student.learns or run.recipe is trial.recipe)
        samples = list(accumulate(shares * entry["kept"] for entry in rounds))
        tokens = list(accumulate(shares * entry["tokens"] for entry in rounds))
        arm["seeds"].append(trial.seed)
        for key in NAMES.keys() & tests[-1].keys():
            arm[key].append(tests[-1][key])
        arm["kept"].append(samples[-1])
        arm["tokens"].append(tokens[-1])
        arm["score_by_round"].append([primary_metric(test).value for test in tests])
        arm["kept_by_round"].append(samples)
        arm["tokens_by_round"].append(tokens)
        arm["class_f1_by_round"].append([{c: v["f1"] for c, v in test["per_class"].items()} for test in tests])
        by_class = _samples_by_class(trial.recipe, run.workspace, len(rounds))
        arm["class_samples_by_round"].append(
            [{c: shares * count for c, count in counts.items()} for counts in by_class]
        )
    first = next((trial for trial in finished if trial.recipe.strategy.name != "none"), finished[0])
    scores = {name: dict(zip(arm["seeds"], arm[metric], strict=True)) for name, arm in arms.items()}
    arm_differences = []
    for shots in sorted({arm["shots"] for arm in arms.values()}, key=str):
        same_shots = {name: scores[name] for name, arm in arms.items() if arm["shots"] == shots}
        arm_differences += [asdict(difference) for difference in differences(same_shots, next(iter(same_shots)))]
    return {
        "command": command,
        "metric": metric,
        "budget": {"rounds": first.recipe.rounds.count, "samples_per_round": first.recipe.rounds.samples},
        "test": {"n": len(first.splits.test), "digest": first.splits.digests()["test"]},
        "teacher": dict(first.recipe.teacher.identity()),
        "student": dict(first.recipe.student.identity()),
        "arms": arms,
        "differences": arm_differences,
        "students": student_facts(students, first.splits) if differ(students) else None,
    }


def _samples_by_class(recipe: Recipe, workspace: Workspace, rounds: int) -> list[dict[str, int]]:
    """For each round, the number of its samples of each label."""
    by_round = []
    for index in range(rounds):
        counts: Counter[str] = Counter()
        for sample in ShardedSamples(recipe.task, workspace.round(index).shard_files()):
            counts.update(label for label in recipe.task.labels if recipe.task.carries(sample.target, label))
        by_round.append({label: counts[label] for label in recipe.task.labels})
    return by_round


def page(results: Mapping[str, Any]) -> str:
    """The README.md of the comparison. Every number comes from `results`."""
    name_of = NAMES[results["metric"]]
    return "\n".join(
        [
            "# Comparison",
            "",
            f"    {results['command']}",
            "",
            *comparison_tables.tables(results),
            "",
            f"![{name_of} against samples kept](f1-by-samples.svg)",
            "",
            f"![{name_of} against teacher tokens](f1-by-tokens.svg)",
            "",
            "![samples of each class against its F1](classes.svg)",
            "",
        ]
    )
