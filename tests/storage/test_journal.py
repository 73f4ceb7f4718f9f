from __future__ import annotations

import asyncio
import dataclasses
import resource
import signal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.digest import digest
from evokd_data.errors import WorkspaceError
from evokd_data.records import Completion, Constraint, Message, Prompt, Sampling
from evokd_data.settings import plain
from evokd_data.storage import journal
from evokd_data.storage.journal import Journal, NotJournalled, from_rows, prompt_digest

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
answers = st.builds(
    Completion,
    texts,
    st.sampled_from(["stop", "length", "too_long"]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.none() | st.dictionaries(texts, st.floats(-50, 0), max_size=3),
)


def prompt(number: int = 0, **changes) -> Prompt:
    default = Prompt(
        f"generate/{number:06d}",
        "generate",
        (Message("user", "write a text"),),
        number,
        Sampling(1.0, 64),
        Constraint(choices=("a", "b")),
    )
    return dataclasses.replace(default, **changes)


def fill(folder, *completions: Completion) -> None:
    with Journal(folder) as opened:
        for number, answer in enumerate(completions):
            opened.add(prompt(number), answer)


ANSWERS = [Completion(f"text {number} äöü\n\u2028", "stop", number, 2, {"a": -0.5}) for number in range(3)]


@pytest.mark.slow
@given(st.lists(answers, max_size=4))
def test_every_answer_is_found_by_the_next_process(tmp_path_factory, completions):
    folder = tmp_path_factory.mktemp("journal")
    fill(folder, *completions)
    with Journal(folder) as opened:
        assert [opened.find(prompt(number)) for number in range(len(completions))] == completions
        assert opened.find(prompt(99)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "generate/000009"},
        {"seed": 9},
        {"messages": (Message("user", "write another"),)},
        {"messages": (Message("system", "write a text"),)},
        {"sampling": Sampling(0.9, 64)},
        {"constraint": None},
        {"constraint": Constraint(choices=("b", "a"))},
    ],
)
def test_an_answer_is_only_for_exactly_its_prompt(tmp_path, changes):
    fill(tmp_path, ANSWERS[0])
    with Journal(tmp_path) as opened:
        assert opened.find(prompt(0)) == ANSWERS[0]
        assert opened.find(prompt(0, **changes)) is None


def test_what_the_template_saw_is_no_part_of_a_prompt():
    assert prompt_digest(prompt(variables={"shown": object()})) == prompt_digest(prompt())


@pytest.mark.slow
def test_a_journal_torn_at_any_byte_keeps_all_whole_answers_and_goes_on(tmp_path):
    fill(tmp_path / "whole", *ANSWERS[:2])
    data = (tmp_path / "whole" / "00000.jsonl").read_bytes()
    ends = [offset + 1 for offset, byte in enumerate(data) if byte == ord("\n")]
    for size in range(len(data) + 1):
        folder = tmp_path / f"{size}"
        folder.mkdir()
        (folder / "00000.jsonl").write_bytes(data[:size])
        whole = sum(end <= size for end in ends)
        with Journal(folder) as opened:
            completions = [opened.find(prompt(number)) for number in range(2)]
            assert completions == ANSWERS[:whole] + [None] * (2 - whole)
            opened.add(prompt(7), ANSWERS[0])
        assert [row["key"] for row in journal.read_answers(folder)] == [prompt(n).key for n in [*range(whole), 7]]


def test_a_tail_of_zeros_after_a_power_cut_is_cut_off(tmp_path):
    fill(tmp_path, *ANSWERS[:2])
    path = tmp_path / "00000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 4096)
    with Journal(tmp_path) as opened:
        assert opened.find(prompt(1)) == ANSWERS[1]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"{half\n", b"\0\0\0\n", b"17\n"])
def test_damage_with_answers_behind_it_is_told_and_nothing_is_cut(tmp_path, damage):
    fill(tmp_path, *ANSWERS[:1])
    path = tmp_path / "00000.jsonl"
    data = damage + path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(WorkspaceError, match=r"00000\.jsonl: damaged at byte 0"), Journal(tmp_path):
        pass
    assert path.read_bytes() == data


