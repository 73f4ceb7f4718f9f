"""The publisher `hub`: rounds as revisions of a dataset repository, on the Hugging Face Hub or a server that speaks its API.

Everything is read by commit, and every failure is raised as a PublishError. `atomic_publish` publishes a round.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from evokd_data import repo_layout, repo_names
from evokd_data.atomic_files import write_json
from evokd_data.errors import EvokdError, PublishError, VerificationError
from evokd_data.publishers.atomic_publish import AtomicPublish
from evokd_data.publishers.calls import (
    RetryPolicy,
    describe,
    is_unreachable,
    limited,
    root_cause,
    status_of,
)
from evokd_data.publishers.refs import Refs, look_up, round_files
from evokd_data.records import Bundle, Revision
from evokd_data.redaction import is_loopback, may_receive_tokens, plain_http_refusal, redact
from evokd_data.scratch import scratch_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)
LOOKUP_ATTEMPTS = 4
PARALLEL_DOWNLOADS = 8
MOST_LISTED = 8
"""Rounds that a message names one by one."""
LOCAL_USER = "local"  # the name of every user of a local Hub without tokens


@dataclass(frozen=True)
class Hub:
    """A Hub at `endpoint` (None: HF_ENDPOINT or huggingface.co) with `token` (None: that of `hf auth login` or HF_TOKEN).

    `repo_type` is "dataset" or "model": students are published like rounds. With `remember` the cache keeps the commit of
    each tag that was looked up. It is used when the Hub cannot be reached, and to detect that a tag was moved. `called`: what messages
    call a Hub whose address is another one each time.
    """

    name: ClassVar[str] = "hub"

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    remember: bool = True
    repo_type: str = "dataset"
    called: str | None = None
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    note: Callable[[str], None] = log.warning

    @property
    def address(self) -> str:
        """The Hub's URL, without a final "/"."""
        from huggingface_hub import constants

        return (self.endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def place(self) -> str:
        """The Hub as messages name it: its address, or what it is called."""
        return self.called or self.address

    @property
    def setting(self) -> str:
        """The setting of a recipe that names a repository of this type."""
        return "publish.repo" if self.repo_type == "dataset" else "publish.student"

    def check(self, repo: str) -> None:
        """Check that rounds can be published to `repo`: the Hub answers, accepts the token, and lets it write. Writes nothing.

        Raises PublishError, which says what is missing.
        """
        with self._calls(repo) as api:
            user = self._user(api)  # the first call: a Hub that does not answer is reported within seconds
            role = user.get("auth", {}).get("accessToken", {}).get("role")
            if role == "read":
                raise PublishError(
                    f"{repo}: the token of {user.get('name')!r} may only read at {self.place}; "
                    "make one that may write, then: hf auth login"
                )
            if self._exists(api, repo):
                self._retried(lambda: _check_write_access(api, repo, self.repo_type))
                return
            namespaces = [user.get("name"), *(org.get("name") for org in user.get("orgs", []))]
            any_namespace = is_loopback(self.address) and user.get("name") == LOCAL_USER
            if repo.split("/")[0] not in namespaces and not any_namespace:
                raise PublishError(
                    f"{repo}: there is no such {self.repo_type} at {self.place}, and the token of {user.get('name')!r} may "
                    f"not make one there; its namespaces: {', '.join(map(str, namespaces))}. Change {self.setting} or the token"
                )

    def publish(self, bundle: Bundle) -> Revision:
        """See `Publisher.publish`."""
        with self._calls(bundle.repo) as api, scratch_folder("publish") as scratch:
            return self.retries.run(AtomicPublish(self, api, bundle, scratch).step, self._note)

    def refs(self, repo: str) -> Refs:
        """The commits that the repository's branches and tags name now. Raises PublishError."""
        with self._calls(repo) as api:
            return self._retried(lambda: look_up(api, repo, self.repo_type))

    def round_files(self, repo: str, commit: str) -> dict[str, str]:
        """Path -> git object id of each file of a commit that lies in a round folder. Raises PublishError."""
        with self._calls(repo) as api:
            return self._retried(lambda: round_files(api, repo, self.repo_type, commit))

    def resolve(self, repo: str, revision: str) -> str:
        """The commit that a tag or branch names now; a commit names itself.

        When the Hub cannot be reached: the commit that this tag named when it was last looked up here. Raises PublishError
        when there is no such revision, VerificationError when a round's tag was moved since it was looked up here.
        """
        if len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision):
            return revision
        remembered = self._remembered_tags(repo)
        try:
            with self._calls(repo, raw=True) as api:
                refs = self._retried(lambda: look_up(api, repo, self.repo_type))
        except Exception as error:
            if is_unreachable(error) and revision in remembered:
                self._note(
                    f"{self.place} does not answer; {repo}@{revision} was {remembered[revision]} when it last did"
                )
                return remembered[revision]
            raise self._as_publish_error(repo, error) from None
        commit = refs.tags.get(revision) or refs.branches.get(revision)
        if commit is None:
            raise PublishError(
                f"{repo}: there is no revision {revision!r} at {self.place}; rounds there: {_listed(list(refs.rounds()))}; name one of "
                "these, or publish that round from the folder of its run: evokd-data publish RECIPE"
            )
        if remembered.get(revision, commit) != commit:
            raise VerificationError(
                f"{repo}@{revision} is commit {commit} now and was {remembered[revision]} before: somebody moved the tag. To "
                f"load what it was, ask for that commit; to accept the move, remove {self._tags_file(repo)}"
            )
        return commit

    def remember_tag(self, repo: str, tag: str, commit: str) -> None:
        """Remember the commit of a round's tag. Call it only when the files of the commit have been verified."""
        remembered = self._remembered_tags(repo)
        if not self.remember or repo_layout.round_index(tag) is None or tag in remembered:
            return
        path = self._tags_file(repo)
        try:
            write_json(path, {**remembered, tag: commit})
        except OSError as error:  # without this file only the look-up without a Hub fails
            log.info("%s: not remembered: %s", path, error)

    def fetch(self, repo: str, revision: str, patterns: list[str], into: Path | None = None) -> tuple[str, Path]:
        """See `Publisher.fetch`. Files that are in the cache are not downloaded again. Nothing is verified here."""
        from huggingface_hub import snapshot_download

        commit = self.resolve(repo, revision)
        with self._calls(repo) as api:
            folder = self._retried(
                lambda: snapshot_download(
                    repo,
                    repo_type=self.repo_type,
                    revision=commit,  # not the tag: the client may take a tag's commit from its cache
                    allow_patterns=patterns,
                    local_dir=into,
                    cache_dir=self.cache_dir,
                    endpoint=api.endpoint,
                    token=self.token,
                )
            )
        return commit, Path(folder)

    def fetch_files(self, repo: str, commit: str, paths: Sequence[str], into: Path | None = None) -> Path:
        """A folder with these files of a commit. A file that the commit does not have is left out.

        Files that are in the cache are not downloaded again. Nothing is verified here.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError

        def fetch_file(path: str) -> None:
            with suppress(RemoteEntryNotFoundError):
                self._retried(
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

        with self._calls(repo), ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            list(pool.map(fetch_file, paths))
        return into or self._cached_repo(repo) / "snapshots" / commit

    def is_the_hub(self) -> bool:
        """Whether the endpoint is the Hugging Face Hub itself."""
        host = urlsplit(self.address).hostname or ""
        return host == "huggingface.co" or host.endswith((".huggingface.co", ".hf.co"))

    def _exists(self, api: HfApi, repo: str) -> bool:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            self._retried(lambda: look_up(api, repo, self.repo_type))
        except RepositoryNotFoundError:
            return False
        return True

    def _user(self, api: HfApi) -> dict[str, Any]:
        """The token's user. A local Hub without tokens accepts any token, so without a token a placeholder is sent."""
        if not is_loopback(self.address) or self.token or _ambient_token():
            return self._retried(api.whoami, 2)
        try:
            return self._retried(lambda: api.whoami(token="none"), 2)  # noqa: S106 - no password
        except Exception as error:
            if status_of(error) != 401:
                raise
            raise PublishError(f"no access token for {self.place}; run: hf auth login, or set HF_TOKEN") from None

    def _retried(self, call: Callable[[], Any], attempts: int = LOOKUP_ATTEMPTS) -> Any:
        """The result of a call that changes nothing. It gets few attempts, because a user may be waiting for the answer."""
        return replace(self.retries, attempts=min(self.retries.attempts, attempts)).run(call, self._note)

    def _note(self, text: str) -> None:
        self.note(redact(text, self.token, _ambient_token()).replace(self.address, self.place))

    @contextmanager
    def _calls(self, repo: str, *, raw: bool = False) -> Iterator[HfApi]:
        """The client, with time limits. Its errors are raised as PublishError, or unchanged when `raw`."""
        from huggingface_hub import HfApi

        from evokd_data import __version__

        if (self.token or _ambient_token()) and not may_receive_tokens(self.address):
            raise PublishError(f"{repo}: {plain_http_refusal(self.address)}")
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
                # Without a cause: a traceback of the client may contain headers.
                raise self._as_publish_error(repo, error) from None

    def _as_publish_error(self, repo: str, error: Exception) -> PublishError:
        from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError

        if isinstance(error, PublishError):
            return error
        if problem := repo_names.fault(repo):
            hint = (
                "; a folder with a local Hub is given as --endpoint local:FOLDER"
                if Path(repo).is_absolute() or ".." in repo.split("/")
                else ""
            )
            return PublishError(f"{repo}: {problem}{hint}")
        error = root_cause(error)
        address, detail = self.place, redact(describe(error), self.token, _ambient_token())
        detail = detail.replace(self.address, address)
        match status_of(error):
            case _ if isinstance(error, LocalTokenNotFoundError):
                text = f"no access token for {address}; run: hf auth login, or set HF_TOKEN"
            case _ if isinstance(error, OfflineModeIsEnabled):
                text = f"HF_HUB_OFFLINE keeps us from {address}; unset it, or use publish.endpoint: local"
            case 401 if not (self.token or _ambient_token()):
                text = (
                    f"{address} has no such {self.repo_type} for a reader without an access token; check the id, and for "
                    "one that is private run: hf auth login, or set HF_TOKEN"
                )
            case 401:
                text = f"{address} does not know this access token ({detail}); run: hf auth login, or mend HF_TOKEN"
            case 403:
                text = f"the access token may not do this at {address} ({detail}); use one with write access to this repository"
            case _ if isinstance(error, RepositoryNotFoundError) and self.called:
                text = f"there is no such {self.repo_type} at {address}; check the id, and the folder in which you call the command"
            case _ if isinstance(error, RepositoryNotFoundError):
                text = f"there is no such {self.repo_type} at {address}, or none this access token may see; check the id and: hf auth whoami"
            case 400 | 413 | 422:
                text = f"{address} refuses what it was sent ({detail}); mend that, then rerun"
            case _ if is_unreachable(error):
                text = f"{address} does not answer ({detail}); check the network, the address, and that a Hub of your own runs, then rerun: nothing is done twice"
            case _:
                text = f"{address}: {detail}; rerun: nothing is done twice"
        return PublishError(f"{repo}: {text}{self._elsewhere(repo, error)}")

    def _elsewhere(self, repo: str, error: Exception) -> str:
        """The end of an error about a repository that was not found here and whose name is the one of a local Hub's user."""
        from huggingface_hub.errors import RepositoryNotFoundError

        absent = is_unreachable(error) or isinstance(error, RepositoryNotFoundError)
        if self.called is not None or not absent or repo.split("/")[0] != LOCAL_USER:
            return ""
        return "; a repository on the local Hub needs --endpoint local, or local:FOLDER from elsewhere (in a recipe: publish.endpoint: local)"

    def _cached_repo(self, repo: str) -> Path:
        from huggingface_hub.file_download import repo_folder_name

        return self._cache() / repo_folder_name(repo_id=repo, repo_type=self.repo_type)

    def _cache(self) -> Path:
        from huggingface_hub import constants

        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser()

    def _tags_file(self, repo: str) -> Path:
        """The file with the remembered commits of a repository's tags."""
        name = f"{self.repo_type}s--{repo.replace('/', '--')}.json"
        return self._cache() / ".evokd-data" / quote(self.address, safe="") / name

    def _remembered_tags(self, repo: str) -> dict[str, str]:
        """Tag -> commit, for tags that were looked up before."""
        if not self.remember:
            return {}
        try:
            return json.loads(self._tags_file(repo).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


def _listed(rounds: Sequence[int]) -> str:
    """Round tags in a row; of many the first and the last."""
    tags = [repo_layout.round_tag(index) for index in rounds]
    return f"{tags[0]} to {tags[-1]}" if len(tags) > MOST_LISTED else ", ".join(tags) or "none"


def _check_write_access(api: HfApi, repo: str, repo_type: str) -> bool:
    """True. Raises the client's error when the token may not write. Older clients can check only whether it may read."""
    try:
        api.auth_check(repo, repo_type=repo_type, write=True)
    except TypeError:
        api.auth_check(repo, repo_type=repo_type)
    return True


def _ambient_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()
