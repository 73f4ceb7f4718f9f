"""One round on its way into a repository: one `create_commit` on top of the round before, and one tag.

Neither call is retried by the client, and a lost answer may hide a commit that landed; so every attempt begins with a
look at what is there, does the one thing that is missing, and looks again. Only what a look has shown is believed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evokd_data import repo_layout
from evokd_data.errors import PublishError, RevisionConflict
from evokd_data.publishers.refs import MAIN, Refs, look_up, round_files
from evokd_data.records import Bundle, Revision

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from evokd_data.publishers.hub import Hub


@dataclass(frozen=True)
class AtomicPublish:
    """One round on its way into a repository."""

    hub: Hub
    api: HfApi
    bundle: Bundle
    scratch: Path
    digests: dict[str, str | None] = field(default_factory=dict)

    def step(self) -> Revision | None:
        """Look, and do the one thing that is missing; the revision once nothing is."""
        from huggingface_hub.errors import RepositoryNotFoundError

        bundle = self.bundle
        try:
            refs = look_up(self.api, bundle.repo, self.hub.repo_type)
        except RepositoryNotFoundError:
            self.api.create_repo(bundle.repo, repo_type=self.hub.repo_type, private=bundle.private, exist_ok=True)
            return None
        tagged = refs.tags.get(bundle.tag)
        if tagged is not None:
            there = self.digest_at(tagged)
            if there != bundle.manifest:
                found = f"with digest {there[:12]}" if there else "without this round"
                raise RevisionConflict(
                    f"{bundle.repo}: the tag {bundle.tag} is taken: it sits on {self.told(tagged)} {found}, ours is "
                    f"{bundle.manifest[:12]}; publish to another {self.hub.setting}, or delete the tag if it is a mistake"
                )
            return Revision(bundle.repo, bundle.tag, tagged, self.hub.address)
        commit = self.landed(refs.head) if refs.head else None
        if commit is None:
            self.check_parent(refs)
            self.commit(refs.head)
        else:
            # exist_ok takes a tag on any commit for ours: the next look shows where it sits.
            self.api.create_tag(
                bundle.repo, repo_type=self.hub.repo_type, tag=bundle.tag, revision=commit, exist_ok=True
            )
        return None

    def commit(self, parent: str | None) -> None:
        from huggingface_hub import CommitOperationAdd

        with ExitStack() as stack:
            # The Hub stores what it has in common with earlier rounds once, if it gets paths (Xet). Elsewhere open files go
            # the plain way (LFS): a third of the memory, time limits, and no cache of what a server once held.
            operations = [
                CommitOperationAdd(path, str(file) if self.hub.is_the_hub() else stack.enter_context(file.open("rb")))
                for path, file in sorted(self.files_since(parent).items())
            ]
            self.api.create_commit(
                self.bundle.repo,
                operations,
                commit_message=self.bundle.title,
                commit_description=f"digest {self.bundle.manifest}",
                repo_type=self.hub.repo_type,
                revision=MAIN,
                parent_commit=parent,
            )

    def files_since(self, parent: str | None) -> dict[str, Path]:
        """The bundle's files but for those that the parent has already: recipe and prompts are seldom another round's own.

        The client would find that out too, after announcing each with its first bytes.
        """
        from huggingface_hub.hf_api import RepoFile

        files = dict(self.bundle.files)
        lasting = [path for path in files if not repo_layout.in_round_folder(path)]
        if parent is None or not lasting:
            return files
        for there in self.api.get_paths_info(self.bundle.repo, lasting, repo_type=self.hub.repo_type, revision=parent):
            if not isinstance(there, RepoFile) or there.lfs is not None or there.path not in files:
                continue  # a large file is known by its pointer
            file = files[there.path]
            if file.stat().st_size == there.size and _blob(file.read_bytes()) == there.blob_id:
                del files[there.path]
        return files

    def landed(self, head: str) -> str | None:
        """The commit that brought our manifest: the head, or one behind it. None when it is not there.

        Raises RevisionConflict when the head holds another round of this number.
        """
        there = self.digest_at(head)
        if there is None:
            return None
        if there != self.bundle.manifest:
            raise RevisionConflict(
                f"{self.bundle.repo}: somebody else published {self.bundle.tag} (digest {there[:12]}, ours "
                f"{self.bundle.manifest[:12]}); the head is {self.told(head)}. To go on from theirs load it; "
                f"to keep ours publish to another {self.hub.setting}"
            )
        found = head
        for commit in self.api.list_repo_commits(self.bundle.repo, repo_type=self.hub.repo_type, revision=head):
            if self.digest_at(commit.commit_id) != self.bundle.manifest:
                break
            found = commit.commit_id
        return found

    def check_parent(self, refs: Refs) -> None:
        """Rounds are a chain: ours goes on top of the round before, or of commits that left all rounds alone."""
        bundle = self.bundle
        parent = None
        if bundle.parent_tag is not None:
            parent = refs.tags.get(bundle.parent_tag)
            if parent is None:
                raise PublishError(
                    f"{bundle.repo}: {bundle.parent_tag} is not at {self.hub.address}, and {bundle.tag} rests on it; publish it first"
                )
        if refs.head is None or refs.head == parent:
            return
        if self.round_files(refs.head) != (self.round_files(parent) if parent else {}):
            since = f"since {bundle.parent_tag}" if parent else "and holds data already"
            raise RevisionConflict(
                f"{bundle.repo} moved to {self.told(refs.head)} {since}; somebody else published. To go on from theirs load "
                f"it; to keep ours publish to another {self.hub.setting}"
            )

    def round_files(self, commit: str) -> dict[str, str]:
        return round_files(self.api, self.bundle.repo, self.hub.repo_type, commit)

    def digest_at(self, commit: str) -> str | None:
        """The digest in our round's manifest at a commit; None when it has no such file, "" when it has another kind of."""
        if commit not in self.digests:
            self.digests[commit] = self._digest_at(commit)
        return self.digests[commit]

    def _digest_at(self, commit: str) -> str | None:
        from huggingface_hub import hf_hub_download

        repo, path = self.bundle.repo, repo_layout.manifest(self.bundle.tag)
        there = self.api.get_paths_info(repo, path, repo_type=self.hub.repo_type, revision=commit)
        if not there:
            return None
        file = hf_hub_download(
            repo, path, repo_type=self.hub.repo_type, revision=commit, cache_dir=tempfile.mkdtemp(dir=self.scratch),
            endpoint=self.api.endpoint, token=self.hub.token,
        )  # fmt: skip
        data = Path(file).read_bytes()
        if getattr(there[0], "blob_id", blob := _blob(data)) != blob:
            raise ConnectionError(f"{path} was damaged on its way here")  # a reason to ask again, not to see a conflict
        try:
            return str(json.loads(data)["digest"])
        except (ValueError, KeyError, TypeError):
            return ""

    def told(self, commit: str) -> str:
        """A commit in words: what it is called, whose, when."""
        try:
            info = self.api.list_repo_commits(self.bundle.repo, repo_type=self.hub.repo_type, revision=commit)[0]
        except Exception:  # the name of the winner is worth a try, not a failure of its own
            return commit[:7]
        return f"{commit[:7]} ({info.title!r} by {', '.join(info.authors) or 'unknown'}, {info.created_at:%Y-%m-%d %H:%M} UTC)"


def _blob(data: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
