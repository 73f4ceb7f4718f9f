"""A small Parquet file that stands for gigabytes is refused before its rows are made; an honest one is not."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evokd_data.errors import VerificationError
from evokd_data.storage import parquet

pytestmark = pytest.mark.slow


def test_a_value_repeated_by_reference_is_measured_and_not_copied(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 8000, pa.int32()), pa.array(["a" * 2**20]))
    pq.write_table(pa.table({"text": text}), tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VerificationError, match=r"bomb\.parquet: would become more than"):
        parquet.check_expansion(tmp_path / "bomb.parquet")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_a_hidden_list_of_values_is_measured(tmp_path: Path) -> None:
    spans = pa.array([[{"surface": "b" * 2**16}] * 64] * 128, pa.list_(pa.struct({"surface": pa.string()})))
    pq.write_table(pa.table({"spans": spans}), tmp_path / "bomb.parquet", compression="zstd")
    with pytest.raises(VerificationError, match="would become more than"):
        parquet.check_expansion(tmp_path / "bomb.parquet")


def test_many_rows_of_nothing_are_refused(tmp_path: Path) -> None:
    table = pa.table({"weight": np.ones(2_000_000, np.float32)})
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    with pytest.raises(VerificationError, match="would become more than"):
        parquet.check_expansion(tmp_path / "bomb.parquet")


def test_honest_rows_are_read(tmp_path: Path) -> None:
    texts = [f"text {i} of a round, as different from the others as texts are" for i in range(20_000)]
    table = pa.table({"text": texts, "label": ["a", "b"] * 10_000, "spans": [[{"surface": "x"}]] * 20_000})
    pq.write_table(table, tmp_path / "rows.parquet", compression="zstd")
    parquet.check_expansion(tmp_path / "rows.parquet")
