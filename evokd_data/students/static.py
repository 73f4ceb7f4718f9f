"""Static token embeddings (Model2Vec) with a logistic regression on them: predicts by a look-up in a table, without torch or a GPU.

Tulkens and van Dongen 2024, Model2Vec (github.com/MinishLab/model2vec): each token's vector is what a sentence encoder makes of that
token alone, reduced by PCA and weighted by the token's rank. A text is the mean of its tokens' vectors. So word order is lost; a
text costs a table look-up.

A checkpoint for texts is a folder that `model2vec.inference.StaticModelPipeline.from_pretrained` loads. It holds the embeddings,
too, so nothing has to be shipped beside it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.records import TokenExample
from evokd_data.settings import NOT_IDENTITY, Count, Rate, from_anyone, hub_name
from evokd_data.students import Examples, Network, Predict, Student, TrainingData
from evokd_data.students.base_model import OnBaseModel
from evokd_data.students.batches import NO_SAMPLES
from evokd_data.students.checkpoint import read_metadata, write_metadata
from evokd_data.students.logistic_head import LogisticHead, figures_of, fit_head, training_rows
from evokd_data.students.prediction import network_predictor
from evokd_data.students.static_network import StaticEmbeddings, static_network

CARD = "README.md"
MISSING = "model2vec is not installed, and student.kind: static needs it; run: pip install 'evokd-data[static]'"


@hub_name("model")
@from_anyone("revision", "c", "name_weight", "window", "soft_labels", "max_iterations")
@dataclass(frozen=True)
class Static(OnBaseModel, Student):
    """Static embeddings of tokens, which stay as they are, with a logistic regression on their mean.

    Words of a tagging task are classified one by one, each by its first token and the `window` tokens on either side of it. Such
    a student knows names by their surface, not by what the sentence says of them; prefer `transformer` for tagging.
    """

    name: ClassVar[str] = "static"
    library: ClassVar[str] = "model2vec"

    model: Annotated[str, Field(min_length=1)]
    """A model in Model2Vec's format: ORG/NAME on the Hub such as minishlab/potion-base-8M, a folder (./model), or package:NAME. An
    encoder of your own becomes one by model2vec.distill; see docs/students.md."""
    revision: str | None = None
    """The branch, tag or commit of a model on the Hub. Give a commit for an experiment that lasts."""
    c: Rate = 10.0
    """The inverse strength of the regularisation. Smaller values keep the student simpler."""
    name_weight: Annotated[float, Field(ge=0)] = 1.0
    """How many texts the name of a class counts for (`task.label_names`). 0 leaves names out."""
    window: Annotated[int, Field(ge=0, le=8)] = 1
    """Tagging: how many tokens on either side of a word's first token are looked at."""
    soft_labels: bool = True
    """Learn the teacher's probability of each class where there is one, instead of its label alone."""
    max_iterations: Count = field(default=2000, metadata=NOT_IDENTITY)
    """The most steps of the optimiser. It stops earlier when it has converged."""

    @property
    def keeps_base(self) -> bool:
        return True

    @property
    def learns_soft_labels(self) -> bool:
        return self.soft_labels

    def few_shot(self) -> Student:
        return self

    def quick(self) -> Student:
        return self

    def lacks(self) -> Sequence[str]:
        return [MISSING] if find_spec("model2vec") is None else []

    def check_base(self, folder: Path) -> None:
        _check_format(folder)

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Figures: steps of the optimiser, fresh and earlier samples, the mean loss before and after, what the tokenizer loses,
        seconds."""
        started = time.perf_counter()
        if not data.earlier and not data.fresh:
            raise StudentError(NO_SAMPLES)
        base = self._base()
        embeddings = _load_embeddings(base.folder)
        words = isinstance((data.fresh or data.earlier)[0], TokenExample)
        rows = training_rows(
            data,
            self.soft_labels,
            self.name_weight,
            embeddings.embed_texts,
            lambda examples: embeddings.embed_words(examples, self.window),
        )
        head = fit_head(rows, len(data.classes), self.c, self.max_iterations)
        _save(embeddings, head, data.classes, into)
        facts = {"words": words, "window": self.window, "base": dict(base.identity)}
        write_metadata(into, self.name, data.classes, **facts)
        return figures_of(head, data, started, **embeddings.losses(rows.first_block), base=dict(base.identity))

    def predict(self, examples: Examples, checkpoint: Path) -> Sequence[Any]:
        return self.predictor(checkpoint)(examples)

    def predictor(self, checkpoint: Path) -> Predict:
        """See `Student.predictor`. Texts need numpy and the tokenizer alone; tags are computed by the network."""
        metadata = read_metadata(checkpoint, self.name)
        if metadata["words"]:
            return network_predictor(self.network(checkpoint))
        pipeline, classes = _load_pipeline(checkpoint), len(metadata["classes"])

        def predict(examples: Examples) -> Sequence[Any]:
            texts = [examples[index].text for index in range(len(examples))]  # type: ignore[union-attr]
            # Its threads would set an environment variable of the process.
            probabilities = (
                pipeline.predict_proba(texts, use_multiprocessing=False) if texts else np.zeros((0, classes))
            )
            result: Any = probabilities.astype(np.float32)
            return result

        return predict

    def network(self, checkpoint: Path) -> Network:
        metadata = read_metadata(checkpoint, self.name)
        pipeline = _load_pipeline(checkpoint)
        layer = pipeline.head.layers[0]
        classes, window = tuple(metadata["classes"]), metadata["window"] if metadata["words"] else None
        return static_network(StaticEmbeddings(pipeline.model), layer.weight, layer.bias, classes, window)


def _check_format(folder: Path) -> None:
    """Raises StudentError when the folder holds no model in Model2Vec's format."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = None
    if kind != "model2vec" or not (folder / "tokenizer.json").is_file():
        raise StudentError(
            f"student.model: {folder} is no model in Model2Vec's format (model_type {kind!r}); take one such as "
            "minishlab/potion-base-8M, or make one of an encoder: model2vec.distill, see docs/students.md"
        )


