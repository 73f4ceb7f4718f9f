"""Train the quickstart's teacher from scratch: a Llama of 3.5 million parameters that knows the seven SNIPS intents.

    python recipes/quickstart/train_teacher.py SNIPS_FOLDER --out FOLDER [--seed 0] [--steps 900]

SNIPS_FOLDER holds the files that recipes/snips.py names. The teacher learns only from rows of train. test.parquet, and the
quickstart's own test.jsonl and seeds.jsonl, are read for one purpose: rows of train that repeat, or nearly repeat, one of
their texts are left out.

The teacher learns three kinds of answers. The toolkit itself renders the prompts, from the templates beside this file, so
that the prompts in training and in use are the same:

    label     Text: play around the world by daft punk      ->  PlayMusic
    generate  Target: PlayMusic, Count: 2                   ->  {"texts":["play some jazz","put on Imagine"]}
    analyse   Expected: PlayMusic, Predicted: ..., Wrong:   ->  {"advice":"more texts with artist and year, opening with play"}
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evokd_data.records import Message
from evokd_data.templates import Templates

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import tiny_llama  # noqa: E402 - both are in the folder above
from snips import Deck, advice_for, training_utterances  # noqa: E402

HELD_OUT = 0.1  # share of train that the teacher never sees, for the numbers printed at the end


@dataclass
class Row:
    """One utterance. `pieces`: its text in order, each piece with the slot it fills, or "".

    `rival` is the wrong label that few-shot classifiers score highest; `margin` is how much less than the right label they
    score it. `traits` are the properties that advice can ask for.
    """

    text: str
    label: str
    pieces: tuple[tuple[str, str], ...]
    margin: float = 0.0
    rival: str = ""
    traits: frozenset[str] = frozenset()


def read_rows(folder: Path) -> list[Row]:
    """The rows of train that the teacher may learn from; see `snips.training_utterances`."""
    test_files = [path for path in (HERE / "test.jsonl", HERE / "seeds.jsonl") if path.exists()]
    return [
        Row(
            utterance.text, utterance.intent, tuple((piece, slot.replace("_", " ")) for piece, slot in utterance.pieces)
        )
        for utterance in training_utterances(folder, test_files)
    ]


def add_margins(rows: list[Row], labels: list[str], vectors: np.ndarray, rng: np.random.Generator) -> None:
    """Set how hard each row is: the scores of 60 nearest-centroid classifiers, each with five texts per label.

    The classifiers stand for a student after its first examples. `vectors` are unit vectors, aligned with `rows`.
    """
    truth = np.array([labels.index(row.label) for row in rows])
    scores = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for _ in range(60):
        picked = [rng.choice(np.flatnonzero(truth == k), 5, replace=False) for k in range(len(labels))]
        centroids = np.stack([vectors[indices].mean(axis=0) for indices in picked])
        scores += vectors @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T / 60
    for row, row_scores, right in zip(rows, scores, truth, strict=True):
        wrong_scores = row_scores.copy()
        wrong_scores[right] = -np.inf
        row.margin, row.rival = float(row_scores[right] - wrong_scores.max()), labels[int(wrong_scores.argmax())]


def embed(texts: list[str], encoder: str) -> np.ndarray:
    """Unit vectors of the texts, shape (texts, width), float32: the mean of a small encoder's last hidden states."""
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    order, parts = sorted(range(len(texts)), key=lambda i: len(texts[i])), []
    for start in range(0, len(order), 128):
        batch = tokenizer(
            [texts[i] for i in order[start : start + 128]], padding=True, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            hidden = model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        parts.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    vectors = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = torch.cat(parts).numpy()
    return vectors


def add_traits(rows: list[Row]) -> None:
    """Set the traits of each row: the slots it fills, its first word, whether it is a question, its length."""
    first_word = {id(row): re.findall(r"[\w']+", row.text.lower())[0] for row in rows}
    common = Counter((row.label, first_word[id(row)]) for row in rows)
    lengths = defaultdict(list)
    for row in rows:
        lengths[row.label].append(len(row.text.split()))
    for row in rows:
        traits = {f"with {slot}" for _, slot in row.pieces if slot}
        if common[row.label, first_word[id(row)]] >= 15:
            traits.add(f"opening with {first_word[id(row)]}")
        if row.text.endswith("?"):
            traits.add("as a question")
        short, long = np.quantile(lengths[row.label], (0.25, 0.75))
        if len(row.text.split()) < short:
            traits.add("short")
        if len(row.text.split()) > long:
            traits.add("long")
        row.traits = frozenset(traits)


class Writer:
    """Makes the conversations that the teacher is trained on.

    Lists are shuffled, and optional lines of a prompt are present or absent at random, so that the teacher relies on no
    order and on no line but the target.
    """

    def __init__(self, rows: list[Row], labels: list[str], rng: random.Random) -> None:
        self.rows, self.labels, self.rng = rows, labels, rng
        self.templates = Templates("classification", folder=HERE / "prompts")
        self.rows_of = {label: [row for row in rows if row.label == label] for label in labels}
        self.easy, self.hard, self.confused = {}, {}, {}
        for label, rows_of_label in self.rows_of.items():
            ranked = sorted(rows_of_label, key=lambda row: row.margin)
            self.hard[label], self.easy[label] = ranked[: len(ranked) // 4], ranked[len(ranked) // 2 :]
            for row in ranked[: len(ranked) // 3]:
                self.confused.setdefault((label, row.rival), []).append(row)
        self.confused = {pair: confused for pair, confused in self.confused.items() if len(confused) >= 12}
        self.values = defaultdict(list)
        for row in rows:
            for piece, slot in row.pieces:
                self.values[row.label, slot].append(piece)
        self.deck = Deck(rows, rng)

    def conversation(self) -> list[Message]:
        """A conversation of a random kind."""
        draw = self.rng.random()
        return self.generate() if draw < 0.55 else self.label() if draw < 0.88 else self.analyse()

    def prompt(self, template: str, **variables) -> list[Message]:
        """The messages of a prompt."""
        return [*self.templates.render(template, {"task": SimpleNamespace(labels=(), description=""), **variables})]

    def task(self, *required: str) -> SimpleNamespace:
        """A task with labels in random order: mostly all of them, otherwise some that include the required ones."""
        labels = list(self.labels)
        if self.rng.random() < 0.3:
            optional = [label for label in self.labels if label not in required]
            labels = [*required, *self.rng.sample(optional, self.rng.randint(min(1, len(optional)), len(optional)))]
        return SimpleNamespace(labels=self.rng.sample(labels, len(labels)), description="")

    def varied_text(self, row: Row) -> str:
        """The row's text, in half of the cases with slot values of other rows of its label.

        Without this the teacher memorises its texts: after 900 steps, the loss is 1.9 on them and 2.6 on held-out texts.
        """
        if self.rng.random() < 0.5:
            return row.text
        return "".join(self.rng.choice(self.values[row.label, slot]) if slot else piece for piece, slot in row.pieces)

    def shown(self, rows: list[Row]) -> list[SimpleNamespace]:
        """Rows as templates show them."""
        return [SimpleNamespace(text=self.varied_text(row), target=row.label) for row in rows]

    def label(self) -> list[Message]:
        """Up to six texts under one system message: with one text, ninety tokens of prompt would teach one token.

        In some conversations the answer is a code, as in the prompts by which the toolkit gets the probability of each
        label.
        """
        rows = self.deck.deal(self.rng.randint(1, 6))
        task, codes, messages = self.task(*dict.fromkeys(row.label for row in rows)), {}, []
        if self.rng.random() < 0.35:
            if self.rng.random() < 0.9:
                # The order of the recipe. Codes in any order are hard to learn for a model of this size.
                task.labels = sorted(self.labels)
            codes = dict(zip(task.labels, "ABCDEFG", strict=False))
        for row in rows:
            prompt = self.prompt("label", task=task, text=self.varied_text(row), demonstrations=[], codes=codes)
            messages += (prompt[-1:] if messages else prompt) + [answer(codes.get(row.label, row.label))]
        return messages

    def generate(self) -> list[Message]:
        """One to five texts with a label. First the lines of the prompt are drawn, then texts that agree with them."""
        first, rng = self.deck.deal(1)[0], self.rng
        target, pool = first.label, self.rows_of[first.label]
        contrast = advice = ""
        difficulty = None
        if (kind := rng.random()) < 0.35:
            difficulty, pool = "easy", self.easy[target]
        elif kind < 0.7:
            difficulty, pool = "hard", self.hard[target]
            rivals = [rival for label, rival in self.confused if label == target]
            if rivals and rng.random() < 0.6:
                contrast = rng.choice(rivals)
                pool = self.confused[target, contrast]
        if rng.random() < 0.6:
            # Advice names traits of one row. The texts are then drawn from the rows that share these traits.
            traits = sorted(rng.choice(pool).traits)
            rng.shuffle(traits)
            for trait_count in range(min(len(traits), rng.randint(1, 3)), 0, -1):
                traits = traits[:trait_count]
                sharing = [row for row in pool if row.traits.issuperset(traits)]
                if len(sharing) >= 6:
                    advice, pool = advice_for(traits), sharing
                    break
        count = min(rng.choice((1, 2, 3, 4, 5, 5, 5)), len(pool))
        texts = rng.sample(pool, count)
        examples = [row for row in rng.sample(self.rows_of[target], 5) if row not in texts]
        examples = examples[: rng.choice((0, 0, 1, 1, 2, 3, 4, 5))]
        prompt = self.prompt(
            "generate", task=self.task(target, *filter(None, [contrast])), target=target, contrast=contrast, advice=advice,
            difficulty=difficulty, demonstrations=self.shown(examples), count=count,
        )  # fmt: skip
        return [*prompt, answer({"texts": [self.varied_text(row) for row in texts]})]

    def analyse(self) -> list[Message]:
        """Texts that a student got wrong and right. The advice names the traits that are more frequent among the wrong."""
        rng = self.rng
        expected, got = rng.choice(sorted(self.confused))
        pool = self.confused[expected, got]
        focus = rng.choice(sorted(rng.choice(pool).traits) or [""])
        focused = [row for row in pool if focus in row.traits] or pool
        wrong = rng.sample(focused if rng.random() < 0.7 else pool, min(len(focused), rng.randint(1, 8)))
        right = rng.sample(self.easy[expected], rng.randint(0, 4)) + rng.sample(self.easy[got], rng.randint(0, 4))
        rng.shuffle(right)
        prompt = self.prompt(
            "analyse",
            task=self.task(expected, got),
            expected=expected,
            got=got,
            wrong=self.shown(wrong),
            right=self.shown(right),
        )
        excess = Counter(trait for row in wrong for trait in row.traits)
        for row in right:
            excess.subtract({trait: len(wrong) / len(right) for trait in row.traits})
        more_frequent = [trait for trait, count in excess.items() if count > 0]
        ranked = sorted(more_frequent, key=lambda trait: (-excess[trait], trait))
        return [*prompt, answer({"advice": advice_for(ranked[:3])})]


def answer(content: str | dict) -> Message:
    """The teacher's message. JSON has no blanks, because the grammar in use forbids them."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Message("assistant", text)


def batches(
    converse: Callable[[], Sequence[Message]], tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """As `tiny_llama.batches`, but without the last batch of each pool, so that the committed teacher can be trained again."""
    while True:
        encoded = (tiny_llama.encode(converse(), tokenizer) for _ in range(512))
        pool = sorted(encoded, key=lambda pair: len(pair[0]))
        complete, batch = [], []
        for pair in pool:
            if batch and len(pair[0]) * (len(batch) + 1) > tiny_llama.BATCH_TOKENS:
                complete.append(batch)
                batch = []
            batch.append(pair)
        rng.shuffle(complete)
        for pairs in complete:
            yield tiny_llama.padded(pairs)


@torch.inference_mode()
def held_out_numbers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[Row],
    labels: list[str],
    converse: Callable[[], Sequence[Message]],
) -> dict[str, float]:
    """Label accuracy on rows that the teacher did not learn from, and its loss on 30 batches of conversations."""
    model.eval()
    writer = Writer(rows, labels, random.Random(1))
    label_tokens, right = torch.tensor([tokenizer.encode(label)[0] for label in labels]), 0
    task = SimpleNamespace(labels=labels, description="")
    for row in rows:
        prompt = writer.prompt("label", task=task, text=row.text, demonstrations=[], codes={})
        turns = [{"role": message.role, "content": message.content} for message in prompt]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        right += labels[int(model(torch.tensor([ids])).logits[0, -1, label_tokens].argmax())] == row.label
    stream = batches(converse, tokenizer, writer.rng)
    losses = [tiny_llama.loss(model, *next(stream)).item() for _ in range(30)]
    return {"label accuracy": right / len(rows), "loss": float(np.mean(losses)), "n": len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("snips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument(
        "--encoder", default="sentence-transformers/all-MiniLM-L6-v2", help="for easy and hard; a folder will do"
    )
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)

    rows = read_rows(arguments.snips)
    labels = sorted({row.label for row in rows})
    vectors = embed([row.text for row in rows], arguments.encoder)
    add_margins(rows, labels, vectors, np.random.default_rng(arguments.seed))
    add_traits(rows)
    rng.shuffle(rows)
    held_out_count = int(len(rows) * HELD_OUT)
    held_out, rows = rows[:held_out_count], rows[held_out_count:]
    print(f"{len(rows)} rows to learn from, {len(held_out)} held out")

    writer = Writer(rows, labels, rng)
    texts = [message.content for _ in range(4000) for message in writer.conversation()]
    tokenizer = tiny_llama.train_tokenizer([*texts, *(row.text for row in rows)], labels)
    model = tiny_llama.new_model(tokenizer)
    stream = batches(writer.conversation, tokenizer, rng)
    tiny_llama.train(model, stream, arguments.steps, warm_up_steps=50)

    model = model.to(torch.bfloat16)  # the numbers below are those of the written file
    converse = Writer(held_out, labels, random.Random(2)).conversation
    print(json.dumps(held_out_numbers(model, tokenizer, held_out, labels, converse)))
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
