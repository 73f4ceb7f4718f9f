"""Ray: connect to a cluster, and run the pipeline of Ray Data that brings rows to workers and results back."""

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
from evokd_data.teachers.logs import single_line
from evokd_data.teachers.orphans import kill_with_parent_thread
from evokd_data.teachers.ray.api import ItemResult
from evokd_data.teachers.ray.coordinator import HEARTBEAT_TIMEOUT_S, ROWS_PER_WORKER, Coordinator
from evokd_data.teachers.ray.engine import ClusterEngine
from evokd_data.teachers.ray.worker import Worker
from evokd_data.teachers.vllm.startup import FORWARDED_VARIABLES

SHUTDOWN_S = 15.0
"""Seconds for the workers to end their engines in order, before they are killed."""
OBJECT_STORE_BYTES = 2**30
"""Earlier rounds' shards lie in Ray's object store and results pass through it. Ray's default is a third of the memory."""
CONNECT_S = 10.0


@contextlib.asynccontextmanager
async def serve(
    teacher: Teacher,
    workers: int,
    log: Path,
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    gpus: int = 0,
    drop_variables: bool = False,
    shared_parts: bool = False,
    heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    rows_per_worker: int = ROWS_PER_WORKER,
) -> AsyncIterator[ClusterEngine]:
    """Any teacher in `workers` actors, the first of which is open inside the block.

    `resources` of one worker; without them it gets `gpus` GPUs if the cluster has any, else one CPU. `drop_variables`: send
    prompts without the template variables, which only a scripted teacher reads. `shared_parts`: parts of the journal lie
    where all machines reach them. `heartbeat_timeout_s` and `rows_per_worker`: see `Coordinator`.

    Raises TeacherError when Ray is not installed, the cluster does not answer or has no room, or no worker opens.
    """
    version()
    identity = await asyncio.to_thread(teacher.identity)
    with log.open("a", encoding="utf-8", buffering=1) as file:

        def write_log(line: str) -> None:
            print(time.strftime("%Y-%m-%dT%H:%M:%S"), line, file=file)

        started = await asyncio.to_thread(_connect, address)
        try:
            import ray

            options = _actor_options(workers, dict(resources or {}), gpus)
            write_log(f"evokd-data: ray {version()}, {workers} workers, each {options}")
            # The coordinator and the source of rows stay on the driver's machine: the run cannot do without them.
            driver_node = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
            actor_class = ray.remote(Coordinator).options(
                num_cpus=0, max_concurrency=100_000, label_selector=driver_node
            )
            coordinator = actor_class.remote(workers, heartbeat_timeout_s, rows_per_worker)
            engine = ClusterEngine(
                _RemoteCoordinator(coordinator),
                workers,
                write_log,
                # A reference in a list is passed on as it is; otherwise Ray would copy the work to the coordinator.
                store_work=lambda work: [ray.put(work)],
                leave_parts=shared_parts or sum(node["Alive"] for node in ray.nodes()) == 1,
                drop_variables=drop_variables,
                rows_per_worker=rows_per_worker,
            )
            worker_arguments = teacher, await asyncio.to_thread(log.absolute), dict(identity), coordinator
            results = pipeline(coordinator, workers, rows_per_worker, worker_arguments, options, driver_node)
            thread = _deliver_results(engine, results)
            try:
                await engine.open()
                yield engine
            finally:
                await engine.close(SHUTDOWN_S)
                await asyncio.to_thread(thread.join, SHUTDOWN_S)
        finally:
            if started:
                await asyncio.to_thread(ray.shutdown)


def _deliver_results(engine: ClusterEngine, results: Iterable[tuple[int, ItemResult]]) -> threading.Thread:
    """Give the engine what comes out of the pipeline. In a thread, because waiting for the pipeline blocks."""
    loop = asyncio.get_running_loop()

    def deliver() -> None:
        error = EngineStopped("the pipeline of Ray Data has ended")
        try:
            for number, result in results:
                loop.call_soon_threadsafe(engine.deliver, number, result)
        except Exception as raised:
            error = EngineStopped(f"Ray Data: {type(raised).__name__}: {' '.join(str(raised).split())[:500]}")
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(engine.fail, error)

    thread = threading.Thread(target=deliver, name="evokd-ray-data", daemon=True)
    thread.start()
    return thread


def version() -> str:
    """The installed Ray's version. Raises TeacherError when none is installed."""
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise TeacherError("the engine 'ray' is not installed; run: pip install 'evokd-data[ray]'") from None


