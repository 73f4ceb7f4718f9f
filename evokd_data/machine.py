"""What this machine has: accelerators, memory, room on disks. Standard library only; nothing heavy is loaded to find out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A GPU as its driver describes it. Memory in bytes; `free`: what no other program has taken."""

    name: str
    memory: int
    free: int
    driver: str


def accelerators() -> list[Accelerator]:
    """The NVIDIA GPUs of this machine, in the driver's order; empty without a driver or without a GPU.

    `CUDA_VISIBLE_DEVICES` is respected where it lists numbers.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = ["--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run([program, *query], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
    gpus = [
        Accelerator(name, int(total) * 2**20, int(free) * 2**20, driver)
        for name, total, free, driver in (row for row in rows if len(row) == 4)
        if total.isdecimal() and free.isdecimal()
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and re.fullmatch(r"\s*(-?\d+\s*(,\s*-?\d+\s*)*)?", visible):
        numbers = [int(number) for number in visible.split(",") if number.strip()]
        # CUDA, too, stops at the first number that is no GPU's.
        gpus = [gpus[number] for number in takewhile(lambda number: 0 <= number < len(gpus), numbers)]
    return gpus


def memory() -> tuple[int, int]:
    """(all, available) bytes of main memory; (0, 0) where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    sizes = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    return sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)


def free_disk(path: Path) -> int:
    """Free bytes of the disk that holds `path`, or will hold it."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def gib(size: float) -> str:
    """A number of bytes as people read it: "90 MiB", "1.5 GiB", "139 GiB"."""
    value = size / GIB
    if value < 0.1:
        return f"{size / 2**20:.0f} MiB"
    return f"{value:.1f} GiB" if value < 10 else f"{value:.0f} GiB"
