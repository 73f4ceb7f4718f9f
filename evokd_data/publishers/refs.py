"""Refs of a repository (branches and tags with their commits), and its round files. The Hub is asked each time."""

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
    """The commits that a repository's branches and tags name."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def head(self) -> str | None:
        """The commit of the main branch; None in an empty repository."""
        return self.branches.get(MAIN)

    def rounds(self) -> dict[int, str]:
        """Round -> commit, in order of rounds."""
        commits = {index: self.tags[tag] for tag in self.tags if (index := repo_layout.round_index(tag)) is not None}
        return dict(sorted(commits.items()))


def look_up(api: HfApi, repo: str, repo_type: str) -> Refs:
    """The refs of a repository now. Raises the client's errors, RepositoryNotFoundError among them."""
    refs = api.list_repo_refs(repo, repo_type=repo_type)
    return Refs(
        {ref.name: ref.target_commit for ref in refs.branches}, {ref.name: ref.target_commit for ref in refs.tags}
    )


def round_files(api: HfApi, repo: str, repo_type: str, commit: str) -> dict[str, str]:
    """Path -> git object id of each file of a commit that lies in one of `repo_layout.ROUND_FOLDERS`."""
    tree = api.list_repo_tree(repo, repo_type=repo_type, revision=commit, recursive=True)
    return {
        file.path: file.blob_id for file in tree if hasattr(file, "blob_id") and repo_layout.in_round_folder(file.path)
    }
