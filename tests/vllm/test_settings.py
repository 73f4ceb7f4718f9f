"""The parts that need no engine: settings, chat templates, identities, and reading a log."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from evokd_data.errors import TeacherError
from evokd_data.records import Message
from evokd_data.settings import build as build_settings
from evokd_data.settings import identity, json_schema
from evokd_data.teachers.chat import ChatTokenizer
from evokd_data.teachers.reasoning import strip_reasoning
from evokd_data.teachers.vllm import names as vllm_names
from evokd_data.teachers.vllm.plug import VLLM
from evokd_data.teachers.vllm.startup import last_error
from tests.support.tiny_model import CORPUS, SPECIAL, build

pytestmark = pytest.mark.slow

SYSTEM, USER = Message("system", "Write one request."), Message("user", "About music.")
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}<|assistant|>"
)
DEAF = "{% for m in messages if m.role != 'system' %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
QWEN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)


def chat_tokenizer(folder: Path, template: str) -> ChatTokenizer:
    from transformers import AutoTokenizer

    build(folder, template)
    return ChatTokenizer(AutoTokenizer.from_pretrained(folder), str(folder))


def rendered(chat: ChatTokenizer, *messages: Message, thinking: bool = False) -> str:
    return chat._tokenizer.decode(chat.encode(messages, thinking))


def test_a_template_with_a_system_role_is_used_as_it_is(model: Path) -> None:
    from transformers import AutoTokenizer

    chat = ChatTokenizer(AutoTokenizer.from_pretrained(model), str(model))
    assert rendered(chat, SYSTEM, USER) == "<|system|>Write one request.<|end|><|user|>About music.<|end|><|assistant|>"


@pytest.mark.parametrize("template", [GEMMA, DEAF])
def test_a_template_without_a_system_role_gets_it_in_the_user_turn(template: str, tmp_path: Path) -> None:
    chat = chat_tokenizer(tmp_path, template)
    assert rendered(chat, SYSTEM, USER) == "<|user|>Write one request.\n\nAbout music.<|end|><|assistant|>"
    assert rendered(chat, USER) == "<|user|>About music.<|end|><|assistant|>"


def test_thinking_is_switched_where_the_template_knows_it(tmp_path: Path) -> None:
    chat = chat_tokenizer(tmp_path, QWEN)
    assert rendered(chat, USER).endswith("<think>\n\n</think>\n\n")
    assert "<think>" not in rendered(chat, USER, thinking=True)


def sentencepiece(folder: Path) -> None:
    """Like Llama 2's: a space before the first word, bytes as tokens, the space stripped where a text begins."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[*SPECIAL, "<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["\u2581" + line.replace(" ", "\u2581") for line in CORPUS], trainer)
    tokenizer.add_tokens(bytes_)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_a_text_is_what_decoding_token_by_token_gives(kind: str, tmp_path: Path) -> None:
    from tokenizers.decoders import DecodeStream
    from transformers import AutoTokenizer

    build(tmp_path)
    if kind == "sentencepiece":
        sentencepiece(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    chat = ChatTokenizer(tokenizer, str(tmp_path))
    assert chat.can_decode
    prompt = chat.encode((SYSTEM, USER), False)
    words = chat.encode_text("play some \u4e2d\u6587 jazz \U0001f600 caf\u00e9")
    draw = random.Random(0)
    cut_characters = 0
    for _ in range(600):
        # Whole words, stray bytes and special tokens, in any order and cut anywhere.
        answer = [draw.choice(words) if draw.random() < 0.5 else draw.randrange(len(tokenizer)) for _ in range(30)]
        answer = (list(words) + answer)[draw.randrange(len(words)) :][: draw.randrange(30)]
        stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
        pieces = [stream.step(tokenizer._tokenizer, token) for token in answer]
        assert chat.decode(prompt, answer) == "".join(piece or "" for piece in pieces)
        cut_characters += bool(pieces) and pieces[-1] is None
    assert cut_characters > 30, "no answer ended inside a character"


def pieces(draw: random.Random, count: int) -> str:
    """Words, spaces, special tokens whole and broken, letters that normalizers change, in any order."""
    choices = [
        *SPECIAL,
        "<|",
        "|>",
        "<|end",
        " ",
        "  ",
        "\n",
        "play",
        "some jazz",
        "1984",
        "caf\u00e9",
        "e\u0301",
        "\u4e2d\u6587",
    ]
    return "".join(draw.choice(choices) for _ in range(count))


LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def variants() -> dict[str, Any]:
    from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")

    def changed(**changes: Any) -> Any:
        def change(tokenizer: Any) -> None:
            for name, value in changes.items():
                setattr(tokenizer, name, value)

        return change

    return {
        "byte level": changed(),
        "llama 3": changed(pre_tokenizer=pre_tokenizers.Sequence([split, byte_level])),
        "prefix space": changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "normalized": changed(normalizer=normalizers.NFC()),
        "prepended": changed(normalizer=normalizers.Prepend("_"), pre_tokenizer=byte_level),
        "bert": changed(pre_tokenizer=pre_tokenizers.BertPreTokenizer()),
        "bare": changed(normalizer=normalizers.Replace(" ", "_"), pre_tokenizer=None),
        "more tokens": lambda tokenizer: tokenizer.add_tokens([AddedToken("<|end|><|user|>", normalized=False)]),
        "first word": changed(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first")),
        "greedy": lambda tokenizer: tokenizer.add_tokens([AddedToken("jazz", normalized=False, lstrip=True)]),
    }


@pytest.mark.parametrize("kind", variants())
def test_a_prompt_put_together_from_parts_has_the_tokens_of_the_whole(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    build(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    variants()[kind](tokenizer._tokenizer)
    chat = ChatTokenizer(tokenizer, "tiny")
    assert (chat._separators is None) == (kind in ("first word", "greedy")), (
        "split where it may not be, or not where it may"
    )
    draw = random.Random(0)
    for _ in range(500):
        text = pieces(draw, draw.randrange(20))
        assert list(chat.encode_prompt(text)) == tokenizer.encode(text, add_special_tokens=False)


def test_a_tokenizer_that_would_cut_or_pad_does_not(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    build(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    expected = ChatTokenizer(tokenizer, "tiny").encode_text("play some jazz by Miles Davis")
    tokenizer._tokenizer.enable_truncation(3)
    tokenizer._tokenizer.enable_padding(length=64)
    assert len(expected) > 3
    assert ChatTokenizer(tokenizer, "tiny").encode_text("play some jazz by Miles Davis") == expected


def test_a_base_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no usable chat template"):
        chat_tokenizer(tmp_path, "")


@pytest.mark.parametrize(
    ("text", "thinking", "left"),
    [
        ('{"a":1}', False, '{"a":1}'),
        ("<think>so</think>\n\nyes", False, "yes"),
        ("so it is</think>yes", True, "yes"),
        ("the tag </think> is in a text", False, "the tag </think> is in a text"),
        ("<think>cut off before", False, ""),
    ],
)
def test_reasoning_is_cut_off(text: str, thinking: bool, left: str) -> None:
    assert strip_reasoning(text, thinking) == left


def test_settings_are_checked_with_their_place() -> None:
    settings, problems = build_settings(
        VLLM, {"model": "org/name", "temprature": 1, "top_p": 0, "engine_args": {"trust_remote_code": True}}, "teacher"
    )
    assert settings is None
    assert problems[0] == "teacher.temprature: no such setting; did you mean 'temperature'?"
    assert any(problem.startswith("teacher.top_p") for problem in problems)
    _, problems = build_settings(VLLM, {"model": "m", "engine_args": {"trust_remote_code": True}}, "teacher")
    assert "trust_remote_code: a model that brings its own code is not run" in problems[0]
    _, problems = build_settings(VLLM, {"model": "m", "engine_args": {"max_model_len": 9}}, "teacher")
    assert "set teacher.max_model_len instead" in problems[0]
    _, problems = build_settings(VLLM, {"model": "m", "thinking": True}, "teacher")
    assert "reasoning_parser" in problems[0]
    assert json_schema(VLLM)["properties"]["dtype"]["default"] == "auto"


@pytest.mark.parametrize(
    "arguments", [{"hf_token": "hf_notoken"}, {"model_loader_extra_config": {"s3_secret": "hf_notoken"}}]
)
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(arguments: dict[str, Any]) -> None:
    _, problems = build_settings(VLLM, {"model": "m", "engine_args": arguments}, "teacher")
    assert len(problems) == 1 and "a secret has no place in a recipe" in problems[0]
    assert "hf_notoken" not in problems[0]
    with pytest.raises(ValueError, match=r"engine_args\.") as raised:
        VLLM(model="m", engine_args=arguments)
    assert "hf_notoken" not in str(raised.value)
    assert VLLM(model="m", engine_args={"hf_token": True, "tokenizer_mode": "slow", "max_num_batched_tokens": 9})


def test_where_files_lie_on_a_machine_is_no_part_of_the_identity(model: Path) -> None:
    def identity_at(home: str) -> Any:
        arguments = {"download_dir": f"{home}/hub", "speculative_config": {"model": f"{home}/draft", "tokens": [3]}}
        return VLLM(model=str(model), engine_args=arguments).identity()["engine_args"]

    assert identity_at("/home/ann") == identity_at("~/b") == {"speculative_config": {"model": "draft", "tokens": [3]}}


def test_a_missing_vllm_is_told_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(vllm_names.metadata, "version", missing)
    with pytest.raises(TeacherError, match=r"pip install 'evokd-data\[vllm\]'.*requirements/cpu\.txt"):
        vllm_names.version()


def test_hardware_is_no_part_of_the_identity(model: Path) -> None:
    teacher = VLLM(model=str(model))
    other = VLLM(model=str(model), tensor_parallel_size=8, gpu_memory_utilization=0.5, window=7, kv_cache_gib=1.0)
    assert teacher.identity() == other.identity()
    assert teacher.identity() != VLLM(model=str(model), temperature=0.7).identity()
    assert "window" not in identity(teacher)


def test_the_last_error_of_a_log_is_the_cause_not_its_echo(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "2026-01-01 00:00:00,000 EngineCore ERROR vllm.v1.engine.core: EngineCore failed to start.\n"
        "Traceback (most recent call last):\n"
        "ValueError: No available memory for the cache blocks.\n"
        "(EngineCore pid=7) INFO something later\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    assert last_error(log) == "ValueError: No available memory for the cache blocks."
    log.write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\nbye\n")
    assert last_error(log) == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert last_error(log, offset=log.stat().st_size) == "", "what an older run left in the file is not the cause"
    assert last_error(tmp_path / "none") == ""


def test_the_plugin_does_nothing_in_a_vllm_that_is_not_ours() -> None:
    """In a child of somebody else's program the process group and the signal at the parent's death stay as they are."""
    script = (
        "import multiprocessing as m, os, ctypes\n"
        "from evokd_data.teachers.orphans import end_with_parent\n"
        "def state():\n"
        "    signal = ctypes.c_int()\n"
        "    ctypes.CDLL(None).prctl(2, ctypes.byref(signal), 0, 0, 0)\n"
        "    return signal.value, os.getpgrp() == os.getpid()\n"
        "def child(q):\n"
        "    end_with_parent()\n"
        "    q.put(state())\n"
        "if __name__ == '__main__':\n"
        "    end_with_parent()\n"
        "    q = m.get_context('fork').Queue()\n"
        "    p = m.get_context('fork').Process(target=child, args=(q,))\n"
        "    p.start(); print(q.get(), state()[0]); p.join()\n"
    )

    def run(**variables: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert run() == "(0, False) 0"
    assert run(EVOKD_ENGINE_DRIVER="1") == "(9, True) 0"
