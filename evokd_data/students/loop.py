"""The training loop: padded batches in, a trained model out. It is bare torch, so little happens between two batches.

Under torchrun each process trains on its part of every batch, and all take the same step. The gradient is the one that a
single process would compute from the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evokd_data.errors import StudentError
from evokd_data.students import distributed
from evokd_data.students.encoding import OutputIndex

CHECK_EVERY = 10  # steps between two checks of the loss: a check waits for the accelerator
MAX_GRADIENT_NORM = 1.0  # larger gradients are scaled down


class MicroBatch(NamedTuple):
    """A batch, or the part of it that one process computes at a time."""

    inputs: dict[str, Any]
    outputs: OutputIndex
    targets: NDArray[np.float32]
    """(A, classes): a distribution for each row that has an output."""
    weights: NDArray[np.float32]
    """(A,), each divided by the number of such rows in the whole batch: the batch's loss is the sum over micro-batches."""


@dataclass
class TrainingResult:
    """What happened in the training loop."""

    losses: list[float]
    """One per step."""
    tokens: int
    """Trained on by this process, without padding."""
    padding: float
    """Share of the tokens that this process computed."""


def train(
    model: Any, batches: Iterable[Sequence[MicroBatch]], optimizer: Any, schedule: Any, device: Any, bfloat16: bool
) -> TrainingResult:
    """Trains `model`, which is on `device`, by cross-entropy, with one step per batch. `optimizer` must be a fused one.

    Raises StudentError when the loss is not finite.
    """
    import torch

    model.train()
    processes = distributed.world_size()
    parallel = model if processes == 1 else torch.nn.parallel.DistributedDataParallel(model)
    losses: list[torch.Tensor] = []
    tokens = computed = 0
    for micro_batches in batches:
        total = torch.zeros((), device=device)
        for number, micro_batch in enumerate(micro_batches, 1):
            tokens += int(micro_batch.inputs["attention_mask"].sum())
            computed += micro_batch.inputs["input_ids"].numel()
            inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in micro_batch.inputs.items()}
            targets, weights = (
                torch.from_numpy(array).to(device) for array in (micro_batch.targets, micro_batch.weights)
            )
            with nullcontext() if processes == 1 or number == len(micro_batches) else parallel.no_sync():
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    logits = parallel(**inputs).logits
                loss = -(weights * (targets * micro_batch.outputs.select(logits).float().log_softmax(-1)).sum(-1)).sum()
                (loss if processes == 1 else loss * processes).backward()  # gradients are averaged over the processes
            total += loss.detach()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        # The fused optimizer divides the gradients while it reads them; clip_grad_norm_ would read and write them once more.
        optimizer.grad_scale = (torch.nn.utils.get_total_norm(gradients) / MAX_GRADIENT_NORM).clamp(min=1)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
        if len(losses) % CHECK_EVERY == 0:
            require_finite(torch.stack(losses[-CHECK_EVERY:]), len(losses))
    require_finite(torch.stack([parameter.detach().sum() for parameter in model.parameters()]), len(losses))
    all_losses = distributed.all_reduce(torch.stack(losses)).tolist()
    return TrainingResult(all_losses, tokens, round(1 - tokens / max(1, computed), 6))


def split_batch(batch: Sequence[int], parts: int) -> Iterator[tuple[list[int], bool]]:
    """This process' share of a batch in `parts` micro-batches, each with whether it counts.

    Processes step together. One whose micro-batch would be empty repeats an example that does not count.
    """
    pieces = np.array_split(np.asarray(batch), distributed.world_size() * parts)
    for piece in pieces[distributed.rank() * parts : (distributed.rank() + 1) * parts]:
        yield (piece.tolist(), True) if len(piece) else (list(batch[:1]), False)


def has_bfloat16() -> bool:
    """Whether the hardware multiplies bfloat16; emulated it is slower than float32.

    With AVX-512 BF16 a CPU second processed 1.9 to 2.3 times the tokens of float32 (bench/training.py, MiniLM, seven sets).
    """
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raises StudentError where the accelerator's memory runs out."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise StudentError(
            "the student does not fit into memory; lower student.max_length or student.batch_size, or raise "
            "student.gradient_accumulation where it has that setting"
        ) from error


def require_finite(values: Any, step: int) -> None:
    if not bool(values.isfinite().all()):
        raise StudentError(
            f"the student's loss is not finite after {step} steps; lower student.learning_rate (or "
            "student.head_learning_rate), or set student.precision: float32"
        )
