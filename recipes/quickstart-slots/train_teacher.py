"""Train the teacher of the slots quickstart from scratch: 3.5 million parameters that mark the spans of two SNIPS intents.

    python recipes/quickstart-slots/train_teacher.py DATASETS --out FOLDER [--seed 0] [--steps 900] [--init FOLDER]

DATASETS holds the files that recipes/snips.py names. The teacher learns only from rows of train, of the intents
BookRestaurant and GetWeather. The test sets, and the seeds beside this file, are read for one purpose: rows of train that
repeat, or nearly repeat, one of their texts are left out. The cities of SNIPS are small towns: cities.txt adds 191 that
people ask for, none of which is in our seeds and tests.

The teacher learns four kinds of answers. The toolkit itself renders the prompts, from the templates beside this file, so
that the prompts in training and in use are the same:

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
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from evokd_data.records import Message, Origin, Sample, Span
from evokd_data.tasks import marking
from evokd_data.tasks.ner import NER
from evokd_data.templates import Templates

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import tiny_llama  # noqa: E402 - both are in the folder above
from snips import Deck, advice_for, read_utterances, training_utterances  # noqa: E402

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
"""Slot of SNIPS -> our type of span. Spans of other slots are not marked."""

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
"""The opening of a mark is one token, and a marked word has the same tokens as in the text, its leading blank included."""


@dataclass
class Row:
    """One utterance. `pieces`: its text in order, each piece with the slot of SNIPS it fills, or "".

    `types` are the types of its spans, `traits` the properties that advice can ask for. `hardness` is the mean over its
    spans of the number of words minus the logarithm of how often the span occurs.
    """

    pieces: tuple[tuple[str, str], ...]
    label: str
    types: frozenset[str] = frozenset()
    traits: frozenset[str] = frozenset()
    hardness: float = 0.0

    @property
    def text(self) -> str:
        """The utterance."""
        return "".join(piece for piece, _ in self.pieces)


def sample_of(pieces: Sequence[tuple[str, str]]) -> Sample:
    """The text of the pieces, with a span for each piece whose slot has a type."""
    text, spans = "", []
    for piece, slot in pieces:
        if slot in TYPE_OF:
            spans.append(Span(len(text), len(text) + len(piece), TYPE_OF[slot], piece))
        text += piece
    return Sample("", text, tuple(spans), Origin(0, -1, 0, "snips"))


def prepared_rows(folder: Path) -> tuple[list[Row], list[Row]]:
    """The rows of train that the teacher may learn from: those of its intents, with traits, and those of other intents."""
    rows = [
        Row(utterance.pieces, utterance.intent)
        for utterance in training_utterances(folder, [HERE / "test.jsonl", HERE / "seeds.jsonl"])
        if not MARKS.check(utterance.text, sample_of(utterance.pieces).target) and not set(utterance.text) & set("[]\\")
    ]
    rows_of_intents = [row for row in rows if row.label in INTENTS]
    add_traits(rows_of_intents)
    return rows_of_intents, [row for row in rows if row.label not in INTENTS]


def split(rows: list[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Rows that are held out, and rows to learn from."""
    shuffled = [*rows]
    random.Random(seed).shuffle(shuffled)
    held_out_count = int(len(rows) * HELD_OUT)
    return shuffled[:held_out_count], shuffled[held_out_count:]


def test_samples(folder: Path) -> list[Sample]:
    """The samples of SNIPS' test set with the two intents, without the few whose spans end within a word."""
    utterances = read_utterances(folder, "test")
    samples = [sample_of(utterance.pieces) for utterance in utterances if utterance.intent in INTENTS]
    return [sample for sample in samples if not MARKS.check(sample.text, sample.target)]


