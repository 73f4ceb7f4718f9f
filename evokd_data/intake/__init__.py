"""From a user's labelled texts to a first recipe: columns recognised, rows cleaned and divided, a commented recipe written.

Nothing of the source is changed. Seeds and test are written as files of their own, so that the recipe reads what was checked here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from evokd_data import settings
from evokd_data.atomic_files import write_text
from evokd_data.errors import DataError
from evokd_data.intake.columns import Columns, find_columns, label_text
from evokd_data.intake.division import Division, class_counts, divide, without_texts_of
from evokd_data.intake.recipe_text import ABBREVIATION, Facts, recipe_text
from evokd_data.machine import Accelerator
from evokd_data.recipe_sections import Source
from evokd_data.records import Origin, Sample
from evokd_data.registry import nearest, resolve
from evokd_data.seeds import FEW, SEED, SourceReport, left_out, notes, refuse_lone_surrogates, reported
from evokd_data.sources import convert, open_source, raw_rows
from evokd_data.sources.exports import Question
from evokd_data.tasks import TASKS, UNANNOTATED, Task, cell, has, sample_id
from evokd_data.tasks.iob import is_tag, type_of
from evokd_data.tasks.nouns import in_words
from evokd_data.tasks.untested import untested

EXAMPLES = 2
"""Texts that are shown for a label that is a number."""


@dataclass(frozen=True)
class Reading:
    """Usable samples of a source. `report`: rows left out, by reason; `unusable`: those that the task cannot hold."""

    samples: list[Sample]
    report: SourceReport
    blank: int = 0
    unusable: Sequence[str] = ()

    def notes(self) -> list[str]:
        """What was left out, one line for each reason."""
        lines = notes(self.report)
        if self.blank:
            lines.append(f"{self.blank} of {self.report.rows} rows left out, without a text or a label")
        if self.unusable:
            lines.append(f"{len(self.unusable)} of {self.report.rows} rows left out; the first: {self.unusable[0]}")
        return lines


@dataclass(frozen=True)
class Intake:
    """What is written, and where. `warnings`: what the user should know before anything is spent."""

    recipe: Path
    seeds: Path
    test: Path
    division: Division
    task: Task
    warnings: list[str] = field(default_factory=list)

    def counts(self) -> list[tuple[str, int, int]]:
        """(label, seeds, test texts) for each label."""
        seeds = class_counts(self.task, self.division.seeds)
        test = class_counts(self.task, self.division.test)
        return [(label, seeds[label], test[label]) for label in self.task.labels]


def look(source: Source, task: str | None = None) -> Columns:
    """Read the rows of a source once and recognise its columns; `source.text` and `source.label` are the user's choice.

    Raises DataError, see `find_columns`.
    """
    rows, tool = raw_rows(source)
    if tool is None:
        return find_columns(rows, str(source), source.text, source.label, task)
    first = list(islice(rows, 1000))
    spans = task != "classification" and _holds_spans(first, tool, source)
    question = Question(spans, source.text, source.label)
    converted = convert(chain(first, rows), tool, question, str(source), True)
    columns = find_columns(converted, str(source), "text", "label", "ner" if spans else "classification")
    return replace(columns, text=source.text or "text", label=source.label or "label")


def look_at_test(test: Source, source: Source, columns: Columns) -> Columns:
    """The columns of a test set beside a source with `columns`: those of the source; where it lacks one, `text` or `label`; where it
    lacks these, too, what is recognised. The labels stay the source's. Raises DataError when the columns are not clear."""
    rows, tool = raw_rows(test)
    if tool is not None:
        return columns
    sought, usual = (columns.text, columns.label), ("text", "label")
    names: dict[str, None] = {}
    there: set[str] = set()
    for row in rows:
        names |= dict.fromkeys(row)
        there.update(name for name in (*sought, *usual) if name not in there and has(row, name))
        if there.issuperset(sought):
            return columns
    if not names:
        raise DataError(f"{test}: holds no rows; give a test set of texts with their labels")
    text, label = (next((name for name in pair if name in there), None) for pair in zip(sought, usual, strict=True))
    try:
        if text is None or label is None:
            found = look(replace(test, text=text, label=label), columns.task)
            if label is None and columns.task == "classification" and not set(found.labels) & set(columns.labels):
                raise DataError(f"{found.label!r} holds none of the labels of {source}")
            text, label = found.text, found.label
        if text == label:
            raise DataError(f"{text!r} would be text and label")
    except DataError as error:
        missing = " and ".join(repr(name) for name in sought if name not in there)
        reason = str(error).removeprefix(f"{test}: ").partition(";")[0]
        raise DataError(
            f"{test}: has no {missing}, as {source} has; it has {', '.join(map(repr, names))}, and which of them to read is not clear "
            f"({reason}); name the columns of texts and labels {columns.text!r} and {columns.label!r} in the test set, too"
        ) from None
    return replace(columns, text=text, label=label)


