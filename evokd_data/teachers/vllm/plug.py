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
    """An engine of vLLM in this process."""

    name: ClassVar[str] = "vllm"

    model: Annotated[str, Field(min_length=1)]
    """A model on the Hub (ORG/NAME), a folder (./model), or a GGUF file (./model.gguf). Instruction-tuned, with a chat
    template."""
    revision: str | None = None
    """The branch, tag or commit of a model on the Hub. Give a commit for an experiment that lasts."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How random the texts are that the teacher writes. 0 is greedy: then texts repeat themselves. Labels are not
    sampled by it."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample from the likeliest tokens that together have this probability. 1: from all tokens."""
    max_tokens: Count = 512
    """The most tokens of one answer that writes texts. Increase it when texts are long or answers are cut off."""
    thinking: bool = False
    """Let the model reason before it answers. The reasoning is cut off, counts against `max_tokens`, and needs
    `engine_args: {reasoning_parser: ...}`, because otherwise the engine would constrain the reasoning. Labels are
    scored without it."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """The number format of weights and computation. `auto`: as the model says."""
    quantization: str | None = None
    """How the weights are quantized, as vLLM calls it. By default what the model's own configuration says."""
    max_model_len: Count | None = None
    """The most tokens of a prompt and its answer. By default the model's own limit; a smaller one needs less memory."""
    structured_outputs_backend: Literal["auto", "xgrammar", "guidance"] = "auto"
    """What keeps answers in their form. `auto` is xgrammar. `guidance` is slower and stricter."""
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """Other arguments of vLLM's AsyncEngineArgs, by their names there."""
    tensor_parallel_size: Count = field(default=1, metadata=NOT_IDENTITY)
    """GPUs that share each layer of one engine. Increase it when the model does not fit on one GPU."""
    pipeline_parallel_size: Count = field(default=1, metadata=NOT_IDENTITY)
    """GPUs among which the layers of one engine are divided."""
    data_parallel_size: Count = field(default=1, metadata=NOT_IDENTITY)
    """Copies of the model in one engine, each on GPUs of its own."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = field(default=0.9, metadata=NOT_IDENTITY)
    """The share of a GPU's memory that the engine takes. Decrease it when other programs use the GPU."""
    kv_cache_gib: Annotated[float, Field(gt=0)] | None = field(default=None, metadata=NOT_IDENTITY)
    """Memory for the KV cache, in GiB. By default vLLM decides on a GPU; on a CPU it is room for 256 requests of 1,024
    tokens, at most a quarter of the free memory."""
    max_num_seqs: Count | None = field(default=None, metadata=NOT_IDENTITY)
    """The most requests that the engine works on at once. By default vLLM decides."""
    window: Count | None = field(default=None, metadata=NOT_IDENTITY)
    """The most requests in flight between us and the engine. By default the engine decides."""
    enforce_eager: bool = field(default=False, metadata=NOT_IDENTITY)
    """Do not compile CUDA graphs: a faster start, slower answers. On a CPU it is always so."""
    sleep_mode: bool = field(default=True, metadata=NOT_IDENTITY)
    """Let the engine give the GPU's memory to the student while it trains. Turn it off when teacher and student have
    GPUs of their own."""

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
