"""Helpers of the tests and the benches: example tasks, runs to publish, a Hub with faults, observers."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository. Programs of this folder are started there: `python -m tests.support.<name>`."""
