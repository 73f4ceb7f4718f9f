"""SunGen: texts generated as by ZeroGen; the student `reweighted` learns how much each of them counts.

Gao et al., "Self-Guided Noise-Free Data Generation for Efficient Zero-Shot Learning", ICLR 2023 (arXiv 2205.12679). The
paper has two halves. The generation is ZeroGen's, and it is all that is here. The sample weights follow from training and
are in `students/reweighted.py`. With another student this is ZeroGen under another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evokd_data.strategies.zerogen import ZeroGen


@dataclass(frozen=True)
class SunGen(ZeroGen):
    """Texts as ZeroGen writes them, for the student `reweighted`."""

    name: ClassVar[str] = "sungen"
