"""A pretrained encoder, fine-tuned with a classification head: the usual student of distillation.

A checkpoint is a folder that `transformers.pipeline("text-classification", folder)` (or "token-classification") can load.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from evokd_data.errors import StudentError
from evokd_data.records import TokenExample
from evokd_data.settings import NOT_IDENTITY, Count, Rate, Share, from_anyone, hub_name
from evokd_data.students import Examples, Network, Predict, Student, TrainingData, distributed, fast_cpu_dropout
from evokd_data.students.base_model import OnBaseModel
from evokd_data.students.batches import NO_SAMPLES, BatchSampler, target_distributions
from evokd_data.students.checkpoint import read_metadata, write_metadata
from evokd_data.students.deterministic import deterministic
from evokd_data.students.encoding import ExampleEncoder, position_limit, truncated
from evokd_data.students.loop import MicroBatch, enough_memory, has_bfloat16, split_batch, train
from evokd_data.students.prediction import network_predictor
from evokd_data.students.pretrained import check_pretrained, load_pretrained, save_pretrained
from evokd_data.students.tokens import TokenRows, tokenised
from evokd_data.students.vocabulary import trimmed_embeddings

log = logging.getLogger(__name__)


@hub_name("model")
@from_anyone(
    "revision",
    "epochs",
    "min_steps",
    "batch_size",
    "learning_rate",
    "head_learning_rate",
    "warmup_ratio",
    "weight_decay",
    "label_smoothing",
    "max_length",
    "soft_labels",
    "from_scratch",
    "replay",
    "freeze_word_embeddings",
    "precision",
    "gradient_accumulation",
    "prediction_batch_size",
)
@dataclass(frozen=True)
class Transformer(OnBaseModel, Student):
    """A pretrained encoder, fine-tuned.

    The defaults are those of bench/student_policy.py: from one real text per intent of SNIPS and 40 more per round, MiniLM
    trained from scratch reached 0.68, 0.90, 0.96 (rounds 0 to 2; 3 seeds) at 12 CPU seconds per round. To continue with
    replay and half the steps took half the time for 1 to 2 points less, and the score varied from round to round. Choose it
    when there are too many earlier rounds to train on all of them again.
    """

    name: ClassVar[str] = "transformer"
    library: ClassVar[str] = "transformers"

    model: Annotated[str, Field(min_length=1)]
    """The pretrained encoder: ORG/NAME on the Hub, a folder (./model), or package:NAME for one in an installed package."""
    revision: str | None = None
    """The branch, tag or commit of a model on the Hub. Give a commit for an experiment that lasts."""
    epochs: Rate = 5.0
    """Passes over the samples."""
    min_steps: Annotated[int, Field(ge=0)] = 60
    """The fewest batches of a training: a few seeds would otherwise be five steps."""
    batch_size: Count = 16
    """Texts in one step."""
    learning_rate: Rate = 2e-4
    """The largest learning rate of the base model's parameters, reached after the warm-up. Decrease it, e.g. to 5e-5,
    for large encoders."""
    head_learning_rate: Rate | None = 1e-3
    """The same for the parameters that the base model does not have. null: as `learning_rate`."""
    warmup_ratio: Share = 0.1
    """The share of the steps in which the learning rate rises; afterwards it falls to 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """The weight decay of AdamW."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How much of a hard label is spread over all classes. Soft labels are not changed."""
    max_length: Annotated[int, Field(ge=4)] = 256
    """The most tokens of a text that the student reads; the rest is cut off. More of them cost time and memory."""
    soft_labels: bool = True
    """Learn the teacher's probability of each class where there is one, instead of its label alone."""
    from_scratch: bool = True
    """Train the base model anew on all rounds. false: go on from the last checkpoint, which is faster and scores vary
    more; choose it when there are too many earlier rounds to train on all of them again."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """With `from_scratch: false`, the share of each batch that comes from earlier rounds. The paper's ablation without
    review: 0."""
    freeze_word_embeddings: bool = False
    """Do not train the word embeddings: less memory, mostly for models with a large vocabulary."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The number format of training. `auto`: bfloat16 where the hardware multiplies it, else float32."""
    gradient_accumulation: Count = field(default=1, metadata=NOT_IDENTITY)
    """Micro-batches of a batch that does not fit into memory whole. The step is the same but for rounding."""
    prediction_batch_size: Count = field(default=64, metadata=NOT_IDENTITY)
    """Texts in one batch of predictions. Decrease it when memory runs out."""

    @property
    def tunes_base(self) -> bool:
        return True

    @property
    def keeps_base(self) -> bool:
        return True

    @property
    def learns_soft_labels(self) -> bool:
        return self.soft_labels

    def check_base(self, folder: Path) -> None:
        check_pretrained(folder)

    @property
    def continues(self) -> bool:
        return not self.from_scratch

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        """Figures: steps, fresh and earlier samples, tokens without padding, the share of padding, mean loss of each tenth
        of the training, the share of texts truncated at `max_length`, what the tokenizer loses (see `TokenRows.losses`), the base
        model, precision, device and seconds;
        `learning_seconds` are those between the first batch and the last."""
        started = time.perf_counter()
        if not data.fresh and not data.earlier:
            raise StudentError(NO_SAMPLES)
        previous = None if self.from_scratch else data.previous
        base = self._base()
        if previous is not None and tuple(read_metadata(previous, self.name)["classes"]) != data.classes:
            raise StudentError(f"{previous} knows other classes than the task; set student.from_scratch: true")
        words = isinstance((data.fresh or data.earlier)[0], TokenExample)
        with deterministic(data.seed) as seed, enough_memory(), fast_cpu_dropout.fast_dropout():
            model, tokenizer, new_parameters = self._load(previous or base.folder, data.classes, words)
            encoder = ExampleEncoder(tokenizer, model, position_limit(model, tokenizer, self.max_length))
            with tokenised(data, encoder, words, self.soft_labels, base.identity, into) as tokens:
                replay = None if previous is None else self.replay
                sampler = BatchSampler(
                    range(len(data.earlier), len(tokens)), range(len(data.earlier)), self.batch_size, replay
                )
                steps = sampler.steps(self.epochs, self.min_steps)
                batches = sampler.batches(steps, seed, length=tokens.lengths.__getitem__)
                micro_batches = (self._micro_batches(batch, tokens, encoder, len(data.classes)) for batch in batches)
                with (
                    trimmed_embeddings(model, tokens.vocabulary(tokenizer.pad_token_id))
                    if self._trains_embeddings()
                    else contextlib.nullcontext()
                ):
                    figures = self._train(model, new_parameters, micro_batches, steps)
                figures.update(truncated=tokens.truncated, **tokens.losses(tokenizer))
            if distributed.rank() == 0:
                self._save(model, tokenizer, encoder.limit, into)
                facts = {"words": words, "max_length": encoder.limit, "base": dict(base.identity)}
                write_metadata(into, self.name, data.classes, **facts)
        figures.update(
            max_length=encoder.limit,
            fresh=len(data.fresh),
            earlier=len(data.earlier),
            continued=previous is not None,
            base=dict(base.identity),
            seconds=round(time.perf_counter() - started, 3),
        )
        log.info("student: %d steps, loss %.4f, %.1f s", figures["steps"], figures["losses"][-1], figures["seconds"])
        return figures

    def _micro_batches(
        self, batch: Sequence[int], tokens: TokenRows, encoder: ExampleEncoder, classes: int
    ) -> list[MicroBatch]:
        """This process' share of a batch. `batch` holds rows of `tokens`."""
        outputs_in_batch = max(1, sum(tokens.output_count(row) for row in batch))
        micro_batches = []
        for rows, counts in split_batch(batch, self.gradient_accumulation):
            inputs, outputs = encoder.pad([tokens.encoded(row) for row in rows])
            labels = [tokens.labels(row) for row in rows]
            targets = target_distributions(labels, classes, self.label_smoothing)[outputs.rows]
            repeats = [len(label.hard) if tokens.words else 1 for label in labels]
            weights = np.repeat([tokens.weight(row) / outputs_in_batch if counts else 0.0 for row in rows], repeats)
            micro_batches.append(MicroBatch(inputs, outputs, targets, weights[outputs.rows].astype(np.float32)))
        return micro_batches

    def _train(
        self, model: Any, new_parameters: set[str], batches: Iterator[list[MicroBatch]], steps: int
    ) -> dict[str, Any]:
        import torch

        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        model.to(device)
        optimizer = torch.optim.AdamW(self._parameter_groups(model, new_parameters), lr=self.learning_rate, fused=True)
        warmup = math.ceil(self.warmup_ratio * steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: step / warmup if step < warmup else (steps - step) / max(1, steps - warmup)
        )
        started = time.perf_counter()
        trained = train(model, batches, optimizer, schedule, device, self._bfloat16())
        return {
            "steps": steps,
            "tokens": trained.tokens,
            "padding": trained.padding,
            "losses": [
                round(float(part.mean()), 6) for part in np.array_split(trained.losses, min(10, len(trained.losses)))
            ],
            "precision": "bfloat16" if self._bfloat16() else "float32",
            "device": str(device),
            "processes": distributed.world_size(),
            "threads": torch.get_num_threads(),
            "learning_seconds": round(time.perf_counter() - started, 3),
        }

    def _parameter_groups(self, model: Any, new_parameters: set[str]) -> list[dict[str, Any]]:
        """Only matrices decay, not biases and norms. Parameters that the base model does not have get their own rate."""
        if self.freeze_word_embeddings:
            model.get_input_embeddings().weight.requires_grad_(False)
        groups: dict[tuple[bool, bool], list[Any]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((name in new_parameters, parameter.ndim > 1), []).append(parameter)
        rates = {False: self.learning_rate, True: self.head_learning_rate or self.learning_rate}
        return [
            {"params": parameters, "lr": rates[head], "weight_decay": self.weight_decay if matrix else 0.0}
            for (head, matrix), parameters in groups.items()
        ]

    def _bfloat16(self) -> bool:
        return has_bfloat16() if self.precision == "auto" else self.precision == "bfloat16"

    def _trains_embeddings(self) -> bool:
        """Whether the embeddings of tokens are trained."""
        return not self.freeze_word_embeddings

    def _load(self, folder: Path, classes: tuple[str, ...], words: bool) -> tuple[Any, Any, set[str]]:
        """The model to train, its tokenizer, and the names of the parameters that the base model does not have."""
        return load_with_head(folder, classes, words)

    def _save(self, model: Any, tokenizer: Any, limit: int, into: Path) -> None:
        save_pretrained(model, tokenizer, limit, into)

    def truncated(self, examples: Examples, checkpoint: Path) -> int:
        return truncated(checkpoint, examples, read_metadata(checkpoint, self.name)["max_length"])

    def predict(self, examples: Examples, checkpoint: Path) -> Sequence[Any]:
        """See `Student.predict`. Computed in float32 whatever `precision` is, so that rounding does not change probabilities."""
        with deterministic(0):  # around the model's life: at its end the accelerator's memory is given back
            return self.predictor(checkpoint)(examples)

    def predictor(self, checkpoint: Path) -> Predict:
        with enough_memory():
            predict_in_pieces = network_predictor(self.network(checkpoint), self.prediction_batch_size)

        def predict(examples: Examples) -> Sequence[Any]:
            with enough_memory():
                return predict_in_pieces(examples)

        return predict

    def network(self, checkpoint: Path) -> Network:
        metadata = read_metadata(checkpoint, self.name)
        classes, words = tuple(metadata["classes"]), metadata["words"]
        with deterministic(0):
            model, tokenizer, _ = load_with_head(checkpoint, classes, words)
        return Network(logits_of(model), tokenizer, model.config, metadata["max_length"], classes, words)


def logits_of(model: Any) -> Any:
    """The model as a module that returns nothing but its logits."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, **types: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits

    return Logits().eval()


def load_with_head(folder: Path, classes: tuple[str, ...], words: bool) -> tuple[Any, Any, set[str]]:
    """Model, tokenizer, and the names of the parameters that are not in the folder or belong to the head."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    model, tokenizer, report = load_pretrained(
        AutoModelForTokenClassification if words else AutoModelForSequenceClassification,
        folder,
        num_labels=len(classes),
        id2label=dict(enumerate(classes)),
        label2id={name: index for index, name in enumerate(classes)},
        problem_type=None if words else "single_label_classification",
        ignore_mismatched_sizes=True,  # the checkpoint may have the head of another task
    )
    body = {id(parameter) for parameter in model.base_model.parameters()}
    head = {name for name, parameter in model.named_parameters() if id(parameter) not in body}
    return model, tokenizer, head | set(report["missing_keys"])
