"""What does our way of feeding cost, compared with the fastest way to use vLLM itself?

    python bench/feeding.py [--requests 2000] [--repeats 5] [--apart] [--model FOLDER] [--json FILE]

One engine, four ways to ask it the same requests, taken in turn, `--repeats` times:

    raw      token ids and parameters are prepared beforehand, AsyncLLM gets everything at once and returns texts
    tokens   as raw, but the answers stay token ids: less than is needed, and a lower bound for every way
    ours     `scheduler.in_order` and `Engine.complete`: chat template, tokenizing, a bounded window, results in order
    batches  as ours, but each window of requests must be finished before the next begins

Answers have 20 to 200 tokens, exactly as many as drawn: the model is a Llama of random weights without an end token.
Prints seconds, engine steps (messages with output from the engine's process) and CPU time of this process, as medians
and as medians of the ratios within one repeat. On a shared machine only the ratios of wall times mean something.
The prefix cache is emptied before each turn. Every way must give the same texts; those of `tokens` are decoded afterwards.

With --apart the engine's processes have one core and this process has the others. Then the ratio says how well the engine is
fed, as when it computes on a GPU. Without --apart they share all cores, and prompts cost the engine's time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")

import psutil
from report import record

from evokd_data.digest import digest
from evokd_data.generation.scheduler import in_order
from evokd_data.records import Message, Prompt, Sampling
from evokd_data.teachers.vllm.engine import VLLMEngine
from evokd_data.teachers.vllm.plug import VLLM


@dataclass(frozen=True)
class Turn:
    way: str
    wall_s: float
    engine_steps: int
    client_cpu_s: float
    texts: str


Flow = Callable[[], Awaitable[Callable[[], list[str]]]]
"""Asks for all answers; returns a function that returns their texts."""


def prompts(count: int, seed: int) -> list[Prompt]:
    draw = random.Random(seed)
    demonstrations = ["play some jazz by Miles Davis", "book a table for four", "will it rain in Berlin tomorrow"]
    requests = []
    for index in range(count):
        lines = "\n".join(f"- {draw.choice(demonstrations)} {draw.randrange(1000)}" for _ in range(5))
        messages = (
            Message("system", "You write short requests to an assistant, one a line, each different from the others."),
            Message("user", f"Label: PlayMusic\nExamples:\n{lines}\nCount: 5"),
        )
        requests.append(
            Prompt(f"generate/{index:06}", "generate", messages, index + 1, Sampling(1.0, draw.randint(20, 200)))
        )
    return requests


async def raw(engine: VLLMEngine, asked: list[Prompt]) -> Flow:
    return at_once(engine, asked, True)


async def tokens(engine: VLLMEngine, asked: list[Prompt]) -> Flow:
    return at_once(engine, asked, False)


def at_once(engine: VLLMEngine, asked: list[Prompt], text: bool) -> Flow:
    llm, names = engine._llm, engine._names
    assert llm is not None
    ready = [
        (
            names.tokens_input(list(engine._chat.encode(prompt.messages, False))),
            names.SamplingParams(
                temperature=prompt.sampling.temperature,
                max_tokens=prompt.sampling.max_tokens,
                seed=prompt.seed,
                output_kind=names.RequestOutputKind.FINAL_ONLY,
                detokenize=text,
            ),
            prompt.key,
        )
        for prompt in asked
    ]

    async def ask(request: tuple[Any, Any, str]) -> Any:
        async for output in llm.generate(*request):
            last = output
        return last

    async def all_at_once() -> Callable[[], list[str]]:
        answers = await asyncio.gather(*map(ask, ready))
        if text:
            return lambda: [answer.outputs[0].text for answer in answers]
        return lambda: [engine._chat.decode(answer.prompt_token_ids, answer.outputs[0].token_ids) for answer in answers]

    return all_at_once


async def ours(engine: VLLMEngine, asked: list[Prompt]) -> Flow:
    async def flow() -> Callable[[], list[str]]:
        texts = [answer.text async for _, answer in in_order(asked, engine.complete, lambda: engine.window)]
        return lambda: texts

    return flow


async def batches(engine: VLLMEngine, asked: list[Prompt]) -> Flow:
    async def wait_for_each() -> Callable[[], list[str]]:
        texts = []
        for start in range(0, len(asked), engine.window):
            answers = await asyncio.gather(*map(engine.complete, asked[start : start + engine.window]))
            texts += [answer.text for answer in answers]
        return lambda: texts

    return wait_for_each


WAYS = {"raw": raw, "tokens": tokens, "ours": ours, "batches": batches}


@contextlib.contextmanager
def counting(llm: Any) -> Iterator[list[int]]:
    """A list with one number: the engine's steps (messages with output from its process) inside the block."""
    core = llm.engine_core
    receive = core.get_output_async
    steps = [0]

    async def counted() -> Any:
        outputs = await receive()
        steps[0] += bool(outputs.outputs)
        return outputs

    core.get_output_async = counted
    try:
        yield steps
    finally:
        core.get_output_async = receive


