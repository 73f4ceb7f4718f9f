"""The processes of one training. Without torchrun there is one; torch is not loaded to find that out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=1)  # the others wait for what the first does alone, such as the probe


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """0 is the process that does everything; the others only learn along."""
    return int(os.environ.get("RANK", "0"))


@contextmanager
def joined() -> Iterator[None]:
    """The processes can hear each other inside."""
    if count() == 1:
        yield
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
    )
    try:
        yield
    finally:
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
