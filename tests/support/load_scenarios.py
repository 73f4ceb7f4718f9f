"""A round is loaded while the Hub is down, serves wrong data, or has lost the round, with other rounds in the cache.

    Load.of(17)                    the same case, cache, file and byte each time
    run_load(Load.of(17), loads)   `load_round`; it must return exactly the round's rows or raise exactly the expected error

A cache with the round itself is enough, unless the Hub contradicts it. Without it the Hub must serve every byte. The rows
of another round are never returned.
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

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from evokd_data import repo_layout
from evokd_data.errors import EvokdError
from evokd_data.revisions.load import load_round
from evokd_data.storage.shards import ShardedSamples, row_sample
from tests.support.fault_scenarios import Sandbox
from tests.support.faulty_hub import FaultyHub, Run, hurried, publish

REPO = "org/loads"
ROUNDS = 3
PART = "train-00000-of-00001.parquet"
ROWS = ""  # the expected error when rows are expected
SERVER_ERRORS = (500, 502, 503, 504)


@dataclass(frozen=True)
class Load:
    seed: int
    case: str
    asked: int
    cached: tuple[int, ...]
    """Rounds that were loaded before."""
    path: str
    """The file that a fault concerns: one of the round's own."""
    position: float
    """The byte that is changed, as a fraction of the file."""
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
    def is_cached(self) -> bool:
        return self.asked in self.cached

    @property
    def has_files(self) -> bool:
        """Whether the cache has the round's files, from this or a later commit. Then they are not downloaded."""
        return max(self.cached) >= self.asked

    @property
    def tag(self) -> str:
        return f"round-{self.asked:03d}"


@dataclass
class Loads:
    """A repository of three rounds, and caches with some of them."""

    sandbox: Sandbox
    run: Run
    tags: dict[str, str]

    @staticmethod
    def at(sandbox: Sandbox) -> Loads:
        run = sandbox.runs.get("a", rounds=ROUNDS)
        with hurried():
            publish(sandbox.hub, run, REPO, ROUNDS)
        refs = HfApi(sandbox.hub.endpoint, token="x").list_repo_refs(REPO, repo_type="dataset")
        return Loads(sandbox, run, {tag.name: tag.target_commit for tag in refs.tags})

    @property
    def hub(self) -> FaultyHub:
        return self.sandbox.hub

    @property
    def api(self) -> HfApi:
        return HfApi(self.hub.endpoint, token="x")

    def cache(self, rounds: tuple[int, ...]) -> Path:
        """A copy of a cache, which a test may damage."""
        whole = self.sandbox.folder / "caches" / "-".join(map(str, rounds))
        if not whole.exists():
            for index in rounds:
                self.load(index, whole)
        return Path(shutil.copytree(whole, self.sandbox.folder / "cache", symlinks=True))

    def load(self, index: int, cache: Path) -> list[Any]:
        at = {"endpoint": self.hub.endpoint, "token": "x", "cache_dir": cache}
        rows = load_round(REPO, index, class_labels=False, **at)["train"]
        return [row_sample(self.run[0].task, row) for row in rows]

    def rows(self, index: int) -> list[Any]:
        """The rows in the workspace that published them."""
        paths = [path for number in range(index + 1) for path in self.run[1].round(number).shard_files()]
        return list(ShardedSamples(self.run[0].task, paths))

    @contextmanager
    def moved(self, tag: str, commit: str | None) -> Iterator[None]:
        """Move the tag to another commit, or delete it, during the block."""
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
        """Move the round's tag to another user's commit that changed or removed one of its files."""
        whole = self.api.hf_hub_download(
            REPO, load.path, repo_type="dataset", revision=load.tag, local_dir=self._scratch()
        )
        operation: Any = CommitOperationDelete(load.path)
        if change is not None:
            operation = CommitOperationAdd(load.path, change(Path(whole).read_bytes()))
        back = CommitOperationAdd(load.path, Path(whole).read_bytes())
        commit = self.api.create_commit(REPO, [operation], commit_message="changed", repo_type="dataset")
        self.api.create_commit(REPO, [back], commit_message="changed back", repo_type="dataset")
        return self.moved(load.tag, commit.oid)

    def spoil(self, load: Load, change: Callable[[bytes], bytes]) -> None:
        file = next((self.sandbox.folder / "cache").rglob(f"snapshots/{self.tags[load.tag]}/{load.path}")).resolve()
        file.write_bytes(change(file.read_bytes()))

    def _scratch(self) -> Path:
        return self.sandbox.folder / "scratch"


