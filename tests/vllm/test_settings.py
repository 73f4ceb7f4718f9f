"""What needs no engine: settings, chat templates, model identities, and reading a log."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from tiny import build

from evokd_data.errors import TeacherError
from evokd_data.records import Message
from evokd_data.settings import build as build_settings
from evokd_data.settings import identity, json_schema
from evokd_data.teachers import models, vllm
from evokd_data.teachers.answers import without_thoughts
from evokd_data.teachers.chat import Chat
from evokd_data.teachers.vllm import VLLM, last_error

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


def chat(folder: Path, template: str) -> Chat:
    from transformers import AutoTokenizer

    build(folder, template)
    return Chat(AutoTokenizer.from_pretrained(folder), str(folder))


def shown(of: Chat, *messages: Message, thinking: bool = False) -> str:
    return of._tokenizer.decode(of.encode(messages, thinking))


def test_a_template_with_a_system_role_is_used_as_it_is(model: Path) -> None:
    from transformers import AutoTokenizer

    of = Chat(AutoTokenizer.from_pretrained(model), str(model))
    assert shown(of, SYSTEM, USER) == "<|system|>Write one request.<|end|><|user|>About music.<|end|><|assistant|>"


@pytest.mark.parametrize("template", [GEMMA, DEAF])
def test_a_template_without_a_system_role_gets_it_in_the_user_turn(template: str, tmp_path: Path) -> None:
    of = chat(tmp_path, template)
    assert shown(of, SYSTEM, USER) == "<|user|>Write one request.\n\nAbout music.<|end|><|assistant|>"
    assert shown(of, USER) == "<|user|>About music.<|end|><|assistant|>"


def test_thinking_is_switched_where_the_template_knows_it(tmp_path: Path) -> None:
    of = chat(tmp_path, QWEN)
    assert shown(of, USER).endswith("<think>\n\n</think>\n\n")
    assert "<think>" not in shown(of, USER, thinking=True)


def test_a_base_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no usable chat template"):
        chat(tmp_path, "")


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
    assert without_thoughts(text, thinking) == left


def test_settings_are_checked_with_their_place() -> None:
    made, problems = build_settings(
        VLLM, {"model": "org/name", "temprature": 1, "top_p": 0, "engine_args": {"trust_remote_code": True}}, "teacher"
    )
    assert made is None
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
    def told(home: str) -> Any:
        arguments = {"download_dir": f"{home}/hub", "speculative_config": {"model": f"{home}/draft", "tokens": [3]}}
        return VLLM(model=str(model), engine_args=arguments).identity()["engine_args"]

    assert told("/home/ann") == told("~/b") == {"speculative_config": {"model": "draft", "tokens": [3]}}


def test_a_missing_vllm_is_told_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(vllm.metadata, "version", missing)
    with pytest.raises(TeacherError, match=r"pip install 'evokd-data\[vllm\]'.*requirements/cpu\.txt"):
        vllm.version()


def test_hardware_is_no_part_of_the_identity(model: Path) -> None:
    one = VLLM(model=str(model))
    other = VLLM(model=str(model), tensor_parallel_size=8, gpu_memory_utilization=0.5, window=7, kv_cache_gib=1.0)
    assert one.identity() == other.identity()
    assert one.identity() != VLLM(model=str(model), temperature=0.7).identity()
    assert "window" not in identity(one)


def test_a_folder_is_known_by_its_content(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "README.md").write_text("not part of it")
    assert models.find(str(copy), None).identity == models.find(str(model), None).identity
    with (copy / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    assert models.folder_digest(copy) != models.folder_digest(model)


def test_a_large_file_of_the_hubs_cache_is_not_read_again(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    name = "ab" * 32
    (blobs / name).write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to(blobs / name)
    assert models._content(snapshot / "model.safetensors") == name


def test_a_commit_needs_no_hub() -> None:
    commit = "0123456789" * 4
    assert models.find("org/name", commit) == models.Model(
        "org/name", commit, {"model": "org/name", "revision": commit}
    )


def test_a_revision_of_a_folder_is_refused(model: Path) -> None:
    with pytest.raises(TeacherError, match="is for models of the Hub"):
        models.find(str(model), "main")


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
    assert last_error(log, since=log.stat().st_size) == "", "what an older run left in the file is not the cause"
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
