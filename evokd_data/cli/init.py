"""evokd-data init"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evokd_data.cli.echo import echo, failure
from evokd_data.printable import printable_line

if TYPE_CHECKING:
    from evokd_data.intake import Intake, Reading
    from evokd_data.intake.columns import Columns
    from evokd_data.recipe_sections import Source

MOST_CLASSES = 40
"""Classes of which the table shows each."""


@click.command("init", short_help="Make a recipe from your own labelled texts.")
@click.argument("data", metavar="DATA")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The recipe to write; default: DATA's name with .yaml, here.",
)
@click.option("--text", "text", metavar="COLUMN", help="The column of the texts, or of their tokens.")
@click.option("--label", "label", metavar="COLUMN", help="The column of the labels, tags or spans.")
@click.option("--task", type=click.Choice(["classification", "ner"]), help="One label a text, or spans of a text.")
@click.option(
    "--label-map",
    "label_map",
    multiple=True,
    metavar="OLD=NEW|FILE",
    help="What a label is called from now on; may be repeated, or name a YAML file {old: new}.",
)
@click.option(
    "--test",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A test set of its own, with the columns of DATA, or with `text` and `label`.",
)
@click.option(
    "--test-share",
    type=click.FloatRange(0.01, 0.95),
    default=0.3,
    show_default=True,
    help="The share of each class that becomes the test set.",
)
@click.option(
    "--per-class", type=click.IntRange(1), metavar="K", help="Learn from K seeds of each class, not from all."
)
@click.option("--noun", default="", help="What the texts are, in one or two words: review, support ticket.")
@click.option("--description", default="", help="What the labels say, in one sentence.")
@click.option(
    "--teacher", metavar="MODEL", help="The large model: ORG/NAME on the Hub, or a folder or .gguf file that is here."
)
@click.option(
    "--student", metavar="MODEL", help="The small model's encoder: ORG/NAME on the Hub, a folder, or package:NAME."
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the random division.")
@click.option("--revision", help="Of a data set on the Hub; default: its newest commit.")
@click.option("--config", help="Of a data set on the Hub.")
@click.option("--split", default="train", show_default=True, help="Of a data set on the Hub.")
@click.option("--test-split", help="Of a data set on the Hub: the split that becomes the test set.")
@click.option("--force", is_flag=True, help="Write over the files of an earlier init.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
def command(data: str, **options: Any) -> None:
    """Make a recipe, seeds and a test set from DATA: a file (csv, tsv, jsonl, json, xlsx, parquet, arrow, CoNLL columns, an export
    of an annotation tool; also compressed), or a data set on the Hub, ORG/NAME.

    Finds the columns, drops repetitions, divides each class so that no text is on both sides, and says what it did. On a terminal it
    asks what only you know. Nothing is written over without --force.

    Example: evokd-data init reviews.csv --noun review
    """  # fmt: skip
    from evokd_data import intake
    from evokd_data.machine import accelerators

    wishes = Wishes(data, options)
    source, test_source = wishes.sources()
    recipe = wishes.recipe_path()
    wishes.refuse_existing(recipe)
    columns = wishes.look(source)
    kind = "texts" if columns.task == "classification" else "tagged texts"
    echo(f"{source}: {columns.rows} {kind}, read from {columns.text!r} and {columns.label!r}{wishes.others(columns)}")
    wishes.ask(source, columns)
    label_map = intake.full_map(columns, wishes.label_map)
    intake.require_names(source, columns, label_map)
    task = intake.make_task(columns, label_map, wishes.noun, wishes.description)
    reading = intake.read(source, columns, task, label_map)
    test = None
    if test_source is not None:
        in_test = intake.look_at_test(test_source, source, columns)
        if in_test != columns:
            echo(f"{test_source}: has other columns than {source}; read from {in_test.text!r} and {in_test.label!r}")
        test = intake.read(test_source, in_test, task, label_map)
    made_files = intake.write(
        reading, test, task, wishes.facts(recipe, source, columns, label_map), recipe.parent, accelerators(),
        test_share=options["test_share"], seed=options["seed"],
    )  # fmt: skip
    _report(made_files, reading, test, options["per_class"])


@dataclass
class Wishes:
    """What the user asked for on the command line, and then says in the dialogue."""

    data: str
    options: Mapping[str, Any]
    label_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.text: str | None = self.options["text"]
        self.label: str | None = self.options["label"]
        self.noun: str = self.options["noun"]
        self.noun_from_column = False
        self.description: str = self.options["description"]
        self.may_ask = sys.stdin.isatty() and sys.stderr.isatty() and not self.options["yes"]
        for entry in self.options["label_map"]:
            self.label_map |= _label_map(entry)

    def sources(self) -> tuple[Source, Source | None]:
        """The source of the texts, and that of the test set. Raises an error for what is neither a file nor a name on the Hub."""
        from evokd_data.recipe_sections import Source
        from evokd_data.repo_names import fault
        from evokd_data.sources import FORMATS, suffix
        from evokd_data.sources.hub_datasets import find_commit

        path = Path(self.data)
        if path.suffix in (".yaml", ".yml"):
            raise failure(
                f"{path}: is the name of a recipe; give your labelled texts: evokd-data init DATA --out {path}"
            )
        if self.options["test"] is not None and self.options["test_split"] is not None:
            raise failure("--test and --test-split both name the test set; give one of them")
        is_path = path.is_file() or (path.suffix and (path.parent.is_dir() or suffix(path) in FORMATS))
        if is_path or fault(self.data, needs_namespace=False):
            if not path.is_file():
                raise failure(
                    f"{path}: no such file; give a file of labelled texts, or ORG/NAME of a data set on the Hub"
                )
            for option in ("revision", "config", "test_split"):
                if self.options[option] is not None:
                    raise failure(
                        f"--{option.replace('_', '-')} is for data sets on the Hub; drop it for the file {path}"
                    )
            test = self.options["test"]
            return Source(path=path, text=self.text, label=self.label), test and Source(path=test)
        revision, config = self.options["revision"] or "main", self.options["config"]
        named = Source(dataset=self.data, revision=revision, config=config, split=self.options["split"], text=self.text, label=self.label)  # fmt: skip
        source = replace(named, revision=find_commit(named))
        if self.options["test"] is not None:
            return source, Source(path=self.options["test"])
        split = self.options["test_split"]
        return source, split and replace(source, split=split)

    def recipe_path(self) -> Path:
        """Where the recipe goes. Raises an error for a folder that is not there."""
        name = re.sub(r"[^\w.-]+", "-", Path(self.data).name.partition(".")[0]).strip("-.") or "recipe"
        path: Path = self.options["out"] or Path(f"{name}.yaml")
        if not path.parent.is_dir():
            raise failure(f"{path.parent}: is not a folder; make it, or give --out another one")
        return path

    def refuse_existing(self, recipe: Path) -> None:
        """Raises an error when a file would be written over."""
        paths = (recipe, *(recipe.with_name(name) for name in _data_files(recipe)))
        for given in (self.data, self.options["test"]):
            if given and Path(given).resolve() in {path.resolve() for path in paths}:
                raise failure(f"{given}: would be written over; give --out another name")
        there = [str(path) for path in paths if path.exists()]
        if there and not self.options["force"]:
            raise failure(f"{', '.join(there)}: there already; --force writes over, --out gives another name")

    def look(self, source: Source) -> Columns:
        """The columns of the source; where several could be meant, the user is asked."""
        from evokd_data.intake import look
        from evokd_data.intake.columns import Undecided

        while True:
            try:
                return look(replace(source, text=self.text, label=self.label), self.options["task"])
            except Undecided as question:
                if not self.may_ask:
                    raise
                echo(str(question), err=True)
                chosen = click.prompt(f"{question.setting} column", type=click.Choice(question.candidates), err=True)
                setattr(self, question.setting, chosen)

    def others(self, columns: Columns) -> str:
        """The columns that are not read, for the first line."""
        return f"; not read: {', '.join(columns.others)}" if columns.others else ""

    def ask(self, source: Source, columns: Columns) -> None:
        """Ask, on a terminal, for what no file says: what the texts are, where the column's name does not say it, and what numbers
        stand for."""
        from evokd_data.intake import label_examples
        from evokd_data.intake.columns import noun_of

        if not self.noun:
            self.noun = noun_of(columns.text)
            self.noun_from_column = bool(self.noun)
        if not self.may_ask:
            return
        if columns.numbered and columns.task == "classification":
            examples = label_examples(source, columns)
            for label in columns.labels:
                if label not in self.label_map:
                    shown = "".join(f"\n  {printable_line(text[:100])}" for text in examples[label])
                    echo(f"texts labelled {label}:{shown}", err=True)
                    self.label_map[label] = click.prompt(f"name of label {label}", err=True).strip()
        if not self.noun:
            self.noun = click.prompt(
                "what is one of your texts (review, question, ticket ...)", "text", err=True
            ).strip()
        if not self.description:
            question = "what do the labels say, in one sentence (Enter: nothing)"
            self.description = click.prompt(question, "", show_default=False, err=True).strip()

    def facts(self, recipe: Path, source: Source, columns: Columns, label_map: Mapping[str, str]) -> Any:
        """What the recipe's text needs to know, but for what follows from the samples."""
        from evokd_data.intake import map_for_later
        from evokd_data.intake.recipe_text import Facts

        seeds, test = _data_files(recipe)
        where = source.path.name if source.path is not None else str(source)
        return Facts(
            name=re.sub(r"[^\w.-]+", "-", recipe.stem).strip("-.") or "run", file=recipe.name,
            origin=f"{where}, columns {columns.text!r} and {columns.label!r}", task=columns.task, labels=(), names=(),
            seeds=seeds, test=test, typical=0, longest=0, multilingual=False, per_class=self.options["per_class"], noun=self.noun,
            noun_from_column=self.noun_from_column, description=self.description, label_map=map_for_later(label_map),
            teacher=_model(self.options["teacher"], "--teacher", recipe), student=_model(self.options["student"], "--student", recipe),
        )  # fmt: skip


