"""Frozen sentence embeddings with a logistic regression on them: trained in seconds, and so the judge of each round's data.

With 1 to 5 labelled texts a class it beats a fine-tuned encoder of the same weights; `contrastive` beats it. The name of a class counts
as one more text of it: on one labelled text a class that alone gave 5 to 13 points of macro-F1 on four public data sets (MiniLM, 10
draws of seeds each).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.models import Model
from evokd_data.records import TokenExample
from evokd_data.settings import NOT_IDENTITY, Count, Rate, from_anyone, hub_name
from evokd_data.students import Examples, Network, Predict, Student, TrainingData
from evokd_data.students.base_model import OnBaseModel
from evokd_data.students.batches import NO_SAMPLES
from evokd_data.students.checkpoint import read_metadata, write_metadata
from evokd_data.students.embeddings import Floats, embed_texts, embed_words, losses, with_head
from evokd_data.students.encoding import inherit, truncated
from evokd_data.students.frozen_readme import README, frozen_readme
from evokd_data.students.logistic_head import HEAD, figures_of, fit_head, read_head, softmax, training_rows, write_head
from evokd_data.students.prediction import network_predictor
from evokd_data.students.pretrained import check_pretrained
from evokd_data.students.size import weight_files


@hub_name("model")
@from_anyone("revision", "c", "name_weight", "soft_labels", "max_length", "max_iterations")
@dataclass(frozen=True)
class Frozen(OnBaseModel, Student):
    """A pretrained encoder whose parameters stay as they are, with a logistic regression on its embeddings.

    Words of a tagging task are classified one by one, each by its own embedding in its sentence."""

    name: ClassVar[str] = "frozen"

    model: Annotated[str, Field(min_length=1)]
    """The pretrained encoder: ORG/NAME on the Hub, a folder (./model), or package:NAME for one in an installed package.
    Best one made for sentence embeddings."""
    revision: str | None = None
    """The branch, tag or commit of a model on the Hub. Give a commit for an experiment that lasts."""
    c: Rate = 10.0
    """The inverse strength of the regularisation. Smaller values keep the student simpler."""
    name_weight: Annotated[float, Field(ge=0)] = 1.0
    """How many texts the name of a class counts for (`task.label_names`). 0 leaves names out."""
    soft_labels: bool = True
    """Learn the teacher's probability of each class where there is one, instead of its label alone."""
    max_length: Annotated[int, Field(ge=4)] = 256
    """The most tokens of a text that the student reads; the rest is cut off."""
    max_iterations: Count = field(default=2000, metadata=NOT_IDENTITY)
    """The most steps of the optimiser. It stops earlier when it has converged."""

    @property
    def learns_soft_labels(self) -> bool:
        return self.soft_labels

    def check_base(self, folder: Path) -> None:
        check_pretrained(folder)

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Figures: steps of the optimiser, fresh and earlier samples, the mean loss before and after, what the tokenizer loses,
        seconds."""
        started = time.perf_counter()
        if not data.earlier and not data.fresh:
            raise StudentError(NO_SAMPLES)
        base = self._base()
        words = isinstance((data.fresh or data.earlier)[0], TokenExample)
        rows = training_rows(
            data,
            self.soft_labels,
            self.name_weight,
            lambda texts: embed_texts(base, texts, self.max_length),
            lambda examples: embed_words(base, examples, self.max_length),
        )
        head = fit_head(rows, len(data.classes), self.c, self.max_iterations)
        write_head(into, head)
        facts = {"words": words, "max_length": self.max_length, "base": dict(base.identity)}
        write_metadata(into, self.name, data.classes, **facts)
        # Not among the checkpoint's files: a pushed student has its model card under this name.
        name, revision = base.identity.get("model", self.model), base.identity.get("revision")
        (into / README).write_text(frozen_readme(name, revision, data.classes, words), encoding="utf-8")
        lost = losses(base, rows.first_block, self.max_length)
        return figures_of(head, data, started, **lost, base=dict(base.identity))

    def quick(self) -> Student:
        return self

    def weights(self, checkpoint: Path) -> Sequence[Path]:
        return [checkpoint / HEAD, *weight_files(self._base().folder)]

    def features(self, texts: Sequence[str]) -> Floats:
        return embed_texts(self._base(), texts, self.max_length)

    def truncated(self, examples: Examples, checkpoint: Path) -> int:
        return truncated(self._base().folder, examples, read_metadata(checkpoint, self.name)["max_length"])

    def predict(self, examples: Examples, checkpoint: Path) -> Sequence[Any]:
        metadata, base, coefficients, intercepts = self._read(checkpoint)
        read: list[Any] = [examples[index] for index in range(len(examples))]
        result: Any
        if metadata["words"]:
            vectors = embed_words(base, read, metadata["max_length"])
            classes = metadata["classes"]
            result = [
                inherit(softmax(rows @ coefficients.T + intercepts), np.any(rows, axis=1), classes) for rows in vectors
            ]
        elif not read:
            result = np.zeros((0, len(metadata["classes"])), dtype=np.float32)
        else:
            features = embed_texts(base, [example.text for example in read], metadata["max_length"])
            result = softmax(features @ coefficients.T + intercepts)
        return result

    def _read(self, checkpoint: Path) -> tuple[Mapping[str, Any], Model, Floats, Floats]:
        """Metadata, encoder, coefficients (C, D) and intercepts (C,)."""
        metadata = read_metadata(checkpoint, self.name)
        base = self._base()
        if dict(base.identity) != metadata["base"]:
            raise StudentError(
                f"{checkpoint} was trained on the embeddings of {metadata['base']}, student.model is "
                f"{dict(base.identity)}; set student.model and student.revision to that one, or train the round again"
            )
        return metadata, base, *read_head(checkpoint)

    def predictor(self, checkpoint: Path) -> Predict:
        return network_predictor(self.network(checkpoint))

    def network(self, checkpoint: Path) -> Network:
        metadata, base, coefficients, intercepts = self._read(checkpoint)
        return with_head(base.folder, coefficients, intercepts, metadata)
