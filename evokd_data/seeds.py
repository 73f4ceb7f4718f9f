"""The user's texts as splits: the seed set, the test set, the dev set, the unlabelled pool; and k-shot draws."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evokd_data.digest import derive_random, digest
from evokd_data.errors import DataError
from evokd_data.normal_form import repetition_key
from evokd_data.records import Origin, Sample, Target
from evokd_data.sources import open_source
from evokd_data.tasks import UNANNOTATED, sample_id

if TYPE_CHECKING:
    from evokd_data.recipe import Recipe
    from evokd_data.recipe_sections import Source
    from evokd_data.tasks import Task

SEED = "seed"
"""The strategy's name in the origin of the user's samples."""
FEW = 12
"""With fewer seeds the teacher's exam is nearly a coin: where the teacher is right on more seeds than by chance, it stops no run."""

LEFT_OUT = {
    "in_test": "in the test set, too",
    "in_dev": "in the dev set, too",
    "repeated": "like an earlier row, text and label",
    "contradicted": "with a text that another row labels otherwise",
    "unannotated": "not annotated, or rejected",
}
"""Why a row is not used -> that in words."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What was read of one source. `rows` it has, `unannotated` ones that nobody has labelled, `left_out` rows by reason.

    `format` names the tool that exported it. `examples`: for each reason the first row, as people read it.
    """

    rows: int
    unannotated: int = 0
    format: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)


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
    """All splits of a recipe, checked; without `hub`, those that are files. Raises DataError naming the file, row and value.

    Seeds whose text stands in test or dev, be it with other case, punctuation or white space, are not drawn, nor are those that
    repeat or contradict another one; texts of dev that stand in test are not scored. A data set that others have published cannot be
    corrected, so they are counted.
    """
    task = recipe.task
    reads = {
        key: read_samples(source, task, key)
        for key in ("seeds", "test", "dev")
        if (source := getattr(recipe, key)) is not None and (hub or source.dataset is None)
    }
    reports = {key: read.report for key, read in reads.items()}
    if "test" in reads and not reads["test"].samples:
        raise DataError(f"test: {recipe.test} is empty; without a test set no round can be compared with another")
    test = reads["test"].samples if "test" in reads else []
    dev = reads["dev"].samples if "dev" in reads else []
    in_test = {repetition_key(sample.text) for sample in test}
    if dev:
        reasons = {i: "in_test" for i, sample in enumerate(dev) if repetition_key(sample.text) in in_test}
        reports["dev"] = reported(reports["dev"], dev, reasons)
        dev = [sample for i, sample in enumerate(dev) if i not in reasons]
        if not dev:
            raise DataError(
                f"dev: every text of {recipe.dev} stands in the test set, too; name other texts, or drop dev"
            )
    seeds: list[Sample] = []
    if "seeds" in reads:
        samples = reads["seeds"].samples
        reasons = left_out(samples, in_test, {repetition_key(sample.text) for sample in dev})
        reports["seeds"] = reported(reports["seeds"], samples, reasons)
        seeds = draw(task, samples, recipe.seeds.per_class, recipe.seed, reasons)
        _refuse_empty_classes(recipe, seeds, reports["seeds"])
    pool: tuple[str, ...] = ()
    if recipe.pool is not None and (hub or recipe.pool.dataset is None):
        pool, reports["pool"] = read_pool(recipe.pool, task)
    return Splits(tuple(seeds), tuple(test), tuple(dev), pool, reports)


def left_out(samples: Sequence[Sample], in_test: Collection[str], in_dev: Collection[str]) -> dict[int, str]:
    """Index -> reason, a key of LEFT_OUT, for the samples that are not drawn. Of samples that repeat each other the first is.

    `in_test`, `in_dev`: texts as `repetition_key` has them. With spans only equal texts repeat or contradict each other: case and punctuation
    can decide what is a name.
    """
    keys = [_key_of(sample) for sample in samples]
    targets: dict[str, set[Target]] = {}
    for key, sample in zip(keys, samples, strict=True):
        targets.setdefault(key, set()).add(sample.target)
    reasons: dict[int, str] = {}
    before: set[str] = set()
    for index, (key, sample) in enumerate(zip(keys, samples, strict=True)):
        if (same := repetition_key(sample.text)) in in_test:
            reasons[index] = "in_test"
        elif same in in_dev:
            reasons[index] = "in_dev"
        elif len(targets[key]) > 1:
            reasons[index] = "contradicted"
        elif key in before:
            reasons[index] = "repeated"
        before.add(key)
    return reasons


