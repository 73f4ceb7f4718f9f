"""The teacher as a vLLM engine of this process: the only file that knows vLLM's names.

One thread owns the engine. It imports vLLM, starts the engine's processes, waits, and ends them again: the event loop
never stands still for it, and the kernel ties the processes to a thread that lives as long as they should
(`orphans.py`). Nothing vLLM or its processes print reaches the terminal; it all goes to the log.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import json
import os
import re
import tempfile
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal, TextIO

from pydantic import Field

from evokd_data.errors import EngineStopped, RecipeError, TeacherError
from evokd_data.models import Model, ModelReference, find_model
from evokd_data.records import Completion, Constraint, Prompt
from evokd_data.registry import nearest
from evokd_data.settings import NOT_IDENTITY, Count, identity
from evokd_data.teachers import Engine, Teacher, logs
from evokd_data.teachers.answers import without_thoughts
from evokd_data.teachers.chat import Chat
from evokd_data.teachers.logs import LINE, one_line, said, tail
from evokd_data.teachers.orphans import DRIVER
from evokd_data.teachers.scoring import first_tokens, renormalised
from evokd_data.teachers.spawning import ENGINE_LOG, Spawning

CPU_CACHE_TOKENS = 256 * 1024
# With the quickstart's teacher both gave 280 of 280 valid answers; a label costs 0.6 ms of CPU with xgrammar and 2.4 ms
# with guidance. Guidance is stricter: of a model of random weights it lets no control character into a string.
AUTO_BACKEND = "xgrammar"

# What vLLM calls the things used here, with the members used. Looked up one by one at start, so that another version
# fails with a name.
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
    "StructuredOutputsParams": ("vllm.sampling_params", ("json", "choice", "grammar")),
    "RequestOutputKind": ("vllm.sampling_params", ("FINAL_ONLY",)),
    "MAX_LOGPROB_TOKEN_IDS": ("vllm.sampling_params", ()),
    "tokens_input": ("vllm.inputs.engine", ()),
    "VLLMError": ("vllm.exceptions", ()),
    "VLLM_BATCH_INVARIANT": ("vllm.envs", ()),
    "current_platform": ("vllm.platforms", ("is_cpu", "is_sleep_mode_available", "get_device_name")),
}

VARIABLES = ("VLLM_BATCH_INVARIANT", "VLLM_CPU_OMP_THREADS_BIND", "HF_HUB_OFFLINE")
"""What an engine elsewhere must find in its environment as one here does. Tokens are not among them: machines log in for
themselves. Several engines on one machine without a GPU all bind to its first cores unless the second is `nobind`."""

# Engine arguments with a setting of ours, or that must stay as they are.
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

MOST_CHECKED = 256  # constraints; a grammar made for one text is never met again

SECRET = re.compile(r"(^|_)(token|key|password|secret)$")


@dataclass(frozen=True)
class VLLM(Teacher):
    """`model` is a Hub id or a folder. `temperature`, `top_p` and `max_tokens` are for what it writes.

    `window`: requests in flight; None follows the engine. `kv_cache_gib`: None leaves it to vLLM on an accelerator; on a
    CPU it is room for 256 requests of 1,024 tokens, at most a quarter of the free memory. `thinking`: let the model
    reason before it answers; the reasoning is cut off, counts against `max_tokens`, and needs
    `engine_args: {reasoning_parser: ...}`, for the engine would constrain the thoughts otherwise. Choices are scored
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
        if secrets := list(_secrets(self.engine_args, "engine_args")):
            # The value is not repeated: a recipe is published with its rounds.
            raise ValueError(f"{secrets[0]}: a secret has no place in a recipe; export it, a Hub token as HF_TOKEN")
        if self.thinking and not self.engine_args.get("reasoning_parser"):
            raise ValueError(
                "thinking: needs engine_args.reasoning_parser, e.g. qwen3: without it the thoughts would be constrained"
            )

    @property
    def base_model(self) -> ModelReference:
        return ModelReference(self.model, self.revision)

    @property
    def backend(self) -> str:
        """The structured output backend, "auto" resolved."""
        return AUTO_BACKEND if self.structured_outputs_backend == "auto" else self.structured_outputs_backend

    def identity(self) -> Mapping[str, Any]:
        own = {key: value for key, value in identity(self).items() if key not in ("model", "revision")}
        return {
            **find_model(self.base_model, "teacher", TeacherError).identity,
            **own,
            "structured_outputs_backend": self.backend,
            "engine_args": _without_places(self.engine_args),
        }

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        """Start takes half a minute for the smallest model. Raises TeacherError, RecipeError for wrong `engine_args`.

        The calling program needs `if __name__ == "__main__":`, for the engine's processes import its main module.
        """
        model = await asyncio.to_thread(find_model, self.base_model, "teacher", TeacherError)
        owner = _Owner(self, model, log)
        engine: VLLMEngine | None = None
        try:
            engine = await owner.start()
            yield engine
        finally:
            if engine is not None:
                engine.close()
            await owner.stop()