def _altered(load: Load, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[int(load.position * len(data))] ^= 0x01
    return bytes(changed)


def _cut(load: Load, data: bytes) -> bytes:
    return data[: int(load.position * len(data))]


Case = Callable[[Load, Loads], tuple[AbstractContextManager[Any], str]]


def _down(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    return loads.hub.down(), ROWS if load.is_cached else "PublishError: .* does not answer"


def _server_error(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    error = f"PublishError: .* does not answer .HTTP {load.status}"
    return loads.faulty(match=".", status=load.status), ROWS if load.is_cached else error


def _server_error_for_files(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    error = f"PublishError: .* does not answer .*HTTP {load.status}"
    return loads.faulty(match="/resolve/", status=load.status), ROWS if load.is_cached else error


def _tag_lost(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    return loads.moved(load.tag, None), f"PublishError: .*there is no revision '{load.tag}'"


def _tag_moved(load: Load, loads: Loads) -> tuple[AbstractContextManager[Any], str]:
    moved = loads.moved(load.tag, loads.tags[f"round-{load.moved_to:03d}"])
    if load.is_cached:
        return moved, f"VerificationError: {REPO}@{load.tag} is .*somebody moved the tag"
    # A later commit still has the round; an earlier one does not.
    missing = f"VerificationError: .*rounds/round-{load.moved_to + 1:03d}/manifest.json: is missing"
    return moved, ROWS if load.moved_to > load.asked else missing


def _served(load: Load, loads: Loads, body: str, **rule: Any) -> tuple[AbstractContextManager[Any], str]:
    rule = {"match": f"GET .*/resolve/.*{load.path}", "body": body, "seed": load.seed, **rule}
    # The client detects a short file, and we detect a changed byte.
    error = (
        f"PublishError: {REPO}: .*rerun"
        if body == "truncate"
        else f"VerificationError: {REPO}@{load.tag}: {load.path}: "
    )
    return loads.faulty(**rule), ROWS if load.has_files or "times" in rule else error


def _rewritten(
    load: Load, loads: Loads, change: Callable[..., bytes] | None
) -> tuple[AbstractContextManager[Any], str]:
    error = "somebody moved the tag" if load.is_cached else f"{load.path}: "
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
                rows, message = loads.load(load.asked, cache), ROWS
            except EvokdError as error:
                rows, message = None, f"{type(error).__name__}: {error}"
            except Exception as error:
                rows, message = None, f"{type(error).__name__} (none of ours): {error}"
        violations = []
        if rows is not None and rows != loads.rows(load.asked):
            violations.append(f"{len(rows)} rows that are not those of round {load.asked}")
        if rows is not None and expected:
            violations.append(f"rows, and expected was {expected}")
        if rows is None and not (expected and re.match(expected, message, re.DOTALL)):
            violations.append(f"{message}, and expected was {expected or 'the rows'}")
        # The fault leaves nothing wrong in the cache: when the Hub works again, the round can be loaded.
        if not violations and load.case != "tag moved" and loads.load(load.asked, cache) != loads.rows(load.asked):
            violations.append("afterwards other rows")
    finally:
        shutil.rmtree(cache)
    return Loaded(load.seed, load.case, "rows" if rows is not None else message.split(":")[0], violations)
