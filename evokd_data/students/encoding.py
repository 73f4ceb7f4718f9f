"""Texts, or words with their characters, as a model's tensors; and where in its output the answers stand."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students.batches import Example

Indices = NDArray[np.int64]


class Coder:
    """Tokenises batches, each padded to its longest text, none longer than `limit` tokens.

    A word is answered for at its first sub-word. `seen` and `truncated` count the examples that passed.
    """

    def __init__(self, tokenizer: Any, model: Any, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        self.accepted = set(inspect.signature(model.forward).parameters)
        self.seen = self.truncated = 0

    def encode(self, examples: Sequence[Example]) -> tuple[dict[str, Any], Answers]:
        words = isinstance(examples[0], TokenExample)
        if words and not self.tokenizer.is_fast:
            raise StudentError(
                f"{type(self.tokenizer).__name__} cannot tell which characters a token covers, which tagging needs; "
                "set student.model to one with a tokenizer.json"
            )
        texts = [example.text if isinstance(example, SequenceExample) else _text(example) for example in examples]
        encoded = self.tokenizer(
            texts,
            truncation=True,
            max_length=self.limit,
            padding=True,
            return_offsets_mapping=words,
            return_tensors="pt",
        )
        self.seen += len(texts)
        self.truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
        answers = Answers(examples, encoded["offset_mapping"].numpy() if words else None)
        return {key: value for key, value in encoded.items() if key in self.accepted}, answers


class Answers:
    """Which outputs answer for which row: a row is an example, or a word of one, counted through the batch.

    `rows` (A,) are the rows that have an answer: words beyond the model's last token have none. With words, `batch` and
    `token` (A,) say where each answer stands in logits of shape (batch, tokens, classes).
    """

    def __init__(self, examples: Sequence[Example], offsets: Indices | None) -> None:
        self.words = offsets is not None
        if offsets is None:
            self.rows = np.arange(len(examples))
            return
        found = [_first_tokens(example, offsets[index]) for index, example in enumerate(examples)]  # type: ignore[arg-type]
        tokens = np.concatenate(found)
        batch = np.repeat(np.arange(len(found)), [len(each) for each in found])
        self.rows = np.flatnonzero(tokens >= 0)
        self.batch, self.token = batch[self.rows], tokens[self.rows]

    def of(self, logits: Any) -> Any:
        """(A, classes): the rows' logits."""
        return logits[self.batch, self.token] if self.words else logits


def _text(example: TokenExample) -> str:
    """The words at their distances from each other: what lies between words is no word, so blanks do."""
    pieces, end = [], example.offsets[0][0] if example.offsets else 0
    for word, (start, stop) in zip(example.words, example.offsets, strict=True):
        pieces.append(" " * (start - end) + word)
        end = stop
    return "".join(pieces)


def _first_tokens(example: TokenExample, offsets: Indices) -> Indices:
    """Per word, the first token that covers one of its characters, or -1. One token may answer for several words."""
    first = np.full(len(example.words), -1, dtype=np.int64)
    if not len(first):
        return first
    begin = example.offsets[0][0]
    owner = np.full(example.offsets[-1][1] - begin, -1, dtype=np.int64)
    for word, (start, stop) in enumerate(example.offsets):
        owner[start - begin : stop - begin] = word
    for token in range(len(offsets) - 1, -1, -1):
        start, stop = offsets[token]
        covered = owner[start:stop]
        first[covered[covered >= 0]] = token
    return first


def position_limit(model: Any, tokenizer: Any, wanted: int) -> int:
    """`wanted`, or the most tokens the model has positions for.

    RoBERTa and its kin count positions from `padding_idx` + 1, so that 514 positions are 512 tokens.
    """
    limits = [wanted, tokenizer.model_max_length]
    limits.append(getattr(model.config, "max_position_embeddings", None) or wanted)
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and hasattr(module, "num_embeddings"):
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    return int(min(limits))
