"""The user's texts as splits: the seed set, the test set, the dev set, the unlabelled pool; and k-shot draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evokd_data.digest import derive_random, digest
from evokd_data.errors import DataError
from evokd_data.records import Origin, Sample, Target
from evokd_data.sources import read_rows
from evokd_data.tasks import sample_id

if TYPE_CHECKING:
    from evokd_data.recipe import Recipe
    from evokd_data.recipe_sections import Source
    from evokd_data.tasks import Task

SEED = "seed"
"""The strategy's name in the origin of the user's samples."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The user's data. Only `seeds` and `pool` may ever reach a prompt or a shard; only filters and evaluate read `test`.

    `pool` holds texts whose labels nobody knows.
    """

    seeds: tuple[Sample, ...]
    test: tuple[Sample, ...]
    dev: tuple[Sample, ...] = ()
    pool: tuple[str, ...] = ()

    def digests(self) -> dict[str, str]:
        """One digest for each split: it identifies the data without revealing them."""
        digests = {name: digest([sample.id for sample in getattr(self, name)]) for name in ("seeds", "test", "dev")}
        return {**digests, "pool": digest(list(self.pool))} if self.pool else digests


def load_splits(recipe: Recipe) -> Splits:
    """All splits of a recipe, checked. Raises DataError naming the file, the row, the value."""
    seeds = draw(recipe.task, read_samples(recipe.seeds, recipe.task, "seeds"), recipe.seeds.per_class, recipe.seed)
    test = read_samples(recipe.test, recipe.task, "test")
    dev = read_samples(recipe.dev, recipe.task, "dev") if recipe.dev else []
    missing = [label for label in recipe.task.labels if not any(recipe.task.carries(s.target, label) for s in seeds)]
    if missing:
        raise DataError(f"seeds: {recipe.seeds} has no example of {', '.join(missing)}; add at least one of each")
    if not test:
        raise DataError(f"test: {recipe.test} is empty; without a test set no round can be compared with another")
    _refuse_leaks(recipe, test, seeds=seeds, dev=dev)
    _refuse_contradictions(recipe, seeds)
    pool = read_pool(recipe.pool, recipe.task) if recipe.pool else ()
    return Splits(tuple(seeds), tuple(test), tuple(dev), pool)


def draw(task: Task, samples: Sequence[Sample], per_class: int | None, seed: int) -> list[Sample]:
    """k samples of each class, in the file's order; all of them when `per_class` is None.

    For tagging a sample counts for every type it holds. Raises DataError when a class has fewer than k.
    """
    if per_class is None:
        return list(samples)
    random = derive_random(seed, "seeds")
    order = list(range(len(samples)))
    random.shuffle(order)
    chosen: set[int] = set()
    for label in task.labels:
        have = sum(task.carries(samples[i].target, label) for i in chosen)
        candidates = [i for i in order if i not in chosen and task.carries(samples[i].target, label)]
        if have + len(candidates) < per_class:
            raise DataError(
                f"seeds: {have + len(candidates)} examples of {label!r}, per_class asks for {per_class}; "
                "add some or lower seeds.per_class"
            )
        chosen.update(candidates[: max(0, per_class - have)])
    return [samples[i] for i in sorted(chosen)]


def read_samples(source: Source, task: Task, split: str) -> list[Sample]:
    """Every row of a source as a sample with origin `seed`. Raises DataError for rows the task cannot hold."""
    samples = []
    for number, row in enumerate(read_rows(source, task), 1):
        location = f"{split}: {source}, row {number}"
        text, target = task.read_example(row, location)
        _refuse_lone_surrogates(text, location)
        if problem := task.check(text, target):
            raise DataError(f"{location}: {problem}: {text!r}; correct the row or remove it")
        samples.append(Sample(sample_id(task, text, target), text, target, Origin(0, -1, number - 1, SEED)))
    return samples


def read_pool(source: Source, task: Task) -> tuple[str, ...]:
    """The different texts of a source, in its order, without their labels. Raises DataError for rows without a text."""
    texts: dict[str, None] = {}
    for number, row in enumerate(read_rows(source, task), 1):
        location = f"pool: {source}, row {number}"
        text = task.read_text(row, location)
        _refuse_lone_surrogates(text, location)
        texts[text] = None
    if not texts:
        raise DataError(f"pool: {source} is empty; name a source of texts, or drop the section")
    return tuple(texts)


def _refuse_leaks(recipe: Recipe, test: Sequence[Sample], **splits: Sequence[Sample]) -> None:
    """Raises DataError when a text of another split is in the test set."""
    test_texts = {sample.text for sample in test}
    for name, split in splits.items():
        if leak := next((sample for sample in split if sample.text in test_texts), None):
            raise DataError(f"{name}: {leak.text!r} is in the test set too ({recipe.test}); remove it from one of them")


def _refuse_contradictions(recipe: Recipe, seeds: Sequence[Sample]) -> None:
    """Raises DataError when a text has two targets."""
    targets: dict[str, Target] = {}
    for sample in seeds:
        if (other := targets.setdefault(sample.text, sample.target)) != sample.target:
            raise DataError(
                f"seeds: {sample.text!r} is labelled {other!r} and {sample.target!r} ({recipe.seeds}); keep one"
            )


def _refuse_lone_surrogates(text: str, location: str) -> None:
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{location}: {text!r} holds half a surrogate pair; mend the text")