def test_a_disk_that_is_full_leaves_no_half_line_before_later_answers(tmp_path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path) as opened:
        opened.add(prompt(0), ANSWERS[0])
        size = (tmp_path / "00000.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        try:
            with pytest.raises(OSError):
                opened.add(prompt(1), ANSWERS[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        opened.add(prompt(2), ANSWERS[2])
    with Journal(tmp_path) as opened:
        assert [opened.find(prompt(n)) for n in range(3)] == [ANSWERS[0], None, ANSWERS[2]]


def test_each_process_writes_a_file_of_its_own_even_when_one_was_taken_away(tmp_path):
    for number in range(3):
        with Journal(tmp_path) as opened:
            opened.add(prompt(number), ANSWERS[number])
    (tmp_path / "00001.jsonl").unlink()
    (tmp_path / "notes.jsonl").write_text("not ours")
    with Journal(tmp_path) as opened:
        opened.add(prompt(3), ANSWERS[0])
    assert sorted(path.name for path in tmp_path.glob("0*")) == ["00000.jsonl", "00002.jsonl", "00003.jsonl"]
    assert [row["key"][-1] for row in journal.read_answers(tmp_path)] == ["0", "2", "3"]


def test_a_process_that_asked_nothing_leaves_no_file(tmp_path):
    with Journal(tmp_path / "journal"):
        pass
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_replay_answers_as_the_teacher_did_and_never_invents(tmp_path):
    fill(tmp_path, *ANSWERS)
    ask = from_rows(journal.read_answers(tmp_path))
    assert asyncio.run(ask(prompt(2))) == ANSWERS[2]
    with pytest.raises(NotJournalled, match="generate/000001"):
        asyncio.run(ask(prompt(1, seed=99)))


def test_a_line_holds_all_that_was_sent_and_received(tmp_path):
    fill(tmp_path, ANSWERS[0])
    (line,) = (tmp_path / "00000.jsonl").read_bytes().splitlines()
    row = orjson.loads(line)
    assert row["messages"] == [{"role": "user", "content": "write a text"}] and row["seed"] == 0
    assert journal.completion(row) == ANSWERS[0]


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**63 - 1), st.booleans())
def test_a_prompt_digests_like_the_list_of_what_decides_its_answer(key, content, seed, constrained):
    sampling = Sampling(0.7, 64)
    constraint = Constraint(choices=("A", content), score=True) if constrained else None
    prompt = Prompt(key, "label", (Message("system", "same"), Message("user", content)), seed, sampling, constraint)
    parts = [key, [["system", "same"], ["user", content]], seed, plain(sampling), constraint and plain(constraint)]
    assert prompt_digest(prompt) == prompt_digest(prompt) == digest(parts)[:16]


def test_tokens_of_all_processes_are_counted_and_of_two_answers_to_one_prompt_the_last_is_found(tmp_path):
    first, second = (Completion(text, "stop", 3, tokens) for text, tokens in (("a", 1), ("b", 5)))
    for answer in (first, second):
        with Journal(tmp_path) as opened:
            opened.add(prompt(), answer)
    with Journal(tmp_path) as opened:
        assert (opened.prompt_tokens, opened.completion_tokens) == (6, 6)
        assert opened.find(prompt()) == second
        assert opened.find(prompt(1)) is None


def test_a_long_beginning_that_prompts_share_is_written_once_and_read_in_each(tmp_path):
    beginnings = [Message("system", f"{name} " * 200) for name in ("label", "generate")]
    asked = [prompt(n, messages=(beginnings[n % 2], Message("user", f"text {n}"))) for n in range(8)]
    with Journal(tmp_path) as opened:
        for each in asked[:6]:
            opened.add(each, ANSWERS[0])
    with Journal(tmp_path) as opened:  # a second process writes its own file
        for each in asked[6:]:
            opened.add(each, ANSWERS[0])
        assert [opened.find(each) for each in asked[:6]] == [ANSWERS[0]] * 6
    for path, lines in zip(journal.segments(tmp_path), (2 + 6, 2 + 2), strict=True):
        written = path.read_bytes()
        assert written.count(b"\n") == lines and written.count(b"label label") == 100
    messages = [[(m["role"], m["content"]) for m in row["messages"]] for row in journal.read_answers(tmp_path)]
    assert messages == [[(m.role, m.content) for m in each.messages] for each in asked]
    ask = from_rows(journal.read_answers(tmp_path))
    assert asyncio.run(ask(asked[3])) == ANSWERS[0]


def test_beginnings_that_are_always_different_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_SHARED_MESSAGES", 3)
    asked = [prompt(n, messages=(Message("system", f"{n} " * 200), Message("user", "text"))) for n in range(6)]
    with Journal(tmp_path) as opened:
        for asked_prompt in asked:
            opened.add(asked_prompt, ANSWERS[0])
        assert len(opened._encoder._shared) == 3
    assert [row["messages"][0]["content"] for row in journal.read_answers(tmp_path)] == [
        asked_prompt.messages[0].content for asked_prompt in asked
    ]
