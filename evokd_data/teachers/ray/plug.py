"""The teacher as vLLM engines of a Ray cluster, one in each worker: many GPUs, many machines.

    teacher:
      engine: ray
      model: Qwen/Qwen3-8B
      revision: ...
      workers: 16                 # engines; each has tensor_parallel_size x ... GPUs of one machine
      address: auto               # of the cluster this machine belongs to; null starts Ray on this machine alone

What runs is one pipeline of Ray Data, open as long as the engines are: a source that waits for rows, `map_batches` over
actors that hold an engine, and results in whatever order. For each row an actor is given a partition of the round, requests
of one shard, and writes and labels it itself (`partitions.py`). The driver gives them out in order, and puts what comes back
in order: one journal, one filter, the same shards as from `engine: vllm`. A worker that dies is replaced; its partitions
are others' at once.

The machines need this package, vLLM and the model: a Hub id, or a folder that lies at the same path everywhere. They need no
folder in common, but for one thing: a worker that is killed takes with it the answers of its partitions, which are then asked
for again. With `parts: s3://bucket/parts`, or a folder that all machines reach, it leaves them there every few seconds, for
whoever writes the partition next, or for a driver that was killed itself. On one machine that is so anyway, below the run
folder. `--mirror` keeps a copy of the run itself on shared storage (`mirror.py`).

One driver is one process, and so its own limit: bench/ray_scaling.py shows it. Where that is too little, run several recipes,
each with its share of `rounds.samples` and a seed of its own; only near duplicates between them go unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from evokd_data.errors import TeacherError
from evokd_data.models import find_model
from evokd_data.settings import NOT_IDENTITY, Count
from evokd_data.teachers.vllm import VLLM

if TYPE_CHECKING:
    from evokd_data.teachers.ray.engine import Cluster


@dataclass(frozen=True)
class Ray(VLLM):
    """Settings as of the engine `vllm`, for each worker. `resources` of one worker, as {GPU: 2} or {CPU: 4} or names of
    your own; by default a GPU for each rank of tensor, pipeline and data parallelism where the cluster has any, else one
    CPU. `window`: requests in flight in one worker. `parts`: a URL, or a folder that all machines reach, for what workers
    were answered until then."""

    name: ClassVar[str] = "ray"
    partitioned: ClassVar[bool] = True

    workers: Count = field(default=1, metadata=NOT_IDENTITY)
    address: str | None = field(default=None, metadata=NOT_IDENTITY)
    parts: str | None = field(default=None, metadata=NOT_IDENTITY)
    resources: Mapping[str, Annotated[float, Field(ge=0)]] = field(default_factory=dict, metadata=NOT_IDENTITY)

    def parts_url(self) -> str | None:
        return self.parts

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.address or "").startswith("ray://"):
            raise ValueError(
                "address: Ray's client protocol is not spoken; run on a machine of the cluster with address: auto"
            )

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[Cluster]:
        """The first worker is open inside the block, the others as they come. Each writes its own log, on its machine,
        named after `log`. Raises TeacherError, RecipeError for wrong `engine_args`."""
        from evokd_data.teachers.ray.pipeline import serve

        model = await asyncio.to_thread(find_model, self.base_model, "teacher", TeacherError)
        settings = {one.name: getattr(self, one.name) for one in dataclasses.fields(VLLM)}
        # A branch may move while workers open one after the other.
        engine = VLLM(**{**settings, "revision": model.commit})
        async with serve(
            engine,
            self.workers,
            log,
            address=self.address,
            resources=self.resources,
            gpus=self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size,
            lean=True,
            shared=self.parts is not None,
        ) as cluster:
            yield cluster
