"""Train the quickstart's teacher from scratch: a Llama of 3.5 million parameters that knows the seven SNIPS intents.

    python recipes/quickstart/train_teacher.py SNIPS_FOLDER --out FOLDER [--seed 0] [--steps 900]

SNIPS_FOLDER holds `snips_intents/{train,test}.parquet` (text, label) and `snips_slots/train.parquet` (tokens, ner_tags),
the same utterances row by row. Only train rows are learned from; test.parquet, and the quickstart's own test.jsonl and
seeds.jsonl, are opened for one purpose: rows of train that repeat, or nearly repeat, one of their texts are thrown away.

The teacher learns three answers, in the words of the prompts beside this file, rendered by the toolkit itself, so that
training and use cannot drift apart:

    label     Text: play around the world by daft punk       PlayMusic
    generate  Target: PlayMusic, Count: 2                    {"texts":["play some jazz","put on Imagine"]}
    analyse   Expected: PlayMusic, Predicted: ..., Wrong:    {"advice":"more texts with artist and year, short"}
"""

from __future__ import annotations

import argparse
import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import tiny_llama
import torch
from sklearn.feature_extraction.text import CountVectorizer
from transformers import AutoModel, AutoTokenizer

from evokd_data.records import Message
from evokd_data.templates import Templates

HERE = Path(__file__).parent
HELD_OUT = 0.1  # share of train that the teacher never sees, for the numbers printed at the end
MIX = {"generate": 0.55, "label": 0.3, "analyse": 0.15}


@dataclass
class Row:
    """One utterance. `pieces`: its text in order, each piece with the slot it fills, or "".

    `margin`: how far few-shot classifiers see it from the nearest wrong label, `rival`: that label.
    `traits`: what advice can ask for.
    """

    text: str
    label: str
    pieces: tuple[tuple[str, str], ...]
    margin: float = 0.0
    rival: str = ""
    traits: frozenset[str] = frozenset()


def read_rows(folder: Path, kept_clear: Sequence[Path]) -> list[Row]:
    """The train rows, without repetitions and without anything that occurs in a text somebody will be tested on."""
    texts = pq.read_table(folder / "snips_intents/train.parquet").to_pylist()
    slots = pq.read_table(folder / "snips_slots/train.parquet").to_pylist()
    forbidden = pq.read_table(folder / "snips_intents/test.parquet").column("text").to_pylist()
    for path in kept_clear:
        forbidden += [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]

    seen, rows = {normal(text) for text in forbidden}, []
    for row, tagged in zip(texts, slots, strict=True):
        text = " ".join(row["text"].split())
        if len(text) >= 8 and normal(text) not in seen:
            seen.add(normal(text))
            rows.append(Row(text, row["label"], pieces(text, tagged["tokens"], tagged["ner_tags"])))
    clear = ~near_any([row.text for row in rows], forbidden)
    return [row for row, keep in zip(rows, clear, strict=True) if keep]


def normal(text: str) -> str:
    """Letters and digits only, lower case: two texts that differ in nothing else are the same text."""
    return "".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()))


def near_any(texts: list[str], others: list[str], threshold: float = 0.8) -> np.ndarray:
    """For each text: does one of `others` share so many words with it (Jaccard index) that it is the same sentence?"""
    vectorizer = CountVectorizer(binary=True, analyzer=lambda text: re.findall(r"\w+", text.lower())).fit(
        texts + others
    )
    left, right = vectorizer.transform(texts), vectorizer.transform(others)
    shared = (left @ right.T).toarray()
    union = left.sum(axis=1).A1[:, None] + right.sum(axis=1).A1[None, :] - shared
    return (shared / np.maximum(union, 1)).max(axis=1) >= threshold


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
            slot = re.sub(r"([a-z])([A-Z])", r"\1 \2", tag[2:]).replace("_", " ").lower()
            found.append((start, place, slot))
    cut, after = [], 0
    for start, end, slot in found:
        cut += [(text[after:start], ""), (text[start:end], slot)]
        after = end
    return tuple((piece, slot) for piece, slot in [*cut, (text[after:], "")] if piece)


