"""A teacher that runs as vLLM engines of a Ray cluster, one in each worker: many GPUs, many machines.

    teacher:
      engine: ray
      model: Qwen/Qwen3-8B
      revision: ...
      workers: 16                 # engines; each has tensor_parallel_size x ... GPUs of one machine
      address: auto               # of the cluster this machine belongs to; null starts Ray on this machine alone

One pipeline of Ray Data runs as long as the engines are open: a source that waits for rows, `map_batches` over actors that
hold an engine, and results in any order. For each row an actor gets a partition of the round, which is requests of one shard,
and writes and labels it by itself (`generation/partitions.py`). The driver gives out partitions in order and puts the results
in order: one journal, one filter pipeline, the same shards as from `engine: vllm`. A worker that dies is replaced, and others
get its partitions at once.

The machines need this package, vLLM and the model: a Hub id, or a folder that lies at the same path everywhere. They need no
shared folder, with one exception. A worker that is killed takes the answers of its partitions with it, and they are asked for
again. With `parts: s3://bucket/parts`, or a folder that all machines reach, it leaves its answers there every few seconds, for
whoever writes the partition next, or for a driver that was killed itself. On one machine it does so without the setting, below
the run folder. `--mirror` keeps a copy of the run itself on shared storage (`storage/mirror.py`).

The driver is one process, which limits the number of workers: bench/ray_scaling.py shows how. Where that is too little, run
several recipes, each with its share of `rounds.samples` and a seed of its own. Then only near-duplicates between these runs
are not detected.
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
from evokd_data.settings import NOT_IDENTITY, Count, from_user
from evokd_data.teachers import missing_packages
from evokd_data.teachers.vllm.plug import VLLM

if TYPE_CHECKING:
    from evokd_data.teachers.ray.engine import ClusterEngine


@from_user("workers", "address", "parts", "resources")
@dataclass(frozen=True)
class Ray(VLLM):
    """Engines of vLLM in the workers of a Ray cluster. The settings of the engine `vllm` are those of each worker."""

    name: ClassVar[str] = "ray"
    partitioned: ClassVar[bool] = True

    workers: Count = field(default=1, metadata=NOT_IDENTITY)
    """How many engines there are, one in each worker."""
    address: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The cluster: `auto` is the one this machine belongs to. By default Ray is started on this machine alone."""
    parts: str | None = field(default=None, metadata=NOT_IDENTITY)
    """A URL, or a folder that all machines reach, where workers leave the answers they have so far. Without it, what a
    dead worker was answered is asked again."""
    resources: Mapping[str, Annotated[float, Field(ge=0)]] = field(default_factory=dict, metadata=NOT_IDENTITY)
    """What one worker takes, such as {GPU: 2}, {CPU: 4} or names of your own. By default a GPU for each rank of tensor,
    pipeline and data parallelism where the cluster has any, else one CPU."""

    def lacks(self) -> list[str]:
        return missing_packages("ray", "vllm")

    def parts_url(self) -> str | None:
        return self.parts

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.address or "").startswith("ray://"):
            raise ValueError(
                f"address: {self.address!r} is of Ray's client protocol, which is not supported; "
                "run on a machine of the cluster with address: auto"
            )

    @contextlib.asynccontextmanager
    async def serve(self, log: Path) -> AsyncIterator[ClusterEngine]:
        """The first worker is open inside the block, the others open later. Each writes its own log, on its machine, named
        after `log`. Raises TeacherError, and RecipeError for wrong `engine_args`."""
        from evokd_data.teachers.ray.pipeline import serve

        model = await asyncio.to_thread(find_model, self.base_model, "teacher", TeacherError)
        settings = {setting.name: getattr(self, setting.name) for setting in dataclasses.fields(VLLM)}
        # Workers open one after the other, and a branch may move meanwhile: all get the same commit.
        teacher = VLLM(**{**settings, "revision": model.commit})
        async with serve(
            teacher,
            self.workers,
            log,
            address=self.address,
            resources=self.resources,
            gpus=self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size,
            drop_variables=True,
            shared_parts=self.parts is not None,
        ) as engine:
            yield engine
