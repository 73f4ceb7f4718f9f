"""The journal of a round: every prompt asked and every completion received, append-only. It serves as cache, for resume and replay.

Each answer is one JSON line, in the order of arrival. Each process that works on the round writes a file (a segment) of its
own. A line is written as soon as its answer arrives, so kill -9 loses only requests in flight. It is synced before any shard
that depends on it is written. A torn last line is cut off when the journal is opened again.

A long message that many prompts share, such as the system message of all labelling prompts, has a line of its own,
{"message": digest, "role", "content"}. The answers after it name it by its digest.
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

from evokd_data.atomic_files import naming_file, sync_folder
from evokd_data.digest import canonical, digest
from evokd_data.errors import EvokdError
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling, sound_completion, token_count
from evokd_data.settings import plain
from evokd_data.storage.journal_lines import OnDamage, damaged, decode_line, encode_line, read_lines
from evokd_data.strategies import Ask


def prompt_digest(prompt: Prompt) -> str:
    """16 hex digits of all that decides an answer (messages, seed, sampling, constraint), and of the prompt's key.

    Equals `digest([key, messages, seed, sampling, constraint])[:16]`; reuses cached encodings of the parts.
    """
    key, messages = orjson.dumps(prompt.key), b",".join(map(_canonical_part, prompt.messages))
    parts = (key, messages, prompt.seed, _canonical_part(prompt.sampling), _canonical_part(prompt.constraint))
    return hashlib.sha256(b"[%b,[%b],%d,%b,%b]" % parts).hexdigest()[:16]


def _canonical_part(part: Message | Sampling | Constraint | None) -> bytes:
    """The canonical form of a part of a prompt. For an object that many prompts share it is cached, by the object's id."""
    if isinstance(part, Message) and len(part.content) < LONG_MESSAGE:
        return orjson.dumps([part.role, part.content])  # for strings, `canonical` writes the same bytes
    entry = _CANONICAL_PARTS.get(id(part))
    if entry is None or entry[0] is not part:
        entry = part, canonical([part.role, part.content] if isinstance(part, Message) else plain(part))
        if len(_CANONICAL_PARTS) >= MAX_CANONICAL_PARTS:
            _CANONICAL_PARTS.clear()
        _CANONICAL_PARTS[id(part)] = entry
    return entry[1]


LONG_MESSAGE = 256  # characters from which a message is worth caching, or a line of its own
MAX_SHARED_MESSAGES = 64  # lines for messages in one segment: a user's own templates may make every message different
MAX_CANONICAL_PARTS = 256
_CANONICAL_PARTS: dict[int, tuple[object, bytes]] = {}  # holds the objects too, so that no other object gets their ids


class NotJournalled(EvokdError):
    """The journal has no answer for a prompt of a replay."""


def record(prompt: Prompt, completion: Completion) -> dict[str, Any]:
    """An answer as one line of the journal."""
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
    """The answer in one line of the journal. Earlier versions wrote down any number that a server sent."""
    return sound_completion(
        row["text"], row["finish_reason"], row["prompt_tokens"], row["completion_tokens"], row["choice_logprobs"]
    )


def sound_row(row: dict[str, Any]) -> dict[str, Any]:
    """An answer as `record` would make it today: with the numbers that `completion` believes."""
    answer = completion(row)
    names = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "choice_logprobs")
    return {**row, **{name: getattr(answer, name) for name in names}}


class AnswerEncoder:
    """Encodes answers as lines of one segment, each after the shared messages that it names."""

    def __init__(self) -> None:
        self._shared: dict[str, str] = {}  # content -> name of the messages that have lines of their own

    def encode(self, prompt: Prompt, answer: Completion) -> tuple[bytes, Mapping[str, str]]:
        """The answer's line, after a line for each shared message that the segment does not hold yet.

        Also returns these messages (content -> name). Pass them to `add_shared` when the lines have been written.
        """
        row, unwritten = record(prompt, answer), {}
        for index, message in enumerate(prompt.messages):
            if message.role != "system":
                continue
            name = self._shared.get(message.content)
            if name is None and len(message.content) >= LONG_MESSAGE and len(self._shared) < MAX_SHARED_MESSAGES:
                name = unwritten[message.content] = digest(message.content)[:16]
            if name is not None:
                row["messages"][index] = {"message": name}
        messages = [{"message": name, "role": "system", "content": content} for content, name in unwritten.items()]
        return b"".join(map(encode_line, (*messages, row))), unwritten

    def add_shared(self, written: Mapping[str, str]) -> None:
        """The segment now holds these messages (content -> name)."""
        self._shared.update(written)


