"""NeMo DataDesigner: texts for each intent, labelled in a second column.  python with_data_designer.py ROWS"""

import os
import sys
from typing import Literal

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner
from pydantic import BaseModel

seeds = pd.read_csv("seeds.csv")
intents = sorted(seeds.label.unique())


class Answer(BaseModel):
    label: Literal[tuple(intents)]


designer = DataDesigner(
    artifact_path="artifacts",
    model_providers=[
        dd.ModelProvider(name="own", endpoint=os.environ["TEACHER"], provider_type="openai", api_key="none")
    ],
)
parameters = dd.ChatCompletionInferenceParams(temperature=0.9, max_tokens=100, max_parallel_requests=16)
config = dd.DataDesignerConfigBuilder(
    model_configs=[dd.ModelConfig(alias="teacher", model="teacher", provider="own", inference_parameters=parameters)]
)
config.with_seed_dataset(dd.DataFrameSeedSource(df=seeds.rename(columns={"text": "example", "label": "intent"})))
config.add_column(
    dd.LLMTextColumnConfig(
        name="text",
        model_alias="teacher",
        prompt="A request to a voice assistant of the intent {{ intent }}: {{ example }}\nWrite another of the intent {{ intent }}.",
    )
)
config.add_column(
    dd.LLMStructuredColumnConfig(
        name="answer",
        model_alias="teacher",
        output_format=Answer,
        prompt=f"Which of {', '.join(intents)}?\n{{{{ text }}}}",
    )
)
result = designer.create(config, num_records=int(sys.argv[1]), dataset_name="intents", resume=dd.ResumeMode.IF_POSSIBLE)
rows = result.load_dataset()
rows["label"] = [answer["label"] for answer in rows.answer]
rows[["text", "label", "intent"]].to_csv("rows.csv", index=False)
