"""The tokens of the training data, written once and read by memory map, so that memory does not grow with the data.

Private memory of a training (bench/training.py --samples): 478 MiB at 1e4 samples, 491 at 1e6, a tiny model and torch included.

Each segment of the data becomes one Arrow IPC file with one row per example:

    ids [101, 2377, 2070, 4332, 102]   types []   answers []   hard [3]   soft []   weight 1.0   cut false

For tagging there are `answers` (each word's first token) and one hard label per word. `soft` replaces `hard` where the
teacher's distribution is learned. `cut` says that the example was truncated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data import arrow_seal
from evokd_data.atomic_files import DRAFT, whole_file
from evokd_data.digest import digest
from evokd_data.errors import WorkspaceError
from evokd_data.students import Segment, TrainingData, distributed
from evokd_data.students.batches import Example, Labels, labels
from evokd_data.students.encoding import EMPTY, EncodedExample, ExampleEncoder
from evokd_data.students.pretrained import share_unknown, share_without_token

BLOCK = 1024  # examples in memory while they are tokenised, and rows of an Arrow batch
INTEGERS = ("ids", "types", "answers", "hard")


@contextmanager
def tokenised(
    data: TrainingData, encoder: ExampleEncoder, words: bool, soft: bool, identity: Mapping[str, Any], into: Path
) -> Iterator[TokenRows]:
    """The tokens of the data, earlier examples first.

    `identity` is that of the tokenizer. Files are reused from `data.cache` and left there; a file's name is a digest of all
    that decides its content. Without a cache they lie beside `into` until the block ends.
    """
    import tokenizers
    import transformers

    settings = {
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
            files = [_file(data.cache, segment, settings, encoder, soft) for segment in data.segments]
        yield TokenRows(files, words)
        return
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".tokens-", suffix=DRAFT) as folder:
        whole = Segment("", lambda: chain(data.earlier, data.fresh))
        yield TokenRows([_file(Path(folder), whole, settings, encoder, soft)], words)


def _file(folder: Path, segment: Segment, settings: Mapping[str, Any], encoder: ExampleEncoder, soft: bool) -> Path:
    path = folder / f"{digest([segment.key, settings])[:32]}.arrow"
    if not _is_intact(path):
        with whole_file(path) as draft:
            _write(draft, segment.read(), encoder, soft)
    return path


def _is_intact(path: Path) -> bool:
    """Whether there is such a file and no letter in it has changed: a cache can be written again."""
    try:
        return path.exists() and arrow_seal.check_seal(path)
    except WorkspaceError:
        return False


def _write(path: Path, examples: Iterable[Example], encoder: ExampleEncoder, soft: bool) -> None:
    """Tokenises the examples and writes them, in one pass."""
    import pyarrow as pa

    schema = pa.schema(
        {
            **{name: pa.list_(pa.int32()) for name in INTEGERS},
            "soft": pa.list_(pa.float32()),
            "weight": pa.float32(),
            "cut": pa.bool_(),
        },
        metadata={arrow_seal.KEY: arrow_seal.UNSEALED},
    )
    unread = iter(examples)
    with path.open("wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        while block := list(islice(unread, BLOCK)):
            encoded, targets = encoder.encode(block), [labels(example, soft) for example in block]
            rows: dict[str, list[Any]] = {
                "ids": [example.ids for example in encoded],
                "types": [example.types for example in encoded],
                "answers": [EMPTY if example.first_tokens is None else example.first_tokens for example in encoded],
                "hard": [target.hard for target in targets],
                "soft": [target.soft for target in targets],
            }
            lists = [_lists(values, schema.field(column).type.value_type) for column, values in rows.items()]
            weights = pa.array([example.weight for example in block], pa.float32())
            truncated = pa.array([example.truncated for example in encoded], pa.bool_())
            writer.write_batch(pa.record_batch([*lists, weights, truncated], schema=schema))
    arrow_seal.seal(path)


def _lists(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    flat = np.concatenate(values).astype(kind.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


@dataclass(frozen=True, slots=True)
class ListColumn:
    """One list column of one Arrow batch; rows are views into the file."""

    offsets: NDArray[np.int32]
    values: NDArray[Any]

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


class TokenRows:
    """The rows of token files, in order.

    `words` says whether each word has a target of its own. `lengths` (N,) are the numbers of tokens. `truncated` is the
    share of rows that were truncated.
    """

    def __init__(self, paths: Iterable[Path], words: bool) -> None:
        import pyarrow as pa

        self.words = words
        self._blocks: list[tuple[dict[str, ListColumn], NDArray[np.float32]]] = []
        starts, lengths, truncated = [0], [np.zeros(0, dtype=np.int32)], 0
        for path in paths:
            file = pa.ipc.open_file(pa.memory_map(str(path)))
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                columns = {}
                for name in (*INTEGERS, "soft"):
                    column = batch.column(name)
                    columns[name] = ListColumn(column.offsets.to_numpy(), column.values.to_numpy())
                self._blocks.append((columns, batch.column("weight").to_numpy()))
                starts.append(starts[-1] + batch.num_rows)
                lengths.append(np.diff(columns["ids"].offsets))
                truncated += batch.column("cut").true_count
        self._starts = np.array(starts)
        self.lengths = np.concatenate(lengths)
        self.truncated = round(truncated / max(1, len(self)), 6)

    def __len__(self) -> int:
        return len(self.lengths)

    def vocabulary(self, *others: int) -> NDArray[np.int64]:
        """The ids of all tokens that occur, and of `others`, sorted."""
        ids = {int(other) for other in others}
        for columns, _ in self._blocks:
            ids.update(np.unique(columns["ids"].values).tolist())
        return np.array(sorted(ids))

    def losses(self, tokenizer: Any) -> dict[str, float]:
        """The shares of what the tokenizer loses: `unknown_tokens`, and with words `words_without_token`."""
        shares = {"unknown_tokens": share_unknown(tokenizer, (columns["ids"].values for columns, _ in self._blocks))}
        if self.words:
            answers = (
                columns["answers"][row]
                for columns, _ in self._blocks
                for row in range(len(columns["answers"].offsets) - 1)
            )
            shares["words_without_token"] = share_without_token(answers)
        return shares

    def _locate(self, row: int) -> tuple[dict[str, ListColumn], NDArray[np.float32], int]:
        """The columns and weights of the block that holds a row, and the row's index in it."""
        block = int(np.searchsorted(self._starts, row, side="right")) - 1
        return *self._blocks[block], row - int(self._starts[block])

    def encoded(self, row: int) -> EncodedExample:
        """The row as the encoder wrote it, but for `truncated`, which is not read."""
        columns, _, index = self._locate(row)
        first_tokens = columns["answers"][index] if self.words else None
        return EncodedExample(columns["ids"][index], columns["types"][index], first_tokens, False)

    def labels(self, row: int) -> Labels:
        """The row's targets."""
        columns, _, index = self._locate(row)
        return Labels(columns["hard"][index], columns["soft"][index])

    def output_count(self, row: int) -> int:
        """The number of outputs that have a target: one for a text; for tagging one per word that the model reads."""
        if not self.words:
            return 1
        columns, _, index = self._locate(row)
        return int(np.count_nonzero(columns["answers"][index] >= 0))

    def weight(self, row: int) -> float:
        """The weight of the row's sample."""
        _, weights, index = self._locate(row)
        return float(weights[index])
