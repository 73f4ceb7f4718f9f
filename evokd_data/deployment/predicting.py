"""Predict texts in blocks: memory does not grow with their number.

A row of classification, and one of tagging:

    {"text": "play some jazz", "label": "PlayMusic", "probability": 0.9871}
    {"text": "play jazz in Rome", "spans": [{"start": 13, "end": 17, "type": "city", "surface": "Rome"}], "probability": 0.9527}

`probability` is that of the label; with spans the mean over the words of their tag's. Offsets count characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from evokd_data.deployment.opening import OpenedModel
from evokd_data.deployment.prediction_files import RowWriter
from evokd_data.errors import DataError
from evokd_data.recipe_sections import Source
from evokd_data.seeds import refuse_lone_surrogates
from evokd_data.sources import Row, open_source
from evokd_data.students import Predict
from evokd_data.tasks import unlabelled

BLOCK = 2048
"""Texts in memory: enough of them that batches of similar length have little padding."""
READ_BYTES = 65_536
DIGITS = 6
"""Decimals of a probability: the last bits depend on the machine."""

Block = Sequence[str]


def predict_file(model: OpenedModel, blocks: Iterable[Block], writer: RowWriter) -> int:
    """Predict blocks of texts and write their rows, in order, each block as soon as it is predicted. Returns the number of rows."""
    predict = model.student.predictor(model.checkpoint)
    count = 0
    for block in blocks:
        rows = predicted_rows(model, predict, block)
        writer.write(rows)
        count += len(rows)
    return count


def predicted_rows(model: OpenedModel, predict: Predict, texts: Block) -> list[dict[str, Any]]:
    """One row for each text, as at the top of this page."""
    task = model.task
    examples = [unlabelled(task, text) for text in texts]
    rows = []
    for text, example, probabilities in zip(texts, examples, predict(examples), strict=True):
        target, confidence = task.decode(example, probabilities)
        if not isinstance(target, str):  # an example does not hold what stands between its words
            target = tuple(replace(span, surface=text[span.start : span.end]) for span in target)
        rows.append({"text": text, **task.to_row(target), "probability": round(float(confidence), DIGITS)})
    return rows


def blocks_of_source(model: OpenedModel, source: Source) -> Iterator[Block]:
    """The texts of a source in blocks. Labels in it are not read. Raises DataError, also while the rows are read."""
    reading = open_source(source, model.task, labelled=False)

    def read(number: int, row: Row) -> str:
        location = f"{source}, row {number}"
        text = model.task.read_text(row, location, reading.layout)
        refuse_lone_surrogates(text, location)
        return text

    texts = (read(number, row) for number, row in enumerate(reading.rows, 1))
    while block := list(islice(texts, BLOCK)):
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
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(f"stdin, line {number}: not UTF-8 ({error.reason}); convert the text") from None
        if text:
            texts.append(text)
    for start in range(0, len(texts), BLOCK):
        yield texts[start : start + BLOCK]


def source_of(path: Path, text: str | None, label: str | None) -> Source:
    """A file as a source. `text` and `label` are its columns, where they are not those of the task."""
    return Source(path=path, text=text, label=label)
