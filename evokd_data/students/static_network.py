"""Static embeddings as features of texts and words, and as a torch network that is exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from evokd_data.records import TokenExample
from evokd_data.students import Network
from evokd_data.students.batches import Example
from evokd_data.students.encoding import ExampleEncoder
from evokd_data.students.logistic_head import Floats
from evokd_data.students.pretrained import share_unknown, share_without_token

UNLIMITED = 1_000_000
"""Tokens: a mean has no position limit, so texts are read whole."""


class StaticEmbeddings:
    """A `model2vec.StaticModel` in float32 that reads whole texts and scales their vectors to length 1."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(N, D): the mean of each text's tokens, scaled to length 1; zeros for a text of which the tokenizer knows nothing."""
        if not texts:
            return np.zeros((0, self.model.dim), dtype=np.float32)
        vectors: Floats = self.model.encode(list(texts), use_multiprocessing=False)
        return vectors

    def embed_words(self, examples: Sequence[TokenExample], window: int) -> list[Floats]:
        """For each example (words, (2 window + 1) D): each word's first token with its neighbours, each scaled to length 1.

        Beyond the ends of a text are zeros; a word without a token has zeros alone.
        """
        rows = []
        for encoded in self.encoder.encode(examples):
            assert encoded.first_tokens is not None
            padded = np.pad(self.unit_vectors[encoded.ids], ((window, window), (0, 0)))
            windows = np.concatenate([padded[start : start + len(encoded.ids)] for start in range(2 * window + 1)], 1)
            of_words = np.zeros((len(encoded.first_tokens), windows.shape[1]), dtype=np.float32)
            has_token = encoded.first_tokens >= 0
            of_words[has_token] = windows[encoded.first_tokens[has_token]]
            rows.append(of_words)
        return rows

    def losses(self, examples: Sequence[Example]) -> dict[str, float]:
        """The shares of what the tokenizer loses: `unknown_tokens`, and with words `words_without_token`."""
        encoded = self.encoder.encode(examples)
        shares = {"unknown_tokens": share_unknown(self.tokenizer, (example.ids for example in encoded))}
        if isinstance(examples[0], TokenExample):
            shares["words_without_token"] = share_without_token(example.first_tokens for example in encoded)
        return shares

    @cached_property
    def vectors(self) -> Floats:
        """(V, D): what each token adds to a text's mean, whatever the model stores it as."""
        model = self.model
        vectors = model.embedding if model.token_mapping is None else model.embedding[model.token_mapping]
        weighted = vectors if model.weights is None else vectors * model.weights[:, None]
        return np.nan_to_num(weighted).astype(np.float32)

    @cached_property
    def unit_vectors(self) -> Floats:
        """`vectors`, each scaled to length 1."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        unit: Floats = self.vectors / np.maximum(lengths, 1e-12)
        return unit

    @cached_property
    def encoder(self) -> ExampleEncoder:
        """Tokens without special ones: a mean needs neither [CLS] nor [SEP]."""
        return ExampleEncoder(self.tokenizer, None, UNLIMITED)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer as one of transformers."""
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        content = {**json.loads(self.model.tokenizer.to_str()), "post_processor": None}
        tokenizer = Tokenizer.from_str(json.dumps(content))
        unknown = self.model.unk_token_id
        names = {} if unknown is None else {"unk_token": tokenizer.id_to_token(unknown)}
        padding = "[PAD]" if tokenizer.token_to_id("[PAD]") is not None else tokenizer.id_to_token(0)
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token=padding, model_max_length=UNLIMITED, **names
        )


def static_network(
    embeddings: StaticEmbeddings, weight: Floats, bias: Floats, classes: tuple[str, ...], window: int | None
) -> Network:
    """Embeddings and head, `weight` (C, D) and `bias` (C,), as one network; `window` of a tagging student, None for texts."""
    import torch
    from transformers import PretrainedConfig

    table = torch.from_numpy(embeddings.vectors if window is None else embeddings.unit_vectors)
    linear = torch.nn.Linear(weight.shape[1], len(weight))
    linear.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    unknown = embeddings.model.unk_token_id

    class StaticNetwork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings, self.head = torch.nn.Embedding.from_pretrained(table), linear

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            mask = attention_mask.unsqueeze(-1).to(table.dtype)
            if window is not None:
                vectors = torch.nn.functional.pad(self.embeddings(input_ids) * mask, (0, 0, window, window))
                tokens = input_ids.shape[1]
                windows = [vectors[:, start : start + tokens] for start in range(2 * window + 1)]
                return self.head(torch.cat(windows, -1))
            if unknown is not None:  # left out of the mean, as model2vec does
                mask = mask * (input_ids != unknown).unsqueeze(-1).to(table.dtype)
            mean = (self.embeddings(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1)
            return self.head(torch.nn.functional.normalize(mean, dim=-1))

    words = window is not None
    return Network(StaticNetwork().eval(), embeddings.tokenizer, PretrainedConfig(), UNLIMITED, classes, words)