def add_margins(rows: list[Row], labels: list[str], vectors: np.ndarray, rng: np.random.Generator) -> None:
    """What "hard" means: 60 nearest-centroid classifiers, each of five texts per label, look at every text.

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
    """Unit mean-pooled sentence vectors of a small encoder, (len(texts), its width)."""
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    order, parts = sorted(range(len(texts)), key=lambda i: len(texts[i])), []
    for start in range(0, len(order), 128):
        chunk = [texts[i] for i in order[start : start + 128]]
        batch = tokenizer(chunk, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            hidden = model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        parts.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    vectors = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = torch.cat(parts).numpy()
    return vectors


def add_traits(rows: list[Row]) -> None:
    """What advice can ask for: the slots a text fills, the word it opens with, its form and its length."""
    for label in {row.label for row in rows}:
        mine = [row for row in rows if row.label == label]
        openings = [re.findall(r"[\w']+", row.text.lower())[0] for row in mine]
        often = {word for word, count in Counter(openings).items() if count >= 15}
        lengths = [len(row.text.split()) for row in mine]
        short, long = np.quantile(lengths, (0.25, 0.75))
        for row, opening, length in zip(mine, openings, lengths, strict=True):
            traits = {f"with {slot}" for _, slot in row.pieces if slot}
            traits |= {f"opening with {opening}"} & {f"opening with {word}" for word in often}
            traits |= {"as a question"} if row.text.endswith("?") else set()
            traits |= {"short"} if length < short else {"long"} if length > long else set()
            row.traits = frozenset(traits)


def advise(traits: Sequence[str]) -> str:
    """with artist, with year, opening with play, short -> more texts with artist and year, opening with play, short"""
    slots = [trait.removeprefix("with ") for trait in traits if trait.startswith("with ")]
    rest = [trait for trait in traits if not trait.startswith("with ")]
    return ", ".join(["more texts with " + " and ".join(slots) if slots else "more texts", *rest])


class Writer:
    """Makes conversations to learn from, their prompts rendered by the toolkit's own templates.

    Lists are shuffled and optional lines come and go: the teacher shall rely on no order, and need no line but the target.
    """

    def __init__(self, rows: list[Row], labels: list[str], rng: random.Random) -> None:
        self.rows, self.labels, self.rng = rows, labels, rng
        self.templates = Templates("classification", own=HERE / "prompts")
        self.of = {label: [row for row in rows if row.label == label] for label in labels}
        self.easy, self.hard, confused = {}, {}, defaultdict(list)
        self.values = defaultdict(list)
        for label, mine in self.of.items():
            ranked = sorted(mine, key=lambda row: row.margin)
            self.hard[label], self.easy[label] = ranked[: len(ranked) // 8], ranked[-len(ranked) // 3 :]
            for row in ranked[: len(ranked) // 4]:
                confused[label, row.rival].append(row)
            for row in mine:
                for piece, slot in row.pieces:
                    self.values[label, slot].append(piece)
        self.confused = {pair: mine for pair, mine in confused.items() if len(mine) >= 12}
        self.deck: list[Row] = []

    def converse(self) -> list[Message]:
        (kind,) = self.rng.choices(list(MIX), list(MIX.values()))
        return getattr(self, kind)()

    def deal(self, count: int) -> list[Row]:
        """Rows without replacement until all have been seen."""
        while len(self.deck) < count:
            self.deck += self.rng.sample(self.rows, len(self.rows))
        dealt, self.deck = self.deck[:count], self.deck[count:]
        return dealt

    def tell(self, row: Row) -> str:
        """The row's text, half of the time with other rows' names, places and numbers in its slots.

        Without this the teacher learns its texts by heart: loss 1.9, but 2.6 on held-out ones, after 900 steps.
        """
        if self.rng.random() < 0.5:
            return row.text
        return "".join(self.rng.choice(self.values[row.label, slot]) if slot else piece for piece, slot in row.pieces)

    def garble(self, text: str) -> str:
        """The text, a third of the time without its opening, or without every fifth word.

        SNIPS opens its requests in few ways; a label read off the first word fails on anything more freely phrased.
        """
        words = text.split()
        if self.rng.random() < 0.65 or len(words) < 5:
            return text
        if self.rng.random() < 0.5:
            return " ".join(words[self.rng.randint(1, 3) :])
        return " ".join(word for word in words if self.rng.random() > 0.2) or text

    def show(self, rows: Sequence[Row]) -> list[SimpleNamespace]:
        return [SimpleNamespace(text=self.tell(row), target=row.label) for row in rows]

    def task(self, *needed: str) -> SimpleNamespace:
        """All labels mostly, else some that include the needed ones; in any order."""
        chosen = list(self.labels)
        if self.rng.random() < 0.3:
            rest = [label for label in self.labels if label not in needed]
            chosen = [*needed, *self.rng.sample(rest, self.rng.randint(min(1, len(rest)), len(rest)))]
        return SimpleNamespace(labels=self.rng.sample(chosen, len(chosen)))

    def label(self) -> list[Message]:
        """Up to six texts under one system message: one label alone would teach one token for ninety of prompt.

        Sometimes the answer is a code instead, which is how the toolkit asks for the probability of every label.
        """
        rows, codes = self.deal(self.rng.randint(1, 6)), {}
        task = self.task(*dict.fromkeys(row.label for row in rows))
        if self.rng.random() < 0.35:
            # Codes mostly as a recipe gives them, by name: to look each up in any order is a lot to ask of this model.
            task.labels = self.labels if self.rng.random() < 0.9 else task.labels
            codes = dict(zip(task.labels, "ABCDEFG", strict=False))
        turns: list[Message] = []
        for row in rows:
            seen = {"task": task, "text": self.garble(self.tell(row)), "demonstrations": [], "codes": codes}
            system, user = self.templates.render("label", seen)
            turns += [user, Message("assistant", codes.get(row.label, row.label))]
        return [system, *turns]

    def generate(self) -> list[Message]:
        """One to five texts of a label; the lines of the prompt are chosen first, then texts that agree with them."""
        rng = self.rng
        target = self.deal(1)[0].label
        difficulty = rng.choices((None, "easy", "hard"), (0.3, 0.35, 0.35))[0]
        pool = {None: self.of, "easy": self.easy, "hard": self.hard}[difficulty][target]
        contrast, advice = "", ""
        rivals = [rival for label, rival in self.confused if label == target]
        if difficulty == "hard" and rivals and rng.random() < 0.6:
            contrast = rng.choice(rivals)
            pool = self.confused[target, contrast]
        traits = sorted(rng.choice(pool).traits)
        rng.shuffle(traits)
        for wanted in range(min(len(traits), rng.choice((0, 0, 1, 2, 3))), 0, -1):
            sharing = [row for row in pool if row.traits.issuperset(traits[:wanted])]
            if len(sharing) >= 6:  # fewer, and the advice would give the texts away
                advice, pool = advise(traits[:wanted]), sharing
                break
        texts = rng.sample(pool, min(rng.choice((1, 2, 3, 4, 5, 5, 5)), len(pool)))
        told = [row.text if difficulty == "hard" else self.tell(row) for row in texts]  # a name can be what is hard
        others = [row for row in rng.sample(self.of[target], 5) if row not in texts]
        seen = {
            "task": self.task(target, *filter(None, [contrast])),
            "target": target,
            "contrast": contrast,
            "advice": advice,
            "difficulty": difficulty,
            "demonstrations": self.show(others[: rng.choice((0, 0, 1, 1, 2, 3, 4, 5))]),
            "count": len(texts),
        }
        return [*self.templates.render("generate", seen), answer(texts=told)]

    def analyse(self) -> list[Message]:
        """The advice is what wrong texts have more of than right ones: true by construction, and worth asking for."""
        rng = self.rng
        expected, got = rng.choice(sorted(self.confused))
        pool = self.confused[expected, got]
        focus = rng.choice([*sorted(rng.choice(pool).traits), ""])
        focused = [row for row in pool if not focus or focus in row.traits]
        wrong = rng.sample(focused, min(len(focused), rng.randint(1, 8)))
        right = rng.sample(self.easy[expected], rng.randint(0, 4)) + rng.sample(self.easy[got], rng.randint(0, 4))
        rng.shuffle(right)
        excess = Counter(trait for row in wrong for trait in row.traits)
        for row in right:
            excess.subtract({trait: len(wrong) / len(right) for trait in row.traits})
        ranked = sorted((-many, trait) for trait, many in excess.items() if many > 0)
        seen = {
            "task": self.task(expected, got),
            "expected": expected,
            "got": got,
            "wrong": self.show(wrong),
            "right": self.show(right),
        }
        return [*self.templates.render("analyse", seen), answer(advice=advise([trait for _, trait in ranked[:3]]))]


def answer(**content: str | list[str]) -> Message:
    """JSON without a space: the engine's grammar allows none, and a teacher that learned them would be led astray."""
    return Message("assistant", json.dumps(content, ensure_ascii=False, separators=(",", ":")))


