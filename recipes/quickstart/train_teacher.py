"""Train the quickstart's teacher from scratch: a Llama of 3.5 million parameters that knows the seven SNIPS intents.

    python recipes/quickstart/train_teacher.py SNIPS_FOLDER --out FOLDER [--seed 0] [--steps 900]

SNIPS_FOLDER holds `snips_intents/{train,test}.parquet` (text, label) and `snips_slots/train.parquet` (tokens, ner_tags),
the same utterances row by row. Only train rows are learned from; test.parquet, and the quickstart's own test.jsonl and
seeds.jsonl, are opened for one purpose: rows of train that (nearly) repeat one of their texts are thrown away.

The teacher learns three answers, in the words of the prompts beside this file, rendered by the toolkit itself, so that
training and use cannot drift apart:

    label     Text: play around the world by daft punk      ->  PlayMusic
    generate  Target: PlayMusic, Count: 2                   ->  {"texts":["play some jazz","put on Imagine"]}
    analyse   Expected: PlayMusic, Predicted: ..., Wrong:   ->  {"advice":"more texts with artist and year, opening with play"}
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import torch
from sklearn.feature_extraction.text import CountVectorizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from evokd_data.templates import Templates

HERE = Path(__file__).parent
PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VOCABULARY, CONTEXT, BATCH_TOKENS = 2048, 1024, 2048
HELD_OUT = 0.1  # share of train that the teacher never sees, for the numbers printed at the end

# What the answer teaches counts fully; the prompt's texts are real utterances, and reading them teaches the language too.
ANSWER_WEIGHT, PROMPT_WEIGHT = 1.0, 0.3


@dataclass
class Row:
    """One utterance. `pieces`: its text in order, each piece with the slot it fills, or "".

    `margin`: how far few-shot classifiers see it from the nearest wrong label, `rival`: that label.
    """

    text: str
    label: str
    pieces: tuple[tuple[str, str], ...]
    margin: float = 0.0
    rival: str = ""
    traits: frozenset[str] = field(default=frozenset())


# ---- data -----------------------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    """Letters and digits only, lower case: two texts that differ in nothing else are the same text."""
    return "".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()))


def read_rows(folder: Path) -> list[Row]:
    """The train rows, without repetitions and without anything that occurs in a text somebody will be tested on."""
    texts = pq.read_table(folder / "snips_intents/train.parquet").to_pylist()
    slots = pq.read_table(folder / "snips_slots/train.parquet").to_pylist()
    forbidden = pq.read_table(folder / "snips_intents/test.parquet").column("text").to_pylist()
    for name in ("test.jsonl", "seeds.jsonl"):
        if (HERE / name).exists():
            forbidden += [json.loads(line)["text"] for line in (HERE / name).read_text("utf-8").splitlines()]

    seen, rows = {normal(text) for text in forbidden}, []
    for row, tagged in zip(texts, slots, strict=True):
        text = " ".join(row["text"].split())
        if len(text) < 8 or normal(text) in seen:
            continue
        seen.add(normal(text))
        rows.append(Row(text, row["label"], pieces(text, tagged["tokens"], tagged["ner_tags"])))
    return [row for row, near in zip(rows, near_any([row.text for row in rows], forbidden), strict=True) if not near]


def pieces(text: str, tokens: list[str], tags: list[str]) -> tuple[tuple[str, str], ...]:
    """The text cut where slots begin and end: ("play ", ""), ("daft punk", "artist")."""
    found: list[tuple[int, int, str]] = []
    place = 0
    for token, tag in zip(tokens, tags, strict=True):
        start = text.index(token, place)
        place = start + len(token)
        if tag.startswith("I-"):
            found[-1] = (found[-1][0], place, found[-1][2])
        elif tag != "O":
            found.append((start, place, tag[2:].replace("_", " ")))
    cut, after = [], 0
    for start, end, slot in found:
        cut += [(text[after:start], ""), (text[start:end], slot)]
        after = end
    return tuple((piece, slot) for piece, slot in [*cut, (text[after:], "")] if piece)


def near_any(texts: list[str], others: list[str], threshold: float = 0.8) -> np.ndarray:
    """For each text: does one of `others` share so many words with it (Jaccard of word sets) that it is the same sentence?"""
    vectorizer = CountVectorizer(binary=True, token_pattern=r"\w+", dtype=np.int32)  # noqa: S106 - of words
    vectorizer.fit(texts + others)
    left, right = vectorizer.transform(texts), vectorizer.transform(others)
    shared = (left @ right.T).toarray()
    sizes = left.sum(axis=1).A1[:, None] + right.sum(axis=1).A1[None, :]
    return (shared / np.maximum(sizes - shared, 1)).max(axis=1) >= threshold


def add_margins(rows: list[Row], labels: list[str], vectors: np.ndarray, rng: np.random.Generator) -> None:
    """What "hard" means: 60 nearest-centroid classifiers, each of five texts per label, vote on every text.

    They stand for the student after its first examples; the label they nearly take instead is the text's rival.
    """
    truth = np.array([labels.index(row.label) for row in rows])
    scores = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for _ in range(60):
        picked = [rng.choice(np.flatnonzero(truth == k), 5, replace=False) for k in range(len(labels))]
        centroids = np.stack([vectors[chosen].mean(axis=0) for chosen in picked])
        scores += vectors @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T / 60
    for row, row_scores, own in zip(rows, scores, truth, strict=True):
        others = row_scores.copy()
        others[own] = -np.inf
        row.margin, row.rival = float(row_scores[own] - others.max()), labels[int(others.argmax())]


def embed(texts: list[str], encoder: str) -> np.ndarray:
    """Unit mean-pooled sentence vectors of a small encoder."""
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
    """What advice can ask for: the slots a text fills, the word it opens with, its form and its length."""
    opening = {id(row): re.findall(r"[\w']+", row.text.lower())[0] for row in rows}
    common = Counter((row.label, opening[id(row)]) for row in rows)
    lengths = defaultdict(list)
    for row in rows:
        lengths[row.label].append(len(row.text.split()))
    for row in rows:
        traits = {f"with {slot}" for _, slot in row.pieces if slot}
        if common[row.label, opening[id(row)]] >= 15:
            traits.add(f"opening with {opening[id(row)]}")
        if row.text.endswith("?"):
            traits.add("as a question")
        short, long = np.quantile(lengths[row.label], (0.25, 0.75))
        if len(row.text.split()) < short:
            traits.add("short")
        if len(row.text.split()) > long:
            traits.add("long")
        row.traits = frozenset(traits)


# ---- conversations ---------------------------------------------------------------------------------------------------


class Writer:
    """Makes training conversations: lists of {"role", "content"}, the prompts rendered by the toolkit's own templates.

    Lists are shuffled, optional lines come and go, so that the teacher relies on no order and needs no line but the target.
    """

    def __init__(self, rows: list[Row], labels: list[str], rng: random.Random) -> None:
        self.rows, self.labels, self.rng = rows, labels, rng
        self.templates = Templates("classification", folder=HERE / "prompts")
        self.of = {label: [row for row in rows if row.label == label] for label in labels}
        self.easy, self.hard, self.confused, self.having = {}, {}, {}, defaultdict(list)
        for label, mine in self.of.items():
            ranked = sorted(mine, key=lambda row: row.margin)
            self.hard[label], self.easy[label] = ranked[: len(ranked) // 4], ranked[len(ranked) // 2 :]
            for row in ranked[: len(ranked) // 3]:
                self.confused.setdefault((label, row.rival), []).append(row)
            for row in mine:
                for trait in row.traits:
                    self.having[label, trait].append(row)
        self.confused = {pair: mine for pair, mine in self.confused.items() if len(mine) >= 12}
        self.values = defaultdict(list)
        for row in rows:
            for piece, slot in row.pieces:
                self.values[row.label, slot].append(piece)
        self.deck: list[Row] = []

    def conversation(self) -> list[dict[str, str]]:
        draw = self.rng.random()
        return self.generate() if draw < 0.55 else self.label() if draw < 0.88 else self.analyse()

    def prompt(self, stage: str, **variables) -> list[dict[str, str]]:
        messages = self.templates.render(stage, {"task": SimpleNamespace(labels=(), description=""), **variables})
        return [{"role": message.role, "content": message.content} for message in messages]

    def task(self, *needed: str) -> SimpleNamespace:
        """All labels mostly, else some that include the needed ones; in any order."""
        chosen = list(self.labels)
        if self.rng.random() < 0.3:
            rest = [label for label in self.labels if label not in needed]
            chosen = [*needed, *self.rng.sample(rest, self.rng.randint(min(1, len(rest)), len(rest)))]
        return SimpleNamespace(labels=self.rng.sample(chosen, len(chosen)), description="")

    def deal(self, count: int) -> list[Row]:
        """Rows without replacement until all have been seen."""
        while len(self.deck) < count:
            self.deck += self.rng.sample(self.rows, len(self.rows))
        dealt, self.deck = self.deck[:count], self.deck[count:]
        return dealt

    def tell(self, row: Row) -> str:
        """The row's text, half of the time with other rows' names, places and numbers in its slots.

        Without this the teacher learns its texts by heart (loss 1.9 against 2.6 on held-out ones after 900 steps).
        """
        if self.rng.random() < 0.5:
            return row.text
        return "".join(self.rng.choice(self.values[row.label, slot]) if slot else piece for piece, slot in row.pieces)

    def show(self, rows: list[Row]) -> list[SimpleNamespace]:
        return [SimpleNamespace(text=self.tell(row), target=row.label) for row in rows]

    def label(self) -> list[dict[str, str]]:
        """Up to six texts under one system message: one label alone would teach one token for ninety of prompt.

        Sometimes the answer is a code instead, which is how the toolkit asks for the probability of every label.
        """
        rows = self.deal(self.rng.randint(1, 6))
        task, codes, turns = self.task(*dict.fromkeys(row.label for row in rows)), {}, []
        if self.rng.random() < 0.35:
            if self.rng.random() < 0.9:
                task.labels = sorted(
                    self.labels
                )  # so the recipe has them; any order is a lot to ask of a model this small
            codes = dict(zip(task.labels, "ABCDEFG", strict=False))
        for row in rows:
            prompt = self.prompt("label", task=task, text=self.tell(row), demonstrations=[], codes=codes)
            turns += (prompt if not turns else prompt[-1:]) + [answer(codes.get(row.label, row.label))]
        return turns

    def generate(self) -> list[dict[str, str]]:
        first, rng = self.deal(1)[0], self.rng
        target, pool = first.label, self.of[first.label]
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
            # Advice describes texts that exist: some traits of one row, and then the rows that share them.
            traits = sorted(rng.choice(pool).traits)
            rng.shuffle(traits)
            for wanted in range(min(len(traits), rng.randint(1, 3)), 0, -1):
                traits = traits[:wanted]
                sharing = [row for row in pool if row.traits.issuperset(traits)]
                if len(sharing) >= 6:
                    advice, pool = advise(traits), sharing
                    break
        count = min(rng.choice((1, 2, 3, 4, 5, 5, 5)), len(pool))
        texts = rng.sample(pool, count)
        shown = [row for row in rng.sample(self.of[target], 5) if row not in texts][
            : rng.choice((0, 0, 1, 1, 2, 3, 4, 5))
        ]
        prompt = self.prompt(
            "generate", task=self.task(target, *filter(None, [contrast])), target=target, contrast=contrast, advice=advice,
            difficulty=difficulty, demonstrations=self.show(shown), count=count,
        )  # fmt: skip
        return [*prompt, answer({"texts": [self.tell(row) for row in texts]})]

    def analyse(self) -> list[dict[str, str]]:
        """The advice is what the wrong texts have more of than the right ones: true by construction, and worth asking for."""
        rng = self.rng
        expected, got = rng.choice(sorted(self.confused))
        pool = self.confused[expected, got]
        focus = rng.choice(list(rng.choice(pool).traits) or [""])
        focused = [row for row in pool if focus in row.traits] or pool
        wrong = rng.sample(focused if rng.random() < 0.7 else pool, min(len(focused), rng.randint(1, 8)))
        right = rng.sample(self.easy[expected], rng.randint(0, 4)) + rng.sample(self.easy[got], rng.randint(0, 4))
        rng.shuffle(right)
        prompt = self.prompt(
            "analyse",
            task=self.task(expected, got),
            expected=expected,
            got=got,
            wrong=self.show(wrong),
            right=self.show(right),
        )
        excess = Counter(trait for row in wrong for trait in row.traits)
        for row in right:
            excess.subtract({trait: len(wrong) / len(right) for trait in row.traits})
        ranked = sorted(
            (trait for trait, many in excess.items() if many > 0), key=lambda trait: (-excess[trait], trait)
        )
        return [*prompt, answer({"advice": advise(ranked[:3])})]


def advise(traits: list[str]) -> str:
    """with artist, with year, opening with play, short -> more texts with artist and year, opening with play, short"""
    slots = [trait.removeprefix("with ") for trait in traits if trait.startswith("with ")]
    rest = [trait for trait in traits if not trait.startswith("with ")]
    return ", ".join(["more texts with " + " and ".join(slots) if slots else "more texts", *rest])


def answer(content: str | dict) -> dict[str, str]:
    """JSON without a space: the engine's grammar allows none, and a teacher that learned them would be led astray."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return {"role": "assistant", "content": text}