def _key_of(sample: Sample) -> str:
    return repetition_key(sample.text) if isinstance(sample.target, str) else sample.text


def left_out_counts(splits: Splits) -> dict[str, dict[str, int]]:
    """Split -> reason -> rows, with `rows` in all, for the splits of which rows were left out; JSON-able."""
    return {
        key: {
            "rows": report.rows,
            **report.left_out,
            **({"unannotated": report.unannotated} if report.unannotated else {}),
        }
        for key, report in splits.reports.items()
        if report.left_out or report.unannotated
    }


def notes(report: SourceReport) -> list[str]:
    """What was left out of a source, one line for each reason, with an example."""
    lines = [
        f"{count} of {report.rows} rows left out, {LEFT_OUT[reason]}; the first is {report.examples[reason]}"
        for reason, count in report.left_out.items()
    ]
    if report.unannotated:
        lines.append(f"{report.unannotated} of {report.rows} rows left out, {LEFT_OUT['unannotated']}")
    return lines


def draw(
    task: Task, samples: Sequence[Sample], per_class: int | None, seed: int, excluded: Collection[int] = ()
) -> list[Sample]:
    """k samples of each class, in the file's order; all of them when `per_class` is None. None of the indices `excluded`.

    For tagging a sample counts for every type it holds. Raises DataError when a class has fewer than k.
    """
    if per_class is None:
        return [sample for index, sample in enumerate(samples) if index not in excluded]
    random = derive_random(seed, "seeds")
    order = list(range(len(samples)))
    random.shuffle(order)
    chosen: set[int] = set()
    for label in task.labels:
        drawn = sum(task.carries(samples[i].target, label) for i in chosen)
        carriers = [i for i in order if i not in chosen and task.carries(samples[i].target, label)]
        candidates = [i for i in carriers if i not in excluded]
        if drawn + len(candidates) < per_class:
            barred = len(carriers) - len(candidates)
            besides = (
                f" besides {barred} that are left out (they stand in test or dev, or repeat or contradict another)"
            )
            raise DataError(
                f"seeds: {drawn + len(candidates)} examples of {label!r}{besides if barred else ''}, per_class asks for "
                f"{per_class}; add some or lower seeds.per_class"
            )
        chosen.update(candidates[: max(0, per_class - drawn)])
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
        refuse_lone_surrogates(text, location)
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
        refuse_lone_surrogates(text, location)
        texts[text] = None
    if not texts:
        raise DataError(f"pool: {source} is empty; name a source of texts, or drop the section")
    return tuple(texts), SourceReport(number, 0, reading.format)


def reported(report: SourceReport, samples: Sequence[Sample], reasons: Mapping[int, str]) -> SourceReport:
    """The report with the samples that are left out: index -> reason, a key of LEFT_OUT."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for index, reason in reasons.items():
        counts[reason] = counts.get(reason, 0) + 1
        if reason not in examples:
            examples[reason] = _example(samples, index, reason)
    ordered = {reason: counts[reason] for reason in LEFT_OUT if reason in counts}
    return SourceReport(report.rows, report.unannotated, report.format, ordered, examples)


def _example(samples: Sequence[Sample], index: int, reason: str) -> str:
    sample = samples[index]
    text = sample.text if len(sample.text) <= 80 else sample.text[:77] + "..."
    row = f"row {sample.origin.position + 1}, {text!r}"
    if reason != "contradicted":
        return row
    key = _key_of(sample)
    other = next(other for other in samples if _key_of(other) == key and other.target != sample.target)
    return f"{row}, is {sample.target!r} there and {other.target!r} in row {other.origin.position + 1}"


def _refuse_empty_classes(recipe: Recipe, seeds: Sequence[Sample], report: SourceReport) -> None:
    """Raises DataError when a label has no seed."""
    task = recipe.task
    if missing := [label for label in task.labels if not any(task.carries(s.target, label) for s in seeds)]:
        besides = "".join(f"; {note}" for note in notes(report))
        raise DataError(
            f"seeds: {recipe.seeds} has no example of {', '.join(missing)}{besides}; add at least one of each"
        )


def refuse_lone_surrogates(text: str, location: str) -> None:
    """Raises DataError for a text that no file in UTF-8 can hold."""
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{location}: {text!r} holds half a surrogate pair; mend the text")
