"""Texts, or words with their offsets, as a model's token ids and tensors; and which outputs belong to which row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students.batches import Example

Ints = NDArray[np.int32]
EMPTY: Ints = np.zeros(0, dtype=np.int32)
BLOCK = 1024  # examples tokenised at a time


class EncodedExample(NamedTuple):
    """One example as a model reads it."""

    ids: Ints
    """(T,) tokens."""
    types: Ints
    """(T,) token types, or empty when all are 0."""
    first_tokens: Ints | None
    """(words,) the token whose output is the word's: the first sub-word, or -1 beyond the last token. None for a text."""
    truncated: bool
    """The example has more tokens than the model reads."""


class ExampleEncoder:
    """Tokenises examples, none longer than `limit` tokens, and pads those of a batch to its longest.

    Without a `model` token types are left out.
    """

    def __init__(self, tokenizer: Any, model: Any, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        parameters = {} if model is None else inspect.signature(model.forward).parameters
        self.typed = not {"token_type_ids", "types"}.isdisjoint(parameters)

    def encode(self, examples: Sequence[Example]) -> list[EncodedExample]:
        """The tokens of each example, without padding. All examples are texts, or all have words.

        Raises StudentError for words when the tokenizer cannot say which characters a token covers.
        """
        words = isinstance(examples[0], TokenExample)
        if words and not self.tokenizer.is_fast:
            raise StudentError(
                f"{type(self.tokenizer).__name__} cannot tell which characters a token covers, which tagging needs; "
                "set student.model to one with a tokenizer.json"
            )
        texts = [example.text if isinstance(example, SequenceExample) else _text(example) for example in examples]
        batch = self.tokenizer(texts, truncation=True, max_length=self.limit, return_offsets_mapping=words)
        types = batch.get("token_type_ids", ()) if self.typed else ()
        truncated = [bool(encoding.overflowing) for encoding in batch.encodings or ()]
        return [
            EncodedExample(
                np.array(ids, dtype=np.int32),
                np.array(types[index], dtype=np.int32) if types and any(types[index]) else EMPTY,
                _first_tokens(examples[index], batch["offset_mapping"][index]) if words else None,  # type: ignore[arg-type]
                bool(truncated) and truncated[index],
            )
            for index, ids in enumerate(batch["input_ids"])
        ]

    def pad(self, examples: Sequence[EncodedExample]) -> tuple[dict[str, Any], OutputIndex]:
        """The model's input as tensors (N, T), padded on the tokenizer's side with its padding token."""
        import torch

        width = max(1, *(len(example.ids) for example in examples))
        shape = (len(examples), width)
        inputs = {
            "input_ids": np.full(shape, self.tokenizer.pad_token_id, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
        }
        if any(len(example.types) for example in examples):
            inputs["token_type_ids"] = np.full(shape, self.tokenizer.pad_token_type_id, dtype=np.int64)
        left = self.tokenizer.padding_side == "left"
        starts = [width - len(example.ids) if left else 0 for example in examples]
        for row, (example, start) in enumerate(zip(examples, starts, strict=True)):
            columns = slice(start, start + len(example.ids))
            inputs["input_ids"][row, columns] = example.ids
            inputs["attention_mask"][row, columns] = 1
            if "token_type_ids" in inputs:
                inputs["token_type_ids"][row, columns] = example.types if len(example.types) else 0
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        return tensors, OutputIndex([example.first_tokens for example in examples], starts)

    def encode_batch(self, examples: Sequence[Example]) -> tuple[dict[str, Any], OutputIndex]:
        """`encode`, then `pad`."""
        return self.pad(self.encode(examples))


class OutputIndex:
    """Which outputs of a padded batch belong to which row: a row is a text, or a word counted through the batch.

    `rows` (A,) are the rows that have an output: words beyond the last token of their text have none. With words (`tagging`),
    `batch` and `token` (A,) are the rows' indices in outputs of shape (N, T, ...).
    """

    def __init__(self, first_tokens: Sequence[Ints | None], starts: Sequence[int]) -> None:
        of_words = [tokens for tokens in first_tokens if tokens is not None]
        self.tagging = bool(of_words)
        if not of_words:
            self.rows = np.arange(len(first_tokens))
            return
        counts = [len(tokens) for tokens in of_words]
        tokens = np.concatenate(of_words).astype(np.int64)
        self.rows = np.flatnonzero(tokens >= 0)
        self.batch = np.repeat(np.arange(len(of_words)), counts)[self.rows]
        self.token = (tokens + np.repeat(starts, counts))[self.rows]

    def select(self, outputs: Any) -> Any:
        """(A, ...): the outputs of `rows`, from (N, ...) for texts or (N, T, ...) for words."""
        return outputs[self.batch, self.token] if self.tagging else outputs


def truncated(folder: Path, examples: Sequence[Example], limit: int) -> int:
    """How many examples have more than `limit` tokens of the tokenizer in `folder`."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    encoder, unread = ExampleEncoder(tokenizer, None, min(limit, tokenizer.model_max_length)), iter(examples)
    count = 0
    while block := list(islice(unread, BLOCK)):
        count += sum(example.truncated for example in encoder.encode(block))
    return count


def inherit(rows: NDArray[np.float32], has_output: NDArray[np.bool_], classes: Sequence[str]) -> NDArray[np.float32]:
    """The probabilities (words, C) with those of words that have no output filled in; `has_output` (words,).

    A tokenizer drops soft hyphens, zero-width characters and the like, which stand inside names, too. A word without an output
    between two words of one span belongs to it, as the next word does. Any other is "O" with probability 1.
    """
    if has_output.all():
        return rows
    with_output = np.flatnonzero(has_output)
    rows[~has_output] = 0
    rows[~has_output, classes.index("O")] = 1
    for before, after in pairwise(with_output):
        if after - before > 1:
            tag, next_tag = classes[rows[before].argmax()], classes[rows[after].argmax()]
            if next_tag.startswith("I-") and tag[1:] == next_tag[1:]:
                rows[before + 1 : after] = rows[after]
    return rows


def _text(example: TokenExample) -> str:
    """The words at their distances from each other, separated by blanks: no word contains the characters between words."""
    pieces, end = [], example.offsets[0][0] if example.offsets else 0
    for word, (start, stop) in zip(example.words, example.offsets, strict=True):
        pieces.append(" " * (start - end) + word)
        end = stop
    return "".join(pieces)


def _first_tokens(example: TokenExample, offsets: Sequence[tuple[int, int]]) -> Ints:
    """For each word the first token that covers one of its characters, or -1. Several words may share one token."""
    first = np.full(len(example.words), -1, dtype=np.int32)
    if not len(first):
        return first
    begin = example.offsets[0][0]
    word_at = np.full(example.offsets[-1][1] - begin, -1, dtype=np.int64)
    for word, (start, stop) in enumerate(example.offsets):
        word_at[start - begin : stop - begin] = word
    for token in range(len(offsets) - 1, -1, -1):
        start, stop = offsets[token]
        covered = word_at[start:stop]
        first[covered[covered >= 0]] = token
    return first


def position_limit(model: Any, tokenizer: Any, max_length: int) -> int:
    """`max_length`, or the number of tokens that the model has positions for when that is smaller.

    RoBERTa and its relatives count positions from `padding_idx` + 1, so 514 positions are 512 tokens.
    """
    limits = [max_length, tokenizer.model_max_length]
    limits.append(getattr(model.config, "max_position_embeddings", None) or max_length)
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and hasattr(module, "num_embeddings"):
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    return int(min(limits))
