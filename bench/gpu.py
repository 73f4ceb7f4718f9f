"""What only an accelerator can show: feeding an engine of real size, training a student beside it, sleeping and waking.

    python bench/gpu.py [--repeats 5] [--json FILE]        one GPU of 40 GB or more, about ten minutes; nothing is downloaded
    python bench/gpu.py --tiny                             the same code on a CPU in small shapes, to see that it runs

Models are created here: a Llama of the shape of 8B with dummy weights (load_format="dummy"), and a student of the shape of
BERT base. Both are untrained, which does not change their speed.

    gpu_feeding_*     bench/feeding.py on that engine, and `ours` compared with LLM.generate, which has the engine alone
    gpu_sleep_s       moving the engine's weights to main memory and dropping its cache; gpu_wake_s: the way back; medians
    gpu_training_*    bench/training.py on texts of 4 to 256 words, log-normal with a median of 32

Without a GPU it says so and exits with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

from report import record

LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
TINY_LLAMA = {
    **LLAMA_8B,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
TINY_LLAMA |= {"num_key_value_heads": 2, "vocab_size": 1024}
TINY_BERT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = [f"w{number}" for number in range(30_000)]


def write_teacher(folder: Path, shape: dict[str, int]) -> Path:
    """A configuration without weights, and the byte-level tokenizer of the tests, in which larger token ids have no text."""
    from transformers import LlamaConfig

    from tests.support.tiny_model import build

    build(folder, ends=False)
    (folder / "model.safetensors").unlink()
    config = LlamaConfig.from_pretrained(folder)
    config.update({**shape, "head_dim": shape["hidden_size"] // shape["num_attention_heads"], "dtype": "bfloat16"})
    config.save_pretrained(folder)
    return folder


def write_student(folder: Path, shape: dict[str, int]) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [*special, *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106 - a word, no password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)
    return folder


def engine_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that both ways of opening the engine get."""
    if options.tiny:
        return {"max_num_seqs": 32, "max_model_len": 1024, "enforce_eager": True}
    return {"max_num_seqs": 256, "max_model_len": 2048, "gpu_memory_utilization": 0.85}


async def feed(options: argparse.Namespace, model: Path, log: Path) -> dict[str, Any]:
    """The ways of bench/feeding.py on one engine."""
    import feeding

    teacher = feeding.VLLM(
        model=str(model),
        engine_args={"load_format": "dummy"},
        kv_cache_gib=0.5 if options.tiny else None,
        **engine_settings(options),
    )
    figures = await feeding.measure(options, teacher, log)
    figures.pop("turns")
    return {f"gpu_feeding_{name}": value for name, value in figures.items()}


async def sleep_and_wake(options: argparse.Namespace, model: Path, log: Path) -> dict[str, Any]:
    """Falling asleep and waking up, as between a round's generation and its training."""
    import feeding

    teacher = feeding.VLLM(model=str(model), engine_args={"load_format": "dummy"}, **engine_settings(options))
    async with teacher.serve(log) as engine:
        if not engine._can_sleep:
            print("this engine cannot sleep; gpu_sleep_s and gpu_wake_s are left out", file=sys.stderr)
            return {}
        took: dict[str, list[float]] = {"sleep": [], "wake": []}
        for _ in range(options.repeats):
            for name, change in (("sleep", engine.sleep), ("wake", engine.wake)):
                started = time.perf_counter()
                await change()
                took[name].append(time.perf_counter() - started)
        return {f"gpu_{name}_s": round(statistics.median(seconds), 3) for name, seconds in took.items()}


def offline(options: argparse.Namespace, model: Path) -> None:
    """LLM.generate on the prompts of bench/feeding.py, in a process of its own: prints the seconds of each turn."""
    import feeding
    from vllm import LLM, SamplingParams

    # On a CPU a seeded request whose prompt is only partly prefilled kills the engine.
    cpu_settings = {"kv_cache_memory_bytes": 2**29, "enable_chunked_prefill": False} if options.tiny else {}
    llm = LLM(str(model), load_format="dummy", **engine_settings(options), **cpu_settings)
    tokenizer = llm.get_tokenizer()
    asked = feeding.prompts(options.requests, options.seed)
    ids = [
        tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in prompt.messages],
            add_generation_prompt=True,
            return_dict=False,
        )
        for prompt in asked
    ]
    parameters = [
        SamplingParams(temperature=prompt.sampling.temperature, max_tokens=prompt.sampling.max_tokens, seed=prompt.seed)
        for prompt in asked
    ]
    seconds = []
    for turn in range(options.repeats + 1):
        llm.reset_prefix_cache()
        started = time.perf_counter()
        llm.generate([{"prompt_token_ids": prompt_ids} for prompt_ids in ids], parameters, use_tqdm=False)
        seconds += [time.perf_counter() - started] if turn else []  # the first one warms up
    Path(options.offline[1]).write_text(json.dumps(seconds), encoding="utf-8")


def beside_generate(options: argparse.Namespace, model: Path, figures: dict[str, Any], scratch: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--offline", str(model), str(scratch / "seconds.json")]
    command += ["--repeats", str(options.repeats), "--requests", str(options.requests)]
    with (scratch / "offline.log").open("w") as log:
        done = subprocess.run(
            [*command, *(["--tiny"] if options.tiny else [])], stdout=log, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        sys.exit(f"LLM.generate failed:\n{(scratch / 'offline.log').read_text()[-3000:]}")
    seconds = statistics.median(json.loads((scratch / "seconds.json").read_text()))
    ratio = figures["gpu_feeding_ours_wall_s"] / seconds
    return {"gpu_feeding_generate_wall_s": round(seconds, 3), "gpu_feeding_ours_over_generate_ratio": round(ratio, 3)}


def train(options: argparse.Namespace, student: Path) -> dict[str, Any]:
    import training

    options = argparse.Namespace(
        **vars(options),
        model=str(student),
        precision="auto",
        max_length=256,
        batch=8 if options.tiny else 32,
        tokens=2000 if options.tiny else 100_000,
    )
    figures = training.measure("lognormal", training.lognormal(400 if options.tiny else 20_000, WORDS), options)
    return {f"gpu_{name}": value for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small shapes, and on a CPU too")
    parser.add_argument("--requests", type=int, help="default: 2000, with --tiny 40")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="the file that the figures are added to; not with --tiny")
    parser.add_argument("--offline", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.apart = False  # the engine computes on the GPU, its client on the cores
    options.requests = options.requests or (40 if options.tiny else 2000)
    if options.offline:
        offline(options, Path(options.offline[0]))
        return
    import torch

    if not options.tiny and not torch.cuda.is_available():
        print("skipped: torch sees no GPU here; python bench/gpu.py --tiny runs the same code on a CPU")
        return
    if options.tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    figures: dict[str, Any] = {"gpu_name": torch.cuda.get_device_name() if torch.cuda.is_available() else "none"}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        teacher = write_teacher(scratch / "teacher", TINY_LLAMA if options.tiny else LLAMA_8B)
        figures |= asyncio.run(feed(options, teacher, scratch / "feeding.log"))
        figures |= beside_generate(options, teacher, figures, scratch)
        figures |= asyncio.run(sleep_and_wake(options, teacher, scratch / "rest.log"))
        figures |= train(options, write_student(scratch / "student", TINY_BERT if options.tiny else {}))
    if options.json and not options.tiny:
        record(options.json, figures)
    for name, value in figures.items():
        print(f"{name:60}{value}")


if __name__ == "__main__":
    main()
