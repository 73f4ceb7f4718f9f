"""The state of a Hub's repository, read from its bare git repository and its folder of large files.

It uses no HTTP, no client and no code of the publisher. It knows only the names of files and the format of manifests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dulwich.objects import Blob
from dulwich.repo import Repo

POINTER = b"version https://git-lfs.github.com/spec/v1\n"


@dataclass
class RepoState:
    """A repository: the commits of main, oldest first, and the commit of each tag."""

    root: Path
    repo: str
    commits: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    branches: list[str] = field(default_factory=list)
    merges: int = 0

    def __post_init__(self) -> None:
        folder = self.root / "repos" / "datasets" / f"{self.repo}.git"
        if not (folder / "HEAD").exists():
            return
        with Repo(str(folder)) as git:
            for name, sha in git.refs.as_dict().items():
                if name.startswith(b"refs/tags/"):
                    self.tags[name.removeprefix(b"refs/tags/").decode()] = git.object_store.peel(sha)[1].id.decode()
                elif name.startswith(b"refs/heads/"):
                    self.branches.append(name.removeprefix(b"refs/heads/").decode())
            if "main" not in self.branches:
                return
            for entry in git.get_walker(include=[git.refs[b"refs/heads/main"]], order="topo", reverse=True):
                self.commits.append(entry.commit.id.decode())
                self.titles.append(entry.commit.message.decode().splitlines()[0])
                self.merges += len(entry.commit.parents) > 1

    def files(self, commit: str) -> dict[str, tuple[str, int] | str]:
        """Path -> (sha256, bytes) of the file, or its problem."""
        contents: dict[str, tuple[str, int] | str] = {}
        with Repo(str(self.root / "repos" / "datasets" / f"{self.repo}.git")) as git:
            for item in git.object_store.iter_tree_contents(git[commit.encode()].tree):
                contents[item.path.decode()] = self._content(git[item.sha])
        return contents

    def manifests(self, commit: str) -> dict[int, dict]:
        """Round -> manifest, for all manifests in a commit."""
        manifests = {}
        with Repo(str(self.root / "repos" / "datasets" / f"{self.repo}.git")) as git:
            for item in git.object_store.iter_tree_contents(git[commit.encode()].tree):
                top, _, path = item.path.decode().partition("/")
                if top == "rounds" and path.endswith("/manifest.json"):
                    manifests[int(path[6:9])] = json.loads(git[item.sha].data)
        return manifests

    def _content(self, blob: Blob) -> tuple[str, int] | str:
        data = blob.data
        if data.startswith(POINTER):
            oid, size = (line.split()[1] for line in data.decode().splitlines()[1:3])
            oid = oid.removeprefix("sha256:")
            path = self.root / "lfs" / oid[:2] / oid[2:4] / oid
            if not path.is_file():
                return "names a large file that is not there"
            data = path.read_bytes()
            if (hashlib.sha256(data).hexdigest(), len(data)) != (oid, int(size)):
                return "names a large file that is another"
        return hashlib.sha256(data).hexdigest(), len(data)


def half_published(state: RepoState, digests: Sequence[str]) -> Iterator[str]:
    """Problems that a repository for rounds with these digests must not have at any moment."""
    if state.branches not in ([], ["main"]) or state.merges:
        yield f"branches {state.branches}, {state.merges} merges: no chain of rounds"
    for number, commit in enumerate(state.commits):
        manifests = state.manifests(commit)
        if [*manifests] != list(range(number)):
            yield f"commit {number} ({state.titles[number]!r}) holds rounds {[*manifests]}"
        if [manifests[index]["digest"] for index in manifests] != list(digests[: len(manifests)]):
            yield f"commit {number} ({state.titles[number]!r}) brings another round"
        files = state.files(commit)
        promised = {path: entry for manifest in manifests.values() for path, entry in manifest["files"].items()}
        for path, entry in promised.items():
            if files.get(path) != (entry["sha256"], entry["size"]):
                yield f"commit {number}: {path} is {files.get(path, 'missing')}, promised was {entry}"
        others = files.keys() - promised.keys() - {".gitattributes"}
        if unknown := [path for path in sorted(others) if not path.endswith("/manifest.json")]:
            yield f"commit {number}: {unknown} in no manifest"
    for tag, commit in state.tags.items():
        number = int(tag.removeprefix("round-")) + 1
        if state.commits[number : number + 1] != [commit]:
            yield f"tag {tag} sits on {commit[:7]}, which is not the commit of its round"
    for number in range(1, len(state.commits) - 1):
        if f"round-{number - 1:03d}" not in state.tags:
            yield f"round {number - 1} has no tag, and round {number} rests on it"


def not_exactly_once(state: RepoState, digests: Sequence[str]) -> Iterator[str]:
    """Problems of a repository in which each of these rounds should have one commit, one tag on it, and every byte."""
    yield from half_published(state, digests)
    if len(state.commits) != len(digests) + 1:
        yield f"{len(state.commits) - 1} commits for {len(digests)} rounds: {state.titles}"
    if (tags := sorted(state.tags)) != [f"round-{index:03d}" for index in range(len(digests))]:
        yield f"tags {tags} for {len(digests)} rounds"
