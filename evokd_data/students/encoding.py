"""Texts, or words with their characters, as a model's token ids and tensors; and where in its output the answers stand."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students.batches import Example

Ints = NDArray[np.int32]
NONE: Ints = np.zeros(0, dtype=np.int32)


class Coded(NamedTuple):
    """One example in a model's terms."""

    ids: Ints
    """(T,) tokens."""
    types: Ints
    """(T,) their types, or empty when all are 0."""
    answers: Ints | None
    """For each word the token that answers for it, its first sub-word, or -1; None for a text."""
    cut: bool
    """The example has more tokens than the model reads."""


class ExampleEncoder:
    """Tokenises examples, none longer than `limit` tokens, and pads those of a batch to its longest."""

    def __init__(self, tokenizer: Any, model: Any, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        self.typed = "token_type_ids" in inspect.signature(model.forward).parameters

    def code(self, examples: Sequence[Example]) -> list[Coded]:
        words = isinstance(examples[0], TokenExample)
        if words and not self.tokenizer.is_fast:
            raise StudentError(
                f"{type(self.tokenizer).__name__} cannot tell which characters a token covers, which tagging needs; "
                "set student.model to one with a tokenizer.json"
            )
        texts = [example.text if isinstance(example, SequenceExample) else _text(example) for example in examples]
        encoded = self.tokenizer(texts, truncation=True, max_length=self.limit, return_offsets_mapping=words)
        types = encoded.get("token_type_ids", ()) if self.typed else ()
        cut = [bool(encoding.overflowing) for encoding in encoded.encodings or ()]
        return [
            Coded(
                np.array(ids, dtype=np.int32),
                np.array(types[index], dtype=np.int32) if types and any(types[index]) else NONE,
                _first_tokens(examples[index], encoded["offset_mapping"][index]) if words else None,  # type: ignore[arg-type]
                bool(cut) and cut[index],
            )
            for index, ids in enumerate(encoded["input_ids"])
        ]

    def pad(self, coded: Sequence[Coded]) -> tuple[dict[str, Any], Answers]:
        """The model's input as tensors, on the side and with the token that the tokenizer pads."""
        import torch

        width = max(1, *(len(one.ids) for one in coded))
        inputs = {
            "input_ids": np.full((len(coded), width), self.tokenizer.pad_token_id, dtype=np.int64),
            "attention_mask": np.zeros((len(coded), width), dtype=np.int64),
        }
        if any(len(one.types) for one in coded):
            inputs["token_type_ids"] = np.full((len(coded), width), self.tokenizer.pad_token_type_id, dtype=np.int64)
        left = self.tokenizer.padding_side == "left"
        starts = [width - len(one.ids) if left else 0 for one in coded]
        for row, (one, start) in enumerate(zip(coded, starts, strict=True)):
            place = slice(start, start + len(one.ids))
            inputs["input_ids"][row, place] = one.ids
            inputs["attention_mask"][row, place] = 1
            if "token_type_ids" in inputs:
                inputs["token_type_ids"][row, place] = one.types if len(one.types) else 0
        return {name: torch.from_numpy(array) for name, array in inputs.items()}, Answers(coded, starts)

    def encode(self, examples: Sequence[Example]) -> tuple[dict[str, Any], Answers]:
        return self.pad(self.code(examples))


class Answers:
    """Which outputs answer for which row: a row is an example, or a word of one, counted through the batch.

    `rows` (A,) are the rows that have an answer: words beyond the model's last token have none. With words, `batch` and
    `token` (A,) say where each answer stands in logits of shape (batch, tokens, classes).
    """

    def __init__(self, coded: Sequence[Coded], starts: Sequence[int]) -> None:
        found = [one.answers for one in coded if one.answers is not None]
        self.words = bool(found)
        if not found:
            self.rows = np.arange(len(coded))
            return
        counts = [len(each) for each in found]
        tokens = np.concatenate(found).astype(np.int64)
        self.rows = np.flatnonzero(tokens >= 0)
        self.batch = np.repeat(np.arange(len(found)), counts)[self.rows]
        self.token = (tokens + np.repeat(starts, counts))[self.rows]

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


def _first_tokens(example: TokenExample, offsets: Sequence[tuple[int, int]]) -> Ints:
    """Per word, the first token that covers one of its characters, or -1. One token may answer for several words."""
    first = np.full(len(example.words), -1, dtype=np.int32)
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
