"""A round is asked for while the Hub is down, lies, or has lost it, with other rounds in the cache: never another's rows.

    Load.of(17)                    the same case, cache, file and byte each time
    run_load(Load.of(17), loads)   `load_round`, and whether it gave exactly the round or exactly the error it must

A cache that holds the round itself is enough where nobody contradicts it. Without it the Hub has to answer for every byte.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faulty import FaultyHub, Run, hurried, publish
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from scenarios import Place

from evokd_data import repo_layout
from evokd_data.errors import EvokdError
from evokd_data.revisions.load import load_round
from evokd_data.storage.shards import ShardedSamples, row_sample

REPO = "org/loads"
ROUNDS = 3
PART = "train-00000-of-00001.parquet"
ROWS = ""  # what is expected when it is no error
SERVER_ERRORS = (500, 502, 503, 504)


@dataclass(frozen=True)
class Load:
    seed: int
    case: str
    asked: int
    cached: tuple[int, ...]
    """Rounds that were loaded before."""
    path: str
    """The file in trouble, one of the round's own."""
    position: float
    """Which of its bytes."""
    status: int
    moved_to: int

    @staticmethod
    def of(seed: int) -> Load:
        chance = random.Random(seed)
        case = list(CASES)[seed % len(CASES)]
        asked = chance.randrange(ROUNDS)
        others = [index for index in range(ROUNDS) if index != asked]
        cached = {*chance.sample(others, chance.randint(1, 2))}
        if chance.random() < 0.4 or case.startswith("cache"):
            cached.add(asked)
        tag = f"round-{asked:03d}"
        path = chance.choice([f"{repo_layout.DATA}/{tag}/{PART}", repo_layout.manifest(tag)])
        moved_to = chance.choice(others)
        return Load(
            seed, case, asked, tuple(sorted(cached)), path, chance.random(), chance.choice(SERVER_ERRORS), moved_to
        )

    @property
    def own(self) -> bool:
        return self.asked in self.cached

    @property
    def known(self) -> bool:
        """Whether the cache has the round's files, by this or by a later commit: they are not downloaded then."""
        return max(self.cached) >= self.asked

    @property
    def tag(self) -> str:
        return f"round-{self.asked:03d}"


@dataclass
class Loads:
    """A repository of three rounds, and caches with some of them."""

    place: Place
    run: Run
    tags: dict[str, str]

    @staticmethod
    def at(place: Place) -> Loads:
        run = place.runs.get("a", rounds=ROUNDS)
        with hurried():
            publish(place.hub, run, REPO, ROUNDS)
        refs = HfApi(place.hub.endpoint, token="x").list_repo_refs(REPO, repo_type="dataset")
        return Loads(place, run, {tag.name: tag.target_commit for tag in refs.tags})

    @property
    def hub(self) -> FaultyHub:
        return self.place.hub

    @property
    def api(self) -> HfApi:
        return HfApi(self.hub.endpoint, token="x")

    def cache(self, rounds: tuple[int, ...]) -> Path:
        """A copy that may be spoilt."""
        whole = self.place.folder / "caches" / "-".join(map(str, rounds))
        if not whole.exists():
            for index in rounds:
                self.load(index, whole)
        return Path(shutil.copytree(whole, self.place.folder / "cache", symlinks=True))

    def load(self, index: int, cache: Path) -> list[Any]:
        rows = load_round(REPO, index, endpoint=self.hub.endpoint, token="x", cache_dir=cache)["train"]
        return [row_sample(self.run[0].task, row) for row in rows]

    def rows(self, index: int) -> list[Any]:
        """As they are in the workspace that published them."""
        paths = [path for number in range(index + 1) for path in self.run[1].round(number).shard_files()]
        return list(ShardedSamples(self.run[0].task, paths))

    @contextmanager
    def moved(self, tag: str, commit: str | None) -> Iterator[None]:
        """The tag elsewhere, or nowhere, for a while."""
        self.api.delete_tag(REPO, tag=tag, repo_type="dataset")
        if commit:
            self.api.create_tag(REPO, tag=tag, revision=commit, repo_type="dataset")
        try:
            yield
        finally:
            if commit:
                self.api.delete_tag(REPO, tag=tag, repo_type="dataset")
            self.api.create_tag(REPO, tag=tag, revision=self.tags[tag], repo_type="dataset")

    @contextmanager
    def faulty(self, **rule: Any) -> Iterator[None]:
        self.hub.put(rule)
        try:
            yield
        finally:
            self.hub.put()

    def rewritten(self, load: Load, change: Callable[[bytes], bytes] | None) -> AbstractContextManager[None]:
        """The round's tag on a commit of somebody's who changed or removed one of its files."""
        whole = self.api.hf_hub_download(
            REPO, load.path, repo_type="dataset", revision=load.tag, local_dir=self._scratch()
        )
        operation: Any = CommitOperationDelete(load.path)
        if change is not None:
            operation = CommitOperationAdd(load.path, change(Path(whole).read_bytes()))
        back = CommitOperationAdd(load.path, Path(whole).read_bytes())
        made = self.api.create_commit(REPO, [operation], commit_message="changed", repo_type="dataset")
        self.api.create_commit(REPO, [back], commit_message="changed back", repo_type="dataset")
        return self.moved(load.tag, made.oid)

    def spoil(self, load: Load, change: Callable[[bytes], bytes]) -> None:
        file = next((self.place.folder / "cache").rglob(f"snapshots/{self.tags[load.tag]}/{load.path}")).resolve()
        file.write_bytes(change(file.read_bytes()))

    def _scratch(self) -> Path:
        return self.place.folder / "scratch"


