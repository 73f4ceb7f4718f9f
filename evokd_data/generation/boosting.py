"""How much each sample weighs when a student is trained: seeds more, and, with boosting, what the student before got wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evokd_data.digest import digest
from evokd_data.recipe import Recipe
from evokd_data.records import Sample, SequenceExample, TokenExample
from evokd_data.storage.corrected_rounds import withdrawn_rows
from evokd_data.storage.shards import ShardedSamples, read_probe
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.tasks import Task


@dataclass(frozen=True)
class Boosting:
    """The weights with which a student learns samples.

    A seed weighs `training.seed_weight` times as much as a synthetic sample: its label is certain. Beside no synthetic sample it weighs 1.

    With boosting, each synthetic sample was predicted once, by the student of the round before its own (`probe`). A sample that this student got
    wrong weighs `training.boost` times as much as the others of its round, in this round and in all later ones. The mean
    weight of each round stays what it was. AdaBoost derives the factor from the error rate. Here some errors are wrong labels
    of the teacher, and AdaBoost's factor would raise these most where they are rarest.
    """

    task: Task
    boost: float
    wrong: frozenset[str]
    """Ids of the samples that weigh more; empty without boosting."""
    means: Mapping[int, float]
    """Round -> the divisor of its weights; empty without boosting."""
    keys: Mapping[int, str]
    """Round -> a digest of all that decides its weights; empty without boosting."""
    boosted: int
    """The number of samples in these rounds."""
    seed_weight: float = 1.0

    @classmethod
    def up_to(cls, recipe: Recipe, workspace: Workspace, index: int) -> Boosting:
        """The weights in the rounds up to `index`.

        Wrong predictions are taken from each round's metrics, which exist also where a round was restored without its
        probe, and for the newest round from its probe.
        """
        boost, boosted = recipe.training.boost, 0
        wrong_of_all_rounds: set[str] = set()
        means: dict[int, float] = {}
        keys: dict[int, str] = {}
        seed_weight = recipe.training.seed_weight if index else 1.0
        if seed_weight != 1:
            keys[0] = digest(["seeds", seed_weight])
        withdrawn = withdrawn_rows(workspace, index) if boost > 1 else frozenset()
        for folder in workspace.before(index + 1)[1:] if boost > 1 else ():
            count = len(ShardedSamples(recipe.task, folder.shard_files(), withdrawn))
            if folder.metrics.exists():
                wrong = set(read_json(folder.metrics)["probe"]["wrong"])
            else:
                predictions = read_probe(recipe.task, folder.probe)
                wrong = {prediction.id for prediction in predictions if recipe.task.mistakes(prediction)}
            wrong -= {sample_id for round_index, sample_id in withdrawn if round_index == folder.index}
            means[folder.index] = 1 + (boost - 1) * len(wrong) / max(1, count)
            keys[folder.index] = digest([boost, sorted(wrong)])
            wrong_of_all_rounds |= wrong
            boosted += count
        return cls(recipe.task, boost, frozenset(wrong_of_all_rounds), means, keys, boosted, seed_weight)

    def example(self, sample: Sample) -> SequenceExample | TokenExample:
        """The sample as the student learns it, with its weight."""
        if sample.origin.round == 0:
            return self.task.supervise(replace(sample, weight=sample.weight * self.seed_weight))
        mean = self.means.get(sample.origin.round)
        if mean is None:
            return self.task.supervise(sample)
        factor = (self.boost if sample.id in self.wrong else 1.0) / mean
        return self.task.supervise(replace(sample, weight=sample.weight * factor))