def _holds_spans(rows: Sequence[Mapping[str, Any]], tool: str, source: Source) -> bool:
    """Whether the labels of an export are spans."""
    try:
        labels = [
            row["label"] for row in convert(rows, tool, Question(True, source.text, source.label), str(source), True)
        ]
    except DataError:
        return False
    return any(isinstance(label, list) and label and not isinstance(label[0], str) for label in labels)


def label_examples(source: Source, columns: Columns) -> dict[str, list[str]]:
    """A few texts for each label of the source, to show what a number stands for."""
    examples: dict[str, list[str]] = {label: [] for label in columns.labels}
    rows, _ = raw_rows(source)
    for row in rows:
        if has(row, columns.label) and has(row, columns.text):
            texts = examples.get(label_text(cell(row, columns.label)))
            if texts is not None and len(texts) < EXAMPLES:
                texts.append(str(cell(row, columns.text)))
    return examples


def require_names(source: Source, columns: Columns, label_map: Mapping[str, str]) -> None:
    """Raises DataError for numbers that no name was given for, and for names of labels that the source does not have."""
    for stored in label_map:
        if stored not in columns.labels:
            raise DataError(
                f"--label-map {stored}={label_map[stored]}: {source} has no label {stored!r}{nearest(stored, columns.labels)}"
            )
    missing = [label for label in columns.labels if label not in label_map]
    if not columns.numbered or not missing:
        return
    shown = ""
    if columns.task == "classification":
        examples = label_examples(source, columns)
        shown = "".join(f"\n  {label}: {' | '.join(text[:70] for text in examples[label])}" for label in missing[:20])
    raise DataError(
        f"{source}: the labels in {columns.label!r} are numbers, which say nothing to a teacher; name each with --label-map "
        f"{missing[0]}=NAME (a tag: --label-map 1=B-PERSON), or all in a YAML file {{number: name}}: --label-map FILE{shown}"
    )


def make_task(columns: Columns, label_map: Mapping[str, str], noun: str = "", description: str = "") -> Task:
    """The task whose labels are the source's, renamed by the map. Raises DataError when there are too few, or too odd ones."""
    names = [label_map.get(label, label.strip()) for label in columns.labels]
    if columns.task == "ner" and columns.numbered:
        names = [type_of(name) for name in names if is_tag(name)]
    labels = [name for name in dict.fromkeys(names) if name]
    key = "labels" if columns.task == "classification" else "types"
    table: dict[str, Any] = {"description": description, "noun": noun or "text", key: labels}
    cls = resolve(TASKS, columns.task)
    # Without the columns where the task has no room for them, such as texts in a column called `tokens`.
    task, problems = settings.build(cls, table | column_settings(columns), "labels")
    if task is None:
        task, problems = settings.build(cls, table, "labels")
    if task is None:
        raise DataError(
            f"column {columns.label!r}: " + "; ".join(problems) + "; rename labels with --label-map OLD=NEW"
        )
    return task


def column_settings(columns: Columns) -> dict[str, str]:
    """The settings of the task that name the source's columns: so later files with the same columns are read without being told."""
    if columns.task == "classification":
        return {"text_column": columns.text, "label_column": columns.label}
    if columns.tagged:
        return {"tokens_column": columns.text, "tags_column": columns.label}
    return {"text_column": columns.text, "spans_column": columns.label}


def full_map(columns: Columns, label_map: Mapping[str, str]) -> dict[str, str]:
    """The user's map, labels with white space around them as those without, and truth values as words."""
    words = {label: label.strip() for label in columns.labels if label != label.strip() or label in ("true", "false")}
    return words | dict(label_map)


def read(source: Source, columns: Columns, task: Task, label_map: Mapping[str, str]) -> Reading:
    """All rows of a source that the task can hold, without repetitions and contradictions. Raises DataError."""
    named = replace(source, text=columns.text, label=columns.label, label_map=dict(label_map))
    reading = open_source(named, task)
    samples: list[Sample] = []
    unusable: list[str] = []
    number = unannotated = blank = 0
    for number, row in enumerate(reading.rows, 1):
        if row.get("label") is UNANNOTATED:
            unannotated += 1
            continue
        if _is_blank(row, columns, reading.layout.text, reading.layout.label):
            blank += 1
            continue
        location = f"{source}, row {number}"
        text, target = task.read_example(row, location, reading.layout)
        refuse_lone_surrogates(text, location)
        if problem := task.check(text, target):
            unusable.append(f"row {number}: {problem}: {text[:80]!r}")
            continue
        samples.append(Sample(sample_id(task, text, target), text, target, Origin(0, -1, number - 1, SEED)))
    reasons = left_out(samples, (), ())
    report = reported(SourceReport(number, unannotated, reading.format), samples, reasons)
    usable = [sample for index, sample in enumerate(samples) if index not in reasons]
    if not usable:
        raise DataError(f"{source}: no row can be used; {'; '.join(Reading([], report, blank, unusable).notes())}")
    return Reading(usable, report, blank, unusable)