def _model(name: str | None, option: str, recipe: Path) -> str:
    """A model as the recipe names it: what is on this machine by its path from the recipe's folder. "" for None."""
    from evokd_data.models import FOLDER, HUB_NAME, PACKAGE

    if name is None or name.startswith(PACKAGE):
        return name or ""
    path = Path(name).expanduser()
    if path.exists():
        relative = os.path.relpath(path.resolve(), recipe.resolve().parent)
        return relative if relative.startswith("..") else f"./{relative}"
    if name.startswith(FOLDER) or not HUB_NAME.fullmatch(name):
        raise failure(
            f"{option} {name}: no such folder or file; give one that is here, or ORG/NAME of a model on the Hub"
        )
    return name


def _data_files(recipe: Path) -> tuple[str, str]:
    return f"{recipe.stem}-seeds.jsonl", f"{recipe.stem}-test.jsonl"


def _label_map(entry: str) -> dict[str, str]:
    """One `--label-map`: old=new, or the path of a YAML file that maps old to new."""
    from evokd_data.yaml_files import load_yaml, read_yaml_text

    old, equals, new = entry.rpartition("=")
    if equals:
        if not old or not new.strip():
            raise failure(f"--label-map {entry}: not of the form OLD=NEW")
        return {old: new.strip()}
    path = Path(entry)
    if not path.is_file():
        raise failure(f"--label-map {entry}: neither OLD=NEW nor a file")
    try:
        table = load_yaml(read_yaml_text(path))
    except (OSError, ValueError) as error:
        raise failure(f"--label-map {entry}: {error}; write old: new, one a line") from None
    if isinstance(table, list):
        table = dict(enumerate(table))
    if not isinstance(table, dict):
        raise failure(f"--label-map {entry}: holds no table; write old: new, one a line")
    return {str(key): str(value) for key, value in table.items()}


