"""What does generating a whole round cost, compared with the fastest possible use of vLLM in this process?

    python bench/generate.py [intents] [slots] [--samples 1600] [--repeats 5] [--apart] [--json FILE]

    intents   the quickstart's teacher of 3.5 million parameters: texts in JSON, and a label from one token
    slots     that of recipes/quickstart-slots.yaml: a label is the text again, under a grammar

Three ways alternate `--repeats` times on one engine:

    raw       all requests are sent to AsyncLLM at once, with token ids and parameters made in advance; nothing is done with
              the answers. A real client could not do this: the labelling requests, recorded in the first turn of `ours`,
              do not wait for the texts
    phases    as raw, but labelling begins when all texts are written, which a real client could do
    ours      `stages.generate`, round 1 of the recipe with the strategy `static`: plan, prompts, generating and labelling
              each text as it is written, journal, filters, shards

Prints the same figures as bench/feeding.py; `--apart` is described there. The prefix cache is emptied before each turn.
Every way must give the same number of tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import feeding
from opened import Opened
from report import record

from evokd_data.generation.scheduler import TeacherOnDemand
from evokd_data.recipe import Recipe, load
from evokd_data.records import Prompt
from evokd_data.seeds import load_splits
from evokd_data.stages.generate import generate
from evokd_data.storage.workspace import Workspace
from evokd_data.teachers.vllm.engine import VLLMEngine
from evokd_data.teachers.vllm.plug import VLLM

ROOT = Path(__file__).parents[1]
RECIPES = {"intents": "quickstart", "slots": "quickstart-slots"}
WAYS = ["raw", "phases", "ours"]


@dataclass(frozen=True)
class Turn:
    wall_s: float
    cpu_s: float
    steps: int
    tokens: int


async def ours(recipe: Recipe, engine: VLLMEngine, folder: Path) -> Turn:
    workspace, splits = Workspace(folder), load_splits(recipe)
    async with TeacherOnDemand(Opened(engine), folder / "teacher.log") as teacher:  # type: ignore[arg-type]  # a teacher as far as this asks
        await generate(recipe, workspace, 0, splits, teacher)
        feeding.forget(engine)
        with feeding.counting(engine._llm) as steps:
            cpu, wall = time.process_time(), time.perf_counter()
            totals = await generate(recipe, workspace, 1, splits, teacher)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Turn(wall, cpu, steps[0], totals["completion_tokens"])


@dataclass(frozen=True)
class EngineRequest:
    """A request as vLLM receives it."""

    stage: str
    key: str
    ids: Sequence[int]
    parameters: Any


class NoCache(dict[Any, Any]):
    """A dictionary that stores nothing: vLLM then checks constraints each time, as it does for other clients."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


async def recorded_requests(recipe: Recipe, engine: VLLMEngine, folder: Path) -> list[EngineRequest]:
    """The requests of one round of `ours`, in the order in which they were sent."""
    requests: list[EngineRequest] = []
    generate_answer = engine._generate

    async def recording(prompt: Prompt, ids: Sequence[int], parameters: Any) -> Any:
        requests.append(EngineRequest(prompt.template, prompt.key, list(ids), parameters.clone()))
        return await generate_answer(prompt, ids, parameters)

    checked, engine._checked = engine._checked, NoCache()
    engine._generate = recording  # type: ignore[method-assign]  # of this object, for one turn
    await ours(recipe, engine, folder)
    engine._generate = generate_answer  # type: ignore[method-assign]  # the original again
    engine._checked = checked
    return requests


async def raw(engine: VLLMEngine, requests: list[EngineRequest], phases: bool) -> Turn:
    llm, names = engine._llm, engine._names
    assert llm is not None
    ready: dict[str, list[tuple[Any, Any, str]]] = {}
    for request in requests:
        parameters = request.parameters.clone()
        parameters.detokenize = True
        phase = request.stage if phases else ""
        ready.setdefault(phase, []).append((names.tokens_input(list(request.ids)), parameters, request.key))

    async def count_tokens(request: tuple[Any, Any, str]) -> int:
        async for output in llm.generate(*request):
            latest = output
        return len(latest.outputs[0].token_ids)

    with feeding.counting(llm) as steps:
        cpu, wall = time.process_time(), time.perf_counter()
        tokens = [count for phase in ready.values() for count in await asyncio.gather(*map(count_tokens, phase))]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Turn(wall, cpu, steps[0], sum(tokens))


