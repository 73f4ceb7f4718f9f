"""Dropout on a CPU with sixteen random bits per element.

torch draws one number per element on one core; only on Intel's processors does MKL draw on all cores. With two cores this
was 7 % of MiniLM's step for 16 texts of 12 tokens, and 20 % for texts of 130 tokens, because attention has its own dropout,
which grows with the square of the length. Here four elements share one draw of 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LANES = 4  # of 16 bits in a draw
HALF = 2**15


@contextmanager
def fast_dropout() -> Iterator[None]:
    """Inside the block `bernoulli_` replaces torch's operator on the CPU, and so serves all dropout.

    On Intel's processors nothing changes. The operator belongs to the whole process, so only one thread may use the block.
    """
    import torch

    if torch.backends.mkl.is_available() and "Intel" in _processor():
        yield
        return
    library = torch.library.Library("aten", "IMPL")
    library.impl("bernoulli_.float", bernoulli_, "CPU")
    try:
        yield
    finally:
        del library  # the operator is overridden as long as its library lives


def bernoulli_(self: Any, p: float = 0.5, *, generator: Any = None) -> Any:
    """Fill a tensor with ones and zeros. A one has probability `p`, rounded to a multiple of 1/65536."""
    import torch

    count = self.numel()
    # From the smallest to the largest number: without bounds torch draws no negative numbers, and one lane of four would
    # have one bit less.
    draws = torch.empty(-(-count // LANES), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = draws.view(torch.int16)[:count].view(self.shape)
    largest = round(p * 2 * HALF) - HALF - 1
    return self.copy_(bits <= largest) if largest >= -HALF else self.zero_()


def _processor() -> str:
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return str(capabilities.get("cpu_name", ""))
