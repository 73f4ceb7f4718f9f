"""Rounds as revisions of a dataset repository, on the Hugging Face Hub or anything that speaks its API.

One round is one `create_commit` on top of the round before (`parent_commit`) and one tag. Neither call is retried by
the client, and a lost answer may hide a commit that landed; so every attempt begins with a look at what is there, does
the one thing that is missing, and looks again. Only what a look has shown is believed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from evokd_data import layout
from evokd_data.errors import EvokdError, PublishError, RevisionConflict, VerificationError
from evokd_data.publishers.calls import (
    Patience,
    describe,
    is_loopback,
    is_unreachable,
    limited,
    reason,
    scrub,
    status_of,
)
from evokd_data.records import Bundle, Revision

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)
MAIN = "main"
LOOKUP_ATTEMPTS = 4
DOWNLOADS = 8  # at a time
LOCAL_USER = "local"  # who everybody is at a local Hub without tokens


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
        found = {index: self.tags[tag] for tag in self.tags if (index := layout.round_index(tag)) is not None}
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class Hub:
    """`endpoint` None is HF_ENDPOINT or huggingface.co; `token` None is what `hf auth login` or HF_TOKEN gave.

    `repo_type` is dataset, or model: a student's rounds are published in the same way. `remember` keeps the commit of each tag that was looked up (in the cache): without a Hub it stands in, and a tag that
    moved since is found out.
    """

    name: ClassVar[str] = "hub"

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    remember: bool = True
    repo_type: str = "dataset"
    patience: Patience = field(default_factory=Patience)
    note: Callable[[str], None] = log.warning

    @property
    def address(self) -> str:
        from huggingface_hub import constants

        return (self.endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def setting(self) -> str:
        """What in a recipe names a repository of this type."""
        return "publish.repo" if self.repo_type == "dataset" else "publish.student"

    def check(self, repo: str) -> None:
        """That rounds can be published to `repo`: the Hub answers, knows the token, and lets it write. Writes nothing.

        Raises PublishError saying which of them is not so.
        """
        with self._calls(repo) as api:
            who = self._who(api)  # the first call: a Hub that is not there is told of within seconds
            role = who.get("auth", {}).get("accessToken", {}).get("role")
            if role == "read":
                raise PublishError(
                    f"{repo}: the token of {who.get('name')!r} may only read at {self.address}; "
                    "make one that may write, then: hf auth login"
                )
            if self._exists(api, repo):
                self._patiently(lambda: _may_write(api, repo, self.repo_type))
                return
            namespaces = [who.get("name"), *(org.get("name") for org in who.get("orgs", []))]
            open_house = is_loopback(self.address) and who.get("name") == LOCAL_USER
            if repo.split("/")[0] not in namespaces and not open_house:
                raise PublishError(
                    f"{repo}: there is no such {self.repo_type} at {self.address}, and the token of {who.get('name')!r} may not "
                    f"make one there; its namespaces: {', '.join(map(str, namespaces))}. Change {self.setting} or the token"
                )

    def publish(self, bundle: Bundle) -> Revision:
        """See `Publisher.publish`."""
        with self._calls(bundle.repo) as api, tempfile.TemporaryDirectory(prefix="evokd-") as scratch:
            landing = _Landing(self, api, bundle, Path(scratch))
            return self.patience.persist(landing.step, self._told)

    def refs(self, repo: str) -> Refs:
        """What the repository's names point at now. Raises PublishError."""
        with self._calls(repo) as api:
            return self._patiently(lambda: _refs(api, repo, self.repo_type))

    def round_files(self, repo: str, commit: str) -> dict[str, str]:
        """Path -> git object of every file at a commit that only rounds may add."""
        with self._calls(repo) as api:
            return self._patiently(lambda: _round_files(api, repo, self.repo_type, commit))

    def resolve(self, repo: str, revision: str) -> str:
        """The commit that a tag or branch names now; a commit names itself.

        Without a Hub, the commit this very tag named when it was last looked up here; never another's.
        """
        if len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision):
            return revision
        known = self._known(repo)
        try:
            with self._calls(repo, raw=True) as api:
                refs = self._patiently(lambda: _refs(api, repo, self.repo_type))
        except Exception as error:
            if is_unreachable(error) and revision in known:
                self._told(f"{self.address} does not answer; {repo}@{revision} was {known[revision]} when it last did")
                return known[revision]
            raise self._explained(repo, error) from None
        commit = refs.tags.get(revision) or refs.branches.get(revision)
        if commit is None:
            rounds = ", ".join(tag for tag in sorted(refs.tags) if layout.round_index(tag) is not None) or "none"
            raise PublishError(f"{repo}: there is no revision {revision!r} at {self.address}; rounds there: {rounds}")
        if known.get(revision, commit) != commit:
            raise VerificationError(
                f"{repo}@{revision} is commit {commit} now and was {known[revision]} before: somebody moved the tag. To load "
                f"what it was, ask for that commit; to accept the move, remove {self._memory(repo)}"
            )
        return commit

    def keep(self, repo: str, tag: str, commit: str) -> None:
        """Remember what a round's tag names. Told by whoever found the files there to be that round's."""
        known = self._known(repo)
        if not self.remember or layout.round_index(tag) is None or tag in known:
            return
        memory = self._memory(repo)
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            draft = memory.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps({**known, tag: commit}, indent=1), encoding="utf-8")
            draft.replace(memory)
        except OSError as error:  # a cache that cannot be written costs the offline look-up, nothing else
            log.info("%s: not remembered: %s", memory, error)

    def fetch(self, repo: str, revision: str, patterns: list[str], into: Path | None = None) -> tuple[str, Path]:
        """See `Publisher.fetch`. Files that were fetched before are not asked for again; nothing is checked here."""
        from huggingface_hub import snapshot_download

        commit = self.resolve(repo, revision)
        with self._calls(repo) as api:
            folder = self._patiently(
                lambda: snapshot_download(
                    repo,
                    repo_type=self.repo_type,
                    revision=commit,  # never the tag: by name the client may answer with what the name meant before
                    allow_patterns=patterns,
                    local_dir=into,
                    cache_dir=self.cache_dir,
                    endpoint=api.endpoint,
                    token=self.token,
                )
            )
        return commit, Path(folder)

    def fetch_files(self, repo: str, commit: str, paths: Sequence[str], into: Path | None = None) -> Path:
        """A folder with these files of a commit, as far as it has them. What is cached is not asked for."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError

        def one(path: str) -> None:
            with suppress(RemoteEntryNotFoundError):
                self._patiently(
                    lambda: hf_hub_download(
                        repo,
                        path,
                        repo_type=self.repo_type,
                        revision=commit,
                        local_dir=into,
                        cache_dir=self.cache_dir,
                        endpoint=self.address,
                        token=self.token,
                    )
                )

        with self._calls(repo), ThreadPoolExecutor(DOWNLOADS) as pool:
            list(pool.map(one, paths))
        return into or self._storage(repo) / "snapshots" / commit

    def is_the_hub(self) -> bool:
        host = urlsplit(self.address).hostname or ""
        return host == "huggingface.co" or host.endswith((".huggingface.co", ".hf.co"))

    def _exists(self, api: HfApi, repo: str) -> bool:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            self._patiently(lambda: _refs(api, repo, self.repo_type))
        except RepositoryNotFoundError:
            return False
        return True

    def _who(self, api: HfApi) -> dict[str, Any]:
        """Whose token this is. A local Hub without tokens takes any, so a user who has none shows one that is none."""
        if not is_loopback(self.address) or self.token or _ambient_token():
            return self._patiently(api.whoami, 2)
        try:
            return self._patiently(lambda: api.whoami(token="none"), 2)  # noqa: S106 - no password
        except Exception as error:
            if status_of(error) != 401:
                raise
            raise PublishError(f"no access token for {self.address}; run: hf auth login, or set HF_TOKEN") from None

    def _patiently(self, call: Callable[[], Any], attempts: int = LOOKUP_ATTEMPTS) -> Any:
        """A call that changes nothing, repeated a few times: somebody may be waiting for the answer."""
        return replace(self.patience, attempts=min(self.patience.attempts, attempts)).persist(call, self._told)

    def _told(self, text: str) -> None:
        self.note(scrub(text, self.token, _ambient_token()))

    @contextmanager
    def _calls(self, repo: str, *, raw: bool = False) -> Iterator[HfApi]:
        """The client, with time limits; what it raises comes out as a PublishError, or as it is when `raw`."""
        from huggingface_hub import HfApi

        from evokd_data import __version__

        with limited(self.address):
            try:
                yield HfApi(self.address, token=self.token, library_name="evokd-data", library_version=__version__)
            except (EvokdError, ImportError):
                raise
            except Exception as error:
                if raw:
                    raise
                # Without a cause: a traceback of the clients may hold headers.
                raise self._explained(repo, error) from None

    def _explained(self, repo: str, error: Exception) -> PublishError:
        from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError

        if isinstance(error, PublishError):
            return error
        error = reason(error)
        where, detail = self.address, scrub(describe(error), self.token, _ambient_token())
        match status_of(error):
            case _ if isinstance(error, LocalTokenNotFoundError):
                text = f"no access token for {where}; run: hf auth login, or set HF_TOKEN"
            case _ if isinstance(error, OfflineModeIsEnabled):
                text = f"HF_HUB_OFFLINE keeps us from {where}; unset it, or use publish.endpoint: local"
            case 401:
                text = f"{where} does not know this access token ({detail}); run: hf auth login, or mend HF_TOKEN"
            case 403:
                text = f"the access token may not do this at {where} ({detail}); use one with write access to this repository"
            case _ if isinstance(error, RepositoryNotFoundError):
                text = f"there is no such {self.repo_type} at {where}, or none this access token may see; check the id and: hf auth whoami"
            case 400 | 413 | 422:
                text = f"{where} refuses what it was sent ({detail}); mend that, then rerun"
            case _ if is_unreachable(error):
                text = f"{where} does not answer ({detail}); start it or check the address, then rerun: nothing is done twice"
            case _:
                text = f"{where}: {detail}; rerun: nothing is done twice"
        return PublishError(f"{repo}: {text}")

    def _storage(self, repo: str) -> Path:
        from huggingface_hub.file_download import repo_folder_name

        return self._cache() / repo_folder_name(repo_id=repo, repo_type=self.repo_type)

    def _cache(self) -> Path:
        from huggingface_hub import constants

        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser()

    def _memory(self, repo: str) -> Path:
        name = f"{self.repo_type}s--{repo.replace('/', '--')}.json"
        return self._cache() / ".evokd-data" / quote(self.address, safe="") / name

    def _known(self, repo: str) -> dict[str, str]:
        if not self.remember:
            return {}
        try:
            return json.loads(self._memory(repo).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


def _refs(api: HfApi, repo: str, repo_type: str) -> Refs:
    found = api.list_repo_refs(repo, repo_type=repo_type)
    return Refs(
        {ref.name: ref.target_commit for ref in found.branches}, {ref.name: ref.target_commit for ref in found.tags}
    )


def _round_files(api: HfApi, repo: str, repo_type: str, commit: str) -> dict[str, str]:
    tree = api.list_repo_tree(repo, repo_type=repo_type, revision=commit, recursive=True)
    return {file.path: file.blob_id for file in tree if hasattr(file, "blob_id") and layout.is_rounds_own(file.path)}


def _may_write(api: HfApi, repo: str, repo_type: str) -> bool:
    """Raises what the Hub answers to a token that may not. Older clients can ask about reading only."""
    try:
        api.auth_check(repo, repo_type=repo_type, write=True)
    except TypeError:
        api.auth_check(repo, repo_type=repo_type)
    return True


def _ambient_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


@dataclass(frozen=True)
class _Landing:
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
            refs = _refs(self.api, bundle.repo, self.hub.repo_type)
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
                for path, file in sorted(self.bundle.files.items())
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
        return _round_files(self.api, self.bundle.repo, self.hub.repo_type, commit)

    def digest_at(self, commit: str) -> str | None:
        """The digest in our round's manifest at a commit; None when it has no such file, "" when it has another kind of."""
        if commit not in self.digests:
            self.digests[commit] = self._digest_at(commit)
        return self.digests[commit]

    def _digest_at(self, commit: str) -> str | None:
        from huggingface_hub import hf_hub_download

        repo, path = self.bundle.repo, layout.manifest(self.bundle.tag)
        there = self.api.get_paths_info(repo, path, repo_type=self.hub.repo_type, revision=commit)
        if not there:
            return None
        file = hf_hub_download(
            repo, path, repo_type=self.hub.repo_type, revision=commit, cache_dir=tempfile.mkdtemp(dir=self.scratch),
            endpoint=self.api.endpoint, token=self.hub.token,
        )  # fmt: skip
        data = Path(file).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if getattr(there[0], "blob_id", blob) != blob:
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