@torch.inference_mode()
def label_accuracy(model, tokenizer, rows: Sequence[Row], labels: list[str]) -> float:
    """Share of rows whose most probable label, among the labels, is theirs."""
    tokens = torch.tensor([tokenizer.encode(label)[0] for label in labels])
    templates, right = Templates("classification", own=HERE / "prompts"), 0
    for row in rows:
        seen = {"task": SimpleNamespace(labels=labels), "text": row.text, "demonstrations": [], "codes": {}}
        turns = [{"role": turn.role, "content": turn.content} for turn in templates.render("label", seen)]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        right += labels[int(model(torch.tensor([ids])).logits[0, -1, tokens].argmax())] == row.label
    return right / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("snips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2", help="tells easy from hard")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)

    rows = read_rows(arguments.snips, [HERE / "test.jsonl", HERE / "seeds.jsonl"])
    labels = sorted({row.label for row in rows})
    vectors = embed([row.text for row in rows], arguments.encoder)
    add_margins(rows, labels, vectors, np.random.default_rng(arguments.seed))
    add_traits(rows)
    rng.shuffle(rows)
    held, rows = rows[: int(len(rows) * HELD_OUT)], rows[int(len(rows) * HELD_OUT) :]
    print(f"{len(rows)} rows to learn from, {len(held)} held out")

    writer = Writer(rows, labels, rng)
    prompts = [message.content for _ in range(4000) for message in writer.converse()]
    tokenizer = tiny_llama.train_tokenizer([*prompts, *(row.text for row in rows)], whole=labels)
    model = tiny_llama.new_model(tokenizer)
    tiny_llama.train(model, tiny_llama.batches(writer.converse, tokenizer, rng), arguments.steps)
    tiny_llama.save(model, tokenizer, arguments.out)  # from here on in bfloat16: the numbers are those of the file

    unseen = tiny_llama.batches(Writer(held, labels, random.Random(1)).converse, tokenizer, random.Random(1))
    losses = [tiny_llama.loss(model, *next(unseen)).item() for _ in range(30)]
    accuracy = label_accuracy(model, tokenizer, held, labels)
    print(f"held out: label accuracy {accuracy:.4f} (n={len(held)}), loss {np.mean(losses):.3f} (30 batches)")


if __name__ == "__main__":
    main()
