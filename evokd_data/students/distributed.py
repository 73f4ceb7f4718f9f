"""The processes of one training. torchrun starts several: the first does everything, the others only learn along."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=1)  # the others wait for what the first does alone, such as the probe


def started() -> int:
    """Processes that torchrun started together, joined or not."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def count() -> int:
    """Processes that learn together; 1 but within `joined`."""
    return _distributed().get_world_size() if _distributed() else 1


def rank() -> int:
    """0 is the process that writes."""
    return _distributed().get_rank() if _distributed() else 0


def _distributed() -> Any:
    torch = sys.modules.get("torch")  # who has not loaded it has joined nobody
    ready = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed if torch is not None and ready else None


@contextmanager
def joined() -> Iterator[None]:
    """The processes hear each other inside."""
    if started() == 1:
        yield
        return
    # A group that something holds on to keeps gloo's threads, and one that lets go of a tensor while the interpreter
    # ends aborts the process. These functions take the group of the moment as a default: they are imported before one.
    import torch
    import torch.distributed.nn

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
    )
    try:
        yield
    finally:
        gc.collect()  # DistributedDataParallel holds the group, in a cycle
        torch.distributed.destroy_process_group()


def told(value: Any) -> Any:
    """What the first process gives, in all of them."""
    if count() == 1:
        return value
    import torch

    box = [value]
    torch.distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


@contextmanager
def one_first() -> Iterator[None]:
    """The first process goes through the block before the others: they find the files it made."""
    if rank() > 0:
        told(None)
    yield
    if rank() == 0:
        told(None)


def summed(values: Any) -> Any:
    """A tensor, added up over all processes."""
    if count() > 1:
        import torch

        torch.distributed.all_reduce(values)
    return values
