"""A pretrained model and its tokenizer, loaded and checked; and what the tokenizer loses of the texts.

Without its files transformers makes a tokenizer that knows no word, silently; one of another model gives ids that mean other words.
Either trains to the end, on nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.models import TOKENIZERS

UNKNOWN_SHARE = 0.05
"""From this share of unknown tokens on there is a remark."""
SPARE = 0.1, 128, 1024
"""Embeddings without a token: a share, at least and at most this many. Matrices are padded, by 905 rows in Phi-2 (1.8 %)."""

LOCAL = {"local_files_only": True, "trust_remote_code": False}
ENCODER = "a complete encoder that transformers knows"
"""What to choose instead of files that cannot be used."""


def load_pretrained(
    auto_class: Any, folder: Path, *, instead: str = ENCODER, **options: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """The model in a folder, as a class of transformers loads it, in float32; its tokenizer; the loading report.

    A tokenizer that cannot pad gets a padding token. Raises StudentError when the files cannot be used, with what to choose
    `instead`, or when the tokenizer has no vocabulary, or that of another model.
    """
    import torch
    from transformers import AutoTokenizer

    with refused(folder, instead):
        model, report = auto_class.from_pretrained(
            folder,
            dtype=torch.float32,  # whatever the checkpoint has: half precision loses the small steps of fine-tuning
            output_loading_info=True,
            **LOCAL,
            **options,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    _check_vocabulary(folder, model, tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            tokenizer.add_special_tokens({"pad_token": "[PAD]"})
            model.resize_token_embeddings(len(tokenizer))
        model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer, report


def save_pretrained(model: Any, tokenizer: Any, limit: int, into: Path) -> None:
    """The model and its tokenizer in transformers' format; the tokenizer says that the model reads `limit` tokens."""
    tokenizer.model_max_length = limit
    if tokenizer.is_fast:  # its file would store the truncation and padding of its last call
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    model.save_pretrained(into)
    tokenizer.save_pretrained(into)


def check_pretrained(folder: Path) -> None:
    """Refuse what `load_pretrained` would refuse, as far as it can be seen without the weights: seconds, and a few megabytes.

    Raises StudentError.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with refused(folder), torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder, **LOCAL))
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    _check_vocabulary(folder, model, tokenizer)


@contextmanager
def refused(folder: Path, instead: str = ENCODER) -> Iterator[None]:
    """Raises StudentError for any error: the files may come from anywhere, and the libraries raise errors of many kinds."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "trust_remote_code" in str(error):
            reason = "it brings its own code, which is never run"
        raise StudentError(
            f"student.model: {folder} cannot be used: {reason}; choose {instead}, or delete a damaged download"
        ) from error


def _check_vocabulary(folder: Path, model: Any, tokenizer: Any) -> None:
    names = set(getattr(tokenizer, "vocab_files_names", {}).values()) | {"tokenizer.json"}
    files = {path.name for pattern in (*names, *TOKENIZERS) for path in folder.glob(pattern)} - {
        "tokenizer_config.json"
    }
    if not files and getattr(tokenizer, "vocab_files_names", {}):  # tokenizers of bytes have no files
        raise StudentError(
            f"student.model: {folder} holds no vocabulary of its tokenizer ({', '.join(sorted(names))}); "
            "save it there: AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)"
        )
    rows = _vocabulary_rows(model)
    share, least, most = SPARE
    if rows is not None and not 0 <= rows - len(tokenizer) <= max(least, min(most, share * rows)):
        raise StudentError(
            f"student.model: {folder} has a tokenizer of {len(tokenizer)} tokens and a model of {rows}; save the tokenizer that "
            "the model was trained with there"
        )


def _vocabulary_rows(model: Any) -> int | None:
    """The number of token embeddings; None where ids are no rows of one matrix, as with CANINE's hashes."""
    embedding = model.get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None)
    return rows if rows is not None and rows == getattr(model.config, "vocab_size", None) else None


def share_unknown(tokenizer: Any, ids: Iterable[NDArray[np.int32]]) -> float:
    """The share of unknown tokens among the tokens that stand for something in a text."""
    special = np.array([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id], dtype=np.int64)
    unknown = of_texts = 0
    for tokens in ids:
        of_texts += int(np.isin(tokens, special, invert=True).sum())
        unknown += 0 if tokenizer.unk_token_id is None else int((tokens == tokenizer.unk_token_id).sum())
    return round(unknown / max(1, of_texts), 6)


def share_without_token(first_tokens: Iterable[NDArray[np.int32] | None]) -> float:
    """The share of words of which the tokenizer makes nothing: invisible characters, for the most part. Words of a text (words,),
    see `encoding.EncodedExample`; those that the model no longer reads do not count."""
    words = without = 0
    for first in first_tokens:
        if first is not None and len(read := np.flatnonzero(first >= 0)):
            words += int(read[-1]) + 1
            without += int(read[-1]) + 1 - len(read)
    return round(without / max(1, words), 6)


def remarks(figures: Mapping[str, Any]) -> list[str]:
    """What the user should know of the shares `unknown_tokens` and `words_without_token` in the figures of a training."""
    lines = []
    if (unknown := figures.get("unknown_tokens", 0.0)) >= UNKNOWN_SHARE:
        lines.append(
            f"student.model: its tokenizer does not know {unknown:.0%} of what stands in the texts; choose a model made for their "
            "language"
        )
    if without := figures.get("words_without_token", 0.0):
        lines.append(
            f"student.model: its tokenizer drops {without:.2%} of the words (invisible characters, for the most part); they are "
            "tagged as the words around them"
        )
    return lines
