"""The teacher as vLLM engines of a Ray cluster, one in each worker: many GPUs, many machines.

    teacher:
      engine: ray
      model: Qwen/Qwen3-8B
      revision: ...
      workers: 16                 # engines; each has tensor_parallel_size x ... GPUs of one machine
      address: auto               # of the cluster this machine belongs to; null starts Ray on this machine alone

Everything but the engines stays with the driver (see `fleet.py` for why that is safe): one journal, one order, the same
rows as from `engine: vllm`. Nothing else is shared, so `runs/` is a local folder here as everywhere; `--mirror` keeps a
copy of it on shared storage, from which another driver goes on (`mirror.py`). The machines need this package, vLLM and
the model: a Hub id, or a folder that lies at the same path everywhere. A worker that dies is replaced and what it was
asked is asked of others.

The actors are ours, and not Ray Data's. A row is the least that it carries, and its answers come when its last one is there;
each costs a task and a block of its own. A pipeline of Ray Data that stays open and is fed as we feed was built to see
(bench/ray_data.py, five turns, beside the same engines in our actors): two engines of 4 streams were busy 0.48 of their time
with one prompt a row, 0.87 at best, with 32, and 0.96 here; eight engines of 32 streams 0.39 with 32 prompts a row, 0.79 with
128, and 0.94 here. Larger rows would keep every answer longer from the journal, and every text from its label. What that does
not tell is how rows of a whole shard would do whose texts are written and labelled in one actor, by the strategy itself.

One driver is one process, and so its own limit: simulated, with workers of 4 streams, 64 gave 0.97 of 64 times the
throughput of one, and 512, which could have given 3,500 samples a second, 2,100 (bench/ray_scaling.py). Where that is too
little, run several recipes, each with its share of `rounds.samples` and a seed of its own; only near duplicates between
them go unseen. The machines share no folder for it, either.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evokd_data.errors import EngineStopped, EvokdError, TeacherError
from evokd_data.teachers import Engine, Teacher, models
from evokd_data.teachers.fleet import Answered, Asked, Fleet, Host, Worker
from evokd_data.teachers.vllm import HARDWARE, VARIABLES, VLLM, Count

END_S = 15.0  # for a worker to end its engine in order, before it is killed
STORE_BYTES = 128 * 2**20  # prompts and answers pass through; Ray would take a third of the memory


@dataclass(frozen=True)
class Ray(VLLM):
    """Settings as of the engine `vllm`, for each worker. `resources` of one worker, as {GPU: 2} or {CPU: 4} or names of
    your own; by default a GPU for each rank of tensor, pipeline and data parallelism where the cluster has any, else one
    CPU. `window`: requests in flight in one worker."""

    name: ClassVar[str] = "ray"

    workers: Count = field(default=1, metadata=HARDWARE)
    address: str | None = field(default=None, metadata=HARDWARE)
    resources: Mapping[str, Annotated[float, Field(ge=0)]] = field(default_factory=dict, metadata=HARDWARE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.address or "").startswith("ray://"):
            raise ValueError(
                "address: Ray's client protocol is not spoken; run on a machine of the cluster with address: auto"
            )

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Engine]:
        """The first worker is open inside the block, the others as they come. Each writes its own log, on its machine,
        named after `log`. Raises TeacherError, RecipeError for wrong `engine_args`."""
        model = await asyncio.to_thread(models.find, self.model, self.revision)
        settings = {one.name: getattr(self, one.name) for one in dataclasses.fields(VLLM)}
        # A branch may move while workers open one after the other.
        engine = VLLM(**{**settings, "revision": model.commit})
        ranks = self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size
        async with serve(engine, self.workers, log, self.address, self.resources, ranks, lean=True) as fleet:
            yield fleet


@contextlib.asynccontextmanager
async def serve(
    teacher: Teacher,
    workers: int,
    log: Path,
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    gpus: int = 0,
    lean: bool = False,
) -> AsyncIterator[Fleet]:
    """Any teacher in `workers` actors. `gpus` for each where the cluster has some and `resources` does not say; `lean`
    prompts leave behind what only a scripted teacher reads."""
    version()
    identity = await asyncio.to_thread(teacher.identity)
    with log.open("a", encoding="utf-8", buffering=1) as file:

        def note(line: str) -> None:
            print(time.strftime("%Y-%m-%dT%H:%M:%S"), line, file=file)

        started = await asyncio.to_thread(_join, address)
        try:
            options = _options(workers, dict(resources or {}), gpus)
            note(f"evokd-data: ray {version()}, {workers} workers, each {options}")

            async def hire(index: int) -> Worker:
                worker = _Remote(teacher, log.with_name(f"{log.stem}-{index}{log.suffix}"), options, lean)
                try:
                    await worker.open(identity)
                except BaseException:
                    worker.kill()
                    raise
                note(f"worker {index} is open on {worker.where}")
                return worker

            async with Fleet(hire, workers, note) as fleet:
                yield fleet
        finally:
            if started:
                import ray

                await asyncio.to_thread(ray.shutdown)


def version() -> str:
    """The installed Ray's version. Raises TeacherError when there is none."""
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise TeacherError("the engine 'ray' is not installed; run: pip install 'evokd-data[ray]'") from None


