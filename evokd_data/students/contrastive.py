"""A contrastively fine-tuned encoder, with a logistic regression on its embeddings: mostly the strongest student of a handful of samples.

SetFit (Tunstall et al. 2022, arXiv 2209.11055) in two steps. First the encoder is tuned so that texts of one class lie closer together
than texts of two, by the supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, equation 2) on batches that hold all classes
alike. Then the logistic regression of `frozen` learns the embeddings. A class with a single text is still a pair: its name is one more
text of it, and dropout makes two embeddings of one text (Gao et al. 2021, SimCSE, arXiv 2104.08821). For tagging each word is a row, as
in Das et al. 2022 (CONTaiNER, arXiv 2109.07589).

A checkpoint holds the tuned encoder in transformers' format and the head.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.records import SequenceExample, TokenExample
from evokd_data.settings import NOT_IDENTITY, Count, Rate, from_anyone, hub_name
from evokd_data.students import Examples, Network, Predict, Student, TrainingData, fast_cpu_dropout
from evokd_data.students.base_model import OnBaseModel
from evokd_data.students.batches import NO_SAMPLES
from evokd_data.students.checkpoint import read_metadata, write_metadata
from evokd_data.students.deterministic import deterministic
from evokd_data.students.embeddings import Floats, embed_texts, mean_of_tokens, with_head
from evokd_data.students.encoding import EncodedExample, ExampleEncoder, position_limit, truncated
from evokd_data.students.frozen_readme import README, tuned_readme
from evokd_data.students.logistic_head import (
    HEAD,
    TrainingRows,
    figures_of,
    fit_head,
    read_head,
    weighted_targets,
    write_head,
)
from evokd_data.students.loop import MAX_GRADIENT_NORM, enough_memory, has_bfloat16, require_finite
from evokd_data.students.prediction import network_predictor
from evokd_data.students.pretrained import check_pretrained, load_pretrained, save_pretrained
from evokd_data.students.size import weight_files
from evokd_data.students.tokens import TokenRows, tokenised
from evokd_data.students.vocabulary import trimmed_embeddings

log = logging.getLogger(__name__)

WARMUP = 0.1
"""The share of the steps in which the learning rate rises."""
STEPS, STEPS_OF_TAGS = 40, 100
"""Without `steps`. Of texts 100 are no better (bench/few_shots.py); of tags they are, by 4 to 11 points of micro-F1."""
MAX_ROWS = 1024
"""Words of a batch that are compared with each other: their similarities are a matrix."""
EMBEDDED = 64
"""Examples embedded at a time for the head."""


@hub_name("model")
@from_anyone(
    "revision", "steps", "batch_size", "learning_rate", "temperature", "c", "name_weight", "soft_labels", "max_length", "max_iterations",
)  # fmt: skip
@dataclass(frozen=True)
class Contrastive(OnBaseModel, Student):
    """A pretrained encoder, tuned so that texts of one class lie close together, with a logistic regression on its embeddings.

    The number of steps does not grow with the data: the tuning needs few, and the head learns from all samples."""

    name: ClassVar[str] = "contrastive"

    model: Annotated[str, Field(min_length=1)]
    """The pretrained encoder: ORG/NAME on the Hub, a folder (./model), or package:NAME for one in an installed package.
    Best one made for sentence embeddings."""
    revision: str | None = None
    """The branch, tag or commit of a model on the Hub. Give a commit for an experiment that lasts."""
    steps: Count | None = None
    """Batches that the encoder is tuned on. Without it 40, and 100 for tags."""
    batch_size: Annotated[int, Field(ge=2)] = 48
    """Texts in a batch, of all classes alike; of more than half as many classes, so many are drawn that each has two."""
    learning_rate: Rate = 1e-4
    """The largest learning rate of the encoder's parameters, reached after the warm-up. Decrease it for large encoders."""
    temperature: Rate = 0.1
    """What similarities are divided by in the contrastive loss. Smaller values weigh the hardest pairs more."""
    c: Rate = 10.0
    """The inverse strength of the head's regularisation. Smaller values keep it simpler."""
    name_weight: Annotated[float, Field(ge=0)] = 1.0
    """How many texts the name of a class counts for (`task.label_names`). 0 leaves names out."""
    soft_labels: bool = True
    """Let the head learn the teacher's probability of each class where there is one, instead of its label alone."""
    max_length: Annotated[int, Field(ge=4)] = 256
    """The most tokens of a text that the student reads; the rest is cut off."""
    max_iterations: Count = field(default=2000, metadata=NOT_IDENTITY)
    """The most steps of the head's optimiser. It stops earlier when it has converged."""

    @property
    def tunes_base(self) -> bool:
        return True

    @property
    def keeps_base(self) -> bool:
        return True

    @property
    def learns_soft_labels(self) -> bool:
        return self.soft_labels

    def few_shot(self) -> Student:
        return self

    def check_base(self, folder: Path) -> None:
        check_pretrained(folder)

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Figures: steps of the tuning, fresh and earlier samples, the mean contrastive loss of each tenth of the tuning, the head's loss,
        the share of texts truncated at `max_length`, what the tokenizer loses, the base model, and seconds."""
        started = time.perf_counter()
        if not data.fresh and not data.earlier:
            raise StudentError(NO_SAMPLES)
        base = self._base()
        words = isinstance((data.fresh or data.earlier)[0], TokenExample)
        with deterministic(data.seed) as seed, enough_memory(), fast_cpu_dropout.fast_dropout():
            from transformers import AutoModel

            model, tokenizer, _ = load_pretrained(AutoModel, base.folder)
            encoder = ExampleEncoder(tokenizer, model, position_limit(model, tokenizer, self.max_length))
            with tokenised(data, encoder, words, self.soft_labels, base.identity, into) as tokens:
                rows = _Rows(tokens, encoder, () if words else data.class_names or data.classes, self.name_weight)
                vocabulary = rows.vocabulary(tokenizer.pad_token_id)
                with trimmed_embeddings(model, vocabulary):
                    losses = self._tune(model, rows, seed, self.steps or (STEPS_OF_TAGS if words else STEPS))
                    head = fit_head(_features(model, rows), len(data.classes), self.c, self.max_iterations)
                lost = {"truncated": tokens.truncated, **tokens.losses(tokenizer)}
            save_pretrained(model.to("cpu"), tokenizer, encoder.limit, into)
        write_head(into, head)
        facts = {"words": words, "max_length": encoder.limit, "base": dict(base.identity)}
        write_metadata(into, self.name, data.classes, **facts)
        # Not among the checkpoint's files: a pushed student has its model card under this name.
        (into / README).write_text(tuned_readme(self.model, data.classes, words), encoding="utf-8")
        tenths = np.array_split(losses, min(10, len(losses)))
        contrast = [round(float(part.mean()), 6) for part in tenths]
        figures = figures_of(head, data, started, **lost, contrastive_losses=contrast, base=dict(base.identity))
        return {**figures, "steps": len(losses), "head_steps": head.steps}

    def _tune(self, model: Any, rows: _Rows, seed: int, steps: int) -> list[float]:
        """The contrastive loss of each step."""
        import torch

        by_class = rows.by_class()
        if len(by_class) < 2:  # there is nothing to tell apart
            return [0.0]
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.learning_rate, fused=True)
        warmup = max(1, round(WARMUP * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup + 1))
        )
        losses: list[Any] = []
        for chosen in self._batches(by_class, seed, steps):
            inputs, outputs = rows.encoder.pad([rows.encoded(row) for row in chosen])
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16()):
                hidden = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).last_hidden_state
            vectors = _pooled(hidden.float(), inputs["attention_mask"].to(device), outputs)
            targets = np.concatenate([rows.classes(row) for row in chosen])[outputs.rows]
            if len(targets) > MAX_ROWS:
                kept = np.random.default_rng([seed, len(losses)]).choice(len(targets), MAX_ROWS, replace=False)
                vectors, targets = vectors[kept], targets[kept]
            loss = contrastive_loss(vectors, torch.from_numpy(targets).to(device), self.temperature)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        require_finite(torch.stack(losses), len(losses))
        return [float(loss) for loss in losses]

    def _batches(self, by_class: Mapping[int, _Drawn], seed: int, steps: int) -> Iterator[list[int]]:
        """Row numbers of each batch: as many of each class, at least two, the heavier ones more often."""
        random = np.random.default_rng([seed, 1])
        classes = np.array(sorted(by_class))
        for _ in range(steps):
            chosen = random.permutation(classes)[: max(2, self.batch_size // 2)]
            each = max(2, self.batch_size // len(chosen))
            yield [int(row) for label in chosen for row in by_class[int(label)].draw(random, each)]

    def weights(self, checkpoint: Path) -> Sequence[Path]:
        return [checkpoint / HEAD, *weight_files(checkpoint)]

    def features(self, texts: Sequence[str]) -> Floats:
        return embed_texts(self._base(), texts, self.max_length)

    def truncated(self, examples: Examples, checkpoint: Path) -> int:
        return truncated(checkpoint, examples, read_metadata(checkpoint, self.name)["max_length"])

    def predict(self, examples: Examples, checkpoint: Path) -> Sequence[Any]:
        with deterministic(0):  # around the model's life: at its end the accelerator's memory is given back
            return self.predictor(checkpoint)(examples)

    def predictor(self, checkpoint: Path) -> Predict:
        return network_predictor(self.network(checkpoint))

    def network(self, checkpoint: Path) -> Network:
        metadata = read_metadata(checkpoint, self.name)
        return with_head(checkpoint, *read_head(checkpoint), metadata, tuned=True)


def contrastive_loss(vectors: Any, targets: Any, temperature: float) -> Any:
    """Khosla et al. 2020, equation 2, averaged within each class and then over the classes: in tagging most words are outside.

    `vectors` (R, D) of length 1, `targets` (R,) class indices. A row without another of its class does not count.
    """
    import torch

    similarity = (vectors @ vectors.T / temperature).fill_diagonal_(-torch.inf)
    same = (targets[:, None] == targets[None, :]).fill_diagonal_(False)
    likely = similarity.log_softmax(-1).masked_fill(~same, 0.0)
    partners = same.sum(-1)
    of_rows = -likely.sum(-1) / partners.clamp(min=1)
    losses = [of_rows[(targets == label) & (partners > 0)] for label in targets.unique()]
    means = [of_class.mean() for of_class in losses if len(of_class)]
    return torch.stack(means).mean() if means else (vectors * 0).sum()


@dataclass(frozen=True)
class _Drawn:
    """The rows of a class, with the sums of their weights up to each."""

    rows: NDArray[np.int64]
    sums: NDArray[np.float64]

    def draw(self, random: Any, count: int) -> NDArray[np.int64]:
        """`count` of them, none twice while there are others."""
        if len(self.rows) <= count:
            return np.resize(random.permutation(self.rows), count)
        found: dict[int, None] = {}
        while len(found) < count:
            at = np.searchsorted(self.sums, random.random(count) * self.sums[-1], side="right")
            found |= dict.fromkeys(map(int, self.rows[at]))
        return np.fromiter(found, np.int64)[:count]


class _Rows:
    """The examples of a training as rows of tokens, and after them the names of the classes, each a text of its class."""

    def __init__(self, tokens: TokenRows, encoder: ExampleEncoder, names: Sequence[str], name_weight: float) -> None:
        self.encoder, self.tokens, self.name_weight = encoder, tokens, name_weight
        self.names = encoder.encode([SequenceExample(name, None) for name in names]) if names and name_weight else []

    def __len__(self) -> int:
        return len(self.tokens) + len(self.names)

    def encoded(self, row: int) -> EncodedExample:
        own = len(self.tokens)
        return self.tokens.encoded(row) if row < own else self.names[row - own]

    def weighted_targets(self, row: int) -> list[tuple[int, float]]:
        own = len(self.tokens)
        return (
            weighted_targets(self.tokens.labels(row), self.tokens.weight(row))
            if row < own
            else [(row - own, self.name_weight)]
        )

    def classes(self, row: int) -> NDArray[np.int64]:
        """The class of a text, or that of each word: of a soft label the most probable."""
        own = len(self.tokens)
        if row >= own:
            return np.array([row - own])
        label = self.tokens.labels(row)
        return np.array(label.hard, dtype=np.int64) if len(label.hard) else np.array([int(np.argmax(label.soft))])

    def by_class(self) -> dict[int, _Drawn]:
        """Class -> the rows that hold it and have a weight."""
        found: dict[int, tuple[list[int], list[float]]] = {}
        for row in range(len(self)):
            weight = self.tokens.weight(row) if row < len(self.tokens) else self.name_weight
            for label in np.unique(self.classes(row)) if weight else ():
                rows, weights = found.setdefault(int(label), ([], []))
                rows.append(row)
                weights.append(weight)
        return {label: _Drawn(np.array(rows), np.cumsum(weights)) for label, (rows, weights) in found.items()}

    def vocabulary(self, *others: int) -> NDArray[np.int64]:
        return self.tokens.vocabulary(*others, *(int(token) for name in self.names for token in name.ids))


def _features(model: Any, rows: _Rows) -> TrainingRows:
    """What the head learns: an embedding, a class and a weight for each row and class."""
    import torch

    device = next(model.parameters()).device
    model.eval()
    features: list[Floats] = []
    targets: list[tuple[int, float]] = []
    numbers = iter(range(len(rows)))
    with torch.inference_mode():
        while block := list(islice(numbers, EMBEDDED)):
            inputs, outputs = rows.encoder.pad([rows.encoded(row) for row in block])
            hidden = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).last_hidden_state
            vectors = _pooled(hidden, inputs["attention_mask"].to(device), outputs).cpu().numpy()
            of_block = [rows.weighted_targets(row) for row in block]
            if outputs.tagging:
                flat = [target for of_row in of_block for target in of_row]
                features.append(vectors)
                targets += [flat[index] for index in outputs.rows]
            else:
                features.append(np.repeat(vectors, [len(of_row) for of_row in of_block], axis=0))
                targets += [target for of_row in of_block for target in of_row]
    classes, weights = zip(*targets, strict=True)
    return TrainingRows(np.concatenate(features), np.asarray(classes), np.asarray(weights), ())


def _pooled(hidden: Any, mask: Any, outputs: Any) -> Any:
    """(R, D) of length 1: the mean over a text's tokens, or the first token of each word."""
    import torch

    if outputs.tagging:
        return torch.nn.functional.normalize(outputs.select(hidden), dim=-1)
    return torch.nn.functional.normalize(mean_of_tokens(hidden, mask), dim=-1)
