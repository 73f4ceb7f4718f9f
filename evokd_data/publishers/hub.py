"""Rounds as revisions of a dataset repository, on the Hugging Face Hub or anything that speaks its API.

What is read is named by its commit, and every failure is told as a PublishError. How a round gets there: landing.py.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from evokd_data import repo_layout
from evokd_data.errors import EvokdError, PublishError, VerificationError
from evokd_data.publishers.atomic_publish import AtomicPublish
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
from evokd_data.publishers.refs import Refs, look_up, round_files
from evokd_data.records import Bundle, Revision

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)
LOOKUP_ATTEMPTS = 4
DOWNLOADS = 8  # at a time
LOCAL_USER = "local"  # who everybody is at a local Hub without tokens


@dataclass(frozen=True)
class Hub:
    """`endpoint` None is HF_ENDPOINT or huggingface.co; `token` None is what `hf auth login` or HF_TOKEN gave.

    `repo_type` is dataset, or model: a student's rounds are published in the same way. `remember` keeps the commit of
    each tag that was looked up (in the cache): without a Hub it stands in, and a tag that moved since is found out.
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
            return self.patience.persist(AtomicPublish(self, api, bundle, Path(scratch)).step, self._told)

    def refs(self, repo: str) -> Refs:
        """What the repository's names point at now. Raises PublishError."""
        with self._calls(repo) as api:
            return self._patiently(lambda: look_up(api, repo, self.repo_type))

    def round_files(self, repo: str, commit: str) -> dict[str, str]:
        """Path -> git object of every file at a commit that only rounds may add."""
        with self._calls(repo) as api:
            return self._patiently(lambda: round_files(api, repo, self.repo_type, commit))

    def resolve(self, repo: str, revision: str) -> str:
        """The commit that a tag or branch names now; a commit names itself.

        Without a Hub, the commit this very tag named when it was last looked up here; never another's.
        """
        if len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision):
            return revision
        known = self._known(repo)
        try:
            with self._calls(repo, raw=True) as api:
                refs = self._patiently(lambda: look_up(api, repo, self.repo_type))
        except Exception as error:
            if is_unreachable(error) and revision in known:
                self._told(f"{self.address} does not answer; {repo}@{revision} was {known[revision]} when it last did")
                return known[revision]
            raise self._explained(repo, error) from None
        commit = refs.tags.get(revision) or refs.branches.get(revision)
        if commit is None:
            rounds = ", ".join(tag for tag in sorted(refs.tags) if repo_layout.round_index(tag) is not None) or "none"
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
        if not self.remember or repo_layout.round_index(tag) is None or tag in known:
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
            self._patiently(lambda: look_up(api, repo, self.repo_type))
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
            except PublishError as error:
                if repo in str(error):
                    raise
                raise type(error)(f"{repo}: {error}") from None
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
