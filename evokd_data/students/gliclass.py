"""GLiClass: an encoder that classifies by the names of the classes alone. It learns nothing, and is the baseline for what does.

Stepanov et al. 2025, GLiClass: Generalist Lightweight Model for Sequence Classification Tasks (arXiv 2508.07662). The names of all
classes and the text are read in one pass, so it never sees a seed or a sample and needs no teacher. A distilled student that is no better
was not worth its loop: see evokd-data compare --same-shards.

A checkpoint holds evokd.json alone: the base model with its commit or digest, and the names of the classes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.models import Model
from evokd_data.records import TokenExample
from evokd_data.settings import from_anyone, hub_name
from evokd_data.students import Examples, Network, Predict, Student, TrainingData
from evokd_data.students.base_model import OnBaseModel
from evokd_data.students.batches import NO_SAMPLES
from evokd_data.students.checkpoint import read_metadata, write_metadata
from evokd_data.students.deterministic import deterministic
from evokd_data.students.encoding import BLOCK
from evokd_data.students.gliclass_model import (
    MISSING,
    LabelledInput,
    check_format,
    labelled_input,
    load_model,
    load_tokenizer,
    probabilities,
)
from evokd_data.students.linear import Linear
from evokd_data.students.size import weight_files

log = logging.getLogger(__name__)


@hub_name("model")
@from_anyone("revision", "max_length")
@dataclass(frozen=True)
class GLiClass(OnBaseModel, Student):
    """A GLiClass model as it is, which classifies by the names of the classes (`task.label_names`) and learns nothing.

    It is a baseline: name it in `compare --same-shards` beside the student that learns. It classifies whole texts, each with one label.
    """

    name: ClassVar[str] = "gliclass"
    learns: ClassVar[bool] = False
    refuses_words: ClassVar[str] = (
        "GLiClass classifies whole texts and tags no words (its counterpart for spans, GLiNER, is not among the students); take "
        "student.kind: transformer or frozen"
    )

    model: Annotated[str, Field(min_length=1)]
    """A GLiClass model whose architecture is a uni-encoder: ORG/NAME on the Hub such as knowledgator/gliclass-small-v1.0, a folder
    (./model), or package:NAME."""
    revision: str | None = None
    """The branch, tag or commit of a model on the Hub. Give a commit for an experiment that lasts."""
    max_length: Annotated[int, Field(ge=4)] = 512
    """The most tokens that the model reads at once: the names of all classes and the text. The rest of the text is cut off."""

    def lacks(self) -> Sequence[str]:
        return [MISSING] if find_spec("gliclass") is None else []

    def few_shot(self) -> Student:
        return Linear()

    def quick(self) -> Student:
        return Linear()

    def check_base(self, folder: Path) -> None:
        check_format(folder)

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Figures: 0 steps, fresh and earlier samples, which are not read, the tokens of the names, the base model, seconds.

        The model is loaded, so that one that cannot be used stops the run before its first round.
        """
        started = time.perf_counter()
        if not data.earlier and not data.fresh:
            raise StudentError(NO_SAMPLES)
        if isinstance((data.fresh or data.earlier)[0], TokenExample):
            raise StudentError(f"student.kind: {self.refuses_words}")
        base = self._base()
        network, tokenizer = load_model(base.folder)
        inputs = labelled_input(network, tokenizer, data.class_names or data.classes, self.max_length)
        head, tail = inputs.frame
        facts = {"names": list(inputs.names), "names_first": inputs.names_first, "max_length": inputs.limit}
        write_metadata(into, self.name, data.classes, words=False, **facts, base=dict(base.identity))
        figures = {
            "steps": 0,
            "fresh": len(data.fresh),
            "earlier": len(data.earlier),
            "name_tokens": len(head) + len(tail),
            "base": dict(base.identity),
            "seconds": round(time.perf_counter() - started, 3),
        }
        log.info("student: %s learns nothing, %.1f s", self.model, figures["seconds"])
        return figures

    def weights(self, checkpoint: Path) -> Sequence[Path]:
        return weight_files(self._base().folder)

    def truncated(self, examples: Examples, checkpoint: Path) -> int:
        metadata, base = self._read(checkpoint)
        inputs, unread = _inputs(metadata, load_tokenizer(base.folder)), iter(examples)
        count = 0
        with deterministic(0):  # a tokenizer warns of every text that is longer than its model reads
            while block := list(islice(unread, BLOCK)):
                count += sum(text.truncated for text in inputs.encode([example.text for example in block]))  # type: ignore[union-attr]
        return count

    def predict(self, examples: Examples, checkpoint: Path) -> Sequence[Any]:
        return self.predictor(checkpoint)(examples)

    def predictor(self, checkpoint: Path) -> Predict:
        """See `Student.predictor`. The network computes on the accelerator when there is one, in float32."""
        import torch

        metadata, base = self._read(checkpoint)
        network, tokenizer = load_model(base.folder)
        network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        inputs = _inputs(metadata, tokenizer)

        def predict(examples: Examples) -> Sequence[Any]:
            result: Any = probabilities(network, inputs, examples)
            return result

        return predict

    def network(self, checkpoint: Path) -> Network:
        raise StudentError(
            f"{checkpoint}: a student of the kind {self.name!r} cannot be exported: its network reads the names of the classes with "
            "every text, which the graph of a student does not; predict with evokd-data predict"
        )

    def _read(self, checkpoint: Path) -> tuple[Mapping[str, Any], Model]:
        """Metadata of a checkpoint, and the base model that it names."""
        metadata, base = read_metadata(checkpoint, self.name), self._base()
        if dict(base.identity) != metadata["base"]:
            raise StudentError(
                f"{checkpoint} names the model {metadata['base']}, student.model is {dict(base.identity)}; set student.model and "
                "student.revision to that one, or train the round again"
            )
        return metadata, base


def _inputs(metadata: Mapping[str, Any], tokenizer: Any) -> LabelledInput:
    return LabelledInput(tokenizer, tuple(metadata["names"]), metadata["names_first"], metadata["max_length"])
