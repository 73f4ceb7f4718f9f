"""A data's tokens, written once and read by memory map: what training holds does not grow with the data.

Private memory of a training, bench/training.py --samples: 478 MiB at 1e4 samples, 491 at 1e6, a tiny model and torch included.

Each segment of a data becomes one Arrow IPC file, a row an example:

    ids [101, 2377, 2070, 4332, 102]   types []   answers []   hard [3]   soft []   weight 1.0   cut false

`answers` and one label per word for tagging; `soft` in the place of `hard` where a teacher's distribution is learned.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.digest import digest
from evokd_data.students import Segment, TrainingData, distributed
from evokd_data.students.batches import Example, Labels, labels
from evokd_data.students.encoding import NONE, Coded, ExampleEncoder

BLOCK = 1024  # examples held at a time while they are tokenised, and rows of an Arrow batch
DRAFT = ".draft"  # as the workspace's: what a killed process leaves behind is removed with its other drafts
INTEGERS = ("ids", "types", "answers", "hard")


@contextmanager
def tokenised(
    data: TrainingData, encoder: ExampleEncoder, words: bool, soft: bool, identity: Mapping[str, Any], into: Path
) -> Iterator[Tokens]:
    """The data's tokens, earlier examples first. Files are taken from and left in `data.cache`, by what decides
    their content; `identity` is that of the tokenizer. Without a cache they lie beside `into` until the block ends."""
    import tokenizers
    import transformers

    made_by = {
        "format": 1,
        "tokenizer": dict(identity),
        "limit": encoder.limit,
        "classes": list(data.classes),
        "soft": soft,
        "versions": [tokenizers.__version__, transformers.__version__],
    }
    if data.cache is not None and data.segments:
        data.cache.mkdir(parents=True, exist_ok=True)
        with distributed.rank_zero_first():
            files = [_file(data.cache, segment, made_by, encoder, soft) for segment in data.segments]
        yield Tokens(files, words)
        return
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".tokens-", suffix=DRAFT) as folder:
        whole = Segment("", lambda: chain(data.earlier, data.fresh))
        yield Tokens([_file(Path(folder), whole, made_by, encoder, soft)], words)


def _file(folder: Path, segment: Segment, made_by: Mapping[str, Any], encoder: ExampleEncoder, soft: bool) -> Path:
    path = folder / f"{digest([segment.key, made_by])[:32]}.arrow"
    if not path.exists():
        _write(path, segment.read(), encoder, soft)
    return path


def _write(path: Path, examples: Iterable[Example], encoder: ExampleEncoder, soft: bool) -> None:
    """In one pass, whole or not at all."""
    import pyarrow as pa

    schema = pa.schema(
        {
            **{name: pa.list_(pa.int32()) for name in INTEGERS},
            "soft": pa.list_(pa.float32()),
            "weight": pa.float32(),
            "cut": pa.bool_(),
        }
    )
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=DRAFT)
    try:
        with os.fdopen(handle, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            left = iter(examples)
            while block := list(islice(left, BLOCK)):
                coded, taught = encoder.code(block), [labels(example, soft) for example in block]
                rows: dict[str, list[Any]] = {
                    "ids": [one.ids for one in coded],
                    "types": [one.types for one in coded],
                    "answers": [NONE if one.answers is None else one.answers for one in coded],
                    "hard": [each.hard for each in taught],
                    "soft": [each.soft for each in taught],
                }
                lists = [_lists(values, schema.field(column).type.value_type) for column, values in rows.items()]
                weights = pa.array([example.weight for example in block], pa.float32())
                cut = pa.array([one.cut for one in coded], pa.bool_())
                writer.write_batch(pa.record_batch([*lists, weights, cut], schema=schema))
            writer.close()
            sink.flush()
            os.fsync(sink.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _lists(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    flat = np.concatenate(values).astype(kind.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


@dataclass(frozen=True, slots=True)
class Lists:
    """One column of one Arrow batch: views into the file."""

    offsets: NDArray[np.int32]
    values: NDArray[Any]

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


class Tokens:
    """The rows of some token files in order. `words`: they are answered word by word; `lengths` (N,): tokens in each;
    `truncated`: the share that was cut."""

    def __init__(self, paths: Iterable[Path], words: bool) -> None:
        import pyarrow as pa

        self.words = words
        self._blocks: list[tuple[dict[str, Lists], NDArray[np.float32]]] = []
        starts, lengths, cut = [0], [np.zeros(0, dtype=np.int32)], 0
        for path in paths:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                columns = {}
                for name in (*INTEGERS, "soft"):
                    column = batch.column(name)
                    columns[name] = Lists(column.offsets.to_numpy(), column.values.to_numpy())
                self._blocks.append((columns, batch.column("weight").to_numpy()))
                starts.append(starts[-1] + batch.num_rows)
                lengths.append(np.diff(columns["ids"].offsets))
                cut += batch.column("cut").true_count
        self._starts = np.array(starts)
        self.lengths = np.concatenate(lengths)
        self.truncated = round(cut / max(1, len(self)), 6)

    def __len__(self) -> int:
        return len(self.lengths)

    def vocabulary(self, *others: int) -> NDArray[np.int64]:
        """The ids of all tokens there are, and of `others`, sorted."""
        found = {int(other) for other in others}
        for columns, _ in self._blocks:
            found.update(np.unique(columns["ids"].values).tolist())
        return np.array(sorted(found))

    def _find(self, row: int) -> tuple[dict[str, Lists], NDArray[np.float32], int]:
        block = int(np.searchsorted(self._starts, row, side="right")) - 1
        return *self._blocks[block], row - int(self._starts[block])

    def coded(self, row: int) -> Coded:
        columns, _, place = self._find(row)
        answers = columns["answers"][place] if self.words else None
        return Coded(columns["ids"][place], columns["types"][place], answers, False)

    def labels(self, row: int) -> Labels:
        columns, _, place = self._find(row)
        return Labels(columns["hard"][place], columns["soft"][place])

    def answered(self, row: int) -> int:
        """How many answers the example asks for."""
        if not self.words:
            return 1
        columns, _, place = self._find(row)
        return int(np.count_nonzero(columns["answers"][place] >= 0))

    def weight(self, row: int) -> float:
        _, weights, place = self._find(row)
        return float(weights[place])
