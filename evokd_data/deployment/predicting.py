"""Predict the texts of a file or a stream in blocks: memory does not grow with their number. A row: see `predicted_rows`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

from evokd_data.deployment.input_files import Given, InputFile
from evokd_data.deployment.opening import OpenedModel
from evokd_data.deployment.predicted_rows import BLOCK, predicted_rows
from evokd_data.deployment.prediction_files import RowWriter
from evokd_data.errors import DataError

READ_BYTES = 65_536

Block = Sequence[Given]
LINE = {"text": "text", "label": "label", "spans": "spans", "probability": "probability"}
"""What the columns of a predicted line of a stream are called."""


def predict_file(
    model: OpenedModel, blocks: Iterable[Block], writer: RowWriter, names: Mapping[str, str] = LINE
) -> int:
    """Predict blocks of texts and write their rows, in order, each block as soon as it is predicted. Returns the number of rows.

    A row has what was given beside its text, then the prediction: of its columns those in `names`, called as there.
    """
    predict = None
    count = 0
    for block in blocks:
        predict = predict or model.student.predictor(model.checkpoint)  # a file that cannot be read loads no model
        predicted = predicted_rows(model.task, predict, [given.text for given in block])
        rows = [
            {**given.row, **{names[key]: value for key, value in row.items() if key in names}}
            for given, row in zip(block, predicted, strict=True)
        ]
        writer.write(rows)
        count += len(rows)
    return count


def blocks_of_file(file: InputFile) -> Iterator[Block]:
    """The texts of a file in blocks. Labels in it are not read. Raises DataError, also while the rows are read."""
    given = file.given()
    while block := list(islice(given, BLOCK)):
        yield block


def blocks_of_lines(stream: BinaryIO) -> Iterator[Block]:
    """The lines of a stream, each a text. Blank lines are left out.

    A block is what has arrived, so that whoever writes a line and waits gets its answer. Raises DataError naming the line.
    """
    rest, number = b"", 0
    while data := stream.read1(READ_BYTES):  # type: ignore[attr-defined]
        *complete, rest = (rest + data).split(b"\n")
        yield from _texts(complete, number)
        number += len(complete)
    yield from _texts([rest], number)


def _texts(lines: Sequence[bytes], before: int) -> Iterator[Block]:
    texts = []
    for number, line in enumerate(lines, before + 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(f"stdin, line {number}: not UTF-8 ({error.reason}); convert the text") from None
        if text:
            texts.append(text)
    for start in range(0, len(texts), BLOCK):
        yield [Given(text, {}) for text in texts[start : start + BLOCK]]


@contextmanager
def naming_options(options: str) -> Iterator[None]:
    """An error about a missing column says which options of the command name it."""
    try:
        yield
    except DataError as error:
        message = str(error).removeprefix("test: ")  # the file is scored as a recipe's `test` is
        what, _, settings = message.partition("; set task.text_column")
        raise DataError(f"{what}; name it: {options}" if settings else message) from None
