"""Train the teacher of the slots quickstart from scratch: 3.5 million parameters that mark the spans of two SNIPS intents.

    python recipes/quickstart-slots/train_teacher.py DATASETS --out FOLDER [--seed 0] [--steps 900] [--init FOLDER]

DATASETS holds `snips_intents/{train,test}.parquet` (text, label) and `snips_slots/train.parquet` (tokens, ner_tags), the
same utterances row by row. Only train rows of BookRestaurant and GetWeather are learned from; the test sets, and the
seeds beside this file, are opened for one purpose: rows of train that repeat, or nearly repeat, one of their texts are
thrown away. SNIPS' cities are small towns: cities.txt adds 191 that people ask for, none of them of our seeds and tests.

The teacher learns four answers, in the words of the prompts beside this file, rendered by the toolkit itself, so that
training and use cannot drift apart:

    label     Text: rain in Bath today?  Again: ...  [weather: rain] in [city: Bath] [time: today]?
              the same, asked for JSON               {"entities":[{"text":"rain","type":"weather"}, ...]}
    generate  Target: city, Count: 2                 {"texts":["will it rain in Bath","book a pub in Rome"]}
    analyse   Mistake: missed, Expected: city, ...   {"advice":"more texts with city and time, short"}
"""

from __future__ import annotations

import argparse
import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tiny_llama
import torch
from sklearn.feature_extraction.text import CountVectorizer
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from evokd_data.records import Message, Origin, Sample, Span
from evokd_data.tasks import marking
from evokd_data.tasks.ner import NER
from evokd_data.templates import Templates

HERE = Path(__file__).parent
INTENTS = ("BookRestaurant", "GetWeather")
TYPE_OF = {
    "city": "city",
    "state": "state",
    "country": "country",
    "timeRange": "time",
    "party_size_number": "party size",
    "restaurant_type": "restaurant type",
    "condition_description": "weather",
    "condition_temperature": "weather",
}
"""Slot of SNIPS -> type of ours; spans of other slots are not marked."""

TYPES = tuple(dict.fromkeys(TYPE_OF.values()))
MARKS, LIST = NER(types=TYPES), NER(types=TYPES, labelling="json")
HELD_OUT = 0.1  # share of train that the teacher never sees, for the numbers printed at the end
MIX = {"mark": 0.6, "list": 0.12, "generate": 0.22, "analyse": 0.06}

PARTS = (
    *('{"entities":[{"text":"', '{"entities":[]}', '","type":"', '"},{"text":"', '"}]}', '{"texts":["', '{"advice":"'),
    *('","', '"]}', '"}'),
)
OPENINGS = tuple(f"{blank}[{type_}:" for type_ in TYPES for blank in ("", " "))
PLACES = ("city", "state", "country")
SEAMS = "|".join([*(re.escape(part) for part in PARTS), rf" ?\[(?:{'|'.join(TYPES)}):", r"\]"])
"""A mark's opening is one token, and what it marks is the tokens that stand in the text, the blank before them included."""


@dataclass
class Row:
    """One utterance. `pieces`: its text in order, each piece with the slot of SNIPS it fills, or "".

    `traits`: what advice can ask for. `hardness`: how rare its marked words are.
    """

    pieces: tuple[tuple[str, str], ...]
    label: str
    types: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()
    hardness: float = 0.0

    @property
    def text(self) -> str:
        return "".join(piece for piece, _ in self.pieces)


def sample_of(pieces: Sequence[tuple[str, str]]) -> Sample:
    """The pieces put together, with a span for each that fills a slot of ours."""
    text, spans = "", []
    for piece, slot in pieces:
        if slot in TYPE_OF:
            spans.append(Span(len(text), len(text) + len(piece), TYPE_OF[slot], piece))
        text += piece
    return Sample("", text, tuple(spans), Origin(0, -1, 0, "snips"))


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
            cut = pieces(text, tagged["tokens"], tagged["ner_tags"])
            if not MARKS.check(text, sample_of(cut).target) and not set(text) & set("[]\\"):
                rows.append(Row(cut, row["label"]))
    clear = ~near_any([row.text for row in rows], forbidden)
    return [row for row, keep in zip(rows, clear, strict=True) if keep]