async def measure(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    changes = [
        "strategy={name: static}",
        "teacher_trust=off",
        f"rounds.samples={arguments.samples}",
        "rounds.shard_size=1024",
    ]
    recipe = load(ROOT / f"recipes/{RECIPES[name]}.yaml", changes)
    assert isinstance(recipe.teacher, VLLM)
    teacher = dataclasses.replace(recipe.teacher, kv_cache_gib=0.5)
    turns: dict[str, list[Turn]] = {way: [] for way in WAYS}
    async with teacher.serve(folder / "teacher.log") as engine:
        assert isinstance(engine, VLLMEngine)
        if arguments.apart:
            feeding.part(arguments.cores)
        requests = await recorded_requests(recipe, engine, folder / "first")
        for repeat in range(arguments.repeats):
            for way in WAYS[repeat % 3 :] + WAYS[: repeat % 3]:
                assert engine._llm is not None
                await engine._llm.reset_prefix_cache()
                if way == "ours":
                    turn = await ours(recipe, engine, folder / str(repeat))
                else:
                    turn = await raw(engine, requests, way == "phases")
                turns[way].append(turn)
                print(
                    f"{repeat} {way:7} {turn.wall_s:7.2f} s {turn.steps:6} steps {turn.tokens:8} tokens",
                    file=sys.stderr,
                )
    return summary(turns, len(requests), arguments.samples)


def summary(turns: dict[str, list[Turn]], requests: int, samples: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "samples": samples,
        "requests": requests,
        "repeats": len(turns["ours"]),
        "same_tokens": len({turn.tokens for way in turns.values() for turn in way}) == 1,
    }
    for way, way_turns in turns.items():
        figures[f"{way}_wall_s"] = round(statistics.median(turn.wall_s for turn in way_turns), 3)
        figures[f"{way}_engine_steps"] = statistics.median(turn.steps for turn in way_turns)
        cpu = statistics.median(turn.cpu_s for turn in way_turns)
        figures[f"{way}_client_cpu_ms_per_request"] = round(1000 * cpu / requests, 3)
    for bound in ("raw", "phases"):
        for name, figure in (("wall", "wall_s"), ("engine_steps", "steps")):
            pairs = zip(turns["ours"], turns[bound], strict=True)
            ratios = [getattr(turn, figure) / getattr(bound_turn, figure) for turn, bound_turn in pairs]
            for end, of in (("", statistics.median), ("_min", min), ("_max", max)):
                figures[f"ours_over_{bound}_{name}_ratio{end}"] = round(of(ratios), 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[*RECIPES], help=f"{', '.join(RECIPES)}; default: both")
    parser.add_argument("--samples", type=int, default=1600, help="asked for in a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="the engine on one core, its client on the others")
    parser.add_argument("--json", type=Path, help="the file that gets the figures, beside what it holds")
    arguments = parser.parse_args()
    arguments.cores = os.sched_getaffinity(0)
    prefix = "generate_apart" if arguments.apart else "generate"
    figures: dict[str, Any] = {}
    for name in arguments.tasks:
        os.sched_setaffinity(0, arguments.cores)  # `--apart` restricted it for the task before
        with tempfile.TemporaryDirectory() as folder:
            task_figures = asyncio.run(measure(name, arguments, Path(folder)))
        figures |= {f"{prefix}_{name}_{key}": value for key, value in task_figures.items()}
        print(f"{name}: {task_figures['requests']} requests, same tokens: {task_figures['same_tokens']}")
        print(f"{'':8}{'wall s':>9}{'steps':>8}{'client CPU ms/request':>23}  ours over it: wall, steps")
        for way in WAYS:
            columns = f"{task_figures[f'{way}_wall_s']:9.2f}{task_figures[f'{way}_engine_steps']:8.0f}"
            columns += f"{task_figures[f'{way}_client_cpu_ms_per_request']:23.3f}"
            if way != "ours":
                of = {key.removeprefix(f"ours_over_{way}_"): value for key, value in task_figures.items()}
                ends = f"({of['wall_ratio_min']} to {of['wall_ratio_max']})"
                columns += f"  {of['wall_ratio']} {ends}, {of['engine_steps_ratio']}"
            print(f"{way:8}{columns}")
    if arguments.json:
        record(arguments.json, figures)


if __name__ == "__main__":
    main()
