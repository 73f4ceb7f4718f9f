"""A GLiClass model and what it reads: the names of all classes and one text, in one pass of an encoder. One logit for each name.

    [CLS] <<LABEL>> fruit <<LABEL>> animal <<SEP>> I see a cat [SEP]

Models differ in whether the names stand before the text or behind it; the configuration says so (`prompt_first`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.students import Examples
from evokd_data.students.batches import prediction_batches
from evokd_data.students.deterministic import deterministic
from evokd_data.students.encoding import position_limit
from evokd_data.students.pretrained import LOCAL, load_pretrained, refused

MISSING = "gliclass is not installed, and student.kind: gliclass needs it; run: pip install 'evokd-data[gliclass]'"
SUGGESTION = "take a uni-encoder such as knowledgator/gliclass-small-v1.0"
INSTEAD = "another GLiClass model"

LABEL, SEPARATOR = "<<LABEL>>", "<<SEP>>"
CONTROLS = (LABEL, SEPARATOR, "<<EXAMPLE>>")
"""Tokens that say what a piece of the input is. In a text they would be more classes, so there they are left out."""
BATCH = 64
LEAST_TEXT = 16
"""Tokens of a text that must fit beside the names of the classes."""


def check_format(folder: Path) -> None:
    """Refuse, without reading weights, a folder that is no GLiClass model, or one that cannot be used. Raises StudentError."""
    from transformers.models.auto import CONFIG_MAPPING

    config = _read_config(folder)
    architecture = config.get("architecture_type", "uni-encoder")
    # A bi-encoder looks its second tokenizer up on the Hub, by a name without a commit.
    if architecture != "uni-encoder":
        raise StudentError(
            f"student.model: {folder} is a GLiClass model of the architecture {architecture!r}, and only uni-encoders are "
            f"supported; {SUGGESTION}"
        )
    encoder = config.get("encoder_config") or {}
    encoder_type = encoder.get("model_type", "deberta-v2") if isinstance(encoder, dict) else None
    # Of any other encoder the library would download and run the code.
    if not isinstance(encoder_type, str) or encoder_type not in CONFIG_MAPPING:
        raise StudentError(
            f"student.model: {folder} has an encoder of the type {encoder_type!r}, which transformers does not know, and own code "
            f"is never run; {SUGGESTION}"
        )
    tokens = control_tokens(load_tokenizer(folder))
    if tokens.get(LABEL) != config.get("class_token_index") or SEPARATOR not in tokens:
        raise StudentError(
            f"student.model: {folder} has a tokenizer without the model's tokens {LABEL} and {SEPARATOR}; save the tokenizer that "
            "the model was trained with there"
        )


def load_tokenizer(folder: Path) -> Any:
    """The model's tokenizer. Raises StudentError."""
    from transformers import AutoTokenizer

    with deterministic(0), refused(folder, INSTEAD):
        return AutoTokenizer.from_pretrained(folder, **LOCAL)


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Those of CONTROLS that the tokenizer knows, with their numbers. Older models have no examples."""
    numbers = {token: tokenizer.convert_tokens_to_ids(token) for token in CONTROLS}
    return {token: number for token, number in numbers.items() if number not in (None, tokenizer.unk_token_id)}


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        config, kind = {}, None
    if kind != "GLiClass":
        raise StudentError(f"student.model: {folder} is no GLiClass model (model_type {kind!r}); {SUGGESTION}")
    return dict(config)


def import_library() -> Any:
    """The package gliclass without its server, which would import Ray and FastAPI where they are installed. Raises StudentError."""
    if find_spec("gliclass") is None:
        raise StudentError(MISSING)
    server = "gliclass.serve"
    if "gliclass" in sys.modules:
        return sys.modules["gliclass"]
    sys.modules[server] = None  # type: ignore[assignment]  # the package takes an ImportError for a server that is not wanted
    try:
        import gliclass
    finally:
        del sys.modules[server]
    return gliclass


def load_model(folder: Path) -> tuple[Any, Any]:
    """The network on the CPU, in evaluation mode and float32, and its tokenizer. Raises StudentError when they cannot be used."""
    with deterministic(0):
        library = import_library()
        check_format(folder)
        with refused(folder, INSTEAD):
            config = library.GLiClassModelConfig.from_pretrained(folder, **LOCAL)
            # The library looks for adapters in a folder of this name, and a name such as org/model may be a folder here.
            config.encoder_model_name = str(folder / "config.json")
        network, tokenizer, report = load_pretrained(library.GLiClassModel, folder, instead=INSTEAD, config=config)
    if missing := sorted(report["missing_keys"]):
        raise StudentError(
            f"student.model: {folder} lacks {len(missing)} of the model's tensors, such as {missing[0]}; choose "
            f"{INSTEAD}, or delete a damaged download"
        )
    return network.eval(), tokenizer


class EncodedText(NamedTuple):
    """A text with the names of the classes, as the model reads them."""

    ids: list[int]
    truncated: bool
    """The text has more tokens than there is room for."""


@dataclass(frozen=True)
class LabelledInput:
    """Makes the model's input of texts. `names` are those of the classes in index order, `limit` the most tokens of an input."""

    tokenizer: Any
    names: tuple[str, ...]
    names_first: bool
    limit: int

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """All tokens of the names, and as many of each text's first ones as there is room for."""
        head, tail = self.frame
        room, controls = self.limit - len(head) - len(tail), self._controls
        rows = self.tokenizer([self._whole(text) for text in texts])["input_ids"] if texts else []
        encoded = []
        for ids in rows:
            text_ids = [token for token in ids[len(head) : len(ids) - len(tail)] if token not in controls]
            encoded.append(EncodedText([*head, *text_ids[:room], *tail], len(text_ids) > room))
        return encoded

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """The tokens before a text and those behind it. Raises StudentError when they are no names of classes, or too many."""
        ids = self.tokenizer([self._whole("")])["input_ids"][0]
        tokens = control_tokens(self.tokenizer)
        if [ids.count(tokens.get(token, -1)) for token in CONTROLS] != [len(self.names), 1, 0]:
            marked = next((name for name in self.names if any(token in name for token in CONTROLS)), self.names[0])
            raise StudentError(
                f"task.label_names: {marked!r} cannot be shown to the model, whose input is divided by {', '.join(CONTROLS)}; give "
                "the class another name"
            )
        if len(ids) + LEAST_TEXT > self.limit:
            raise StudentError(
                f"student.max_length: the names of {len(self.names)} classes take {len(ids)} of the {self.limit} tokens that the model "
                f"reads, and a text needs {LEAST_TEXT}; raise it where the model reads more, or shorten task.label_names"
            )
        border = ids.index(tokens[SEPARATOR]) + 1 if self.names_first else ids.index(tokens[LABEL])
        return ids[:border], ids[border:]

    @cached_property
    def _controls(self) -> frozenset[int]:
        return frozenset(control_tokens(self.tokenizer).values())

    def _whole(self, text: str) -> str:
        names = "".join(LABEL + name for name in self.names) + SEPARATOR
        return names + text if self.names_first else text + names


