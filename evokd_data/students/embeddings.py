"""What a pretrained encoder makes of texts and words, its weights as they are: features for heads and comparisons."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evokd_data.models import Model
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.students import Network
from evokd_data.students.batches import Example, prediction_batches
from evokd_data.students.deterministic import deterministic
from evokd_data.students.encoding import ExampleEncoder, position_limit
from evokd_data.students.pretrained import load_pretrained, share_unknown, share_without_token

Floats = NDArray[np.float32]

BATCH = 64
REMEMBERED = 200_000
"""Texts whose vectors are kept in memory, 1.5 KB each for MiniLM: cross-validation embeds the same texts again and again."""

_memory: OrderedDict[tuple[Any, ...], Floats] = OrderedDict()


def embed_texts(model: Model, texts: Sequence[str], max_length: int) -> Floats:
    """(N, D): the mean of the last layer over each text's tokens, scaled to length 1 (Reimers and Gurevych 2019, section 3).

    Texts longer than `max_length` tokens are cut. Equal texts have equal vectors, whatever stands beside them in a batch, but
    for rounding.
    """
    key = (*sorted(model.identity.items()), max_length)
    missing = list(dict.fromkeys(text for text in texts if (*key, text) not in _memory))
    if missing:
        examples = [SequenceExample(text, None) for text in missing]
        for text, vector in zip(missing, _embed(model, examples, max_length), strict=True):
            _memory[*key, text] = vector
    vectors = [_memory[*key, text] for text in texts]
    while len(_memory) > REMEMBERED:
        _memory.popitem(last=False)
    return np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float32)


def embed_words(model: Model, examples: Sequence[TokenExample], max_length: int) -> list[Floats]:
    """For each example (words, D): the middle layer at the first token of each word, scaled to length 1.

    The last layer of a sentence encoder is made for means over sentences: its words resemble each other. With it the same head had a
    micro-F1 of 0.087 on slots of SNIPS and 0.164 on CoNLL04, with the middle one 0.164 and 0.309 (MiniLM, three texts a type).
    A word beyond the last token that the model reads has a vector of zeros.
    """
    return _embed(model, examples, max_length)


def middle(outputs: Any) -> Any:
    """(N, T, D): the hidden states of an encoder's middle layer, from outputs that hold those of all."""
    return outputs.hidden_states[len(outputs.hidden_states) // 2]


def mean_of_tokens(hidden: Any, mask: Any) -> Any:
    """(N, D): the mean over each text's tokens of `hidden` (N, T, D); `mask` (N, T) is 1 where there is a token."""
    wide = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * wide).sum(1) / wide.sum(1).clamp(min=1)


def with_head(
    folder: Path, coefficients: Floats, intercepts: Floats, metadata: Mapping[str, Any], *, tuned: bool = False
) -> Network:
    """The encoder in a folder, the pooling of `embed_texts` (with words that of `embed_words`) and a linear head as one network.

    `coefficients` (C, D) and `intercepts` (C,). `metadata` is the checkpoint's. Words of an encoder that was `tuned` are read from its
    last layer.
    """
    import torch
    from transformers import AutoModel

    words = metadata["words"]
    with deterministic(0):
        encoder, tokenizer, _ = load_pretrained(AutoModel, folder)
    linear = torch.nn.Linear(coefficients.shape[1], len(coefficients))
    linear.load_state_dict({"weight": torch.from_numpy(coefficients), "bias": torch.from_numpy(intercepts)})

    class EncoderWithHead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = encoder, linear

        def forward(self, input_ids: Any, attention_mask: Any, **types: Any) -> Any:
            layers = words and not tuned
            outputs = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=layers, **types
            )
            hidden = middle(outputs) if layers else outputs.last_hidden_state
            if not words:
                hidden = mean_of_tokens(hidden, attention_mask)
            return self.head(torch.nn.functional.normalize(hidden, dim=-1))

    limit = position_limit(encoder, tokenizer, metadata["max_length"])
    return Network(EncoderWithHead().eval(), tokenizer, encoder.config, limit, tuple(metadata["classes"]), words)


def losses(model: Model, examples: Sequence[Example], max_length: int) -> dict[str, float]:
    """The shares of what the model's tokenizer loses: `unknown_tokens`, and with words `words_without_token`."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False)
    encoded = ExampleEncoder(tokenizer, None, max_length).encode(examples)
    shares = {"unknown_tokens": share_unknown(tokenizer, (example.ids for example in encoded))}
    if isinstance(examples[0], TokenExample):
        shares["words_without_token"] = share_without_token(example.first_tokens for example in encoded)
    return shares


def _embed(model: Model, examples: Sequence[Example], max_length: int) -> list[Floats]:
    import torch
    from transformers import AutoModel

    vectors: list[Any] = [None] * len(examples)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with deterministic(0), torch.inference_mode():
        encoder, tokenizer, _ = load_pretrained(AutoModel, model.folder)
        encoder.to(device).eval()
        example_encoder = ExampleEncoder(tokenizer, encoder, position_limit(encoder, tokenizer, max_length))
        for indices, batch in prediction_batches(examples, BATCH):
            inputs, outputs = example_encoder.encode_batch(batch)
            on_device = {name: tensor.to(device) for name, tensor in inputs.items()}
            states = encoder(**on_device, output_hidden_states=outputs.tagging)
            if not outputs.tagging:
                means = mean_of_tokens(states.last_hidden_state, on_device["attention_mask"])
                for index, vector in zip(indices, _unit(means), strict=True):
                    vectors[index] = vector
                continue
            ends = np.cumsum([len(example.words) for example in batch])
            hidden = middle(states)
            rows = np.zeros((int(ends[-1]), hidden.shape[-1]), dtype=np.float32)
            rows[outputs.rows] = _unit(outputs.select(hidden))
            for index, part in zip(indices, np.split(rows, ends[:-1]), strict=True):
                vectors[index] = part
    return vectors


def _unit(vectors: Any) -> Floats:
    import torch

    unit: Floats = torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()
    return unit