class VLLMEngine:
    """An open engine; see `teachers.Engine`. Made by `_Owner`, on whose thread the processes hang."""

    def __init__(
        self, teacher: VLLM, llm: Any, names: SimpleNamespace, log: Path, arguments: Mapping[str, Any]
    ) -> None:
        config = llm.vllm_config
        self._teacher = teacher
        self._llm: Any | None = llm
        self._names = names
        self._log = log
        self._since = log.stat().st_size  # an older run may have written to the same file
        self._arguments = dict(arguments)
        self._max_model_len: int = config.model_config.max_model_len
        self._tokenizer = llm.get_tokenizer()
        self._chat = Chat(self._tokenizer, teacher.model)
        self._sleeps = bool(self._arguments.get("enable_sleep_mode"))
        self._codes: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._checked: dict[tuple[str, Any] | None, Any] = {}  # as vLLM left them: choices have become a grammar
        seats = config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size
        # A seat that falls free is taken at once only when a request already waits for it inside the engine.
        self.window: int = teacher.window or seats + max(1, seats // 8)

    async def complete(self, prompt: Prompt) -> Completion:
        """See `teachers.Engine`. `finish_reason` "error" marks the rare request that the engine gave up on alone."""
        scored = prompt.constraint is not None and prompt.constraint.score
        ids = self._chat.encode(prompt.messages, self._teacher.thinking and not scored)
        room = self._max_model_len - len(ids)
        if room < 1:
            return Completion("", "too_long", len(ids), 0)
        if scored:
            return await self._score(prompt, ids)
        sampling = prompt.sampling
        constraint = _structured(prompt.constraint)
        checked = self._checked.get(constraint)
        parameters = (self._names.CheckedParams if checked else self._names.SamplingParams)(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, room),
            seed=prompt.seed,
            structured_outputs=checked or self._constrained(constraint),
            output_kind=self._names.RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
            # vLLM decodes each token as it comes, in this process, for every request in flight at every step.
            detokenize=not self._chat.decodes,
        )
        answer = await self._generate(prompt, ids, parameters)
        if constraint is not None and not checked:
            if len(self._checked) >= MOST_CHECKED:
                self._checked.clear()
            self._checked[constraint] = parameters.structured_outputs
        written = self._text(ids, answer) if self._chat.decodes else answer.text
        reason = answer.finish_reason if answer.finish_reason in ("stop", "length") else "error"
        return Completion(without_thoughts(written, self._teacher.thinking), reason, len(ids), len(answer.token_ids))

    def _text(self, ids: Sequence[int], answer: Any) -> str:
        # The token that ended the answer is no part of it, special or not.
        return self._chat.text(ids, answer.token_ids[:-1] if answer.finish_reason == "stop" else answer.token_ids)

    async def _score(self, prompt: Prompt, ids: Sequence[int]) -> Completion:
        """One output token. The log-probabilities are the model's own, at temperature 1 and before any mask."""
        assert prompt.constraint is not None and prompt.constraint.choices
        choices = prompt.constraint.choices
        codes = self._first_tokens(choices)
        most = self._names.MAX_LOGPROB_TOKEN_IDS
        sampling = prompt.sampling

        async def ask(scored: Sequence[int]) -> Any:
            parameters = self._names.SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=1,
                seed=prompt.seed,
                allowed_token_ids=list(codes),
                logprob_token_ids=list(scored),
                output_kind=self._names.RequestOutputKind.FINAL_ONLY,
                skip_clone=True,
                detokenize=False,
            )
            return await self._generate(prompt, ids, parameters)

        # More choices than one request may score: the same prompt again, mostly from the prefix cache.
        answers = await asyncio.gather(*(ask(codes[start : start + most]) for start in range(0, len(codes), most)))
        raw: dict[int, float] = {}
        for answer in answers:
            if answer.logprobs:
                raw |= {code: answer.logprobs[0][code].logprob for code in codes if code in answer.logprobs[0]}
        if len(raw) < len(codes) or not answers[0].token_ids:
            return Completion("", "error", len(ids), len(answers[0].token_ids))
        scores = renormalised(choices, [raw[code] for code in codes])
        text = choices[codes.index(answers[0].token_ids[0])]
        return Completion(text, "stop", len(ids), 1, scores)

    def _first_tokens(self, choices: tuple[str, ...]) -> tuple[int, ...]:
        if choices not in self._codes:
            self._codes[choices] = first_tokens(choices, [self._chat.tokens(choice) for choice in choices])
        return self._codes[choices]

    def _constrained(self, constraint: tuple[str, Any] | None) -> Any:
        if constraint is None:
            return None
        kind, value = constraint
        return self._names.StructuredOutputsParams(**{kind: list(value) if kind == "choice" else value})

    async def _generate(self, prompt: Prompt, ids: Sequence[int], parameters: Any) -> Any:
        """vLLM's CompletionOutput. Cancelling the coroutine aborts the request inside the engine."""
        if self._llm is None:
            raise TeacherError("the teacher is closed")
        last = None
        try:
            async for output in self._llm.generate(self._names.tokens_input(list(ids)), parameters, prompt.key):
                last = output
        except self._names.VLLMError as error:
            if self._llm.errored:
                raise self._gone() from error
            raise TeacherError(
                f"vLLM refused {prompt.key}: {said(error.__cause__ or error)}; its log: {self._log}"
            ) from error
        if last is None or (last.outputs[0].finish_reason == "abort" and self._llm.errored):
            raise self._gone()
        return last.outputs[0]

    def _gone(self) -> EngineStopped:
        found = last_error(self._log, self._since) or "a process of it ended without a word, as if killed"
        return EngineStopped(f"the teacher's engine stopped: {found}; its log: {self._log}")

    async def sleep(self) -> None:
        """Weights to main memory, KV cache dropped. Nothing on a CPU, or without `sleep_mode`."""
        if self._sleeps and self._llm is not None:
            await self._llm.sleep(level=1)

    async def wake(self) -> None:
        if self._sleeps and self._llm is not None:
            await self._llm.wake_up()

    def environment(self) -> Mapping[str, Any]:
        assert self._llm is not None
        import torch

        config = self._llm.vllm_config
        platform = self._names.current_platform
        return {
            "engine": "vllm",
            "vllm": version(),
            "torch": str(torch.__version__),
            "device": platform.get_device_name(),
            "devices": config.parallel_config.world_size_across_dp,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "max_model_len": self._max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "structured_outputs_backend": self._teacher.backend,
            "window": self.window,
            "batch_invariant": self._names.VLLM_BATCH_INVARIANT,
            "engine_args": _without_places({key: value for key, value in self._arguments.items() if key != "model"}),
        }

    def close(self) -> None:
        self._llm = None


