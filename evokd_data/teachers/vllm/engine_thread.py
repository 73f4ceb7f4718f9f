"""The thread that starts the engine's processes, waits, and ends them.

A thread of its own, so that the event loop never stands still for vLLM, and because the kernel ties the processes to the
thread that started them (`orphans.py`): it lives exactly as long as they should. Nothing that vLLM or its processes print
reaches the terminal; it all goes to the log.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from evokd_data.errors import RecipeError, TeacherError
from evokd_data.models import Model
from evokd_data.scratch import scratch_folder
from evokd_data.teachers.vllm.arguments import cpu_cache_bytes, cpu_environment, engine_arguments
from evokd_data.teachers.vllm.engine import VLLMEngine
from evokd_data.teachers.vllm.names import load_names, version
from evokd_data.teachers.vllm.processes import EngineProcesses
from evokd_data.teachers.vllm.startup import redirect_output, start_error, startup_environment

if TYPE_CHECKING:
    from evokd_data.teachers.vllm.plug import VLLM

# Seconds in which the engine's processes may end by themselves. They hold nothing that must be written. An accelerator's
# memory is better handed back than taken; a worker on a CPU does not end by itself in any time.
STOP_S = 5.0
STOP_CPU_S = 0.5


class EngineThread:
    """Starts one engine with `start` and ends it with `stop`, both from the event loop."""

    def __init__(self, teacher: VLLM, model: Model, log: Path) -> None:
        self._teacher = teacher
        self._model = model
        self._log = log.absolute()
        self._log_offset = 0
        self._thread = threading.Thread(target=self._run, name="evokd-teacher", daemon=True)
        self._processes = EngineProcesses()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[tuple[Any, SimpleNamespace, dict[str, Any]]] | None = None
        self._llm: Any | None = None

    async def start(self) -> VLLMEngine:
        """The open engine. Raises TeacherError when it does not start, RecipeError for wrong `engine_args`."""
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        atexit.register(self._at_exit)
        self._thread.start()
        llm, names, arguments = await self._ready
        return VLLMEngine(self._teacher, llm, names, self._log, arguments)

    async def stop(self) -> None:
        """End the engine, also one that is still starting; takes some seconds at most."""
        self._stopping.set()
        self._processes.refuse_new()
        handler = getattr(self._llm, "output_handler", None)
        cancelled = False
        while self._thread.is_alive():
            if self._llm is None:
                self._processes.kill()
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                cancelled = True  # is raised below, once the processes are gone
        self._llm = None
        if handler is not None:
            handler.cancel()
            await asyncio.gather(handler, return_exceptions=True)
        atexit.unregister(self._at_exit)
        if cancelled:
            raise asyncio.CancelledError

    def _at_exit(self) -> None:
        """For a program that ends without leaving the `with` block: multiprocessing would wait for the engine for ever."""
        self._stopping.set()
        self._processes.refuse_new()
        deadline = time.monotonic() + 2 * STOP_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            if self._llm is None:
                self._processes.kill()
            self._thread.join(0.05)
        self._processes.kill()

    def _run(self) -> None:
        with self._log.open("a", encoding="utf-8", buffering=1) as log, scratch_folder("engine") as scratch:
            self._log_offset = log.tell()
            try:
                with (
                    startup_environment(self._log, scratch),
                    redirect_output(log, self._log),
                    self._processes.recording(),
                ):
                    names = load_names()
                    arguments = engine_arguments(self._teacher, self._model, names)
                    print(f"evokd-data: vLLM {version()}, {arguments}", file=log)
                    self._llm = llm = _open(names, arguments)
            except BaseException as error:
                traceback.print_exception(error, file=log)
                self._processes.kill()
                self._report(self._explain(error))
                return
            self._report((llm, names, arguments))
            self._stopping.wait()
            with redirect_output(log, self._log):
                llm.shutdown(timeout=STOP_CPU_S if names.current_platform.is_cpu() else STOP_S)
                self._processes.kill()
            # Without this, the interpreter's last garbage collection would run vLLM's clean-up on half-removed modules.
            llm.shutdown = lambda timeout=None: None

    def _report(self, outcome: tuple[Any, SimpleNamespace, dict[str, Any]] | BaseException) -> None:
        """Give the event loop the open engine, or the error."""

        def resolve() -> None:
            assert self._ready is not None
            if self._ready.done():
                return
            if isinstance(outcome, BaseException):
                self._ready.set_exception(outcome)
            else:
                self._ready.set_result(outcome)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            self._loop.call_soon_threadsafe(resolve)

    def _explain(self, error: BaseException) -> TeacherError | RecipeError:
        if isinstance(error, TeacherError | RecipeError):
            return error
        if self._stopping.is_set():
            return TeacherError("the teacher was stopped while it started")
        return start_error(error, self._teacher.model, self._log, self._log_offset)


def _open(names: SimpleNamespace, arguments: Mapping[str, Any]) -> Any:
    """vLLM's AsyncLLM. Its tasks begin on the event loop that asks it first."""
    on_cpu = names.current_platform.is_cpu()
    if on_cpu:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # otherwise code is compiled for the first scored choice all the same
    # Not the dict that the round's facts have: with a reasoning parser vLLM 0.32 writes into it as it is.
    outputs = names.StructuredOutputsConfig(**arguments["structured_outputs_config"])
    engine_args = names.AsyncEngineArgs(**{**arguments, "structured_outputs_config": outputs})
    if on_cpu:
        config = engine_args.create_model_config()
        if engine_args.kv_cache_memory_bytes is None:
            engine_args.kv_cache_memory_bytes = cpu_cache_bytes(config)
        os.environ.update(cpu_environment(config))
    return names.AsyncLLM.from_engine_args(engine_args, usage_context=names.UsageContext.LLM_CLASS)