def _join(address: str | None) -> bool:
    """Whether Ray was started here, and is ours to end. Raises TeacherError when there is no such cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(address="local", include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)
    else:
        host, _, port = address.rpartition(":")
        try:
            if port.isdecimal():  # Ray itself tries for two minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise TeacherError(
                f"teacher.address: no Ray cluster at {address!r} ({' '.join(str(error).split())[:200]}); "
                "start one with `ray start --head`, or leave the address out"
            ) from error
    # Deaths of workers are our log's; Ray would print them on stdout, where results go, whatever `log_to_driver` says.
    ray._private.worker._worker_logs_enabled = False
    return True


def _options(workers: int, resources: dict[str, float], gpus: int) -> dict[str, Any]:
    """How an actor is asked for. Raises TeacherError when no machine of the cluster has what one needs."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not resources:
        resources = {"GPU": float(gpus)} if gpus and any("GPU" in machine for machine in machines) else {"CPU": 1.0}
    if not any(all(machine.get(name, 0) >= amount for name, amount in resources.items()) for machine in machines):
        most = {name: max((machine.get(name, 0) for machine in machines), default=0) for name in resources}
        raise TeacherError(
            f"teacher.resources: a worker needs {resources} on one machine, and the most that one of the "
            f"{len(machines)} machines has is {most}; ask for less, or add machines"
        )
    rest = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {
        "num_cpus": resources.get("CPU", 0),
        "num_gpus": resources.get("GPU", 0),
        **({"resources": rest} if rest else {}),
        "scheduling_strategy": "SPREAD",
        **({"runtime_env": {"env_vars": variables}} if variables else {}),
    }


class _Remote:
    """A Host in an actor, as a Worker."""

    def __init__(self, teacher: Teacher, log: Path, options: Mapping[str, Any], lean: bool) -> None:
        import ray

        self._ray = ray
        self._lean = lean
        # One call waits for answers while others bring prompts: calls must not wait for each other.
        self._actor = ray.remote(_Actor).options(max_concurrency=8, **options).remote(teacher, log.absolute())
        self.window = 0
        self.where = ""

    async def open(self, identity: Mapping[str, Any]) -> None:
        self.window, self.where = await self._call("open", dict(identity))

    async def ask(self, prompts: Sequence[Asked]) -> None:
        if self._lean:
            prompts = [(number, replace(prompt, variables={})) for number, prompt in prompts]
        await self._call("ask", prompts)

    async def answers(self) -> Sequence[Answered]:
        return await self._call("answers")

    async def sleep(self) -> None:
        await self._call("sleep")

    async def wake(self) -> None:
        await self._call("wake")

    async def environment(self) -> Mapping[str, Any]:
        return {**await self._call("environment"), "ray": version()}

    async def end(self) -> None:
        try:
            async with asyncio.timeout(END_S):
                await self._call("end")
        except (EvokdError, TimeoutError):
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        with contextlib.suppress(Exception):  # Ray itself is gone
            self._ray.kill(self._actor)

    async def _call(self, method: str, *arguments: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return await getattr(self._actor, method).remote(*arguments)
        except errors.RayTaskError as error:
            if isinstance(error.cause, EvokdError):
                raise error.cause from None
            raise EngineStopped(
                f"{type(error.cause).__name__} on {self.where or 'its machine'}: {error.cause}"
            ) from None
        except errors.RayError as error:
            said = " ".join(str(error).split())
            raise EngineStopped(f"the worker on {self.where or 'its machine'} is gone: {said[:300]}") from None


class _Actor(Host):
    """A Host that tells where it is."""

    async def open(self, identity: Mapping[str, Any]) -> tuple[int, str]:  # type: ignore[override]
        try:
            await super().open(identity)
        except EvokdError as error:
            raise type(error)(*(f"{socket.gethostname()}: {line}" for line in str(error).splitlines())) from error
        return self.window, f"{socket.gethostname()} (process {os.getpid()})"
