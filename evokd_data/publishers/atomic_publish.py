"""Publishing one round atomically: one `create_commit` on top of the round before, and one tag.

The client retries neither call, and when an answer is lost the commit may exist nevertheless. So every attempt first looks at
the repository, then does the one thing that is missing, then looks again. Only the state that a look has shown is relied on.
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
    """The attempts to publish one bundle. `scratch` is an empty folder for downloads."""

    hub: Hub
    api: HfApi
    bundle: Bundle
    scratch: Path
    _digests: dict[str, str | None] = field(default_factory=dict, init=False)

    def step(self) -> Revision | None:
        """Look at the repository and do the one thing that is missing. Returns the revision when nothing is missing.

        Raises RevisionConflict when the tag or the head belongs to another client's round, PublishError when the round
        before is not published, and the client's errors.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        bundle = self.bundle
        try:
            refs = look_up(self.api, bundle.repo, self.hub.repo_type)
        except RepositoryNotFoundError:
            self.api.create_repo(bundle.repo, repo_type=self.hub.repo_type, private=bundle.private, exist_ok=True)
            return None
        tagged = refs.tags.get(bundle.tag)
        if tagged is not None:
            published = self._digest_at(tagged)
            if published != bundle.manifest:
                content = f"with digest {published[:12]}" if published else "without this round"
                raise RevisionConflict(
                    f"{bundle.repo}: the tag {bundle.tag} is taken: it sits on {self._describe(tagged)} {content}, ours is "
                    f"{bundle.manifest[:12]}; publish to another {self.hub.setting}, or delete the tag if it is a mistake"
                )
            return Revision(bundle.repo, bundle.tag, tagged, self.hub.address)
        commit = self._find_commit(refs.head) if refs.head else None
        if commit is None:
            self._check_parent(refs)
            self._create_commit(refs.head)
        else:
            # exist_ok accepts an existing tag on any commit; the next look shows on which commit it is.
            self.api.create_tag(
                bundle.repo, repo_type=self.hub.repo_type, tag=bundle.tag, revision=commit, exist_ok=True
            )
        return None

    def _create_commit(self, parent: str | None) -> None:
        from huggingface_hub import CommitOperationAdd

        with ExitStack() as stack:
            # The Hub gets paths, which travel by Xet: it stores data that earlier rounds have, too, only once. Other servers
            # get open files, which travel by LFS: that needs a third of the memory, has time limits, and no local cache of
            # chunks that the server may have lost since.
            operations = [
                CommitOperationAdd(path, str(file) if self.hub.is_the_hub() else stack.enter_context(file.open("rb")))
                for path, file in sorted(self._new_files(parent).items())
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

    def _new_files(self, parent: str | None) -> dict[str, Path]:
        """The bundle's files without those that the parent has unchanged, such as recipe and prompts of most rounds.

        The client would leave them out, too, but only after it has sent the first bytes of each.
        """
        from huggingface_hub.hf_api import RepoFile

        files = dict(self.bundle.files)
        replaceable = [path for path in files if not repo_layout.in_round_folder(path)]
        if parent is None or not replaceable:
            return files
        for info in self.api.get_paths_info(
            self.bundle.repo, replaceable, repo_type=self.hub.repo_type, revision=parent
        ):
            if not isinstance(info, RepoFile) or info.lfs is not None or info.path not in files:
                continue  # the blob id of a large file is that of its LFS pointer
            file = files[info.path]
            if file.stat().st_size == info.size and _git_blob_id(file.read_bytes()) == info.blob_id:
                del files[info.path]
        return files

    def _find_commit(self, head: str) -> str | None:
        """The commit that added our manifest: the head, or an ancestor of it. None when there is no such commit.

        Raises RevisionConflict when the head holds another round with this number.
        """
        published = self._digest_at(head)
        if published is None:
            return None
        if published != self.bundle.manifest:
            raise RevisionConflict(
                f"{self.bundle.repo}: somebody else published {self.bundle.tag} (digest {published[:12]}, ours "
                f"{self.bundle.manifest[:12]}); the head is {self._describe(head)}. To go on from theirs load it; "
                f"to keep ours publish to another {self.hub.setting}"
            )
        first = head
        for commit in self.api.list_repo_commits(self.bundle.repo, repo_type=self.hub.repo_type, revision=head):
            if self._digest_at(commit.commit_id) != self.bundle.manifest:
                break
            first = commit.commit_id
        return first

    def _check_parent(self, refs: Refs) -> None:
        """Rounds form a chain. Raises unless the head is the round before, or differs from it only outside round folders."""
        bundle = self.bundle
        parent = None
        if bundle.parent_tag is not None:
            parent = refs.tags.get(bundle.parent_tag)
            if parent is None:
                raise PublishError(
                    f"{bundle.repo}: {bundle.parent_tag} is not at {self.hub.place}, and {bundle.tag} rests on it; publish it first"
                )
        if refs.head is None or refs.head == parent:
            return
        if self._round_files(refs.head) != (self._round_files(parent) if parent else {}):
            since = f"since {bundle.parent_tag}" if parent else "and holds data already"
            raise RevisionConflict(
                f"{bundle.repo} moved to {self._describe(refs.head)} {since}; somebody else published. To go on from theirs "
                f"load it; to keep ours publish to another {self.hub.setting}"
            )

    def _round_files(self, commit: str) -> dict[str, str]:
        return round_files(self.api, self.bundle.repo, self.hub.repo_type, commit)

    def _digest_at(self, commit: str) -> str | None:
        """The digest in our round's manifest at a commit. None when the commit has no such file, "" when it is no manifest."""
        if commit not in self._digests:
            self._digests[commit] = self._fetch_digest(commit)
        return self._digests[commit]

    def _fetch_digest(self, commit: str) -> str | None:
        from huggingface_hub import hf_hub_download

        repo, path = self.bundle.repo, repo_layout.manifest(self.bundle.tag)
        infos = self.api.get_paths_info(repo, path, repo_type=self.hub.repo_type, revision=commit)
        if not infos:
            return None
        file = hf_hub_download(
            repo, path, repo_type=self.hub.repo_type, revision=commit, cache_dir=tempfile.mkdtemp(dir=self.scratch),
            endpoint=self.api.endpoint, token=self.hub.token,
        )  # fmt: skip
        data = Path(file).read_bytes()
        if getattr(infos[0], "blob_id", blob_id := _git_blob_id(data)) != blob_id:
            raise ConnectionError(f"{path} was damaged on its way here")  # transient: it is fetched again
        try:
            return str(json.loads(data)["digest"])
        except (ValueError, KeyError, TypeError):
            return ""

    def _describe(self, commit: str) -> str:
        """A commit for messages: its short id, title, authors and date."""
        try:
            info = self.api.list_repo_commits(self.bundle.repo, repo_type=self.hub.repo_type, revision=commit)[0]
        except Exception:  # the details are not worth another failure
            return commit[:7]
        return f"{commit[:7]} ({info.title!r} by {', '.join(info.authors) or 'unknown'}, {info.created_at:%Y-%m-%d %H:%M} UTC)"


def _git_blob_id(data: bytes) -> str:
    """The git object id of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
