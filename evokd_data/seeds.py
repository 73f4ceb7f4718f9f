"""The user's texts as splits: the seed set, the test set, the dev set, the unlabelled pool; and k-shot draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evokd_data.digest import derive_random, digest
from evokd_data.errors import DataError
from evokd_data.records import Origin, Sample, Target
from evokd_data.sources import open_source
from evokd_data.tasks import UNANNOTATED, sample_id

if TYPE_CHECKING:
    from evokd_data.recipe import Recipe
    from evokd_data.recipe_sections import Source
    from evokd_data.tasks import Task

SEED = "seed"
"""The strategy's name in the origin of the user's samples."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What was read of one source: its `rows`, those of them that nobody has labelled, and the tool that exported it."""

    rows: int
    unannotated: int = 0
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Splits:
    """The user's data. Only `seeds` and `pool` may ever reach a prompt or a shard; only filters and evaluate read `test`.

    `pool` holds texts whose labels nobody knows. `reports` says of each split what its source holds.
    """

    seeds: tuple[Sample, ...]
    test: tuple[Sample, ...]
    dev: tuple[Sample, ...] = ()
    pool: tuple[str, ...] = ()
    reports: Mapping[str, SourceReport] = field(default_factory=dict, compare=False)

    def digests(self) -> dict[str, str]:
        """One digest for each split: it identifies the data without revealing them."""
        digests = {name: digest([sample.id for sample in getattr(self, name)]) for name in ("seeds", "test", "dev")}
        return {**digests, "pool": digest(list(self.pool))} if self.pool else digests


@dataclass(frozen=True, slots=True)
class Labelled:
    """The samples of one source, and what was read of it."""

    samples: list[Sample]
    report: SourceReport


def load_splits(recipe: Recipe, hub: bool = True) -> Splits:
    """All splits of a recipe, checked; without `hub`, those that are files. Raises DataError naming the file, row and value."""
    reads = {
        key: read_samples(source, recipe.task, key)
        for key in ("seeds", "test", "dev")
        if (source := getattr(recipe, key)) is not None and (hub or source.dataset is None)
    }
    reports = {key: read.report for key, read in reads.items()}
    samples = {key: read.samples for key, read in reads.items()}
    if "seeds" in samples:
        samples["seeds"] = draw(recipe.task, samples["seeds"], recipe.seeds.per_class, recipe.seed)
        _refuse_empty_classes(recipe, samples["seeds"])
    if "test" in samples and not samples["test"]:
        raise DataError(f"test: {recipe.test} is empty; without a test set no round can be compared with another")
    seeds, test, dev = (samples.get(key, []) for key in ("seeds", "test", "dev"))
    _refuse_leaks(recipe, test, seeds=seeds, dev=dev)
    _refuse_contradictions(recipe, seeds)
    pool: tuple[str, ...] = ()
    if recipe.pool is not None and (hub or recipe.pool.dataset is None):
        pool, reports["pool"] = read_pool(recipe.pool, recipe.task)
    return Splits(tuple(seeds), tuple(test), tuple(dev), pool, reports)


def notes(report: SourceReport) -> list[str]:
    """What was left out of a source, one line for each reason."""
    if not report.unannotated:
        return []
    return [f"{report.unannotated} of {report.rows} rows are not annotated, or were rejected; they are left out"]


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


def read_samples(source: Source, task: Task, split: str) -> Labelled:
    """Every labelled row of a source as a sample with origin `seed`. Raises DataError for rows the task cannot hold."""
    reading = open_source(source, task)
    samples = []
    number = unannotated = 0
    for number, row in enumerate(reading.rows, 1):
        location = f"{split}: {source}, row {number}"
        if row.get("label") is UNANNOTATED:
            unannotated += 1
            continue
        text, target = task.read_example(row, location, reading.layout)
        _refuse_lone_surrogates(text, location)
        if problem := task.check(text, target):
            raise DataError(f"{location}: {problem}: {text!r}; correct the row or remove it")
        samples.append(Sample(sample_id(task, text, target), text, target, Origin(0, -1, number - 1, SEED)))
    return Labelled(samples, SourceReport(number, unannotated, reading.format))


def read_pool(source: Source, task: Task) -> tuple[tuple[str, ...], SourceReport]:
    """The different texts of a source, in its order, without their labels. Raises DataError for rows without a text."""
    reading = open_source(source, task, labelled=False)
    texts: dict[str, None] = {}
    number = 0
    for number, row in enumerate(reading.rows, 1):
        location = f"pool: {source}, row {number}"
        text = task.read_text(row, location, reading.layout)
        _refuse_lone_surrogates(text, location)
        texts[text] = None
    if not texts:
        raise DataError(f"pool: {source} is empty; name a source of texts, or drop the section")
    return tuple(texts), SourceReport(number, 0, reading.format)


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


def _refuse_empty_classes(recipe: Recipe, seeds: Sequence[Sample]) -> None:
    """Raises DataError when a label has no seed."""
    task = recipe.task
    if missing := [label for label in task.labels if not any(task.carries(s.target, label) for s in seeds)]:
        raise DataError(f"seeds: {recipe.seeds} has no example of {', '.join(missing)}; add at least one of each")


def _refuse_lone_surrogates(text: str, location: str) -> None:
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{location}: {text!r} holds half a surrogate pair; mend the text")
