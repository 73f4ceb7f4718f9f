"""The processes of one training. torchrun starts several: rank 0 does all stages, the others only compute gradients."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

TIMEOUT = timedelta(days=1)  # the other ranks wait while rank 0 works alone, for example on the probe


def launched_world_size() -> int:
    """The number of processes that torchrun started, inside and outside of `process_group`; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def world_size() -> int:
    """The number of processes that train together; 1 outside of `process_group`."""
    return _distributed().get_world_size() if _distributed() else 1


def rank() -> int:
    """The index of this process; 0 outside of `process_group`. Only rank 0 writes files."""
    return _distributed().get_rank() if _distributed() else 0


def _distributed() -> Any:
    torch = sys.modules.get("torch")  # a process that has not imported torch is in no group
    ready = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed if torch is not None and ready else None


@contextmanager
def process_group() -> Iterator[None]:
    """Inside the block the processes that torchrun started are one group; with one process nothing happens."""
    if launched_world_size() == 1:
        yield
        return
    # gloo's threads live as long as anything refers to the group, and a group that releases a tensor while the interpreter
    # ends aborts the process. torch.distributed.nn binds the current group as a default: import it before there is one.
    import torch
    import torch.distributed.nn

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        gc.collect()  # DistributedDataParallel refers to the group, in a cycle
        torch.distributed.destroy_process_group()


def broadcast(value: Any) -> Any:
    """Rank 0's value, in every process. All must call it; the value of the others is ignored."""
    if world_size() == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Rank 0 runs the block before the others, which then use the files that it wrote."""
    if rank() > 0:
        broadcast(None)
    yield
    if rank() == 0:
        broadcast(None)


def all_reduce(values: Any) -> Any:
    """A tensor, summed over all processes, in place."""
    if world_size() > 1:
        import torch

        torch.distributed.all_reduce(values)
    return values