def _altered(load: Load, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[int(load.position * len(data))] ^= 0x01
    return bytes(changed)


def _cut(load: Load, data: bytes) -> bytes:
    return data[: int(load.position * len(data))]


Case = Callable[[Load, Loads], tuple[AbstractContextManager[Any], str]]


def _down(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    return loads.hub.down(), ROWS if load.own else "PublishError: .* does not answer"


def _server_error(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    error = f"PublishError: .* does not answer .HTTP {load.status}"
    return loads.faulty(match=".", status=load.status), ROWS if load.own else error


def _server_error_for_files(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    error = f"PublishError: .* does not answer .*HTTP {load.status}"
    return loads.faulty(match="/resolve/", status=load.status), ROWS if load.own else error


def _tag_lost(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    return loads.moved(load.tag, None), f"PublishError: .*there is no revision '{load.tag}'"


def _tag_moved(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    moved = loads.moved(load.tag, loads.tags[f"round-{load.moved_to:03d}"])
    if load.own:
        return moved, f"VerificationError: {REPO}@{load.tag} is .*somebody moved the tag"
    # A later commit holds the round as it was; an earlier one does not.
    missing = f"VerificationError: .*rounds/round-{load.moved_to + 1:03d}/manifest.json: is missing"
    return moved, ROWS if load.moved_to > load.asked else missing


def _served(load: Load, loads: Loads, body: str, **rule: Any) -> tuple[AbstractContextManager[Any], str]:
    rule = {"match": f"GET .*/resolve/.*{load.path}", "body": body, "seed": load.seed, **rule}
    # A short file is noticed by the client, a changed byte by us.
    error = (
        f"PublishError: {REPO}: .*rerun"
        if body == "truncate"
        else f"VerificationError: {REPO}@{load.tag}: {load.path}: "
    )
    return loads.faulty(**rule), ROWS if load.known or "times" in rule else error


def _rewritten(
    load: Load, loads: Loads, change: Callable[..., bytes] | None
) -> tuple[AbstractContextManager[Any], str]:
    error = "somebody moved the tag" if load.own else f"{load.path}: "
    changed = partial(change, load) if change else None
    return loads.rewritten(load, changed), f"VerificationError: .*{error}"


def _spoilt(load: Load, loads: Loads, change: Callable[..., bytes]) -> tuple[AbstractContextManager[Any], str]:
    loads.spoil(load, partial(change, load))
    return nullcontext(), ROWS


def _spoilt_and_down(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    loads.spoil(load, partial(_altered, load))
    return loads.hub.down(), "PublishError: .* does not answer"


CASES: dict[str, Case] = {
    "hub down": _down,
    "5xx": _server_error,
    "5xx for files": _server_error_for_files,
    "tag lost": _tag_lost,
    "tag moved": _tag_moved,
    "file served cut": partial(_served, body="truncate"),
    "file served altered": partial(_served, body="alter"),
    "file served altered once": partial(_served, body="alter", times=1),
    "file altered in the repository": partial(_rewritten, change=_altered),
    "file cut in the repository": partial(_rewritten, change=_cut),
    "file removed from the repository": partial(_rewritten, change=None),
    "cached file altered": partial(_spoilt, change=_altered),
    "cached file cut": partial(_spoilt, change=_cut),
    "cached file altered, hub down": _spoilt_and_down,
}


@dataclass
class Loaded:
    seed: int
    kind: str
    ended: str
    violations: list[str]


def run_load(load: Load, loads: Loads) -> Loaded:
    cache = loads.cache(load.cached)
    try:
        block, expected = CASES[load.case](load, loads)
        with block, hurried():
            try:
                found, told = loads.load(load.asked, cache), ROWS
            except EvokdError as error:
                found, told = None, f"{type(error).__name__}: {error}"
            except Exception as error:
                found, told = None, f"{type(error).__name__} (none of ours): {error}"
        wrong = []
        if found is not None and found != loads.rows(load.asked):
            wrong.append(f"{len(found)} rows that are not those of round {load.asked}")
        if found is not None and expected:
            wrong.append(f"rows, and expected was {expected}")
        if found is None and not (expected and re.match(expected, told, re.DOTALL)):
            wrong.append(f"{told}, and expected was {expected or 'the rows'}")
        # Nothing wrong is remembered: with a Hub that answers well, the round is there again.
        if not wrong and load.case != "tag moved":
            again = loads.load(load.asked, cache)
            if again != loads.rows(load.asked):
                wrong.append("afterwards other rows")
    finally:
        shutil.rmtree(cache)
    return Loaded(load.seed, load.case, "rows" if found is not None else told.split(":")[0], wrong)
