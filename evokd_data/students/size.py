"""How large a student is: the values in its weights' files, and the bytes of these files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evokd_data.models import WEIGHTS


class Size(NamedTuple):
    """`parameters` is a number of values, `bytes` what their files take on the disk."""

    parameters: int
    bytes: int


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a pretrained model or of a checkpoint, of one format where there are two."""
    for pattern in WEIGHTS:
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def size_of(files: Iterable[Path]) -> Size:
    """The size of safetensors files, numpy archives and pickled weights together. Of arrays with integers, such as the numbers of
    hashed features, only the bytes count."""
    paths = list(files)
    return Size(sum(map(_parameters, paths)), sum(path.stat().st_size for path in paths))


def _parameters(path: Path) -> int:
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as tensors:
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - no mapping: it cannot be iterated
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return sum(array.size for array in arrays.values() if np.issubdtype(array.dtype, np.floating))
    import torch

    weights = torch.load(path, map_location="meta", weights_only=True)
    return sum(tensor.numel() for tensor in weights.values())
