"""The student contract: a small model that learns a round and predicts class probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from evokd_data.errors import StudentError
from evokd_data.models import ModelReference
from evokd_data.records import SequenceExample, TokenExample

STUDENTS = {
    "transformer": "evokd_data.students.transformer:Transformer",
    "contrastive": "evokd_data.students.contrastive:Contrastive",
    "frozen": "evokd_data.students.frozen:Frozen",
    "static": "evokd_data.students.static:Static",
    "gliclass": "evokd_data.students.gliclass:GLiClass",
    "lora": "evokd_data.students.lora:Lora",
    "linear": "evokd_data.students.linear:Linear",
    "reweighted": "evokd_data.students.reweighted:ReweightedTransformer",
    "reweighted-linear": "evokd_data.students.reweighted:ReweightedLinear",
}

Examples = Sequence[SequenceExample | TokenExample]
Predict = Callable[[Examples], Sequence[Any]]
"""Examples -> class probabilities, as `Student.predict` gives them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive examples of the training data. `key` is a digest of all that decides them: texts, labels, weights."""

    key: str
    read: Callable[[], Iterable[SequenceExample | TokenExample]]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a student learns in one round: `fresh` examples of this round, `earlier` ones of all rounds before.

    Both are lazy sequences that may be larger than memory. `classes` names the outputs in index order. `previous` is the
    last round's checkpoint, None in round 0.
    """

    fresh: Examples
    earlier: Examples
    classes: tuple[str, ...]
    seed: int
    previous: Path | None = None
    _: KW_ONLY
    segments: tuple[Segment, ...] = ()
    """`earlier`, then `fresh`, in pieces whose content has a digest, so that a student can cache what it computes of one."""
    class_names: tuple[str, ...] = ()
    """What each class is called in words, in index order; empty: the classes themselves."""
    cache: Path | None = None
    """The folder for such caches. They outlive a round; the student can compute everything in them again."""


@dataclass(frozen=True, slots=True)
class Network:
    """A trained student as one network.

    `module` is a torch module in evaluation mode on the CPU. Called with `input_ids` and `attention_mask`, both int64 (N, T), it
    gives the logits, float32 (N, C) for texts, (N, T, C) where `words` are tagged. `tokenizer` and `max_length` make its input
    (see `encoding.ExampleEncoder`), `config` is that of the pretrained model.
    """

    module: Any
    tokenizer: Any
    config: Any
    max_length: int
    classes: tuple[str, ...]
    words: bool


class Student(Protocol):
    """A student is a frozen dataclass whose fields are the recipe's `student` table.

    A plug inherits from this Protocol and so gets the defaults of the capabilities.
    """

    name: ClassVar[str]
    library: ClassVar[str] = "evokd-data"
    """The library that reads a checkpoint, as the Hub calls it."""
    learns: ClassVar[bool] = True
    """Capability: `fit` learns from the samples. A student that does not is a baseline: it predicts the same after every round."""
    refuses_words: ClassVar[str] = ""
    """Why it cannot predict the tags of words, with what to take instead; "" for one that can."""

    @property
    def base_model(self) -> ModelReference | None:
        """The pretrained model it starts from; None for a student without one."""
        return None

    @property
    def tunes_base(self) -> bool:
        """Capability: it trains the parameters of its base model, and so needs memory for their gradients and moments."""
        return False

    @property
    def keeps_base(self) -> bool:
        """Whether a checkpoint holds the base model's parameters. One that does not cannot be used without the base model."""
        return False

    @property
    def learns_soft_labels(self) -> bool:
        """Capability: it learns the teacher's probability of each class where a sample has it."""
        return False

    @property
    def continues(self) -> bool:
        """Whether `fit` starts from the last round's checkpoint, so that all earlier checkpoints are needed."""
        return False

    def lacks(self) -> Sequence[str]:
        """What this machine lacks to train it, each with what to do. Nothing is loaded to find out."""
        return ()

    def few_shot(self) -> Student:
        """The student with the same base model that does best on a handful of samples; of one that does not learn, any that does."""
        return self

    def quick(self) -> Student:
        """A student with the same base model that trains in seconds, however many samples there are; likewise."""
        return self

    def check_base(self, folder: Path) -> None:
        """Refuse, as far as it can be seen in seconds, the files of a base model that cannot be used. Raises StudentError."""
        return

    def identity(self) -> Mapping[str, Any]:
        """What decides the trained weights besides the data: base model with revision (or digest), and settings."""

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Trains, and writes a checkpoint into the empty folder `into`.

        Returns JSON-able figures of the training (losses, steps, seconds, tokens); those of a student that does not learn have
        no losses. Raises StudentError when there are no samples, the model cannot be loaded or the loss is not finite.
        """

    def weights(self, checkpoint: Path) -> Sequence[Path]:
        """All files with the parameters that it predicts with, those of a base model that the checkpoint does not hold, too."""
        return sorted(checkpoint.glob("*.safetensors"))

    def truncated(self, examples: Examples, checkpoint: Path) -> int:
        """How many of the examples are longer than what `predict` reads."""
        return 0

    def predict(self, examples: Examples, checkpoint: Path) -> Sequence[Any]:
        """Class probabilities, rows aligned with `examples`.

        SequenceExample -> float32 (len(classes),);  TokenExample -> float32 (len(words), len(classes)).
        Raises StudentError if `checkpoint` was written by another kind of student or is damaged.
        """

    def predictor(self, checkpoint: Path) -> Predict:
        """`predict` of one checkpoint, for examples that come in many pieces: it is read and checked once. Raises like `predict`."""
        return lambda examples: self.predict(examples, checkpoint)

    def features(self, texts: Sequence[str]) -> Any | None:
        """(N, D) float: what the student makes of texts before it has learned anything, to compare them by cosine. None for a student
        without an encoder of its own."""
        return None

    def network(self, checkpoint: Path) -> Network:
        """The checkpoint as one network, for exporters. Raises StudentError, with the reason, for a student that is none."""
        raise StudentError(
            f"{checkpoint}: a student of the kind {self.name!r} is no network that can be exported; predict with evokd-data predict"
        )