def add_traits(rows: list[Row]) -> None:
    """Set the types, the traits and the hardness of each row: what a prompt of `generate` can ask for."""
    first_words = [re.findall(r"[\w']+", row.text.lower())[0] for row in rows]
    frequent = {word for word, count in Counter(first_words).items() if count >= 30}
    lengths = [len(row.text.split()) for row in rows]
    short, long = np.quantile(lengths, (0.25, 0.75))
    common = Counter(piece.lower() for row in rows for piece, slot in row.pieces if slot in TYPE_OF)
    for row, first_word, length in zip(rows, first_words, lengths, strict=True):
        spans = sample_of(row.pieces).target
        row.types = frozenset(span.type for span in spans)
        traits = {f"with {type_}" for type_ in row.types}
        traits |= {f"long {span.type}" for span in spans if len(span.surface.split()) >= 3}
        traits |= {f"opening with {first_word}"} if first_word in frequent else set()
        traits |= {"as a question"} if row.text.endswith("?") else set()
        traits |= {"short"} if length < short else {"long"} if length > long else set()
        row.traits = frozenset(traits)
        row.hardness = sum(len(s.surface.split()) - log(common[s.surface.lower()]) for s in spans) / max(1, len(spans))


class Writer:
    """Makes the conversations that the teacher is trained on.

    Optional lines of a prompt are present or absent at random, so that the teacher relies on no line but the target.
    """

    def __init__(self, rows: list[Row], others: list[Row], rng: random.Random) -> None:
        self.rows, self.others, self.rng = rows, others, rng
        self.templates = Templates("ner", folder=HERE / "prompts")
        self.values = defaultdict(list)
        for row in rows:
            for piece, slot in row.pieces:
                self.values[slot].append(piece)
        cities = (HERE / "cities.txt").read_text("utf-8").splitlines()
        self.values["city"] += cities * (len(self.values["city"]) // len(cities))
        self.unmarked_texts = [row.text for row in others if not sample_of(row.pieces).target]
        self.rows_with = {type_: [row for row in rows if type_ in row.types] for type_ in TYPES}
        self.easy, self.hard = {}, {}
        for type_, rows_with_type in self.rows_with.items():
            ranked = sorted(rows_with_type, key=lambda row: row.hardness)
            self.easy[type_], self.hard[type_] = ranked[: len(ranked) // 2], ranked[-len(ranked) // 4 :]
        self.deck = Deck(rows, rng)

    def converse(self) -> list[Message]:
        """A conversation of a random kind, by the shares of `MIX`."""
        (kind,) = self.rng.choices(list(MIX), list(MIX.values()))
        return getattr(self, kind)()

    def varied(self, row: Row) -> Sample:
        """The row as a sample, in 70 % of the cases with slot values of other rows, so that no text can be memorised.

        In half of these cases, the place of a text with one place is replaced by a place of any type, so that the teacher
        learns to decide by the name rather than by its context.
        """
        pieces = row.pieces
        if self.rng.random() < 0.7:
            places = [slot for _, slot in pieces if slot in PLACES]
            if len(places) == 1 and self.rng.random() < 0.5:
                place_slot = self.rng.choice(PLACES)
                pieces = tuple((piece, place_slot if slot in PLACES else slot) for piece, slot in pieces)
            pieces = tuple((self.rng.choice(self.values[slot]) if slot else piece, slot) for piece, slot in pieces)
        return sample_of(pieces)

    def distorted(self, sample: Sample) -> Sample:
        """The sample with a random share of changes: another beginning or end, other letter case, words of other intents.

        They train the teacher to copy texts that do not occur in SNIPS.
        """
        rng, text, spans = self.rng, sample.text, sample.target
        before = after = ""
        if rng.random() < 0.35:
            starts = [start for start, _ in marking.word_offsets(text) if not spans or start <= spans[0].start]
            cut = rng.choice(starts)
            text, spans = text[cut:], tuple(replace(s, start=s.start - cut, end=s.end - cut) for s in spans)
            if rng.random() < 0.6:
                before = " ".join(rng.choice(self.unmarked_texts).split()[: rng.randint(1, 5)]) + " "
        if rng.random() < 0.15:
            after = rng.choice((", ", " ", ". ")) + " ".join(
                rng.choice(self.unmarked_texts).split()[-rng.randint(1, 5) :]
            )
        text = f"{before}{text}{after}"
        spans = tuple(replace(s, start=s.start + len(before), end=s.end + len(before)) for s in spans)
        if rng.random() < 0.15 and len(text) == len(text.lower()):
            text = text.lower()
        elif rng.random() < 0.4:
            text = text[0].upper() + text[1:]
        spans = tuple(replace(s, surface=text[s.start : s.end]) for s in spans)
        return replace(sample, text=text, target=spans)

    def mark(self, task: NER = MARKS) -> list[Message]:
        """Up to five texts under one system message, so that more tokens are spent on texts than on the prompt."""
        messages: list[Message] = []
        rows = self.deck.deal(self.rng.randint(1, 5))
        if self.rng.random() < 0.4:
            rows[-1] = self.rng.choice(self.others)
        for row in rows:
            sample = self.distorted(self.varied(row) if row.label in INTENTS else sample_of(row.pieces))
            variables = {"task": task.describe(), "text": sample.text, "demonstrations": [], "codes": {}}
            system, user = self.templates.render("label", variables)
            answer = Message("assistant", str(task.show(sample)["target"]))
            messages += [*([] if messages else [system]), user, answer]
        return messages

    def list(self) -> list[Message]:
        """As `mark`, with answers in JSON."""
        return self.mark(LIST)

    def generate(self) -> list[Message]:
        """One to five texts with a type. First the lines of the prompt are drawn, then texts that agree with them."""
        rng = self.rng
        target = rng.choice(TYPES)
        difficulty = rng.choices((None, "easy", "hard"), (0.2, 0.4, 0.4))[0]
        pool = {None: self.rows_with, "easy": self.easy, "hard": self.hard}[difficulty][target]
        contrast, advice = "", ""
        if rng.random() < 0.25:
            rival = rng.choice([type_ for type_ in TYPES if type_ != target])
            both = [row for row in pool if rival in row.types]
            if len(both) >= 12:
                contrast, pool = rival, both
        traits = sorted(rng.choice(pool).traits - {f"with {target}"})
        rng.shuffle(traits)
        for trait_count in range(min(len(traits), rng.choice((0, 0, 1, 2, 3))), 0, -1):
            sharing = [row for row in pool if row.traits.issuperset(traits[:trait_count])]
            if len(sharing) >= 6:  # with fewer rows, the advice would tell the teacher which texts to write
                advice, pool = advice_for(traits[:trait_count]), sharing
                break
        texts = rng.sample(pool, min(rng.choice((1, 2, 3, 4, 5, 5, 5)), len(pool)))
        examples = [row for row in rng.sample(self.rows_with[target], 5) if row not in texts]
        variables = {
            "task": MARKS.describe(),
            "target": target,
            "contrast": contrast,
            "advice": advice,
            "difficulty": difficulty,
            "demonstrations": [MARKS.show(self.varied(row)) for row in examples[: rng.choice((0, 1, 2, 3, 3, 3))]],
            "count": len(texts),
        }
        return [
            *self.templates.render("generate", variables),
            json_answer(texts=[self.varied(row).text for row in texts]),
        ]

    def analyse(self) -> list[Message]:
        """Texts that a student got wrong and right. The advice names the traits that are more frequent among the wrong."""
        rng = self.rng
        kind = rng.choice(("missed", "spurious", "wrong_type", "wrong_boundary"))
        type_, other_type = rng.sample(TYPES, 2)
        pool = self.hard[type_]
        focus = rng.choice([*sorted(rng.choice(pool).traits), ""])
        focused = [row for row in pool if not focus or focus in row.traits]
        wrong = rng.sample(focused, min(len(focused), rng.randint(1, 8)))
        right = rng.sample(self.easy[type_], rng.randint(0, 5)) + rng.sample(self.easy[other_type], rng.randint(0, 3))
        rng.shuffle(right)
        excess = Counter(trait for row in wrong for trait in row.traits - {f"with {type_}"})
        for row in right:
            excess.subtract({trait: len(wrong) / len(right) for trait in row.traits})
        ranked = sorted((-count, trait) for trait, count in excess.items() if count > 0)
        variables = {
            "kind": kind,
            "expected": "" if kind == "spurious" else type_,
            "got": type_ if kind == "spurious" else other_type if kind == "wrong_type" else "",
            "wrong": [MARKS.show(self.varied(row)) for row in wrong],
            "right": [MARKS.show(self.varied(row)) for row in right],
        }
        advice = advice_for([trait for _, trait in ranked[:3]])
        return [*self.templates.render("analyse", variables), json_answer(advice=advice)]


def json_answer(**content: str | list[str]) -> Message:
    """The teacher's message, in JSON without blanks, because the grammar in use forbids them."""
    return Message("assistant", json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def objective(tokenizer: Any, writer: Writer) -> Callable[..., torch.Tensor]:
    """The loss of a language model plus, in marked texts, twice the loss of the choices that the grammar leaves open.

    Under the grammar, the next token is the next token of the text or a mark. A teacher trained only to predict the next
    token would compare a mark with all tokens, and would open a mark wherever a text continues as no text of SNIPS does.
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
        repeated = choices == targets[:, None]
        repeated[:, 0] = False  # the first column is the target; a later column with the target repeats it
        repeated[:, 1] |= torch.isin(after, marks) & (after != targets)
        scores = scores.masked_fill(repeated, float("-inf"))
        return plain + 2 * cross_entropy(scores, torch.zeros_like(targets))

    return loss


@torch.inference_mode()
def marked(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[tuple[Span, ...]]:
    """The spans that the teacher marks in each text: the most probable token at each step that the grammar allows."""
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
        past, tokens = None, []
        while not matcher.is_terminated():
            out = model(ids, past_key_values=past, use_cache=True)
            logits, past = out.logits[:, -1].float(), out.past_key_values
            matcher.fill_next_token_bitmask(allowed)
            xg.apply_token_bitmask_inplace(logits, allowed)
            ids = logits.argmax(-1, keepdim=True)
            tokens.append(int(ids))
            matcher.accept_token(tokens[-1])
        answers.append(marking.read(tokenizer.decode(tokens[:-1]), text, TYPES))
    return answers


def micro_f1(answers: Sequence[tuple[Span, ...]], samples: Sequence[Sample]) -> float:
    """Micro-F1 of exact spans: `answers` against the targets of `samples`."""
    right = sum(len({*spans} & {*sample.target}) for spans, sample in zip(answers, samples, strict=True))
    return 2 * right / sum(len(spans) + len(sample.target) for spans, sample in zip(answers, samples, strict=True))


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

    rows_of_intents, others = prepared_rows(arguments.datasets)
    held_out, rows = split(rows_of_intents, arguments.seed)
    print(f"{len(rows)} rows to learn from, {len(held_out)} held out")

    writer = Writer(rows, others, rng)
    if arguments.init:
        tokenizer = AutoTokenizer.from_pretrained(arguments.init)
        model = AutoModelForCausalLM.from_pretrained(arguments.init, dtype=torch.float32)
    else:
        texts = [message.content for _ in range(4000) for message in writer.converse()]
        tokenizer = tiny_llama.train_tokenizer(texts, [*OPENINGS, *PARTS], tiny_llama.split_at(SEAMS))
        model = tiny_llama.new_model(tokenizer)
    stream = tiny_llama.batches(writer.converse, tokenizer, rng)
    warm_up_steps = min(50, arguments.steps // 8 + 1)
    lr_scale = 0.4 if arguments.init else 1.0
    tiny_llama.train(model, stream, arguments.steps, warm_up_steps, objective(tokenizer, writer), lr_scale)
    tiny_llama.save(model, tokenizer, arguments.out)  # the model is bfloat16 now: the numbers are those of the file

    held_out_writer = Writer(held_out, others, random.Random(1))
    for kind in MIX:
        stream = tiny_llama.batches(partial(getattr(held_out_writer, kind)), tokenizer, random.Random(1))
        losses = [tiny_llama.loss(model, *next(stream)).item() for _ in range(10)]
        print(f"held out: {kind} loss {np.mean(losses):.3f} (10 batches)")
    samples = [sample_of(row.pieces) for row in held_out]
    answers = marked(model, tokenizer, [sample.text for sample in samples])
    print(f"held out: marking micro-F1 {micro_f1(answers, samples):.4f} (n={len(samples)})")


if __name__ == "__main__":
    main()