def _structured(constraint: Constraint | None) -> tuple[str, Any] | None:
    """vLLM's name for a constraint and its value, alike for constraints that are."""
    if constraint is None:
        return None
    if constraint.json_schema is not None:
        return "json", json.dumps(constraint.json_schema)
    if constraint.choices is not None:
        return "choice", constraint.choices
    return "grammar", constraint.grammar


def _secrets(value: Any, path: str) -> Iterator[str]:
    """Where strings stand that only their owner may know."""
    for key, item in value.items() if isinstance(value, Mapping) else ():
        if isinstance(item, str) and SECRET.search(str(key).lower()):
            yield f"{path}.{key}"
        yield from _secrets(item, f"{path}.{key}")


def _without_places(value: Any) -> Any:
    """Of a path the last part: the folders above it are this machine's."""
    if isinstance(value, Mapping):
        return {str(key): _without_places(item) for key, item in value.items() if key != "download_dir"}
    if isinstance(value, list | tuple):
        return [_without_places(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def version() -> str:
    """The installed vLLM's version. Raises TeacherError when there is none."""
    for distribution in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    raise TeacherError(
        "the engine 'vllm' is not installed; with an accelerator run: pip install 'evokd-data[vllm]'; "
        "without one: pip install -r requirements/cpu.txt"
    )


def _names() -> SimpleNamespace:
    found: dict[str, Any] = {}
    installed = version()
    for name, (module, members) in NAMES.items():
        try:
            found[name] = getattr(import_module(module), name)
            for member in members:
                getattr(found[name], member)
        except (ImportError, AttributeError) as error:
            raise TeacherError(
                f"vLLM {installed} does not work here: {module}.{name}: {one_line(str(error))}; "
                "this version of evokd-data is made for vllm>=0.32,<0.33"
            ) from error

    parameters: Any = found["SamplingParams"]

    class CheckedParams(parameters):
        """Of a constraint that has been answered under: to check it, vLLM would parse its grammar for each request."""

        def verify(self, *_: Any) -> None:
            pass

    return SimpleNamespace(**found, CheckedParams=CheckedParams)


class _Owner:
    """The thread that starts the engine, keeps it and ends it."""

    # What the engine's processes get to end by themselves. They hold nothing that must be written; an accelerator's
    # memory is better handed back than taken, and a worker on a CPU does not end by itself in any time.
    STOP_S = 5.0
    STOP_CPU_S = 0.5

    def __init__(self, teacher: VLLM, model: Model, log: Path) -> None:
        self._teacher = teacher
        self._model = model
        self._log = log.absolute()
        self._thread = threading.Thread(target=self._run, name="evokd-teacher", daemon=True)
        self._spawning = Spawning()
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[tuple[Any, SimpleNamespace, dict[str, Any]]] | None = None
        self._llm: Any | None = None
        self._since = 0

    async def start(self) -> VLLMEngine:
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        atexit.register(self._at_exit)
        self._thread.start()
        llm, names, arguments = await self._ready
        return VLLMEngine(self._teacher, llm, names, self._log, arguments)

    async def stop(self) -> None:
        """Ends the engine, also one that is still starting; some seconds at most."""
        self._ending.set()
        self._spawning.stop()
        handler = getattr(self._llm, "output_handler", None)
        cancelled = False
        while self._thread.is_alive():
            if self._llm is None:
                self._spawning.kill()
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                cancelled = True  # once the processes are gone
        self._llm = None
        if handler is not None:
            handler.cancel()
            await asyncio.gather(handler, return_exceptions=True)
        atexit.unregister(self._at_exit)
        if cancelled:
            raise asyncio.CancelledError

    def _at_exit(self) -> None:
        """The program ends without leaving the `with` block: multiprocessing would wait for the engine for ever."""
        self._ending.set()
        self._spawning.stop()
        deadline = time.monotonic() + 2 * self.STOP_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            if self._llm is None:
                self._spawning.kill()
            self._thread.join(0.05)
        self._spawning.kill()

    def _run(self) -> None:
        with self._log.open("a", encoding="utf-8", buffering=1) as log, tempfile.TemporaryDirectory() as scratch:
            self._since = log.tell()
            try:
                with _environment(self._log, Path(scratch)), _quiet(log, self._log), self._spawning.watched():
                    names = _names()
                    arguments = self._arguments(names)
                    print(f"evokd-data: vLLM {version()}, {arguments}", file=log)
                    self._llm = llm = self._open(names, arguments)
            except BaseException as error:
                traceback.print_exception(error, file=log)
                self._spawning.kill()
                self._tell(error if isinstance(error, TeacherError | RecipeError) else self._explained(error))
                return
            self._tell((llm, names, arguments))
            self._ending.wait()
            with _quiet(log, self._log):
                llm.shutdown(timeout=self.STOP_CPU_S if names.current_platform.is_cpu() else self.STOP_S)
                self._spawning.kill()
            # The interpreter's last collection would run vLLM's own clean-up on half-dismantled modules.
            llm.shutdown = lambda timeout=None: None

    def _open(self, names: SimpleNamespace, arguments: Mapping[str, Any]) -> Any:
        """AsyncLLM; its tasks begin on the loop that asks it first."""
        made = names.AsyncEngineArgs(**arguments)
        if names.current_platform.is_cpu() and made.kv_cache_memory_bytes is None:
            made.kv_cache_memory_bytes = _cpu_cache_bytes(made.create_model_config())
        return names.AsyncLLM.from_engine_args(made, usage_context=names.UsageContext.LLM_CLASS)

    def _tell(self, outcome: Any) -> None:
        def deliver() -> None:
            assert self._ready is not None
            if self._ready.done():
                return
            if isinstance(outcome, BaseException):
                self._ready.set_exception(outcome)
            else:
                self._ready.set_result(outcome)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(deliver)

    def _arguments(self, names: SimpleNamespace) -> dict[str, Any]:
        teacher = self._teacher
        known = {field.name for field in dataclasses.fields(names.AsyncEngineArgs)}
        problems = [
            f"teacher.engine_args.{key}: vLLM {version()} has no such argument{nearest(key, known)}"
            for key in teacher.engine_args
            if key not in known
        ]
        if problems:
            raise RecipeError(*problems)
        arguments: dict[str, Any] = {
            "model": self._model.source,
            "revision": self._model.commit,
            "tokenizer_revision": self._model.commit,
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
            arguments["enforce_eager"] = True  # compiling costs more than it gives, and needs a compiler
            os.environ["TORCHDYNAMO_DISABLE"] = "1"  # else the first scored choice is compiled for, all the same
            # A seeded request whose prompt is only partly prefilled kills the CPU engine.
            arguments["enable_chunked_prefill"] = False
        elif teacher.sleep_mode and names.current_platform.is_sleep_mode_available():
            arguments["enable_sleep_mode"] = True
        return {key: value for key, value in arguments.items() if value is not None} | dict(teacher.engine_args)

    def _explained(self, error: BaseException) -> TeacherError:
        if self._ending.is_set():
            return TeacherError("the teacher was stopped while it started")
        found = last_error(self._log, self._since) if ECHOES.search(str(error)) else said(error)
        if any("freeze_support" in line for line in tail(self._log, self._since)):
            found = 'the program that opens it has no `if __name__ == "__main__":`, and engine processes import it'
        elif "': -9" in str(error):
            found = "the system killed a process of it, most likely for want of memory"
        elif not found:
            found = one_line(tail(self._log, self._since)[-1])
        return TeacherError(f"the teacher {self._teacher.model!r} did not start: {found}; its log: {self._log}")


@contextlib.contextmanager
def _environment(log: Path, scratch: Path) -> Iterator[None]:
    """The variables vLLM reads, for the time of the start; its processes inherit them."""
    file = {"class": "logging.FileHandler", "filename": str(log), "formatter": "line"}
    config = scratch / "logging.json"
    config.write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"line": {"format": LINE}},
                "handlers": {"file": file},
                "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
            }
        ),
        encoding="utf-8",
    )
    before = dict(os.environ)
    os.environ.update(
        {
            "VLLM_LOGGING_CONFIG_PATH": str(config),
            "VLLM_CONFIGURE_LOGGING": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "GOMP_SPINCOUNT": "0",  # waiting threads leave the cores to this process
            DRIVER: str(os.getpid()),
            ENGINE_LOG: str(log),
        }
    )
    try:
        yield
    finally:
        # vLLM itself adds to it (LD_PRELOAD, for one), which is nothing for the processes the student starts.
        for key in set(os.environ) - set(before):
            del os.environ[key]
        os.environ.update({key: value for key, value in before.items() if os.environ.get(key) != value})


def _cpu_cache_bytes(config: Any) -> int:
    """Left to itself, vLLM takes nine tenths of a machine's memory; and filling 4 GiB with zeros can take 20 seconds."""
    import psutil

    model = config.hf_text_config
    heads = getattr(model, "num_key_value_heads", None) or model.num_attention_heads
    size = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    token = 2 * 2 * model.num_hidden_layers * heads * size  # keys and values, two bytes each
    wanted = token * max(CPU_CACHE_TOKENS, config.max_model_len)
    return int(max(64 * 2**20, min(wanted, psutil.virtual_memory().available / 4)))


# Lines that say that something failed elsewhere, not what.
ECHOES = re.compile(
    r"See root cause above|Engine core initialization failed|WorkerProc initialization failed|EngineDeadError"
)


def last_error(log: Path, since: int = 0) -> str:
    """See `logs.last_error`."""
    return logs.last_error(log, since, ECHOES)


def _quiet(log: TextIO, path: Path) -> contextlib.AbstractContextManager[None]:
    import_module("transformers.utils.logging").get_logger("transformers")  # puts its own handler there, once
    # vLLM's requests are logged, too.
    return logs.quiet(log, path, ("transformers", "huggingface_hub"), for_good=("vllm",))
