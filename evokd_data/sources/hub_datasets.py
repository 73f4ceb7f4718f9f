"""Rows of a data set on the Hub at its pinned revision, with the names of classes in place of their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evokd_data.errors import DataError
from evokd_data.sources.features import decoder

if TYPE_CHECKING:
    from evokd_data.recipe_sections import Source

ROWS = 1024  # converted to Python objects at a time


def find_commit(source: Source) -> str:
    """The commit that the source's revision names now. Raises DataError when the Hub does not have it."""
    from huggingface_hub import HfApi

    assert source.dataset is not None
    try:
        commit = HfApi().dataset_info(source.dataset, revision=source.revision, timeout=20).sha
    except Exception as error:  # the client raises dozens of kinds, all of which mean: this source cannot be had
        raise _missing(source, error) from error
    assert commit is not None
    return commit


def read_hub(source: Source) -> Iterator[dict[str, Any]]:
    """The rows of one split. Raises DataError.

    The revision is resolved to a commit first: `load_dataset` alone may answer with another revision out of its cache when
    the Hub does not answer (datasets' CachedDatasetModuleFactory).
    """
    from datasets import load_dataset

    commit = find_commit(source)
    try:
        dataset = load_dataset(source.dataset, source.config, split=source.split_read, revision=commit)
        named = decoder(dataset.features.to_dict())
    except Exception as error:
        raise _missing(source, error) from error
    # As Arrow: images and sounds of columns that nobody reads are not decoded.
    for batch in dataset.with_format("arrow").iter(ROWS):
        yield from map(named, batch.to_pylist())


def _missing(source: Source, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or [""])[0]
    return DataError(
        f"{source}: cannot be loaded: {type(error).__name__}: {reason}; check the id, the revision, config, split and your access"
    )