def prepared_rows(folder: Path) -> tuple[list[Row], list[Row]]:
    """What the teacher may learn from: rows of its intents, described, and rows of the other ones."""
    rows = read_rows(folder, [HERE / "test.jsonl", HERE / "seeds.jsonl"])
    own = [row for row in rows if row.label in INTENTS]
    describe(own)
    return own, [row for row in rows if row.label not in INTENTS]


def split(rows: list[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Rows held out, and rows to learn from."""
    shuffled = [*rows]
    random.Random(seed).shuffle(shuffled)
    kept_back = int(len(rows) * HELD_OUT)
    return shuffled[:kept_back], shuffled[kept_back:]


def test_samples(folder: Path) -> list[Sample]:
    """The test rows of the two intents, to be scored on; without those few whose spans end within a word."""
    texts = pq.read_table(folder / "snips_intents/test.parquet").to_pylist()
    slots = pq.read_table(folder / "snips_slots/test.parquet").to_pylist()
    samples = [
        sample_of(pieces(" ".join(row["text"].split()), tagged["tokens"], tagged["ner_tags"]))
        for row, tagged in zip(texts, slots, strict=True)
        if row["label"] in INTENTS
    ]
    return [sample for sample in samples if not MARKS.check(sample.text, sample.target)]


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
    """The text cut where slots begin and end: ("rain in ", ""), ("Bath", "city")."""
    found: list[tuple[int, int, str]] = []
    place = 0
    for token, tag in zip(tokens, tags, strict=True):
        start = text.index(token, place)
        place = start + len(token)
        if tag.startswith("I-"):
            found[-1] = (found[-1][0], place, found[-1][2])
        elif tag != "O":
            found.append((start, place, tag[2:]))
    cut, after = [], 0
    for start, end, slot in found:
        cut += [(text[after:start], ""), (text[start:end], slot)]
        after = end
    return tuple((piece, slot) for piece, slot in [*cut, (text[after:], "")] if piece)


def describe(rows: list[Row]) -> None:
    """What a prompt of `generate` can ask for: the types of a text, its opening, form and length, how rare its names are."""
    openings = [re.findall(r"[\w']+", row.text.lower())[0] for row in rows]
    often = {word for word, count in Counter(openings).items() if count >= 30}
    lengths = [len(row.text.split()) for row in rows]
    short, long = np.quantile(lengths, (0.25, 0.75))
    common = Counter(piece.lower() for row in rows for piece, slot in row.pieces if slot in TYPE_OF)
    for row, opening, length in zip(rows, openings, lengths, strict=True):
        spans = sample_of(row.pieces).target
        row.types = frozenset(span.type for span in spans)
        traits = {f"with {type_}" for type_ in row.types}
        traits |= {f"long {span.type}" for span in spans if len(span.surface.split()) >= 3}
        traits |= {f"opening with {opening}"} if opening in often else set()
        traits |= {"as a question"} if row.text.endswith("?") else set()
        traits |= {"short"} if length < short else {"long"} if length > long else set()
        row.traits = frozenset(traits)
        row.hardness = sum(len(s.surface.split()) - log(common[s.surface.lower()]) for s in spans) / max(1, len(spans))


def advise(traits: Sequence[str]) -> str:
    """with city, with time, opening with will, short -> more texts with city and time, opening with will, short"""
    types = [trait.removeprefix("with ") for trait in traits if trait.startswith("with ")]
    rest = [trait for trait in traits if not trait.startswith("with ")]
    return ", ".join(["more texts with " + " and ".join(types) if types else "more texts", *rest])


class Writer:
    """Makes conversations to learn from, their prompts rendered by the toolkit's own templates.

    Optional lines come and go: the teacher shall need no line but the target.
    """

    def __init__(self, rows: list[Row], others: list[Row], rng: random.Random) -> None:
        self.rows, self.others, self.rng = rows, others, rng
        self.templates = Templates("ner", folder=HERE / "prompts")
        self.values = defaultdict(list)
        for row in rows:
            for piece, slot in row.pieces:
                self.values[slot].append(piece)
        known = (HERE / "cities.txt").read_text("utf-8").splitlines()
        self.values["city"] += known * (len(self.values["city"]) // len(known))
        self.strange = [row.text for row in others if not sample_of(row.pieces).target]
        self.of = {type_: [row for row in rows if type_ in row.types] for type_ in TYPES}
        self.easy, self.hard = {}, {}
        for type_, mine in self.of.items():
            ranked = sorted(mine, key=lambda row: row.hardness)
            self.easy[type_], self.hard[type_] = ranked[: len(ranked) // 2], ranked[-len(ranked) // 4 :]
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

    def tell(self, row: Row, varied: float = 0.7) -> Sample:
        """The row, mostly with other rows' names, places and numbers in its slots: no text can be learned by heart.

        The one place of a text becomes now and then a place of another type: the name decides, not what stands around it.
        """
        told = row.pieces
        if self.rng.random() < varied:
            places = [slot for _, slot in told if slot in PLACES]
            if len(places) == 1 and self.rng.random() < 0.5:
                other = self.rng.choice(PLACES)
                told = tuple((piece, other if slot in PLACES else slot) for piece, slot in told)
            told = tuple((self.rng.choice(self.values[slot]) if slot else piece, slot) for piece, slot in told)
        return sample_of(told)

    def garble(self, sample: Sample) -> Sample:
        """Sometimes another beginning, small letters, strange words: to copy what nobody in SNIPS would say takes practice."""
        rng, text, spans = self.rng, sample.text, sample.target
        before = after = ""
        if rng.random() < 0.35:
            starts = [start for start, _ in marking.word_offsets(text) if not spans or start <= spans[0].start]
            cut = rng.choice(starts)
            text, spans = text[cut:], tuple(replace(s, start=s.start - cut, end=s.end - cut) for s in spans)
            if rng.random() < 0.6:
                before = " ".join(rng.choice(self.strange).split()[: rng.randint(1, 5)]) + " "
        if rng.random() < 0.15:
            after = rng.choice((", ", " ", ". ")) + " ".join(rng.choice(self.strange).split()[-rng.randint(1, 5) :])
        text = f"{before}{text}{after}"
        spans = tuple(replace(s, start=s.start + len(before), end=s.end + len(before)) for s in spans)
        if rng.random() < 0.15 and len(text) == len(text.lower()):
            text = text.lower()
        elif rng.random() < 0.4:
            text = text[0].upper() + text[1:]
        spans = tuple(replace(s, surface=text[s.start : s.end]) for s in spans)
        return replace(sample, text=text, target=spans)

    def mark(self, task: NER = MARKS) -> list[Message]:
        """Up to five texts under one system message: the prompt's share of the tokens is spent on texts."""
        turns: list[Message] = []
        rows = self.deal(self.rng.randint(1, 5))
        if self.rng.random() < 0.4:
            rows[-1] = self.rng.choice(self.others)
        for row in rows:
            sample = self.garble(self.tell(row) if row.label in INTENTS else sample_of(row.pieces))
            seen = {"task": task.describe(), "text": sample.text, "demonstrations": [], "codes": {}}
            system, user = self.templates.render("label", seen)
            turns += [*([] if turns else [system]), user, Message("assistant", str(task.show(sample)["target"]))]
        return turns

    def list(self) -> list[Message]:
        return self.mark(LIST)

    def generate(self) -> list[Message]:
        """One to five texts with a type; the lines of the prompt are chosen first, then texts that agree with them."""
        rng = self.rng
        target = rng.choice(TYPES)
        difficulty = rng.choices((None, "easy", "hard"), (0.2, 0.4, 0.4))[0]
        pool = {None: self.of, "easy": self.easy, "hard": self.hard}[difficulty][target]
        contrast, advice = "", ""
        if rng.random() < 0.25:
            rival = rng.choice([type_ for type_ in TYPES if type_ != target])
            both = [row for row in pool if rival in row.types]
            if len(both) >= 12:
                contrast, pool = rival, both
        traits = sorted(rng.choice(pool).traits - {f"with {target}"})
        rng.shuffle(traits)
        for wanted in range(min(len(traits), rng.choice((0, 0, 1, 2, 3))), 0, -1):
            sharing = [row for row in pool if row.traits.issuperset(traits[:wanted])]
            if len(sharing) >= 6:  # fewer, and the advice would give the texts away
                advice, pool = advise(traits[:wanted]), sharing
                break
        texts = rng.sample(pool, min(rng.choice((1, 2, 3, 4, 5, 5, 5)), len(pool)))
        others = [row for row in rng.sample(self.of[target], 5) if row not in texts]
        seen = {
            "task": MARKS.describe(),
            "target": target,
            "contrast": contrast,
            "advice": advice,
            "difficulty": difficulty,
            "demonstrations": [MARKS.show(self.tell(row)) for row in others[: rng.choice((0, 1, 2, 3, 3, 3))]],
            "count": len(texts),
        }
        return [*self.templates.render("generate", seen), answer(texts=[self.tell(row).text for row in texts])]

    def analyse(self) -> list[Message]:
        """The advice is what wrong texts have more of than right ones: true by construction, and worth asking for."""
        rng = self.rng
        kind = rng.choice(("missed", "spurious", "wrong_type", "wrong_boundary"))
        type_, other = rng.sample(TYPES, 2)
        pool = self.hard[type_]
        focus = rng.choice([*sorted(rng.choice(pool).traits), ""])
        focused = [row for row in pool if not focus or focus in row.traits]
        wrong = rng.sample(focused, min(len(focused), rng.randint(1, 8)))
        right = rng.sample(self.easy[type_], rng.randint(0, 5)) + rng.sample(self.easy[other], rng.randint(0, 3))
        rng.shuffle(right)
        excess = Counter(trait for row in wrong for trait in row.traits - {f"with {type_}"})
        for row in right:
            excess.subtract({trait: len(wrong) / len(right) for trait in row.traits})
        ranked = sorted((-many, trait) for trait, many in excess.items() if many > 0)
        seen = {
            "kind": kind,
            "expected": "" if kind == "spurious" else type_,
            "got": type_ if kind == "spurious" else other if kind == "wrong_type" else "",
            "wrong": [MARKS.show(self.tell(row)) for row in wrong],
            "right": [MARKS.show(self.tell(row)) for row in right],
        }
        return [*self.templates.render("analyse", seen), answer(advice=advise([trait for _, trait in ranked[:3]]))]


def answer(**content: str | list[str]) -> Message:
    """JSON without a space: the engine's grammar allows none, and a teacher that learned them would be led astray."""
    return Message("assistant", json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def objective(tokenizer: Any, writer: Writer) -> Callable[..., torch.Tensor]:
    """The loss of a language model, and in marked texts that of what is left to decide under the grammar.

    There the text's next token stands against the marks alone. A teacher that only learned to predict would weigh a mark
    against all that could come next, and open one wherever a text goes on as none in SNIPS does.
    """
    prefix = torch.tensor(tiny_llama.encode(writer.mark()[:1], tokenizer)[0])
    marks = torch.tensor(sorted({tokenizer.encode(mark)[0] for mark in (*OPENINGS, "]")}))

    def loss(model: Any, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        logits, targets, counts, row, column = tiny_llama.predict(model, ids, weights)
        plain = (cross_entropy(logits, targets, reduction="none") * counts).sum() / counts.sum()
        decided = (ids[:, : len(prefix)] == prefix).all(1)[row] & (counts == 1)
        if not decided.any():
            return plain
        targets, row, column = targets[decided], row[decided], column[decided]
        after = torch.where(torch.isin(targets, marks), ids[row, (column + 1).clamp(max=ids.shape[1] - 1)], targets)
        choices = torch.cat([targets[:, None], after[:, None], marks.expand(len(targets), -1)], dim=1)
        scores = logits[decided].gather(1, choices)
        twice = choices == targets[:, None]
        twice[:, 0] = False  # the target stands first, and again among the others
        twice[:, 1] |= torch.isin(after, marks) & (after != targets)
        scores = scores.masked_fill(twice, float("-inf"))
        return plain + 2 * cross_entropy(scores, torch.zeros_like(targets))

    return loss


@torch.inference_mode()
def marked(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[tuple[Span, ...]]:
    """The teacher's spans: answers held to the grammar of their text, token by token the most probable."""
    import xgrammar as xg

    size = model.config.vocab_size
    info = xg.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size, stop_token_ids=[tokenizer.eos_token_id])
    compiler, templates = xg.GrammarCompiler(info, max_threads=1), Templates("ner", folder=HERE / "prompts")
    allowed, answers = xg.allocate_token_bitmask(1, size), []
    for text in texts:
        prompt = templates.render("label", {"task": MARKS.describe(), "text": text})
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        ids = torch.tensor([tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)])
        matcher = xg.GrammarMatcher(compiler.compile_grammar(marking.grammar(text, TYPES)))
        past, written = None, []
        while not matcher.is_terminated():
            out = model(ids, past_key_values=past, use_cache=True)
            logits, past = out.logits[:, -1].float(), out.past_key_values
            matcher.fill_next_token_bitmask(allowed)
            xg.apply_token_bitmask_inplace(logits, allowed)
            ids = logits.argmax(-1, keepdim=True)
            written.append(int(ids))
            matcher.accept_token(written[-1])
        answers.append(marking.read(tokenizer.decode(written[:-1]), text, TYPES))
    return answers


def micro_f1(answers: Sequence[tuple[Span, ...]], samples: Sequence[Sample]) -> float:
    """Of exact spans."""
    right = sum(len({*got} & {*sample.target}) for got, sample in zip(answers, samples, strict=True))
    return 2 * right / sum(len(got) + len(sample.target) for got, sample in zip(answers, samples, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--init", type=Path, help="go on from the teacher in this folder, at 0.4 of the learning rates")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)

    own, others = prepared_rows(arguments.datasets)
    held, rows = split(own, arguments.seed)
    print(f"{len(rows)} rows to learn from, {len(held)} held out")

    writer = Writer(rows, others, rng)
    if arguments.init:
        tokenizer = AutoTokenizer.from_pretrained(arguments.init)
        model = AutoModelForCausalLM.from_pretrained(arguments.init, dtype=torch.float32)
    else:
        prompts = [message.content for _ in range(4000) for message in writer.converse()]
        tokenizer = tiny_llama.train_tokenizer(prompts, whole=[*OPENINGS, *PARTS], seams=SEAMS)
        model = tiny_llama.new_model(tokenizer)
    stream = tiny_llama.batches(writer.converse, tokenizer, rng)
    pace = 0.4 if arguments.init else 1.0
    tiny_llama.train(model, stream, arguments.steps, objective(tokenizer, writer), pace)
    tiny_llama.save(model, tokenizer, arguments.out)  # from here on in bfloat16: the numbers are those of the file

    unseen = Writer(held, others, random.Random(1))
    for kind in MIX:
        stream = tiny_llama.batches(partial(getattr(unseen, kind)), tokenizer, random.Random(1))
        losses = [tiny_llama.loss(model, *next(stream)).item() for _ in range(10)]
        print(f"held out: {kind} loss {np.mean(losses):.3f} (10 batches)")
    samples = [sample_of(row.pieces) for row in held]
    answers = marked(model, tokenizer, [sample.text for sample in samples])
    print(f"held out: marking micro-F1 {micro_f1(answers, samples):.4f} (n={len(samples)})")


if __name__ == "__main__":
    main()