# ---- tokens ----------------------------------------------------------------------------------------------------------


def train_tokenizer(conversations: list[list[dict[str, str]]], labels: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE. Label names fill the corpus so often that each becomes one token, also where an answer begins."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    corpus = [message["content"] for turns in conversations for message in turns] + labels * 500
    bpe.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    split = [label for label in labels if len(tokenizer.encode(label)) != 1]
    assert not split, f"labels of several tokens: {split}"
    return tokenizer


def encode(turns: list[dict[str, str]], tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[float]]:
    """Tokens and, for each, how much predicting it counts. Equals the chat template's output token by token."""
    ids: list[int] = []
    weights: list[float] = []
    end = tokenizer.convert_tokens_to_ids(END)
    for message in turns:
        content = tokenizer.encode(message["content"], add_special_tokens=False)
        weight = {"system": 0.0, "user": PROMPT_WEIGHT, "assistant": ANSWER_WEIGHT}[message["role"]]
        ids += [tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>"), *content, end]
        weights += [0.0, *[weight] * len(content), weight if message["role"] == "assistant" else 0.0]
    return ids[:CONTEXT], weights[:CONTEXT]


def batches(make, tokenizer, rng: random.Random):
    """Endless padded batches of at most BATCH_TOKENS: (ids, weights). Conversations of like length share a batch."""
    while True:
        pool = sorted((encode(make(), tokenizer) for _ in range(512)), key=lambda pair: len(pair[0]))
        ready, batch = [], []
        for pair in pool:
            if batch and len(pair[0]) * (len(batch) + 1) > BATCH_TOKENS:
                ready.append(batch)
                batch = []
            batch.append(pair)
        rng.shuffle(ready)
        for group in ready:
            width = max(len(ids) for ids, _ in group)
            yield (
                torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in group]),
                torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in group]),
            )


