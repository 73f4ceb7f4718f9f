"""SunGen: texts generated as by ZeroGen; how far each is believed is learned by the student `reweighted`.

Gao et al., "Self-Guided Noise-Free Data Generation for Efficient Zero-Shot Learning", ICLR 2023 (arXiv 2205.12679). The
paper has two halves: the generation, which is ZeroGen's and is all there is here, and the sample weights, which follow
from training and are in `students/reweighted.py`. With another student this is ZeroGen under another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evokd_data.strategies.zerogen import ZeroGen


@dataclass(frozen=True)
class SunGen(ZeroGen):
    """`per_request` texts in one generate call."""

    name: ClassVar[str] = "sungen"