class Journal:
    """The journal of one round in `folder`, open inside its `with` block.

    `prompt_tokens` and `completion_tokens` are totals of all its answers, from all processes.
    Memory: 20 bytes for each answer of earlier processes. Texts stay on disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.prompt_tokens = self.completion_tokens = 0
        self._index = _AnswerIndex()
        self._segments: list[int] = []  # file descriptors, in the order of the segments
        self._current: int | None = None  # the file descriptor of this process's segment
        self._size = 0  # bytes in this process's segment
        self._encoder = AnswerEncoder()
        self._next_number = 0

    def __enter__(self) -> Journal:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in segments(self._folder):
            self._read_segment(path)
            self._next_number = int(path.stem) + 1
        self._index.sort()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.sync()
        for handle in self._segments:
            os.close(handle)
        self._segments, self._current = [], None

    def _read_segment(self, path: Path) -> None:
        """Index the answers of an earlier process. Raises WorkspaceError for damage before the last line."""
        descriptor = os.open(path, os.O_RDWR)
        segment = len(self._segments)
        self._segments.append(descriptor)
        offset = 0
        with path.open("rb") as file:
            for line in file:
                row = decode_line(line)
                if row is None:
                    if file.read(1):
                        raise damaged(path, offset)
                    with naming_file(path):
                        os.ftruncate(descriptor, offset)
                    return
                if "message" in row:
                    offset += len(line)
                    continue
                self._index.append(row["prompt"], segment, offset, len(line))
                self._count(row["prompt_tokens"], row["completion_tokens"])
                offset += len(line)

    def _count(self, prompt_tokens: object, completion_tokens: object) -> None:
        self.prompt_tokens += token_count(prompt_tokens)
        self.completion_tokens += token_count(completion_tokens)

    def find(self, prompt: Prompt) -> Completion | None:
        """The answer given to exactly this prompt before; None when there is none, or only one given by this process.

        Nor is a refusal found, unless many requests share the prompt: it is asked again, and the newest answer counts.
        """
        entry = self._index.find(prompt_digest(prompt)) if self._index else None
        if entry is None:
            return None
        segment, offset, length = entry
        row = decode_line(os.pread(self._segments[segment], length, offset))
        if row is None:
            raise damaged(self._folder, offset)
        if row["key"] != prompt.key:
            return None
        answer = completion(row)
        shared = prompt.request is None and prompt.template != "label"
        return answer if answer.refusal is None or shared else None

    def add(self, prompt: Prompt, answer: Completion) -> None:
        """Append an answer. On return it survives the death of this process; `sync` makes it survive a power cut."""
        self._begin_segment()
        lines, shared = self._encoder.encode(prompt, answer)
        self._write(lines)
        self._encoder.add_shared(shared)
        self._count(answer.prompt_tokens, answer.completion_tokens)

    def add_lines(self, lines: bytes, prompt_tokens: int, completion_tokens: int) -> None:
        """Append answers that another process encoded: complete lines, with all shared messages that they name."""
        self._begin_segment()
        self._write(lines)
        self._count(prompt_tokens, completion_tokens)

    def _begin_segment(self) -> None:
        if self._current is None:
            path = self._folder / f"{self._next_number:05d}.jsonl"
            self._current = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
            self._segments.append(self._current)
            sync_folder(self._folder)  # `sync` makes the content survive a power cut: the file's name must survive, too
            self._size = 0

    def _write(self, lines: bytes) -> None:
        assert self._current is not None
        remaining = memoryview(lines)
        with naming_file(self._folder):
            try:
                while remaining:
                    remaining = remaining[os.write(self._current, remaining) :]
            except OSError:  # the disk is full: no answer may follow half a line
                os.ftruncate(self._current, self._size)
                raise
        self._size += len(lines)

    def merge(self, lines: bytes) -> None:
        """Append the answers of a journal part that the journal does not hold yet; `find` then returns them.

        A torn line is left out, and a damaged one: what it answered is asked again.
        """
        self._begin_segment()
        segment = len(self._segments) - 1
        rows = [(line, row) for line in lines.splitlines(keepends=True) if (row := decode_line(line)) is not None]
        new = [(line, row) for line, row in rows if "message" in row or self._index.find(row["prompt"]) is None]
        for line, row in new:
            if "message" not in row:
                self._index.append(row["prompt"], segment, self._size, len(line))
                self._count(row["prompt_tokens"], row["completion_tokens"])
            self._write(line)
        self._index.sort()

    @property
    def empty(self) -> bool:
        """Whether `find` returns None for every prompt."""
        return not self._index

    def sync(self) -> None:
        """Make the answers added so far survive a power cut."""
        if self._current is not None:
            with naming_file(self._folder):
                os.fsync(self._current)

    def asker(self, complete: Ask, on_answer: Callable[[Prompt, Completion, bool], None] | None = None) -> Ask:
        """`ask` for strategies: it returns the journal's answer, else that of `complete`, after adding it to the journal.

        `on_answer` is called with each answer, and with whether `complete` gave it.
        """

        async def ask(prompt: Prompt) -> Completion:
            answer = self.find(prompt)
            is_new = answer is None
            if answer is None:
                answer = await complete(prompt)
                self.add(prompt, answer)
            if on_answer is not None:
                on_answer(prompt, answer, is_new)
            return answer

        return ask


class _AnswerIndex:
    """Prompt digest -> segment, offset and length of the answer's line. Of two entries with one digest the last one counts.

    Call `sort` after the last `append` and before `find`.
    """

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
        key = int(digest, 16)
        index = bisect_right(self._digests, key) - 1
        if index < 0 or self._digests[index] != key:
            return None
        start = self._starts[index]
        return start >> 48, start & (1 << 48) - 1, self._lengths[index]


def segments(folder: Path) -> list[Path]:
    """The journal's files, in the order in which processes began them."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdecimal())


