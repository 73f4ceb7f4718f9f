"""The training loop: padded batches in, a trained model out. Bare torch: a step is all there is between two batches.

Under torchrun each process learns its part of every batch, and all take the same step: the gradient is the one that a
single process would have had of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.students import distributed
from evokd_data.students.encoding import Answers

LOOK = 10  # steps between two looks at the loss: a look waits for the accelerator
LARGEST_GRADIENT = 1.0  # in norm; larger ones are scaled down


class MicroBatch(NamedTuple):
    """A batch, or as much of it as one process computes at a time."""

    inputs: dict[str, Any]
    answers: Answers
    wanted: NDArray[np.float32]
    """(A, classes): a distribution for each answer."""
    weights: NDArray[np.float32]
    """(A,), each divided by the whole batch's answers: the batch's loss is the sum over its parts."""


@dataclass
class Trained:
    losses: list[float]
    """Of each step."""
    tokens: int
    """Learned by this process, without padding."""
    padding: float
    """Share of what it computed."""


def train(
    model: Any, steps: Iterable[Sequence[MicroBatch]], optimizer: Any, schedule: Any, device: Any, bfloat16: bool
) -> Trained:
    """`model`, which lies on `device`, learns each step's parts by cross-entropy. `optimizer` is a fused one. Raises
    StudentError when the loss is not finite."""
    import torch

    model.train()
    alone = distributed.world_size() == 1
    shared = model if alone else torch.nn.parallel.DistributedDataParallel(model)
    losses: list[torch.Tensor] = []
    tokens = computed = 0
    for parts in steps:
        total = torch.zeros((), device=device)
        for place, part in enumerate(parts, 1):
            tokens += int(part.inputs["attention_mask"].sum())
            computed += part.inputs["input_ids"].numel()
            inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in part.inputs.items()}
            wanted, weights = (torch.from_numpy(array).to(device) for array in (part.wanted, part.weights))
            with nullcontext() if alone or place == len(parts) else shared.no_sync():
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    logits = shared(**inputs).logits
                loss = -(weights * (wanted * part.answers.of(logits).float().log_softmax(-1)).sum(-1)).sum()
                (loss if alone else loss * distributed.world_size()).backward()  # processes' gradients are averaged
            total += loss.detach()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        # The fused optimizer divides by it while it reads them; clip_grad_norm_ would read and write all once more.
        optimizer.grad_scale = (torch.nn.utils.get_total_norm(gradients) / LARGEST_GRADIENT).clamp(min=1)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
        if len(losses) % LOOK == 0:
            _require_finite(torch.stack(losses[-LOOK:]), len(losses))
    _require_finite(torch.stack([parameter.detach().sum() for parameter in model.parameters()]), len(losses))
    return Trained(distributed.all_reduce(torch.stack(losses)).tolist(), tokens, round(1 - tokens / max(1, computed), 6))


def shares(batch: Sequence[int], parts: int) -> Iterator[tuple[list[int], bool]]:
    """This process' share of a batch, cut into `parts`; whether a part counts. One with nothing to learn repeats an
    example that does not count: processes step together."""
    cut = np.array_split(np.asarray(batch), distributed.world_size() * parts)
    for piece in cut[distributed.rank() * parts : (distributed.rank() + 1) * parts]:
        yield (piece.tolist(), True) if len(piece) else (list(batch[:1]), False)


def _require_finite(values: Any, step: int) -> None:
    if not bool(values.isfinite().all()):
        raise StudentError(
            f"the student's loss is not finite after {step} steps; lower student.learning_rate (or "
            "student.head_learning_rate), or set student.precision: float32"
        )
