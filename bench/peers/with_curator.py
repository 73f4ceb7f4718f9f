"""curator: texts for each intent, then a label for each text by a second call.  python with_curator.py ROWS"""

import os
import sys
from typing import Literal

import pandas as pd
from bespokelabs import curator
from datasets import Dataset
from pydantic import BaseModel

seeds = pd.read_csv("seeds.csv")
intents = sorted(seeds.label.unique())


class Answer(BaseModel):
    label: Literal[tuple(intents)]


class Writer(curator.LLM):
    def prompt(self, row):
        return f"A request to a voice assistant of the intent {row['intent']}: {row['example']}\nWrite another of the intent {row['intent']}. ({row['number']})"

    def parse(self, row, response):
        return {"text": response, "intent": row["intent"]}


class Labeller(curator.LLM):
    response_format = Answer

    def prompt(self, row):
        return f"Which of {', '.join(intents)}?\n{row['text']}"

    def parse(self, row, response):
        return {**row, "label": response.label}


limits = {"max_requests_per_minute": 100_000, "max_tokens_per_minute": 10**9, "max_concurrent_requests": 64}
server = {"base_url": os.environ["TEACHER"], "api_key": "none"} | limits
options = {"model_name": "teacher", "backend": "openai", "backend_params": server}
examples = [seeds.iloc[i % len(seeds)] for i in range(int(sys.argv[1]))]
rows = Dataset.from_list([{"intent": e.label, "example": e.text, "number": i} for i, e in enumerate(examples)])
texts = Writer(**options, generation_params={"temperature": 0.9, "max_tokens": 100})(rows).dataset
labelled = Labeller(**options)(texts).dataset
labelled.to_pandas()[["text", "label", "intent"]].to_csv("rows.csv", index=False)