def _report(intake: Intake, reading: Reading, test: Reading | None, per_class: int | None) -> None:
    """Say what was read, dropped, divided and written, and what comes next."""
    from evokd_data.cli.console import table

    for line in (*reading.notes(), *(f"test: {note}" for note in (test.notes() if test else ()))):
        echo(line)
    rows: list[list[object]] = [[label, seeds + in_test, seeds, in_test] for label, seeds, in_test in intake.counts()]
    if len(rows) > MOST_CLASSES:
        by_size = sorted(rows, key=lambda row: str(row[1]).zfill(9))
        rows = [by_size[0], by_size[-1]]
        rows = [["(smallest) " + str(rows[0][0]), *rows[0][1:]], ["(largest) " + str(rows[1][0]), *rows[1][1:]]]
    seeds, in_test = len(intake.division.seeds), len(intake.division.test)
    rows.append([f"{len(intake.task.labels)} labels", seeds + in_test, seeds, in_test])
    table("", ("label", "texts", "seeds", "test"), rows)
    for warning in intake.warnings:
        echo(f"warning: {warning}", err=True)
    if per_class:
        echo(f"a run draws {per_class} of each class from the seeds: seeds.per_class")
    echo(f"wrote {intake.recipe}, {intake.seeds} and {intake.test}")
    echo("open the recipe: what the texts and labels mean is yours to say, and decides most")
    echo(f"choose its words by {intake.seeds} alone: words chosen by {intake.test} make the score on it too high")
    echo(f"next: evokd-data doctor {intake.recipe}, then evokd-data preview {intake.recipe}")
