"""Ray, and the pipeline of Ray Data that brings rows to workers and results back, as long as the engines are open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from evokd_data.errors import EngineStopped, TeacherError
from evokd_data.teachers import Teacher
from evokd_data.teachers.orphans import killed_with_parent
from evokd_data.teachers.ray.coordinator import LOST_S, ROWS, Coordinator
from evokd_data.teachers.ray.engine import Cluster
from evokd_data.teachers.ray.worker import Result, Worker
from evokd_data.teachers.vllm import VARIABLES

END_S = 15.0  # for the workers to end their engines in order, before they are killed
STORE_BYTES = 2**30
"""Earlier rounds' shards lie there and results pass through; Ray would take a third of the memory."""


@contextlib.asynccontextmanager
async def serve(
    teacher: Teacher,
    workers: int,
    log: Path,
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    gpus: int = 0,
    lean: bool = False,
    shared: bool = False,
    lost_s: float = LOST_S,
    rows: int = ROWS,
) -> AsyncIterator[Cluster]:
    """Any teacher in `workers` actors. `gpus` for each where the cluster has some and `resources` does not say; `lean`
    prompts leave behind what only a scripted teacher reads; `shared`: parts of the journal lie where all machines
    reach them, also when there are several. `lost_s` and `rows` as of a Coordinator."""
    version()
    identity = await asyncio.to_thread(teacher.identity)
    with log.open("a", encoding="utf-8", buffering=1) as file:

        def note(line: str) -> None:
            print(time.strftime("%Y-%m-%dT%H:%M:%S"), line, file=file)

        started = await asyncio.to_thread(_join, address)
        try:
            import ray

            options = _options(workers, dict(resources or {}), gpus)
            note(f"evokd-data: ray {version()}, {workers} workers, each {options}")
            # What the run cannot do without stays on its own machine.
            here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
            actor = ray.remote(Coordinator).options(num_cpus=0, max_concurrency=100_000, label_selector=here)
            coordinator = actor.remote(workers, lost_s, rows)
            cluster = Cluster(
                _Far(coordinator),
                workers,
                note,
                share=lambda work: [ray.put(work)],  # in a list: the coordinator need not have it
                parts=shared or sum(node["Alive"] for node in ray.nodes()) == 1,
                lean=lean,
                rows=rows,
            )
            made = teacher, await asyncio.to_thread(log.absolute), dict(identity), coordinator
            listener = _listen(cluster, pipeline(coordinator, workers, rows, made, options, here))
            try:
                await cluster.open()
                yield cluster
            finally:
                await cluster.close(END_S)
                await asyncio.to_thread(listener.join, END_S)
        finally:
            if started:
                await asyncio.to_thread(ray.shutdown)


def _listen(cluster: Cluster, results: Iterable[tuple[int, Result]]) -> threading.Thread:
    """Gives the cluster what comes out of the pipeline. In a thread: to wait for it blocks."""
    loop = asyncio.get_running_loop()

    def listen() -> None:
        error = EngineStopped("the pipeline of Ray Data has ended")
        try:
            for number, result in results:
                loop.call_soon_threadsafe(cluster.take, number, result)
        except Exception as raised:
            error = EngineStopped(f"Ray Data: {type(raised).__name__}: {' '.join(str(raised).split())[:500]}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(cluster.fail, error)

    thread = threading.Thread(target=listen, name="evokd-ray-data", daemon=True)
    thread.start()
    return thread


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
    _hear_the_warning()
    return True


def _hear_the_warning() -> None:
    """Once a process Ray's core says on stderr, where no setting reaches it, that an actor may be restarted whose arguments
    lie in the object store, as those of Ray Data do. Now it has been said."""
    import ray

    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        actor = ray.remote(_Nobody).options(num_cpus=0, max_restarts=1).remote(ray.put(None))
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    ray.kill(actor)  # type: ignore[arg-type]  # Ray types what `remote` returns as one of two things


class _Nobody:
    def __init__(self, nothing: None) -> None: ...


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
        **({"runtime_env": {"env_vars": variables}} if variables else {}),
    }


def pipeline(
    coordinator: Any,
    workers: int,
    rows_each: int,
    made: tuple[Any, ...],
    options: Mapping[str, Any],
    here: Mapping[str, str],
) -> Iterator[tuple[int, Result]]:
    """What is done for the coordinator's rows, in whatever order, until it ends: one execution of Ray Data, whose source waits
    for rows, and whose actors hold the engines. `made`: what an actor is made of; `options`: how it is asked for; `here`: the
    label of the driver's machine."""
    from ray import data, get
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Rows(Datasource):
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            def read() -> Iterator[pa.Table]:
                said, ended = 0, False
                while not ended:
                    rows, ended = get(coordinator.rows.remote(said))
                    for row in range(said, rows):
                        yield pa.table({"row": pa.array([row], pa.int64())})
                    said = rows

            return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised; it set its own when imported
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # bytes: a row leaves as soon as it is there
    # Ray Data looks every tenth of a second, and would take two rows then.
    context._max_num_blocks_in_streaming_gen_buffer = rows_each * workers
    results = data.read_datasource(Rows(), override_num_blocks=1, num_cpus=0, label_selector=dict(here)).map_batches(
        _Actor,
        fn_constructor_args=made,
        batch_size=1,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(
            size=workers,
            max_tasks_in_flight_per_actor=rows_each,
            max_concurrent_calls_per_actor=rows_each,
            enable_true_multi_threading=True,
        ),
        **options,
    )
    for batch in results.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        for done in batch["done"]:
            yield pickle.loads(done.as_py())  # noqa: S301 - written by `_Actor`


class _Actor:
    """A Worker in an actor of Ray Data: with an event loop of its own, since Ray Data calls from threads."""

    def __init__(self, teacher: Teacher, log: Path, identity: Mapping[str, Any], coordinator: Any) -> None:
        import ray

        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._turn, name="evokd-worker", daemon=True).start()
        name = ray.get_runtime_context().get_actor_id() or ""
        self._worker = Worker(teacher, log, _Far(coordinator), name, {"ray": version()})
        again_s = self._run(self._worker.open(identity))
        if again_s is not None:
            # In a process of its own: Ray opens the actor again, perhaps elsewhere. An error raised here would end it for ever.
            time.sleep(again_s)
            os._exit(1)
        asyncio.run_coroutine_threadsafe(self._follow(), self._loop)

    def _turn(self) -> None:
        # When Ray ends, it joins the threads of an actor, and one that waits for the coordinator would wait for ever. The
        # kernel keeps the wish for each thread that has it: this one stays.
        killed_with_parent()
        self._loop.run_forever()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _follow(self) -> None:
        try:
            await self._worker.follow()
        except Exception:  # the engine does not obey, or there is no coordinator any more
            os._exit(1)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        for _ in range(rows.num_rows):
            try:
                done = self._run(self._worker.do())
            except EngineStopped:
                os._exit(1)  # Ray opens the actor again
            if done is not None:
                yield pa.table({"done": pa.array([pickle.dumps(done, pickle.HIGHEST_PROTOCOL)], pa.large_binary())})


class _Far:
    """The coordinator's methods as coroutine functions."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._actor, name)

        async def call(*arguments: Any) -> Any:
            return await method.remote(*arguments)

        return call

    async def fetch(self, key: int) -> Any:
        (kept,) = await self._actor.fetch.remote(key)
        return await kept
