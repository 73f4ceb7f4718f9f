"""What a Hub holds, read from its bare git repositories and its folder of large files.

No HTTP, no client, and no word of the publisher: only the names of files and what a manifest is made of are taken over.
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
class Held:
    """A repository: the commits of main, oldest first, and where tags sit."""

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
        """Path -> (sha256, bytes) of what stands there, or what is wrong with it."""
        found: dict[str, tuple[str, int] | str] = {}
        with Repo(str(self.root / "repos" / "datasets" / f"{self.repo}.git")) as git:
            for item in git.object_store.iter_tree_contents(git[commit.encode()].tree):
                found[item.path.decode()] = self._content(git[item.sha])
        return found

    def manifests(self, commit: str) -> dict[int, dict]:
        """Round -> manifest, of all that lie in a commit."""
        found = {}
        with Repo(str(self.root / "repos" / "datasets" / f"{self.repo}.git")) as git:
            for item in git.object_store.iter_tree_contents(git[commit.encode()].tree):
                top, _, rest = item.path.decode().partition("/")
                if top == "rounds" and rest.endswith("/manifest.json"):
                    found[int(rest[6:9])] = json.loads(git[item.sha].data)
        return found

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


def half_published(held: Held, digests: Sequence[str]) -> Iterator[str]:
    """What must not be, at any moment whatever, in a repository for rounds of these digests."""
    if held.branches not in ([], ["main"]) or held.merges:
        yield f"branches {held.branches}, {held.merges} merges: no chain of rounds"
    for number, commit in enumerate(held.commits):
        here = held.manifests(commit)
        if [*here] != list(range(number)):
            yield f"commit {number} ({held.titles[number]!r}) holds rounds {[*here]}"
        if [here[index]["digest"] for index in here] != list(digests[: len(here)]):
            yield f"commit {number} ({held.titles[number]!r}) brings another round"
        files = held.files(commit)
        promised = {path: entry for manifest in here.values() for path, entry in manifest["files"].items()}
        for path, entry in promised.items():
            if files.get(path) != (entry["sha256"], entry["size"]):
                yield f"commit {number}: {path} is {files.get(path, 'missing')}, promised was {entry}"
        others = files.keys() - promised.keys() - {".gitattributes"}
        if unknown := [path for path in sorted(others) if not path.endswith("/manifest.json")]:
            yield f"commit {number}: {unknown} in no manifest"
    for tag, commit in held.tags.items():
        number = int(tag.removeprefix("round-")) + 1
        if held.commits[number : number + 1] != [commit]:
            yield f"tag {tag} sits on {commit[:7]}, which is not the commit of its round"
    for number in range(1, len(held.commits) - 1):
        if f"round-{number - 1:03d}" not in held.tags:
            yield f"round {number - 1} has no tag, and round {number} rests on it"


def not_exactly_once(held: Held, digests: Sequence[str]) -> Iterator[str]:
    """What is wrong with a repository in which each of these rounds should be: one commit, one tag on it, every byte."""
    yield from half_published(held, digests)
    if len(held.commits) != len(digests) + 1:
        yield f"{len(held.commits) - 1} commits for {len(digests)} rounds: {held.titles}"
    if (found := sorted(held.tags)) != [f"round-{index:03d}" for index in range(len(digests))]:
        yield f"tags {found} for {len(digests)} rounds"
