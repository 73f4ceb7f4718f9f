"""A teacher that runs as a vLLM engine of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from evokd_data.errors import TeacherError
from evokd_data.models import ModelReference, find_model
from evokd_data.redaction import secret_settings
from evokd_data.settings import NOT_IDENTITY, Count, from_anyone, from_user, hub_name, identity
from evokd_data.teachers import Engine, Teacher, missing_packages
from evokd_data.teachers.vllm.arguments import OWNED, without_folders
from evokd_data.teachers.vllm.engine import VLLMEngine
from evokd_data.teachers.vllm.engine_thread import EngineThread

AUTO_BACKEND = "xgrammar"
"""With the quickstart's teacher, xgrammar and guidance both gave 280 of 280 valid answers. A label costs 0.6 ms of CPU with
xgrammar and 2.4 ms with guidance. Guidance is stricter: with random weights it lets no control character into a string."""


@hub_name("model")
@from_anyone(
    "revision",
    "temperature",
    "top_p",
    "max_tokens",
    "thinking",
    "dtype",
    "max_model_len",
    "structured_outputs_backend",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "gpu_memory_utilization",
    "kv_cache_gib",
    "max_num_seqs",
    "window",
    "enforce_eager",
    "sleep_mode",
)
@from_user("quantization", "engine_args")
@dataclass(frozen=True)
class VLLM(Teacher):
    """`model` is a Hub id, a folder, or a GGUF file (./model.gguf). `temperature`, `top_p` and `max_tokens` are for the texts it writes.

    `window`: requests in flight; None lets the engine decide. `kv_cache_gib`: None leaves it to vLLM on an accelerator; on a
    CPU it is room for 256 requests of 1,024 tokens, at most a quarter of the free memory. `thinking`: let the model
    reason before it answers. The reasoning is cut off, counts against `max_tokens`, and needs
    `engine_args: {reasoning_parser: ...}`, because otherwise the engine would constrain the reasoning. Choices are scored
    without it. `sleep_mode`: the accelerator can be handed to the student. `engine_args`: other arguments of vLLM's
    AsyncEngineArgs.
    """

    name: ClassVar[str] = "vllm"

    model: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Count = 512
    thinking: bool = False
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    max_model_len: Count | None = None
    structured_outputs_backend: Literal["auto", "xgrammar", "guidance"] = "auto"
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    tensor_parallel_size: Count = field(default=1, metadata=NOT_IDENTITY)
    pipeline_parallel_size: Count = field(default=1, metadata=NOT_IDENTITY)
    data_parallel_size: Count = field(default=1, metadata=NOT_IDENTITY)
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = field(default=0.9, metadata=NOT_IDENTITY)
    kv_cache_gib: Annotated[float, Field(gt=0)] | None = field(default=None, metadata=NOT_IDENTITY)
    max_num_seqs: Count | None = field(default=None, metadata=NOT_IDENTITY)
    window: Count | None = field(default=None, metadata=NOT_IDENTITY)
    enforce_eager: bool = field(default=False, metadata=NOT_IDENTITY)
    sleep_mode: bool = field(default=True, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        for key in self.engine_args:
            if key == "trust_remote_code":
                raise ValueError(
                    "engine_args.trust_remote_code: a model that brings its own code is not run; choose another"
                )
            if key in OWNED:
                raise ValueError(f"engine_args.{key}: set teacher.{OWNED[key]} instead")
        if secrets := list(secret_settings(self.engine_args, "engine_args", entropy=False)):
            # The value is not quoted: a recipe is published with its rounds.
            raise ValueError(f"{secrets[0][0]}: a secret has no place in a recipe; export it, a Hub token as HF_TOKEN")
        if self.thinking and not self.engine_args.get("reasoning_parser"):
            raise ValueError(
                "thinking: needs engine_args.reasoning_parser, e.g. qwen3: without it the reasoning would be constrained"
            )

    @property
    def base_model(self) -> ModelReference:
        return ModelReference(self.model, self.revision)

    @property
    def backend(self) -> str:
        """The structured output backend, "auto" resolved."""
        return AUTO_BACKEND if self.structured_outputs_backend == "auto" else self.structured_outputs_backend

    def lacks(self) -> list[str]:
        return missing_packages("vllm")

    def identity(self) -> Mapping[str, Any]:
        settings = {key: value for key, value in identity(self).items() if key not in ("model", "revision")}
        return {
            **find_model(self.base_model, "teacher", TeacherError).identity,
            **settings,
            "structured_outputs_backend": self.backend,
            "engine_args": without_folders(self.engine_args),
        }

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        """Open the engine; this takes half a minute for the smallest model.

        Raises TeacherError when it does not start, RecipeError for wrong `engine_args`. The calling program needs
        `if __name__ == "__main__":`, because the engine's processes import its main module.
        """
        model = await asyncio.to_thread(find_model, self.base_model, "teacher", TeacherError)
        thread = EngineThread(self, model, log)
        engine: VLLMEngine | None = None
        try:
            engine = await thread.start()
            yield engine
        finally:
            if engine is not None:
                engine.close()
            await thread.stop()