def labelled_input(network: Any, tokenizer: Any, names: Sequence[str], max_length: int) -> LabelledInput:
    """The input of a loaded model, of at most `max_length` tokens or as many as the encoder has positions for."""
    limit = position_limit(network.model.encoder_model, tokenizer, max_length)
    return LabelledInput(tokenizer, tuple(names), bool(network.config.prompt_first), limit)


def probabilities(network: Any, inputs: LabelledInput, examples: Examples) -> NDArray[np.float32]:
    """(N, C): the softmax over the classes' logits, as the library's own pipeline has it for `single-label`.

    Only texts of as many tokens share a batch: the library's mean over a text's tokens counts padding, too.
    """
    import torch

    result = np.empty((len(examples), len(inputs.names)), dtype=np.float32)
    device = next(network.parameters()).device
    with deterministic(0), torch.inference_mode():
        for indices, batch in prediction_batches(examples, BATCH):
            encoded = inputs.encode([example.text for example in batch])
            for length in {len(text.ids) for text in encoded}:
                rows = [row for row, text in enumerate(encoded) if len(text.ids) == length]
                ids = torch.tensor([encoded[row].ids for row in rows], device=device)
                logits = network(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_num_classes=len(inputs.names),
                    return_dict=True,
                ).logits
                result[[indices[row] for row in rows]] = logits.float().softmax(-1).cpu().numpy()
    return result
