"""Dropout on a CPU with sixteen random bits for an element.

torch draws a number for each element on one core; only where the processor is Intel's does MKL draw on all of them. With
two cores that was 7 % of MiniLM's step for 16 texts of 12 tokens, and 20 % for texts of 130: attention has its own
dropout, which grows with the square of the length. Here four elements share a draw of 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LANES = 4  # of 16 bits in a draw
HALF = 2**15


@contextmanager
def quick() -> Iterator[None]:
    """Within the block torch's `bernoulli_` on the CPU, and so all dropout, is `draw`. On Intel's processors nothing
    changes. Not for two threads at a time: an operator is the whole process's."""
    import torch

    if torch.backends.mkl.is_available() and "Intel" in _processor():
        yield
        return
    library = torch.library.Library("aten", "IMPL")
    library.impl("bernoulli_.float", draw, "CPU")
    try:
        yield
    finally:
        del library  # an operator is overridden as long as its library lives


def draw(self: Any, p: float = 0.5, *, generator: Any = None) -> Any:
    """Fill a tensor with ones and zeros, a one with probability `p` rounded to a multiple of 1/65536."""
    import torch

    count = self.numel()
    # From the least to the largest number there is: without bounds torch draws no negative ones, and a lane in four would
    # have a bit less.
    draws = torch.empty(-(-count // LANES), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = draws.view(torch.int16)[:count].view(self.shape)
    most = round(p * 2 * HALF) - HALF - 1
    return self.copy_(bits <= most) if most >= -HALF else self.zero_()


def _processor() -> str:
    import torch

    abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return str(abilities.get("cpu_name", ""))
