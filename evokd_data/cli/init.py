"""evokd-data init"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli.echo import echo, failure

TEMPLATE = """\
# evokd-data run {file}
name: {name}

task:
  type: classification
  labels: [positive, negative]
  description: whether a review is positive or negative
  noun: review                  # what the texts are; prompts say it
  # label_names: {{POS: positive}}  # what a label is called where its own name says nothing to a stranger
  # label_descriptions: {{positive: the writer would buy it again, negative: the writer would not}}

seeds: {{path: seeds.jsonl}}      # {{"text": ..., "label": ...}} a line; also csv, parquet, arrow; per_class: k draws k
test: {{path: test.jsonl}}        # only ever scored; no text of it reaches a prompt

teacher:
  engine: vllm
  model: Qwen/Qwen3-8B
  revision: main                # pin a commit: what moves makes no experiment

rounds: {{count: 5, samples: 200}}

student:                        # with a handful of seeds try kind: frozen, model: sentence-transformers/all-MiniLM-L6-v2
  kind: transformer
  model: distilbert/distilbert-base-uncased
  revision: main                # likewise

# publish: {{repo: your-name/{name}, private: true}}
"""


@click.command("init", short_help="Write a recipe to start from.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("recipe.yaml"))
def command(file: Path) -> None:
    """Write a recipe to FILE (recipe.yaml) to start from; never over one that is there."""
    if file.exists():
        raise failure(f"{file} is there already; give another name")
    name = file.stem if file.stem != "recipe" else Path.cwd().name
    file.write_text(TEMPLATE.format(file=file, name=name), encoding="utf-8")
    echo(f"{file}: next: put seeds.jsonl and test.jsonl beside it, then evokd-data check {file}")