async def take(way: str, engine: VLLMEngine, asked: list[Prompt]) -> Turn:
    """One turn. The caches of the chat tokenizer are emptied, because in a round no prompt comes twice."""
    assert engine._llm is not None
    await engine._llm.reset_prefix_cache()
    run = await WAYS[way](engine, asked)
    forget(engine)
    with counting(engine._llm) as steps:
        cpu, wall = time.process_time(), time.perf_counter()
        texts = await run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Turn(way, wall, steps[0], cpu, digest(texts())[:16])


def forget(engine: VLLMEngine) -> None:
    engine._chat.encode.cache_clear()
    engine._chat._encode_segment.cache_clear()


def part(cores: set[int]) -> None:
    """The engine's processes on the first core, this one on the others."""
    first, *others = sorted(cores)
    for process in psutil.Process().children(recursive=True):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {first})
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, others)


async def measure(arguments: argparse.Namespace, teacher: VLLM, log: Path) -> dict[str, Any]:
    async with teacher.serve(log) as engine:
        asked = prompts(arguments.requests, arguments.seed)
        if arguments.apart:
            part(os.sched_getaffinity(0))
        await take("raw", engine, asked[:64])  # warm
        turns: list[Turn] = []
        ways = list(WAYS)
        for repeat in range(arguments.repeats):
            for way in ways[repeat % len(ways) :] + ways[: repeat % len(ways)]:
                turns.append(await take(way, engine, asked))
                print(f"{repeat} {way:8} {turns[-1].wall_s:8.2f} s {turns[-1].engine_steps:6} steps", file=sys.stderr)
            figures = summary(turns, engine, arguments, sum(prompt.sampling.max_tokens for prompt in asked))
            if arguments.json:  # after each repeat, so that an interrupted run keeps its figures
                record(arguments.json, figures)
        return figures


def summary(turns: list[Turn], engine: VLLMEngine, arguments: argparse.Namespace, tokens: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "requests": arguments.requests,
        "apart": arguments.apart,
        "repeats": len(turns) // len(WAYS),
        "output_tokens": tokens,
        "window_requests": engine.window,
        "max_num_seqs": engine.environment()["max_num_seqs"],
        "same_texts": len({turn.texts for turn in turns}) == 1,
        "load_average_1_min": round(os.getloadavg()[0], 2),
    }
    by_way = {way: [turn for turn in turns if turn.way == way] for way in WAYS}
    for way, taken in by_way.items():
        figures[f"{way}_wall_s"] = round(statistics.median(turn.wall_s for turn in taken), 3)
        figures[f"{way}_engine_steps"] = statistics.median(turn.engine_steps for turn in taken)
        cpu = statistics.median(turn.client_cpu_s for turn in taken)
        figures[f"{way}_client_cpu_ms_per_request"] = round(1000 * cpu / arguments.requests, 3)
    for way in ("tokens", "ours", "batches"):
        for figure in ("wall_s", "engine_steps"):
            pairs = zip(by_way[way], by_way["raw"], strict=True)
            ratios = [getattr(turn, figure) / getattr(raw_turn, figure) for turn, raw_turn in pairs]
            name = f"{way}_over_raw_{figure.removesuffix('_s')}_ratio"
            figures[name] = round(statistics.median(ratios), 3)
            figures[f"{name}_min"], figures[f"{name}_max"] = round(min(ratios), 3), round(max(ratios), 3)
    ratios = [
        turn.wall_s / tokens_turn.wall_s for turn, tokens_turn in zip(by_way["ours"], by_way["tokens"], strict=True)
    ]
    figures["ours_over_tokens_wall_ratio"] = round(statistics.median(ratios), 3)
    figures["ours_over_tokens_wall_ratio_min"] = round(min(ratios), 3)
    figures["ours_over_tokens_wall_ratio_max"] = round(max(ratios), 3)
    figures["turns"] = [asdict(turn) for turn in turns]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", help="a folder; default: a Llama of random weights")
    parser.add_argument("--window", type=int, help="requests in flight; default: the engine's own wish")
    parser.add_argument("--seats", type=int, default=256, help="vLLM's max_num_seqs")
    parser.add_argument("--cache-gib", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", action="store_true", help="the engine on one core, its client on the others")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if model is None:
            sys.path.insert(0, str(Path(__file__).parents[1]))
            from tests.support.tiny_model import build

            model = str(build(Path(folder) / "tiny", ends=False, layers=1))
        teacher = VLLM(
            model=model, window=arguments.window, max_num_seqs=arguments.seats, kv_cache_gib=arguments.cache_gib
        )
        figures = asyncio.run(measure(arguments, teacher, Path(folder) / "teacher.log"))
    print(f"{'':10}{'wall s':>10}{'steps':>10}{'client CPU ms/request':>24}{'wall / raw':>12}{'steps / raw':>13}")
    for way in WAYS:
        wall, steps = (figures.get(f"{way}_over_raw_{name}_ratio", 1.0) for name in ("wall", "engine_steps"))
        print(
            f"{way:10}{figures[f'{way}_wall_s']:10.2f}{figures[f'{way}_engine_steps']:10.0f}"
            f"{figures[f'{way}_client_cpu_ms_per_request']:24.3f}{wall:12.3f}{steps:13.3f}"
        )
    print(f"ours over tokens, wall: {figures['ours_over_tokens_wall_ratio']:.3f}")
    print(f"same texts every way: {figures['same_texts']}; window {figures['window_requests']}")


if __name__ == "__main__":
    main()
