"""Engine arguments: from the settings of a recipe to vLLM's AsyncEngineArgs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from evokd_data.errors import RecipeError
from evokd_data.models import Model
from evokd_data.registry import nearest
from evokd_data.teachers.vllm.names import version

if TYPE_CHECKING:
    from evokd_data.teachers.vllm.plug import VLLM

CPU_CACHE_TOKENS = 256 * 1024
CPU_BLOCK = 32
"""Tokens of a block, of which the prefix cache holds whole ones alone. vLLM's 128 on a CPU computes half of that again on average, for each prompt and
for each step of a label; 32 is the least that its kernels allow."""
RESERVED_CORES = "VLLM_CPU_NUM_OF_RESERVED_CPU"
FEW_CORES, WIDE = 4, 512
"""On a machine with at most so many cores, and for a model of at least this hidden size, the engine computes on every core."""

OWNED = {
    "model": "model",
    "tokenizer": "model",
    "revision": "revision",
    "tokenizer_revision": "revision",
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "data_parallel_size": "data_parallel_size",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "quantization": "quantization",
    "enforce_eager": "enforce_eager",
    "max_num_seqs": "max_num_seqs",
    "kv_cache_memory_bytes": "kv_cache_gib",
    "structured_outputs_config": "structured_outputs_backend",
    "enable_sleep_mode": "sleep_mode",
}
"""Engine argument -> the setting of the recipe that decides it. `engine_args` may not contain these arguments."""


def engine_arguments(teacher: VLLM, model: Model, names: SimpleNamespace) -> dict[str, Any]:
    """Keyword arguments of AsyncEngineArgs. Raises RecipeError for `engine_args` that the installed vLLM does not have."""
    valid = {field.name for field in dataclasses.fields(names.AsyncEngineArgs)}
    problems = [
        f"teacher.engine_args.{key}: vLLM {version()} has no such argument{nearest(key, valid)}"
        for key in teacher.engine_args
        if key not in valid
    ]
    if problems:
        raise RecipeError(*problems)
    arguments: dict[str, Any] = {
        "model": model.source,
        "revision": model.commit,
        "tokenizer_revision": model.commit,
        "dtype": teacher.dtype,
        "quantization": teacher.quantization,
        "max_model_len": teacher.max_model_len,
        "max_num_seqs": teacher.max_num_seqs,
        "tensor_parallel_size": teacher.tensor_parallel_size,
        "pipeline_parallel_size": teacher.pipeline_parallel_size,
        "data_parallel_size": teacher.data_parallel_size,
        "gpu_memory_utilization": teacher.gpu_memory_utilization,
        "enforce_eager": teacher.enforce_eager,
        "structured_outputs_config": {"backend": teacher.backend, "disable_any_whitespace": True},
        "generation_config": "vllm",  # the recipe's sampling, not defaults that come with the model
        "disable_log_stats": True,
        "seed": 0,
    }
    if teacher.kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(teacher.kv_cache_gib * 2**30)
    if names.current_platform.is_cpu():
        arguments["enforce_eager"] = True  # compiling costs more time than it saves, and needs a compiler
        # A seeded request whose prompt is only partly prefilled kills the CPU engine.
        arguments["enable_chunked_prefill"] = False
        arguments["block_size"] = CPU_BLOCK
    elif teacher.sleep_mode and names.current_platform.is_sleep_mode_available():
        arguments["enable_sleep_mode"] = True
    return {key: value for key, value in arguments.items() if value is not None} | dict(teacher.engine_args)


def cpu_cache_bytes(config: Any) -> int:
    """The size of the KV cache on a CPU, given vLLM's ModelConfig.

    By default vLLM takes nine tenths of the machine's memory, and filling 4 GiB with zeros can take 20 seconds.
    """
    import psutil

    model = config.hf_text_config
    heads = getattr(model, "num_key_value_heads", None) or model.num_attention_heads
    size = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    bytes_per_token = 2 * 2 * model.num_hidden_layers * heads * size  # keys and values, two bytes each
    cache = bytes_per_token * max(CPU_CACHE_TOKENS, config.max_model_len)
    return int(max(64 * 2**20, min(cache, psutil.virtual_memory().available / 4)))


def cpu_environment(config: Any) -> dict[str, str]:
    """The variables with which an engine on a CPU is faster, given vLLM's ModelConfig. The user's own values go before them.

    vLLM leaves one core free for its scheduler, which on two cores is half of the machine. With both, models of 0.5 and 1.5 billion
    parameters label 1.7 and 1.9 times as fast and write 1.3 and 1.7 times as fast. A model of 3.5 million gains nothing.
    """
    import psutil

    threads = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads
    cores = allowed * (psutil.cpu_count(logical=False) or threads) // threads
    if cores > FEW_CORES or getattr(config.hf_text_config, "hidden_size", WIDE) < WIDE:
        return {}
    return {RESERVED_CORES: os.environ.get(RESERVED_CORES, "0")}


def without_folders(value: Any) -> Any:
    """`value` with only the last component of every path, because the folders above it belong to this machine."""
    if isinstance(value, Mapping):
        return {str(key): without_folders(item) for key, item in value.items() if key != "download_dir"}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value
