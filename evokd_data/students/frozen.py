"""Frozen sentence embeddings with a logistic regression on them: trained in seconds, and hard to beat with few examples.

With 1 to 5 labelled texts a class it beats a fine-tuned encoder of the same weights (SetFit's observation, Tunstall et al. 2022,
arXiv 2209.11055, here without the contrastive step). So it is the baseline that a distilled student must beat. The name of a class
counts as one more text of it: on one labelled text a class that alone gave 5 to 13 points of macro-F1 on four public data sets
(MiniLM, 10 draws of seeds each).
"""

from __future__ import annotations

import logging
import math
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.models import Model, ModelReference, download_model
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.settings import NOT_IDENTITY, Count, Rate, from_anyone, hub_name, identity
from evokd_data.students import Examples, Network, Predict, Student, TrainingData
from evokd_data.students.batches import NO_SAMPLES, labels
from evokd_data.students.checkpoint import read_metadata, write_metadata
from evokd_data.students.embeddings import Floats, embed_texts, embed_words, losses, with_head
from evokd_data.students.encoding import inherit, truncated
from evokd_data.students.frozen_readme import README, frozen_readme
from evokd_data.students.prediction import network_predictor

log = logging.getLogger(__name__)

HEAD = "head.npz"
BLOCK = 512  # examples read at a time
SMALLEST_TARGET = 0.01  # soft targets below it are left out: each costs a row


@hub_name("model")
@from_anyone("revision", "c", "name_weight", "soft_labels", "max_length", "max_iterations")
@dataclass(frozen=True)
class Frozen(Student):
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
    def base_model(self) -> ModelReference:
        return ModelReference(self.model, self.revision)

    @property
    def learns_soft_labels(self) -> bool:
        return self.soft_labels

    def identity(self) -> Mapping[str, Any]:
        own = {key: value for key, value in identity(self).items() if key not in ("model", "revision")}
        return {"base": dict(self._base().identity), **own}

    def _base(self) -> Model:
        return download_model(self.base_model, "student", StudentError)

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Figures: steps of the optimiser, fresh and earlier samples, the mean loss before and after, what the tokenizer loses,
        seconds."""
        started = time.perf_counter()
        if not data.earlier and not data.fresh:
            raise StudentError(NO_SAMPLES)
        base = self._base()
        words = isinstance((data.fresh or data.earlier)[0], TokenExample)
        features, targets, weights, lost = self._rows(base, data, words)
        coefficients, intercepts, steps, loss = self._regress(features, targets, weights, len(data.classes))
        with (into / HEAD).open("wb") as file:
            np.savez(file, coefficients=coefficients, intercepts=intercepts)
        facts = {"words": words, "max_length": self.max_length, "base": dict(base.identity)}
        write_metadata(into, self.name, data.classes, **facts)
        # Not among the checkpoint's files: a pushed student has its model card under this name.
        name, revision = base.identity.get("model", self.model), base.identity.get("revision")
        (into / README).write_text(frozen_readme(name, revision, data.classes, words), encoding="utf-8")
        figures = {
            "steps": steps,
            "losses": [round(math.log(len(data.classes)), 6), round(loss, 6)],
            "fresh": len(data.fresh),
            "earlier": len(data.earlier),
            **lost,
            "base": dict(base.identity),
            "seconds": round(time.perf_counter() - started, 3),
        }
        log.info("student: %d steps, loss %.4f, %.1f s", steps, loss, figures["seconds"])
        return figures

    def _rows(
        self, base: Model, data: TrainingData, words: bool
    ) -> tuple[Floats, NDArray[np.int64], NDArray[np.float64], dict[str, float]]:
        """Features (R, D), a class index and a weight for each row: a text, a word, or one class of a soft label; and what the
        tokenizer loses of the first block.

        Examples are read a block at a time; only their features stay in memory.
        """
        features: list[Floats] = []
        targets: list[int] = []
        weights: list[float] = []
        examples = chain(data.earlier, data.fresh)
        lost: dict[str, float] = {}
        while block := list(islice(examples, BLOCK)):
            lost = lost or losses(base, block, self.max_length)
            rows = [row for example in block for row in self._targets(example)]
            targets += [target for _, target, _ in rows]
            weights += [weight for _, _, weight in rows]
            if words:
                features += embed_words(base, block, self.max_length)  # type: ignore[arg-type]
            else:
                features.append(embed_texts(base, [text for text, _, _ in rows], self.max_length))
        if self.name_weight and not words:
            features.append(embed_texts(base, data.class_names or data.classes, self.max_length))
            targets += range(len(data.classes))
            weights += [self.name_weight] * len(data.classes)
        vectors = np.concatenate(features)
        has_vector = np.any(vectors, axis=1)  # a word without a token has zeros for a vector: nothing to learn from
        return vectors[has_vector], np.asarray(targets)[has_vector], np.asarray(weights)[has_vector], lost

    def _targets(self, example: Any) -> Iterator[tuple[str, int, float]]:
        """(text, class index, weight) of each row of an example."""
        label = labels(example, self.soft_labels)
        if len(label.hard):
            text = example.text if isinstance(example, SequenceExample) else ""
            yield from ((text, int(target), example.weight) for target in label.hard)
            return
        for target, share in enumerate(label.soft):
            if share >= SMALLEST_TARGET:
                yield example.text, target, example.weight * float(share)

    def _regress(
        self, features: Floats, targets: NDArray[np.int64], weights: NDArray[np.float64], classes: int
    ) -> tuple[Floats, Floats, int, float]:
        """Coefficients (C, D) and intercepts (C,). A class without an example gets the lowest score everywhere."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import log_loss

        present = np.unique(targets)
        coefficients = np.zeros((classes, features.shape[1]), dtype=np.float32)
        intercepts = np.full(classes, -1e4, dtype=np.float32)
        if len(present) <= 1:
            intercepts[present] = 0
            return coefficients, intercepts, 0, 0.0
        regression = LogisticRegression(C=self.c, max_iter=self.max_iterations, tol=1e-6)
        regression.fit(features.astype(np.float64), targets, sample_weight=weights)
        if len(present) == 2:  # sklearn keeps one row for two classes: the log-odds of the second
            coefficients[present[1]], intercepts[present] = regression.coef_[0], (0.0, regression.intercept_[0])
        else:
            coefficients[present], intercepts[present] = regression.coef_, regression.intercept_
        loss = log_loss(targets, regression.predict_proba(features), sample_weight=weights, labels=present)
        return coefficients, intercepts, int(regression.n_iter_.max()), float(loss)

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
                inherit(_softmax(rows @ coefficients.T + intercepts), np.any(rows, axis=1), classes) for rows in vectors
            ]
        elif not read:
            result = np.zeros((0, len(metadata["classes"])), dtype=np.float32)
        else:
            features = embed_texts(base, [example.text for example in read], metadata["max_length"])
            result = _softmax(features @ coefficients.T + intercepts)
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
        try:
            with np.load(checkpoint / HEAD, allow_pickle=False) as stored:
                return metadata, base, stored["coefficients"], stored["intercepts"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise StudentError(f"{checkpoint / HEAD} is damaged ({error}); train the round again") from None

    def predictor(self, checkpoint: Path) -> Predict:
        return network_predictor(self.network(checkpoint))

    def network(self, checkpoint: Path) -> Network:
        metadata, base, coefficients, intercepts = self._read(checkpoint)
        return with_head(base, coefficients, intercepts, metadata)


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities
