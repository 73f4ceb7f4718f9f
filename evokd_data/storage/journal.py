"""Every prompt asked and every completion received, append-only: cache, resume, replay.

One JSON line an answer, in the order of arrival, in one file for each process that worked on the round. A line is
written the moment its answer is there, so kill -9 loses only requests in flight; it is synced before any shard that
rests on it is. A torn last line is cut off at the next opening. A long message that prompts share, such as the beginning
of all labelling prompts, has a line of its own, {"message": digest, "role", "content"}, and is named by its digest behind.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from evokd_data.atomic_files import sync_folder
from evokd_data.digest import canonical, digest
from evokd_data.errors import EvokdError, WorkspaceError
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.settings import plain
from evokd_data.strategies import Ask


def prompt_digest(prompt: Prompt) -> str:
    """16 hex digits of all that decides an answer: messages, seed, sampling, constraint; and its place, the key.

    The `digest` of the five in a list, of parts of which most were written before.
    """
    key, messages = orjson.dumps(prompt.key), b",".join(map(_written, prompt.messages))
    parts = (key, messages, prompt.seed, _written(prompt.sampling), _written(prompt.constraint))
    return hashlib.sha256(b"[%b,[%b],%d,%b,%b]" % parts).hexdigest()[:16]


def _written(part: Message | Sampling | Constraint | None) -> bytes:
    """The canonical form of a part of a prompt; of one that prompts share it is remembered, by the object."""
    if isinstance(part, Message) and len(part.content) < LONG:
        return orjson.dumps([part.role, part.content])  # of strings it is what `canonical` writes
    known = _KNOWN.get(id(part))
    if known is None or known[0] is not part:
        known = part, canonical([part.role, part.content] if isinstance(part, Message) else plain(part))
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[id(part)] = known
    return known[1]


LONG = 256  # characters from which a message is worth remembering, or a line of its own
APART = 64  # lines of their own in one file, at most: prompts of a user's own may differ from their first word on
MOST_KNOWN = 256
_KNOWN: dict[int, tuple[object, bytes]] = {}  # holding the objects: an id is theirs as long as they are here


class NotJournalled(EvokdError):
    """A replay met a prompt the journal has no answer for."""


def record(prompt: Prompt, completion: Completion) -> dict[str, Any]:
    """One line of the journal."""
    return {
        "key": prompt.key,
        "prompt": prompt_digest(prompt),
        "stage": prompt.template,
        "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
        "seed": prompt.seed,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "choice_logprobs": completion.choice_logprobs,
    }


def completion(row: Mapping[str, Any]) -> Completion:
    """The answer in one line of the journal."""
    return Completion(
        row["text"], row["finish_reason"], row["prompt_tokens"], row["completion_tokens"], row["choice_logprobs"]
    )


class AnswerEncoder:
    """Answers as lines of one file, each behind the messages that it names."""

    def __init__(self) -> None:
        self._apart: dict[str, str] = {}  # content -> name of the messages in lines of their own

    def written(self, prompt: Prompt, answer: Completion) -> tuple[bytes, Mapping[str, str]]:
        """The answer's line behind those of messages not in the file yet; these, for `keep` once they are."""
        row, fresh = record(prompt, answer), {}
        for place, message in enumerate(prompt.messages):
            name = self._apart.get(message.content)
            if name is None and message.role == "system" and len(message.content) >= LONG and len(self._apart) < APART:
                name = fresh[message.content] = digest(message.content)[:16]
            if name is not None and message.role == "system":
                row["messages"][place] = {"message": name}
        lines = [{"message": name, "role": "system", "content": content} for content, name in fresh.items()]
        return b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in (*lines, row)), fresh

    def keep(self, fresh: Mapping[str, str]) -> None:
        self._apart.update(fresh)


class Journal:
    """The journal of one round, open for asking.

    `prompt_tokens` and `completion_tokens` are those of all its answers, whichever process asked.
    Memory: 20 bytes for each answer of earlier processes; texts stay on disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.prompt_tokens = self.completion_tokens = 0
        self._known = _Places()
        self._segments: list[int] = []
        self._own: int | None = None
        self._size = 0
        self._lines = AnswerEncoder()
        self._next = 0

    def __enter__(self) -> Journal:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in segments(self._folder):
            self._index(path)
            self._next = int(path.stem) + 1
        self._known.sort()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.sync()
        for handle in self._segments:
            os.close(handle)
        self._segments, self._own = [], None

    def _index(self, path: Path) -> None:
        handle = os.open(path, os.O_RDWR)
        segment = len(self._segments)
        self._segments.append(handle)
        offset = 0
        with path.open("rb") as file:
            for line in file:
                try:
                    row = orjson.loads(line) if line.endswith(b"\n") else None
                except orjson.JSONDecodeError:
                    row = None
                if isinstance(row, dict) and "message" in row:
                    offset += len(line)
                    continue
                if not isinstance(row, dict):
                    if file.read(1):
                        raise WorkspaceError(
                            f"{path}: damaged at byte {offset}, with answers behind it; "
                            "restore the file, or remove the round's folder to ask again"
                        )
                    os.ftruncate(handle, offset)
                    return
                self._known.append(row["prompt"], segment, offset, len(line))
                self._count(row["prompt_tokens"], row["completion_tokens"])
                offset += len(line)

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def find(self, prompt: Prompt) -> Completion | None:
        """The answer given to exactly this prompt before, if any."""
        place = self._known.find(prompt_digest(prompt)) if self._known else None
        if place is None:
            return None
        segment, offset, length = place
        row = orjson.loads(os.pread(self._segments[segment], length, offset))
        return completion(row) if row["key"] == prompt.key else None

    def add(self, prompt: Prompt, answer: Completion) -> None:
        """Keep an answer. On return it survives the death of this process; `sync` makes it survive a power cut."""
        self._begin()
        line, fresh = self._lines.written(prompt, answer)
        self._write(line)
        self._lines.keep(fresh)
        self._count(answer.prompt_tokens, answer.completion_tokens)

    def add_lines(self, lines: bytes, prompt_tokens: int, completion_tokens: int) -> None:
        """Keep answers that another process has written as lines: whole ones, with all the messages they name."""
        self._begin()
        self._write(lines)
        self._count(prompt_tokens, completion_tokens)

    def _begin(self) -> None:
        if self._own is None:
            path = self._folder / f"{self._next:05d}.jsonl"
            self._own = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
            self._segments.append(self._own)
            sync_folder(self._folder)  # the file's name must last as long as what `sync` makes last
            self._size = 0

    def _write(self, line: bytes) -> None:
        assert self._own is not None
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._own, rest) :]
        except OSError:  # the disk is full: half a line must not stand before the answers of others
            os.ftruncate(self._own, self._size)
            raise
        self._size += len(line)

    def take_in(self, lines: bytes) -> None:
        """Keep answers from elsewhere that are not known yet; `find` finds them. A torn last line is left out."""
        self._begin()
        segment = len(self._segments) - 1
        whole = [line for line in lines.splitlines(keepends=True) if line.endswith(b"\n")]
        rows = [(line, orjson.loads(line)) for line in whole]
        for line, row in [one for one in rows if "message" in one[1] or self._known.find(one[1]["prompt"]) is None]:
            if "message" not in row:
                self._known.append(row["prompt"], segment, self._size, len(line))
                self._count(row["prompt_tokens"], row["completion_tokens"])
            self._write(line)
        self._known.sort()

    @property
    def empty(self) -> bool:
        """Whether `find` finds nothing whatever it is asked."""
        return not self._known

    def sync(self) -> None:
        if self._own is not None:
            os.fsync(self._own)

    def asker(self, complete: Ask, seen: Callable[[Prompt, Completion, bool], None] | None = None) -> Ask:
        """`ask` for strategies: the journal's answer, else `complete`'s, kept before it is used.

        `seen` is told of each answer and whether it was fresh (progress).
        """

        async def ask(prompt: Prompt) -> Completion:
            answer = self.find(prompt)
            fresh = answer is None
            if answer is None:
                answer = await complete(prompt)
                self.add(prompt, answer)
            if seen is not None:
                seen(prompt, answer, fresh)
            return answer

        return ask


class _Places:
    """Where in which segment the answer to a prompt stands, by the prompt's digest; the last one added counts."""

    def __init__(self) -> None:
        self._digests, self._starts, self._lengths = array("Q"), array("Q"), array("I")

    def append(self, digest: str, segment: int, offset: int, length: int) -> None:
        self._digests.append(int(digest, 16))
        self._starts.append(segment << 48 | offset)
        self._lengths.append(length)

    def sort(self) -> None:
        import numpy as np

        if self._digests:
            order = np.asarray(self._digests).argsort(kind="stable")
            for name in ("_digests", "_starts", "_lengths"):
                values = getattr(self, name)
                setattr(self, name, array(values.typecode, np.asarray(values)[order].tobytes()))

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, digest: str) -> tuple[int, int, int] | None:
        wanted = int(digest, 16)
        place = bisect_right(self._digests, wanted) - 1
        if place < 0 or self._digests[place] != wanted:
            return None
        start = self._starts[place]
        return start >> 48, start & (1 << 48) - 1, self._lengths[place]


def segments(folder: Path) -> list[Path]:
    """The journal's files, in the order in which processes began them."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdecimal())


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """All answers of a round's journal, in order of arrival; a torn last line is left out."""
    for path in segments(folder):
        apart = SharedMessages()
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and not apart.holds(row := orjson.loads(line)):
                    yield apart.whole(row)


class SharedMessages:
    """The messages that have lines of their own in one file of a journal."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, str]] = {}

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a line is such a message, and no answer; it is remembered."""
        if "message" not in row:
            return False
        self._said[row["message"]] = {"role": row["role"], "content": row["content"]}
        return True

    def whole(self, row: dict[str, Any]) -> dict[str, Any]:
        """An answer with the messages it names."""
        messages = [self._said[one["message"]] if "message" in one else one for one in row["messages"]]
        return {**row, "messages": messages}


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Ask:
    """`ask` for a replay: answers from published rows, never from a teacher. Raises NotJournalled."""
    answers = {f"{row['key']} {row['prompt']}": completion(row) for row in rows}

    async def ask(prompt: Prompt) -> Completion:
        found = answers.get(f"{prompt.key} {prompt_digest(prompt)}")
        if found is None:
            raise NotJournalled(
                f"{prompt.key}: the journal holds no answer to this prompt; the recipe, templates or seeds are not those "
                "of the round, or it was published without its journal"
            )
        return found

    return ask
