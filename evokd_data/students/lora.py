"""LoRA on a small decoder: what a language model of a few hundred million parameters makes of the same samples, as a reference.

Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685), by the library peft. The decoder's matrices stay
as they are; each gets an update of low rank, and the last token's output a head. An encoder of a tenth of the size answers sooner: train
one beside it before you deploy this (evokd-data compare --same-shards).

A checkpoint holds the updates and the head, a few megabytes; the decoder is read from where it was. The network that is predicted
with and exported has the updates merged into its matrices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.settings import Count, Share, from_anyone
from evokd_data.students import Examples, Network, Student
from evokd_data.students.checkpoint import read_metadata
from evokd_data.students.deterministic import deterministic
from evokd_data.students.encoding import truncated
from evokd_data.students.size import weight_files
from evokd_data.students.transformer import Transformer, load_with_head, logits_of

MISSING = "peft is not installed, and student.kind: lora needs it; run: pip install 'evokd-data[lora]'"
CONFIG = "adapter_config.json"
CARD = "README.md"
HEAD = "modules_to_save"
"""What peft calls the parameters that it trains whole: those of the head."""


@from_anyone("rank", "alpha", "dropout")
@dataclass(frozen=True)
class Lora(Transformer):
    """A decoder such as Qwen/Qwen2.5-0.5B with updates of low rank, and a head on its last token's output.

    Its other settings are those of `transformer`. It is always trained from the base model, whose word embeddings stay as they are.
    In tagging a decoder sees of a sentence only what stands before a word; prefer an encoder.
    """

    name: ClassVar[str] = "lora"
    library: ClassVar[str] = "evokd-data"

    rank: Count = 16
    """The rank of the updates. More of it learns more, and takes more memory."""
    alpha: Annotated[int, Field(ge=1)] = 32
    """Updates are scaled by `alpha` / `rank`."""
    dropout: Share = 0.05
    """The share of an update's inputs that training leaves out at random."""

    def __post_init__(self) -> None:
        if not self.from_scratch:
            raise ValueError("from_scratch: a lora student is always trained from its base model; drop the setting")

    @property
    def tunes_base(self) -> bool:
        return False

    @property
    def keeps_base(self) -> bool:
        return False

    def few_shot(self) -> Student:
        return self.quick()

    def lacks(self) -> Sequence[str]:
        return [MISSING] if find_spec("peft") is None else []

    def weights(self, checkpoint: Path) -> Sequence[Path]:
        return [*super().weights(checkpoint), *weight_files(self._base().folder)]

    def truncated(self, examples: Examples, checkpoint: Path) -> int:
        return truncated(self._base().folder, examples, read_metadata(checkpoint, self.name)["max_length"])

    def network(self, checkpoint: Path) -> Network:
        metadata, base = read_metadata(checkpoint, self.name), self._base()
        if dict(base.identity) != dict(metadata["base"]):
            raise StudentError(
                f"{checkpoint} was trained on {metadata['base']}, and student.model is now {dict(base.identity)}; set student.model "
                "and student.revision to that one, or train the round again"
            )
        classes, words = tuple(metadata["classes"]), metadata["words"]
        _require_peft()
        from peft import PeftModel

        with deterministic(0):
            model, tokenizer, _ = load_with_head(base.folder, classes, words)
            merged = PeftModel.from_pretrained(model, str(checkpoint)).merge_and_unload()
        return Network(logits_of(merged), tokenizer, merged.config, metadata["max_length"], classes, words)

    def _trains_embeddings(self) -> bool:
        return False

    def _load(self, folder: Path, classes: tuple[str, ...], words: bool) -> tuple[Any, Any, set[str]]:
        _require_peft()
        from peft import LoraConfig, TaskType, get_peft_model

        model, tokenizer, _ = load_with_head(folder, classes, words)
        heads = [child for child, module in model.named_children() if module is not model.base_model]
        config = LoraConfig(
            task_type=TaskType.TOKEN_CLS if words else TaskType.SEQ_CLS,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules="all-linear",
            exclude_modules=heads,  # they are trained whole
        )
        adapted = get_peft_model(model, config)
        return adapted, tokenizer, {name for name, _ in adapted.named_parameters() if HEAD in name}

    def _save(self, model: Any, tokenizer: Any, limit: int, into: Path) -> None:
        model.save_pretrained(str(into))
        (into / CARD).unlink(missing_ok=True)
        written: Mapping[str, Any] = json.loads((into / CONFIG).read_text(encoding="utf-8"))
        # Sets come in any order, and the base model's name may be a path of this machine.
        config = {key: sorted(value) if isinstance(value, list) else value for key, value in written.items()}
        config["base_model_name_or_path"] = None
        (into / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _require_peft() -> None:
    if find_spec("peft") is None:
        raise StudentError(MISSING)
