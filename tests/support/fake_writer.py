"""What a server answers in place of a teacher: texts of a few words, or the probabilities of the classes, drawn by the prompt's seed."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.support.fake_chat_server import Reply, chat, ok

WORDS = [
    "rose",
    "fire",
    "grass",
    "frog",
    "sky",
    "sea",
    "moss",
    "leaf",
    "jeans",
    "apple",
    "stone",
    "river",
    "cloud",
    "lamp",
    "door",
    "bread",
    "horse",
    "night",
    "song",
    "paper",
]


def is_label(body: dict[str, Any]) -> bool:
    return "logprob_token_ids" in body or "choice" in body.get("structured_outputs", {})


def write_or_label(body: dict[str, Any]) -> Reply:
    """A rule of FakeServer."""
    draw = random.Random(body["seed"])
    if "logprob_token_ids" in body:
        entries = [{"token": f"token_id:{id_}", "logprob": -draw.random() * 9} for id_ in body["logprob_token_ids"]]
        return ok(
            chat("r", logprobs={"content": [{**max(entries, key=lambda e: e["logprob"]), "top_logprobs": entries}]})
        )
    outputs = body.get("structured_outputs", {})
    if "choice" in outputs:
        return ok(chat(draw.choice(outputs["choice"])))
    fields = outputs.get("json", {}).get("properties", {})
    count = fields["texts"]["maxItems"] if "texts" in fields else 1
    texts = [" ".join(draw.sample(WORDS, 7)) for _ in range(count)]
    if "texts" in fields:
        return ok(chat(json.dumps({"texts": texts})))
    return ok(chat(json.dumps(dict.fromkeys(fields, texts[0])) if fields else texts[0]))
