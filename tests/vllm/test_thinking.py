"""A teacher that reasons before it answers, on a real engine: the reasoning is not constrained, and the answer is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from evokd_data.records import Completion, Constraint
from evokd_data.teachers.vllm.plug import VLLM
from tests.support import tiny_model
from tests.support.vllm_engine import SETTINGS, a_prompt

pytestmark = pytest.mark.vllm


def test_a_reasoning_teacher_starts_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "SPECIAL", [*tiny_model.SPECIAL, "<think>", "</think>"])
    model = tiny_model.build(tmp_path / "model")
    teacher = VLLM(model=str(model), thinking=True, engine_args={"reasoning_parser": "qwen3"}, **SETTINGS)

    async def ask() -> list[Completion]:
        async with teacher.serve(tmp_path / "teacher.log") as engine:
            prompts = (a_prompt(0), a_prompt(1, Constraint(choices=("A", "B"), score=True)))
            return list(await asyncio.gather(*map(engine.complete, prompts)))

    written, scored = asyncio.run(ask())
    assert written.finish_reason in ("stop", "length") and written.completion_tokens > 0
    assert "<think>" not in written.text
    assert scored.text in ("A", "B") and scored.choice_logprobs is not None