def read_answers(folder: Path, on_damage: OnDamage | None = None) -> Iterator[dict[str, Any]]:
    """All answers of a round's journal as `record` made them, in order of arrival. Raises as `read_lines` does, or leaves out with
    `on_damage` what is damaged, and answers whose shared message is."""
    for path in segments(folder):
        shared = SharedMessages()
        for _, _, row in read_lines(path, on_damage):
            if shared.add_if_message(row):
                continue
            try:
                answer = shared.expand(row)
            except KeyError:
                if on_damage is None:
                    raise
                continue
            yield answer


class SharedMessages:
    """The messages that have lines of their own in one segment."""

    def __init__(self) -> None:
        self._messages: dict[str, dict[str, str]] = {}

    def add_if_message(self, row: Mapping[str, Any]) -> bool:
        """Whether a line is a shared message and not an answer. If it is, it is added."""
        if "message" not in row:
            return False
        self._messages[row["message"]] = {"role": row["role"], "content": row["content"]}
        return True

    def expand(self, row: dict[str, Any]) -> dict[str, Any]:
        """An answer with the shared messages in place of their names."""
        messages = [
            self._messages[message["message"]] if "message" in message else message for message in row["messages"]
        ]
        return {**row, "messages": messages}


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Ask:
    """`ask` for a replay: it answers from published rows, never from a teacher, and raises NotJournalled without an answer."""
    answers = {f"{row['key']} {row['prompt']}": completion(row) for row in rows}

    async def ask(prompt: Prompt) -> Completion:
        answer = answers.get(f"{prompt.key} {prompt_digest(prompt)}")
        if answer is None:
            raise NotJournalled(
                f"{prompt.key}: the journal holds no answer to this prompt; the recipe, templates or seeds are not those "
                "of the round, or it was published without its journal"
            )
        return answer

    return ask