def _load_embeddings(folder: Path) -> StaticEmbeddings:
    """The embeddings of a base model, float32: half precision would make a text's mean depend on its length. Raises StudentError."""
    if find_spec("model2vec") is None:
        raise StudentError(MISSING)
    from model2vec import StaticModel

    _check_format(folder)
    try:
        model = StaticModel.from_pretrained(folder, quantize_to="float32")
    except Exception as error:  # of many kinds: the files may come from anywhere
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudentError(
            f"student.model: {folder} cannot be used: {reason}; choose another model in Model2Vec's format, or delete a damaged download"
        ) from error
    # Set here, or the setters warn of the change; the tokenizer's name may be a path of the machine that made the model.
    model.config = {**model.config, "normalize": True, "max_length": None, "tokenizer_name": ""}
    model.normalize, model.max_length = True, None
    return StaticEmbeddings(model)


def _load_pipeline(checkpoint: Path) -> Any:
    """The embeddings and the head of a checkpoint whose digests were checked."""
    if find_spec("model2vec") is None:
        raise StudentError(MISSING)
    from model2vec.inference import StaticModelPipeline

    return StaticModelPipeline.from_pretrained(checkpoint)


def _save(embeddings: StaticEmbeddings, head: LogisticHead, classes: Sequence[str], into: Path) -> None:
    from model2vec.inference import StaticModelPipeline
    from model2vec.inference.mlp import Activation, Layer, MLPHead

    layer = Layer(weight=head.coefficients, bias=head.intercepts)
    pipeline = StaticModelPipeline(
        embeddings.model, MLPHead(layers=[layer], activation=Activation.SOFTMAX, classes=np.asarray(classes))
    )
    chatter, level = logging.getLogger("model2vec"), logging.getLogger("model2vec").level
    chatter.setLevel(logging.WARNING)
    try:
        pipeline.save_pretrained(str(into))
    finally:
        chatter.setLevel(level)
    (into / CARD).unlink()  # of its own card a published student has ours in place
