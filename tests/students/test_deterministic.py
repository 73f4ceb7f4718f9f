"""What a training leaves behind in its process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FRAGMENTED = """
from pathlib import Path
from evokd_data.students.deterministic import deterministic

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024

with deterministic(0):
    before = resident_mb()
    blocks = [bytearray(b"x" * 100_000) for _ in range(5_000)]
    last = bytearray(b"x" * 100_000)  # lies above them, so the C library cannot shrink its heap
    del blocks
    kept = resident_mb() - before
print(kept, resident_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries give freed memory back by themselves")
def test_the_memory_of_a_training_goes_back_to_the_machine() -> None:
    """500 MB below a block that is alive: glibc keeps them for itself."""
    environment = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000", "PATH": ""}
    output = subprocess.run(
        [sys.executable, "-c", FRAGMENTED], env=environment, capture_output=True, text=True, check=True
    )
    kept, left = map(int, output.stdout.split())
    assert kept > 400
    assert left < 50
