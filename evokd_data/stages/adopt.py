"""Adopt: whether the round's student is better than the last adopted one, on real texts only. Part of metrics.json.

With a dev set both students predict it. Without one the user's seeds must do, which the students have learned: so the *data* are
compared. For each fold of the seeds a judge is trained on all other seeds and on the synthetic samples, and predicts the fold. The judge
is the student's base model with frozen embeddings: it trains in a second. Its estimate is a little too friendly to
the synthetic samples, because texts may have been written after the very seeds that it predicts.

A seed counts only where the judges of both rounds had learned a text of its label. Where it is the only seed of its label, a judge without
synthetic samples cannot know that label: counted as a mistake, it would speak for every round of synthetic samples, right or wrong.

A round is doubted when the seeds-only student labels its texts as they were asked for significantly more often than the teacher (the
warning of `stages.opinions`), or those of a round before it that was not adopted either. Then the burden of proof turns: it must be
significantly better. Of 22 first rounds with a general teacher and one seed a class four were doubted, and took 1.3 to 6.6 points of
macro-F1; of the others 17 gave 0.3 to 23.6 points, and one took 0.5. Of five doubted second rounds three would have given 0.5 to 5.1 points
(docs/results/general-teachers).

The test set has no part in this: what is chosen by it would no longer be measured by it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from evokd_data.atomic_files import point
from evokd_data.digest import derive_random
from evokd_data.errors import WorkspaceError
from evokd_data.generation.seed_student import cross_fitted, folds_of, outside
from evokd_data.recipe import FORCE, Recipe
from evokd_data.records import Sample
from evokd_data.seeds import Splits
from evokd_data.stages.right_answers import share_right
from evokd_data.storage.corrected_rounds import corrections_of, withdrawn_rows
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import RoundFolder, Workspace, read_json
from evokd_data.strategies.trust import SIGNIFICANCE, chance_of_so_many, paired_difference
from evokd_data.tasks import Task

log = logging.getLogger(__name__)

MAX_JUDGED = 4000
"""Synthetic samples that the judge learns: the newest, drawn at random from more."""
REJECTIONS_TO_END = 2
"""So many rounds in a row that are not adopted end a run."""
ONE_STANDARD_ERROR = 0.16
"""The chance of a loss of more than one standard error, where there are many texts and no difference."""


def adopt(recipe: Recipe, workspace: Workspace, index: int, splits: Splits) -> dict[str, Any]:
    """Compares round `index` with the last adopted round and returns

    {"by": "dev" | "seeds", "n": texts, "scores": {sample id: share of right labels; None where the judge had learned no text of its label},
    "mean", "against": round or None, "compared": texts that have a score in both rounds, "difference": their mean difference,
    "standard_error", "doubted", "adopted", "best": the round whose student is the best so far}.

    A round is adopted unless it is clearly worse: by more than one standard error of the paired differences, and on so many more texts
    than it is better on that p is at most 0.16 (sign test). A doubted round is adopted only when more texts speak for it than against it,
    with a p of at most 0.05. Without a text to compare, "difference" is None, and a round is adopted unless it is doubted. Round 0 is
    always adopted.
    """
    by = "dev" if splits.dev else "seeds"
    scores: Mapping[str, float | None] = (
        _dev_scores(recipe, workspace, index, splits.dev)
        if splits.dev
        else _seed_scores(recipe, workspace, index, splits)
    )
    content: dict[str, Any] = {"by": by, "n": len(scores), "scores": scores, "mean": _mean(_known(scores))}
    best = best_round(workspace, index - 1) if index else None
    pairs = [] if best is None else _in_both(scores, read_json(workspace.round(best).metrics)["adoption"]["scores"])
    doubted = best is not None and _doubted(recipe, workspace, index)
    difference, error = paired_difference(*zip(*pairs, strict=True)) if pairs else (0.0, 0.0)
    adopted = _significantly_better(pairs) if doubted else not _clearly_worse(pairs, difference, error)
    return {
        **content,
        "against": best,
        "compared": len(pairs),
        "difference": round(difference, 6) if pairs else None,
        "standard_error": round(error, 6) if pairs else None,
        "doubted": doubted,
        "adopted": adopted,
        "best": index if adopted else best,
    }


def _clearly_worse(pairs: Sequence[tuple[float, float]], difference: float, error: float) -> bool:
    """The standard error of a handful of texts is a guess: two seeds lost of six and none won are more than one, and one time in four
    chance. A teacher whose labels were all right lost a round of 7 points so."""
    better, worse = _better_and_worse(pairs)
    return difference < -error and chance_of_so_many(worse, better + worse, 0.5) <= ONE_STANDARD_ERROR


def _significantly_better(pairs: Sequence[tuple[float, float]]) -> bool:
    better, worse = _better_and_worse(pairs)
    return chance_of_so_many(better, better + worse, 0.5) <= SIGNIFICANCE


def _better_and_worse(pairs: Sequence[tuple[float, float]]) -> tuple[int, int]:
    """How many texts the round is better on than the one before, and worse on."""
    return sum(after > before for after, before in pairs), sum(after < before for after, before in pairs)


def _doubted(recipe: Recipe, workspace: Workspace, index: int) -> bool:
    """Whether the round's texts show that the teacher knows less than the seeds, or those of a doubted round before it that was not
    adopted: the student learns all of them.

    A user who trusts the teacher by force does not ask, nor one who has looked at the texts: a corrected round.
    """
    folder = workspace.round(index)
    if recipe.teacher_trust == FORCE or corrections_of(folder) is not None:
        return False
    before = _adoption(workspace, index - 1)
    carried = before is not None and not before["adopted"] and before.get("doubted", False)
    return carried or bool(read_json(folder.generated).get("warning"))


def best_round(workspace: Workspace, last: int) -> int | None:
    """The last adopted round up to round `last`; None when no round has been compared, as in rounds of an older version."""
    path = workspace.round(last).metrics
    adoption = read_json(path).get("adoption") if path.exists() else None
    return adoption["best"] if adoption else None


def best_student(workspace: Workspace) -> RoundFolder:
    """The round whose student is the best so far: what is pushed, predicted with and exported.

    That is the last adopted round; of a run of an older version, which compared none, the last trained round. Raises WorkspaceError
    when no round is trained and scored.
    """
    scored = [folder for folder in workspace.rounds() if folder.metrics.exists()]
    if not scored:
        raise WorkspaceError(
            f"{workspace.root}: no round is trained and scored; next: evokd-data run RECIPE, or train-round"
        )
    best = best_round(workspace, scored[-1].index)
    return scored[-1] if best is None else workspace.round(best)


def link_best(workspace: Workspace) -> None:
    """Let `student/best` name the checkpoint of `best_student`, for tools that know folders and no metrics.

    The metrics decide, so a link that is missing or old, as after a kill, a restored mirror or a run of an older version, is made again
    whenever the run is opened. Nothing is done while no round is scored, or where that round's student is not on this machine.
    """
    if not any(folder.metrics.exists() for folder in workspace.rounds()):
        return
    student, link = best_student(workspace).student, workspace.best_student
    if student.exists() and not (link.is_symlink() and link.resolve() == student.resolve()):
        try:
            point(link, student)
        except OSError as error:  # a file system without links: everything of ours reads the metrics
            log.warning("%s: cannot be made a link to %s: %s", link, student, error)


def ends_early(recipe: Recipe, workspace: Workspace, index: int) -> str:
    """Why more rounds than those up to `index` would be a waste, in words; "" when they would not.

    The last REJECTIONS_TO_END rounds were not adopted; or this one is doubted and no text can be compared, so that no later one will be
    adopted either: the doubt stays, see `adopt`. The latter not for a user who trusts the teacher by force.
    """
    newest = range(max(0, index - REJECTIONS_TO_END + 1), index + 1)
    adoptions = [_adoption(workspace, round_index) for round_index in newest]
    refused = [adoption is not None and not adoption["adopted"] for adoption in adoptions]
    if len(refused) == REJECTIONS_TO_END and all(refused):
        return f"{REJECTIONS_TO_END} rounds in a row were not adopted"
    last = adoptions[-1]
    if last is not None and refused[-1] and last.get("compared") == 0 and recipe.teacher_trust != FORCE:
        return (
            "its texts are doubted, and without a second seed for each label, or a dev set, nothing can show that this round or a "
            "later one is better"
        )
    return ""


def _adoption(workspace: Workspace, index: int) -> Mapping[str, Any] | None:
    path = workspace.round(index).metrics
    return read_json(path).get("adoption") if path.exists() else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _dev_scores(recipe: Recipe, workspace: Workspace, index: int, dev: Sequence[Sample]) -> dict[str, float]:
    examples = [recipe.task.supervise(sample) for sample in dev]
    rows = recipe.student.predict(examples, workspace.round(index).student)
    return {sample.id: _share_right(recipe.task, sample, row) for sample, row in zip(dev, rows, strict=True)}


def _seed_scores(recipe: Recipe, workspace: Workspace, index: int, splits: Splits) -> dict[str, float | None]:
    folds, synthetic = folds_of(recipe, splits.seeds), _synthetic(recipe, workspace, index)
    rows = cross_fitted(recipe, recipe.student.quick(), folds, splits.seeds, synthetic)
    scores: dict[str, float | None] = {}
    for fold, rows_of_fold in zip(folds, rows, strict=True):
        learned = _labels_of(recipe.task, [*outside(fold, splits.seeds), *synthetic])
        for sample, row in zip(fold, rows_of_fold, strict=True):
            is_known = _labels_of(recipe.task, [sample]) <= learned
            scores[sample.id] = _share_right(recipe.task, sample, row) if is_known else None
    return scores


def _labels_of(task: Task, samples: Sequence[Sample]) -> set[str]:
    return {label for label in task.labels if any(task.carries(sample.target, label) for sample in samples)}


def _in_both(scores: Mapping[str, float | None], earlier: Any) -> list[tuple[float, float]]:
    """(score, earlier score) of each text that has both. A branch with another random seed asks other seeds, in another order. `earlier`
    may be a stranger's: none, unless it is of this form."""
    if not isinstance(earlier, Mapping):
        return []
    pairs = [(score, earlier.get(text)) for text, score in scores.items()]
    return [(after, before) for after, before in pairs if after is not None and before is not None]


def _known(scores: Mapping[str, float | None]) -> list[float]:
    return [score for score in scores.values() if score is not None]


def _synthetic(recipe: Recipe, workspace: Workspace, index: int) -> list[Sample]:
    """The samples of rounds 1 to `index` that are not withdrawn, at most MAX_JUDGED."""
    files = [path for folder in workspace.before(index + 1)[1:] for path in folder.shard_files()]
    samples = ShardedSamples(recipe.task, files, withdrawn_rows(workspace, index))
    if len(samples) <= MAX_JUDGED:
        return list(samples)
    chosen = derive_random(recipe.seed, "judge", index).sample(range(len(samples)), MAX_JUDGED)
    return [samples[position] for position in sorted(chosen)]


def _share_right(task: Task, sample: Sample, row: Any) -> float:
    predicted, _ = task.decode(task.supervise(sample), row)
    return share_right(task, sample, predicted)