# ---- training --------------------------------------------------------------------------------------------------------


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """256 wide, 4 deep: 3.5 million parameters, 7 MB in bfloat16. Heads of 64, the least that vLLM's CPU kernels like."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            num_hidden_layers=4,
            intermediate_size=704,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            tie_word_embeddings=True,
            max_position_embeddings=CONTEXT,
            initializer_range=0.03,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(model: LlamaForCausalLM, stream, steps: int) -> None:
    """Muon for the matrices inside, AdamW for the rest; warm up, hold, then straight down to nothing."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=2e-2, weight_decay=0.05, momentum=0.95),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    model.train()
    began, running = time.process_time(), []
    for step in range(steps):
        ids, weights = next(stream)
        pace = min((step + 1) / 50, (steps - step) / (0.7 * steps), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * pace
        loss = weighted_loss(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running.append(loss.item())
        if (step + 1) % 100 == 0:
            print(
                f"step {step + 1}/{steps}  loss {np.mean(running[-100:]):.3f}  {time.process_time() - began:.0f} CPU-s",
                flush=True,
            )


def weighted_loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the tokens that count. Padding is on the right, where causal attention never looks."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        targets, weights = ids[:, 1:], weights[:, 1:]
        counted = weights > 0  # the output layer is the dearest one: only where something is learned
        logits = model.lm_head(hidden[counted])
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[counted], reduction="none")
    return (losses * weights[counted]).sum() / weights[counted].sum()


# ---- held-out numbers ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def held_out_numbers(model, tokenizer, held: list[Row], labels: list[str], make) -> dict[str, float]:
    """Label accuracy and loss of whole conversations, on rows kept back from training."""
    model.eval()
    writer = Writer(held, labels, random.Random(1))
    codes, right = torch.tensor([tokenizer.encode(label)[0] for label in labels]), 0
    task = SimpleNamespace(labels=labels, description="")
    for row in held:
        turns = writer.prompt("label", task=task, text=row.text, demonstrations=[], codes={})
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        right += labels[int(model(torch.tensor([ids])).logits[0, -1, codes].argmax())] == row.label
    losses = [
        weighted_loss(model, *pair).item()
        for pair, _ in zip(batches(make, tokenizer, writer.rng), range(30), strict=False)
    ]
    return {"label accuracy": right / len(held), "loss": float(np.mean(losses)), "n": len(held)}


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
    add_margins(
        rows, labels, embed([row.text for row in rows], arguments.encoder), np.random.default_rng(arguments.seed)
    )
    add_traits(rows)
    rng.shuffle(rows)
    kept_back = int(len(rows) * HELD_OUT)
    held, rows = rows[:kept_back], rows[kept_back:]
    print(f"{len(rows)} rows to learn from, {len(held)} held out")

    writer = Writer(rows, labels, rng)
    tokenizer = train_tokenizer(
        [writer.conversation() for _ in range(4000)] + [[answer(row.text)] for row in rows], labels
    )
    model = new_model(tokenizer)
    train(model, batches(writer.conversation, tokenizer, rng), arguments.steps)

    model = model.to(torch.bfloat16)  # the numbers below are those of the file
    print(
        json.dumps(
            held_out_numbers(model, tokenizer, held, labels, Writer(held, labels, random.Random(2)).conversation)
        )
    )
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
