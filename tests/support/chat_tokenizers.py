"""Tokenizers of the kinds that chat models have, trained in a moment, all with one chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.support.tiny_model import CORPUS, SPECIAL, TEMPLATE

MORE = ["<｜User｜>", "</think>", "</s>", "<s>", "[INST]", "[/INST]"]


@dataclass(frozen=True)
class Kind:
    """`splits`: with `split_special_tokens` transformers reads control tokens as text, so that it can be compared with.
    `lossless`: decoding gives every character back."""

    make: Callable[[], Any]
    splits: bool = True
    lossless: bool = True


def byte_level(special: bool = True, **flags: bool) -> Any:
    """Like GPT-2's and Qwen's. Without `special` the tokens of turns are not marked, as in some of DeepSeek's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=384, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_tokens([AddedToken("<b>", normalized=False), AddedToken("\n\n", normalized=False)])
    add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
    add([AddedToken(token, normalized=False, special=special, **flags) for token in SPECIAL])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, **flags) for token in MORE])
    return tokenizer


def sentencepiece() -> Any:
    """Like Llama 2's: a space before the first word of each segment, bytes as tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", *bytes_], show_progress=False)
    tokenizer.train_from_iterator(["\u2581" + line.replace(" ", "\u2581") for line in CORPUS], trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] == "<unk>"]
    tokenizer = Tokenizer.from_str(json.dumps(state))  # bytes are pieces of the vocabulary
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in [*SPECIAL, *MORE]])
    return tokenizer


def first_word() -> Any:
    """Encodes the beginning of a text in another way than its middle: it cannot be encoded in segments."""
    from tokenizers import pre_tokenizers

    tokenizer = byte_level()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return tokenizer


def unigram() -> Any:
    """A vocabulary in which control tokens are pieces like others, and the likeliest."""
    from tokenizers import AddedToken, Tokenizer, models

    pieces = [("<unk>", 0.0), *((token, 0.0) for token in [*SPECIAL, *MORE])]
    pieces += [(chr(code), -5.0) for code in (*range(32, 127), 10, 0xE9, 0xFF5C, *map(ord, "中文"))]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in [*SPECIAL, *MORE]])
    return tokenizer


def wordpiece() -> Any:
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, "< | > / [ ]"], trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in [*SPECIAL, *MORE]])
    return tokenizer


KINDS = {
    "byte level": Kind(byte_level),
    "not marked as special": Kind(lambda: byte_level(special=False), splits=False),
    "greedy for white space": Kind(lambda: byte_level(rstrip=True), splits=False, lossless=False),
    "sentencepiece": Kind(sentencepiece, lossless=False),
    "first word": Kind(first_word, splits=False, lossless=False),
    "unigram": Kind(unigram, splits=False, lossless=False),
    "wordpiece": Kind(wordpiece, lossless=False),
}


@cache
def _backend(kind: str) -> str:
    return KINDS[kind].make().to_str()


@cache
def _shared(kind: str) -> Any:
    return tokenizer_of(kind)


def tokenizer_of(kind: str) -> Any:
    """A new tokenizer of transformers."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_backend(kind)))
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def control_ids(kind: str) -> set[int]:
    """The ids of the tokens of turns."""
    return {_shared(kind).convert_tokens_to_ids(token) for token in [*SPECIAL, "</s>", "<s>"]}
