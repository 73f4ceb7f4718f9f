"""distilabel: texts for each intent, then its own task that classifies them.  python with_distilabel.py ROWS"""

import os
import sys

import pandas as pd
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextClassification, TextGeneration

if __name__ == "__main__":
    seeds = pd.read_csv("seeds.csv")
    examples = [seeds.iloc[i % len(seeds)] for i in range(int(sys.argv[1]))]
    server = {"model": "teacher", "base_url": os.environ["TEACHER"], "api_key": "none"}
    with Pipeline("intents", cache_dir="cache") as pipeline:
        load = LoadDataFromDicts(data=[{"intent": e.label, "example": e.text} for e in examples])
        write = TextGeneration(
            llm=OpenAILLM(**server, generation_kwargs={"temperature": 0.9, "max_new_tokens": 100}),
            columns=["intent", "example"],
            template="A request to a voice assistant of the intent {{ intent }}: {{ example }}\nWrite another of the intent {{ intent }}.",
            output_mappings={"generation": "text"},
        )
        label = TextClassification(
            llm=OpenAILLM(**server),
            available_labels=sorted(seeds.label.unique()),
            context="What a person wants from a voice assistant.",
            use_default_structured_output=False,
        )
        load >> write >> label
    rows = pipeline.run()["default"]["train"].to_pandas()
    rows.rename(columns={"labels": "label"})[["text", "label", "intent"]].to_csv("rows.csv", index=False)