def _connect(address: str | None) -> bool:
    """Whether Ray was started or joined here, so that it must be shut down here. Raises TeacherError without a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    else:
        host, _, port = address.rpartition(":")
        try:
            if port.isdecimal():  # Ray itself would try for two minutes
                socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise TeacherError(
                f"teacher.address: no Ray cluster at {address!r} ({single_line(str(error))}); "
                "start one with `ray start --head`, or leave the address out"
            ) from error
    # A thread of Ray Data may still call Ray when the run has shut it down. Ray would then start itself anew, and end this process a
    # minute after it finds that nobody is there.
    ray._private.auto_init_hook.enable_auto_connect = False
    # Our log records the deaths of workers. Ray would print them on stdout, where results go, whatever `log_to_driver` says.
    ray._private.worker._worker_logs_enabled = False
    _provoke_warning()
    return True


def _provoke_warning() -> None:
    """Make Ray warn now, into the void, about a restartable actor whose arguments lie in the object store.

    Ray's core prints this warning once per process on stderr, where no setting reaches it, and the actors of Ray Data are of
    this kind.
    """
    import ray

    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        actor = ray.remote(_EmptyActor).options(num_cpus=0, max_restarts=1).remote(ray.put(None))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)
    ray.kill(actor)  # type: ignore[arg-type]  # Ray types what `remote` returns as one of two things


class _EmptyActor:
    def __init__(self, argument: None) -> None: ...


def _actor_options(workers: int, resources: dict[str, float], gpus: int) -> dict[str, Any]:
    """Ray's options for a worker's actor. Raises TeacherError when no machine of the cluster has what one needs."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not resources:
        resources = {"GPU": float(gpus)} if gpus and any("GPU" in machine for machine in machines) else {"CPU": 1.0}
    if not any(all(machine.get(name, 0) >= amount for name, amount in resources.items()) for machine in machines):
        largest = {name: max((machine.get(name, 0) for machine in machines), default=0) for name in resources}
        raise TeacherError(
            f"teacher.resources: a worker needs {resources} on one machine, and the most that one of the "
            f"{len(machines)} machines has is {largest}; ask for less, or add machines"
        )
    custom = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
    variables = {name: os.environ[name] for name in FORWARDED_VARIABLES if name in os.environ}
    return {
        "num_cpus": resources.get("CPU", 0),
        "num_gpus": resources.get("GPU", 0),
        **({"resources": custom} if custom else {}),
        **({"runtime_env": {"env_vars": variables}} if variables else {}),
    }


def pipeline(
    coordinator: Any,
    workers: int,
    rows_per_worker: int,
    worker_arguments: tuple[Any, ...],
    options: Mapping[str, Any],
    driver_node: Mapping[str, str],
) -> Iterator[tuple[int, ItemResult]]:
    """Item numbers and results, in any order, until the coordinator shuts down.

    One execution of Ray Data: its source waits for the coordinator's rows, and its actors hold the engines.
    `worker_arguments` are those of `_WorkerActor`, `options` are Ray's options for it, `driver_node` is the label of the
    driver's machine.
    """
    from ray import data, get
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class RowSource(Datasource):
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            def read() -> Iterator[pa.Table]:
                emitted, ended = 0, False
                while not ended:
                    count, ended = get(coordinator.row_count.remote(emitted))
                    for row in range(emitted, count):
                        yield pa.table({"row": pa.array([row], pa.int64())})
                    emitted = count

            return [ReadTask(read, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]

    logging.getLogger("ray.data").setLevel(
        logging.CRITICAL
    )  # errors are raised; importing Ray Data had set a lower level
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # bytes: each row is passed on at once
    # The default buffer holds two rows, and Ray Data empties it every tenth of a second.
    context._max_num_blocks_in_streaming_gen_buffer = rows_per_worker * workers
    rows = data.read_datasource(RowSource(), override_num_blocks=1, num_cpus=0, label_selector=dict(driver_node))
    results = rows.map_batches(
        _WorkerActor,
        fn_constructor_args=worker_arguments,
        batch_size=1,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(
            size=workers,
            max_tasks_in_flight_per_actor=rows_per_worker,
            max_concurrent_calls_per_actor=rows_per_worker,
            enable_true_multi_threading=True,
        ),
        **options,
    )
    for batch in results.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        for result in batch["result"]:
            yield pickle.loads(result.as_py())  # noqa: S301 - written by `_WorkerActor`


class _WorkerActor:
    """A Worker in an actor of Ray Data. It has an event loop of its own, because Ray Data calls from threads."""

    def __init__(self, teacher: Teacher, log: Path, identity: Mapping[str, Any], coordinator: Any) -> None:
        import ray

        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run_loop, name="evokd-worker", daemon=True).start()
        name = ray.get_runtime_context().get_actor_id() or ""
        self._worker = Worker(teacher, log, _RemoteCoordinator(coordinator), name, {"ray": version()})
        retry_s = self._run(self._worker.open(identity))
        if retry_s is not None:
            # Ray opens the actor again in a new process, perhaps elsewhere. An error raised here would end it for good.
            time.sleep(retry_s)
            os._exit(1)
        asyncio.run_coroutine_threadsafe(self._apply_states(), self._loop)

    def _run_loop(self) -> None:
        # When Ray ends, it joins an actor's threads, and one that waits for the coordinator would wait for ever. The kernel
        # ties the request to the thread that makes it, and this thread stays.
        kill_with_parent_thread()
        self._loop.run_forever()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _apply_states(self) -> None:
        try:
            await self._worker.apply_states()
        except Exception:  # the engine does not obey, or the coordinator is gone
            os._exit(1)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        for _ in range(rows.num_rows):
            try:
                result = self._run(self._worker.process_row())
            except EngineStopped:
                os._exit(1)  # Ray opens the actor again
            if result is not None:
                pickled = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
                yield pa.table({"result": pa.array([pickled], pa.large_binary())})


class _RemoteCoordinator:
    """A proxy of the coordinator's actor: its methods as coroutine functions."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._actor, name)

        async def call(*arguments: Any) -> Any:
            return await method.remote(*arguments)

        return call

    async def fetch_work(self, key: int) -> Any:
        (reference,) = await self._actor.fetch_work.remote(key)
        return await reference
