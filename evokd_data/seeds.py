"""The user's texts: the seed set, the test set, the dev set, the unlabelled pool; and k-shot draws."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.digest import derive_random, digest
from evokd_data.errors import DataError
from evokd_data.records import Origin, Sample, Target
from evokd_data.tasks import sample_id

if TYPE_CHECKING:
    from evokd_data.recipe import Recipe, Source
    from evokd_data.tasks import Task

SEED = "seed"


@dataclass(frozen=True, slots=True)
class Splits:
    """The user's data. Only `seeds` and `pool` may ever reach a prompt or a shard; `test` is read by filters and evaluate
    alone. `pool` are texts whose labels nobody knows."""

    seeds: tuple[Sample, ...]
    test: tuple[Sample, ...]
    dev: tuple[Sample, ...] = ()
    pool: tuple[str, ...] = ()

    def digests(self) -> dict[str, str]:
        """One digest for each split: which data this was, without saying what it says."""
        found = {name: digest([s.id for s in getattr(self, name)]) for name in ("seeds", "test", "dev")}
        return {**found, "pool": digest(list(self.pool))} if self.pool else found


def load_splits(recipe: Recipe) -> Splits:
    """All splits of a recipe, checked. Raises DataError naming the file, the row, the value."""
    seeds = draw(recipe.task, read(recipe.seeds, recipe, "seeds"), recipe.seeds.per_class, recipe.seed)
    test = read(recipe.test, recipe, "test")
    dev = read(recipe.dev, recipe, "dev") if recipe.dev else ()
    missing = [label for label in recipe.task.labels if not any(recipe.task.carries(s.target, label) for s in seeds)]
    if missing:
        raise DataError(
            f"seeds: {where(recipe.seeds)} has no example of {', '.join(missing)}; add at least one of each"
        )
    if not test:
        raise DataError(
            f"test: {where(recipe.test)} is empty; without a test set no round can be compared with another"
        )
    known = {sample.text for sample in test}
    for name, split in (("seeds", seeds), ("dev", dev)):
        if leaked := next((sample for sample in split if sample.text in known), None):
            raise DataError(
                f"{name}: {leaked.text!r} is in the test set too ({where(recipe.test)}); remove it from one of them"
            )
    targets: dict[str, Target] = {}
    for sample in seeds:
        if (other := targets.setdefault(sample.text, sample.target)) != sample.target:
            raise DataError(
                f"seeds: {sample.text!r} is labelled {other!r} and {sample.target!r} ({where(recipe.seeds)}); keep one"
            )
    return Splits(tuple(seeds), tuple(test), tuple(dev), read_pool(recipe.pool, recipe) if recipe.pool else ())


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
        more = [i for i in order if i not in chosen and task.carries(samples[i].target, label)]
        if have + len(more) < per_class:
            raise DataError(
                f"seeds: {have + len(more)} examples of {label!r}, per_class asks for {per_class}; add some or lower seeds.per_class"
            )
        chosen.update(more[: max(0, per_class - have)])
    return [samples[i] for i in sorted(chosen)]


def where(source: Source) -> str:
    """A source in words."""
    return str(source.path) if source.path is not None else f"{source.dataset}@{source.revision} ({source.split})"


def read(source: Source, recipe: Recipe, purpose: str) -> list[Sample]:
    """Every row of a source as a sample with origin `seed`. Raises DataError for rows the task cannot hold."""
    task = recipe.task
    samples = []
    for number, row in enumerate(_rows(source, task), 1):
        text, target = task.read_example(row, f"{purpose}: {where(source)}, row {number}")
        _refuse_halves(text, f"{purpose}: {where(source)}, row {number}")
        if problem := task.check(text, target):
            raise DataError(f"{purpose}: {where(source)}, row {number}: {problem}: {text!r}")
        samples.append(Sample(sample_id(task, text, target), text, target, Origin(0, -1, number - 1, SEED)))
    return samples


def read_pool(source: Source, recipe: Recipe) -> tuple[str, ...]:
    """The different texts of a source, in its order, without their labels. Raises DataError for rows without a text."""
    texts: dict[str, None] = {}
    for number, row in enumerate(_rows(source, recipe.task), 1):
        text = recipe.task.read_text(row, f"pool: {where(source)}, row {number}")
        _refuse_halves(text, f"pool: {where(source)}, row {number}")
        texts[text] = None
    if not texts:
        raise DataError(f"pool: {where(source)} is empty; name a source of texts, or drop the section")
    return tuple(texts)


def _refuse_halves(text: str, path: str) -> None:
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{path}: {text!r} holds half a surrogate pair; mend the text")


def _rows(source: Source, task: Task) -> Iterator[Mapping[str, Any]]:
    if source.dataset is not None:
        yield from _hub_rows(source)
        return
    path = source.path
    assert path is not None
    try:
        match path.suffix.lower():
            case ".jsonl" | ".ndjson":
                yield from _json_rows(path)
            case ".csv" | ".tsv":
                yield from _csv_rows(path)
            case ".parquet" | ".arrow":
                yield from _arrow_rows(path)
            case _:
                yield from task.read_file(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert the file") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; paths are relative to the recipe") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                if None in row:  # read on, half of a text with a comma in it would pass for the whole
                    raise DataError(
                        f"{path}:{reader.line_num}: has more fields than the header; put texts that hold a "
                        f"{reader.reader.dialect.delimiter!r} in quotes"
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path}:{reader.reader.line_num}: not CSV ({error})") from None


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not JSON ({error}); one object a line") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: {line.strip()[:80]!r} is not an object; one object a line")
            yield row


def _arrow_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
        else:
            with pa.memory_map(str(path)) as source:
                try:
                    table = pa.ipc.open_file(source).read_all()
                except pa.ArrowInvalid:  # `datasets` writes the stream format, most others the file format
                    table = pa.ipc.open_stream(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); is it a whole {path.suffix[1:]} file?") from None
    for batch in table.to_batches(1024):
        yield from batch.to_pylist()


def _hub_rows(source: Source) -> Iterator[Mapping[str, Any]]:
    """Rows of a Hub dataset at its pinned revision, resolved to a commit first: `load_dataset` alone may answer with
    another revision out of its cache when the Hub does not answer (datasets' CachedDatasetModuleFactory)."""
    from datasets import ClassLabel, load_dataset
    from huggingface_hub import HfApi

    assert source.dataset is not None
    try:
        commit = HfApi().dataset_info(source.dataset, revision=source.revision).sha
        loaded = load_dataset(source.dataset, source.config, split=source.split, revision=commit)
    except Exception as error:  # the clients raise dozens of kinds; all mean: this source cannot be had
        raise DataError(
            f"{where(source)}: cannot be loaded: {type(error).__name__}: {error}; check the id, the revision and your access"
        ) from error
    names = {
        key: kind.names
        for key, feature in loaded.features.items()
        if isinstance(kind := getattr(feature, "feature", feature), ClassLabel)
    }

    def named(key: str, value: Any) -> Any:
        if key not in names or value is None:
            return value
        return [names[key][number] for number in value] if isinstance(value, list) else names[key][value]

    for row in loaded:
        yield {key: named(key, value) for key, value in row.items()}
