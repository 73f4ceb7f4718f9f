"""A stand-in for a teacher, for trying other tools: OpenAI's chat completions with invented answers, and a log of all requests.

    python bench/peers/teacher.py PORT LOG [SECONDS]

Four requests at a time, SECONDS each. The n-th time that a request comes it gets its n-th answer, so the same questions get the
same answers in whatever order they come. A request with choices gets the label whose words stand in the last message. Any other
gets texts of the intent that the prompt names last, and one in twenty is of another intent. LOG has a line a request.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

FORMS = {
    "AddToPlaylist": (
        ["add {a} to my {b} playlist", "put {a} on the {b} list", "include {a} in playlist {b}"],
        ["the new single", "this artist", "that old tune", "a song by the trio"],
        ["workout", "dinner", "road trip", "calm", "party"],
    ),
    "BookRestaurant": (
        ["book a table for {a} at a {b}", "reserve {b} seats for {a}", "I need a reservation for {a} in a {b}"],
        ["two", "five people", "my family", "me and my boss"],
        ["bistro", "steakhouse", "pub nearby", "sushi bar", "restaurant with a terrace"],
    ),
    "GetWeather": (
        ["will it {a} in {b} tomorrow", "weather forecast for {b}, any chance to {a}", "how likely to {a} around {b}"],
        ["rain", "snow", "freeze", "be windy"],
        ["Bath", "Oslo", "the north", "Lima", "my town"],
    ),
    "PlayMusic": (
        ["play {a} by {b}", "start {a} from {b} on the speaker", "let me hear {a} of {b}"],
        ["some jazz", "the last album", "a ballad", "top hits"],
        ["Nina", "the quartet", "my library", "the eighties", "this band"],
    ),
    "RateBook": (
        ["rate {a} {b} out of six", "give {b} stars to {a}", "I would rate {a} a {b}"],
        ["this novel", "the last chapter", "the current essay", "that saga"],
        ["one", "two", "three", "four", "five"],
    ),
    "SearchCreativeWork": (
        ["find the {a} called {b}", "search for the {a} {b}", "look up {b}, a {a}"],
        ["painting", "video game", "tv series", "trailer"],
        ["Silent Hours", "Red Harbour", "The Ninth Gate", "Blue Fox", "Night Ride"],
    ),
    "SearchScreeningEvent": (
        ["what movies are shown at {a} {b}", "movie times at {a} {b}", "which films does {a} show {b}"],
        ["the cinema", "the corner theatre", "the drive-in", "the Plaza"],
        ["tonight", "at noon", "this weekend", "around eight", "nearby"],
    ),
}
INTENTS = list(FORMS)
FILLERS = ["please", "now", "for me", "hey", "ok", "right away", "if you can", "today", "again", "quickly", "thanks"]
WORD = re.compile(r"[a-z0-9]+")
COMMON = {"a", "b", "the", "to", "for", "in", "of", "at", "my", "this", "that"}
WORDS = {
    intent: set(WORD.findall(" ".join(phrase for part in parts for phrase in part).lower())) - COMMON
    for intent, parts in FORMS.items()
}
SPELLINGS = {intent.lower(): intent for intent in INTENTS} | dict(zip("abcdefg", INTENTS, strict=True))
"""A label as a prompt spells it, small letters without spaces, or its code -> the intent."""


def invented_text(rng: random.Random, intent: str) -> str:
    forms, first, second = FORMS[rng.choice(INTENTS) if rng.random() < 0.05 else intent]
    request = rng.choice(forms).format(a=rng.choice(first), b=rng.choice(second))
    return f"{rng.choice(FILLERS)} {request} {rng.choice(FILLERS)} {rng.choice(FILLERS)}"


def chosen_label(prompt: str, choices: list[str]) -> str:
    """The choice that shares most words with the last line of prose."""
    prose = [line for line in prompt.splitlines() if line.strip() and line[0] not in "*<{}` "][-1]
    words = WORD.findall(prose.lower())
    votes = [
        sum(word in WORDS.get(SPELLINGS.get(c.replace(" ", "").lower(), ""), ()) for word in words) for c in choices
    ]
    return choices[votes.index(max(votes))]


def json_answer(schema: dict, definitions: dict, rng: random.Random, intent: str, prompt: str) -> Any:
    """A value that fits the JSON schema."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
    if "enum" in schema:
        return chosen_label(prompt, schema["enum"])
    properties = schema.get("properties", {})
    if {"text", "label"} <= set(properties):
        intent = rng.choice(INTENTS)
        return {"text": invented_text(rng, intent), "label": INTENTS.index(intent)}
    if schema["type"] == "object":
        return {name: json_answer(part, definitions, rng, intent, prompt) for name, part in properties.items()}
    if schema["type"] == "array":
        items = range(schema.get("minItems") or 5)
        return [json_answer(schema["items"], definitions, rng, intent, prompt) for _ in items]
    return {"string": invented_text(rng, intent), "integer": 3, "number": 0.5, "boolean": True}[schema["type"]]


def schema_of(body: dict, prompt: str) -> tuple[dict | None, str]:
    """The schema that a request asks for, in a field or in words, and the part of the prompt that is to be labelled."""
    if "<response_schema>\n" in prompt:  # DataDesigner
        words = prompt.partition("<response_schema>\n")[2]
        return json.loads(words.partition("</response_schema>")[0]), prompt
    if "available_labels" in prompt:  # distilabel
        return {"type": "object", "properties": {"labels": {"enum": INTENTS}}}, prompt.split("```")[1]
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return body["response_format"]["json_schema"]["schema"], prompt
    return None, prompt


def answer(body: dict, rng: random.Random) -> str:
    contents = [message["content"] for message in body["messages"]]
    texts = [c if isinstance(c, str) else "".join(part.get("text", "") for part in c) for c in contents]
    schema, prompt = schema_of(body, texts[-1])
    flat = "\n".join(texts).replace(" ", "").lower()
    intent = max(INTENTS, key=lambda name: flat.rfind(name.lower()))
    if schema:
        return json.dumps(json_answer(schema, schema.get("$defs", {}), rng, intent, prompt))
    return invented_text(rng, intent)


def server(log: Path, seconds: float) -> web.Application:
    times: Counter[str] = Counter()
    slots = asyncio.Semaphore(4)

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        if not body.get("messages"):
            return web.json_response({"error": {"message": "messages is empty"}}, status=400)
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
        times[key] += 1
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), "key": key, "body": body}) + "\n")
        async with slots:
            await asyncio.sleep(seconds)
        message = {"role": "assistant", "content": answer(body, random.Random(f"{key}{times[key]}"))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 90, "completion_tokens": 30, "total_tokens": 120}
        common = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        return web.json_response(common | {"choices": [choice], "usage": usage})

    async def models(_: web.Request) -> web.Response:
        model = {"id": "teacher", "object": "model", "created": 0, "owned_by": "nobody"}
        return web.json_response({"object": "list", "data": [model]})

    app = web.Application(client_max_size=2**26)
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models)])
    return app


if __name__ == "__main__":
    port, log_file, *rest = sys.argv[1:]
    delay = float(rest[0]) if rest else 0.1
    web.run_app(server(Path(log_file), delay), host="127.0.0.1", port=int(port), print=None)
