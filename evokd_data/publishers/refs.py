"""What a repository's names point at, and which of its files only rounds may add: asked of the Hub each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evokd_data import repo_layout

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"


@dataclass(frozen=True)
class Refs:
    """What a repository's names point at: commits by branch and by tag."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def head(self) -> str | None:
        return self.branches.get(MAIN)

    def rounds(self) -> dict[int, str]:
        """Round -> commit, in order."""
        found = {index: self.tags[tag] for tag in self.tags if (index := repo_layout.round_index(tag)) is not None}
        return dict(sorted(found.items()))


def look_up(api: HfApi, repo: str, repo_type: str) -> Refs:
    found = api.list_repo_refs(repo, repo_type=repo_type)
    return Refs(
        {ref.name: ref.target_commit for ref in found.branches}, {ref.name: ref.target_commit for ref in found.tags}
    )


def round_files(api: HfApi, repo: str, repo_type: str, commit: str) -> dict[str, str]:
    tree = api.list_repo_tree(repo, repo_type=repo_type, revision=commit, recursive=True)
    return {
        file.path: file.blob_id for file in tree if hasattr(file, "blob_id") and repo_layout.in_round_folder(file.path)
    }