def _is_blank(row: Mapping[str, Any], columns: Columns, text: str | None, label: str | None) -> bool:
    """Whether the row has no text, or no label where a text without one means nothing."""
    names = (text, label) if columns.task == "classification" else (text,)
    values = (cell(row, name) if name and has(row, name) else None for name in names)
    return any(value is None or value == [] or (isinstance(value, str) and not value.strip()) for value in values)


def write(
    reading: Reading,
    test: Reading | None,
    task: Task,
    facts: Facts,
    folder: Path,
    gpus: Sequence[Accelerator],
    *,
    test_share: float = 0.3,
    seed: int = 0,
) -> Intake:
    """Divide the samples, unless `test` holds a test set, and write recipe, seeds and test into `folder`.

    `facts` without what follows from the samples. Raises DataError when a class has no seed.
    """
    if test is None:
        division = divide(task, reading.samples, test_share, seed)
    else:
        division = Division(tuple(without_texts_of(reading.samples, test.samples)), tuple(test.samples))
    intake = Intake(folder / facts.file, folder / facts.seeds, folder / facts.test, division, task)
    _refuse_empty_sides(intake)
    if test is not None and (shared := len(reading.samples) - len(division.seeds)):
        intake.warnings.append(f"{shared} texts stand in the test set, too, and are no seeds")
    intake.warnings.extend(_warnings(intake))
    texts = [sample.text for sample in reading.samples]
    lengths = sorted(map(len, texts))
    facts = replace(
        facts, labels=task.labels, names=tuple(task.describe().get("names", {}).values()),
        longest=lengths[(len(lengths) - 1) * 99 // 100],
        typical=lengths[len(lengths) // 2], multilingual=_is_multilingual(texts), columns=_named_columns(task),
    )  # fmt: skip
    write_text(intake.seeds, "".join(_lines(task, division.seeds)))
    write_text(intake.test, "".join(_lines(task, division.test)))
    write_text(intake.recipe, recipe_text(facts, gpus))
    return intake


def _lines(task: Task, samples: Sequence[Sample]) -> Iterator[str]:
    columns = settings.table(task)
    text, target = columns["text_column"], columns.get("label_column", columns.get("spans_column"))
    for sample in samples:
        (value,) = task.to_row(sample.target).values()
        yield json.dumps({text: sample.text, target: value}, ensure_ascii=False) + "\n"


def _named_columns(task: Task) -> dict[str, str]:
    """The task's settings that name columns, where they differ from the defaults."""
    defaults = {entry.name: entry.default for entry in fields(type(task))}  # type: ignore[arg-type]
    table = settings.table(task)
    return {key: table[key] for key in table if key.endswith("_column") and table[key] != defaults[key]}


def map_for_later(label_map: Mapping[str, str]) -> dict[str, str]:
    """The map of labels for the recipe, so that later files of the source are read as it was. Empty where it gives a label that it
    has made another name, as a swap does: the files written here hold labels that are mapped already."""
    changed = any(label_map.get(name, name) != name for name in label_map.values())
    return {} if changed else dict(label_map)


def _refuse_empty_sides(intake: Intake) -> None:
    if not intake.division.test:
        raise DataError("no text is left for a test set; give more texts of each class, or a test set with --test FILE")
    if missing := [label for label, seeds, _ in intake.counts() if not seeds]:
        raise DataError(f"no seed is left for {', '.join(missing)}; add texts, or rename the label with --label-map")


def _warnings(intake: Intake) -> Iterator[str]:
    if sentence := untested({label: test for label, _, test in intake.counts()}):
        yield sentence
    few = [(label, test) for label, _, test in intake.counts() if 0 < test < 10]
    if few:
        listed = ", ".join(f"{label} {test}" for label, test in few[:8]) + (", ..." if len(few) > 8 else "")
        yield f"fewer than 10 test texts, so a score of these classes is mostly chance: {listed}; label more of them"
    if (seeds := sum(seeds for _, seeds, _ in intake.counts())) < FEW:
        yield (
            f"{seeds} seeds are too few for the exam to say much about a teacher (it takes {FEW}, and more for two or three labels): label more texts, or "
            "read the samples of evokd-data preview"
        )
    by_spelling: dict[str, list[str]] = {}
    for label in intake.task.labels:
        by_spelling.setdefault(" ".join(label.casefold().split()), []).append(label)
    for alike in by_spelling.values():
        if len(alike) > 1:
            yield f"labels that differ in case only: {', '.join(map(repr, alike))}; join them with --label-map '{alike[1]}={alike[0]}'"
    if codes := [label for label in intake.task.labels if ABBREVIATION.fullmatch(in_words(label))]:
        where = "label_names" if "names" in intake.task.describe() else "type_descriptions"
        yield f"abbreviations say little to a teacher: {', '.join(codes[:8])}; say what they mean in task.{where} of {intake.recipe}"


def _is_multilingual(texts: Sequence[str]) -> bool:
    """Whether most letters are of a script other than Latin."""
    letters = [character for text in texts[:500] for character in text[:200] if character.isalpha()]
    return sum(character > "\u024f" for character in letters) > len(letters) / 2
