"""The text of a first recipe, with a comment on each choice, for the task and the machine at hand."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evokd_data.machine import GIB, Accelerator, gib
from evokd_data.models import FOLDER, PACKAGE

LINE = 110
PLAIN = re.compile(r"[^\W\d_][\w ./-]*(?<! )")
NOT_PLAIN = {"true", "false", "null", "yes", "no", "on", "off", "nan", "inf"}
"""Words that stand for something else in YAML, or did in its older version."""


ABBREVIATION = re.compile(r"[A-Z0-9_.-]{1,6}|[A-Za-z]?\d+")
"""A label that says nothing to a stranger: short and in capitals, or a number."""


@dataclass(frozen=True, slots=True)
class Model:
    """A general instruct model, and the GPU memory in GiB that it needs with room for its answers."""

    name: str
    needs_gib: int


TEACHERS = (
    Model("Qwen/Qwen3-32B", 76),
    Model("Qwen/Qwen3-14B", 38),
    Model("Qwen/Qwen3-8B", 22),
    Model("Qwen/Qwen3-4B", 13),
    Model("Qwen/Qwen3-1.7B", 7),
)
"""The largest first. Weights of two bytes a parameter, and a fifth more."""
CPU_TEACHER = "Qwen/Qwen3-1.7B"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the user's data when the recipe is written. `origin`: where they come from, one line. `typical`
    and `longest`: characters of the median text, and of all but the longest hundredth. `multilingual`: most letters are not Latin.
    `columns`: settings of the task that name the source's columns. `label_map`: labels of the source -> the task's. `teacher`
    and `student`: the models that the user named, "" for those that suit the machine."""

    name: str
    file: str
    origin: str
    task: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    seeds: str
    test: str
    typical: int
    longest: int
    multilingual: bool
    per_class: int | None = None
    noun: str = ""
    noun_from_column: bool = False
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    label_map: Mapping[str, str] = field(default_factory=dict)
    teacher: str = ""
    student: str = ""


def recipe_text(facts: Facts, gpus: Sequence[Accelerator]) -> str:
    """The recipe. It loads as it is."""
    parts = [
        f"# evokd-data run {facts.file}\n# Made from {facts.origin}.\nname: {scalar(facts.name)}\n",
        _task(facts), _sources(facts), _teacher(facts, gpus), _rounds(facts, bool(gpus)), _student(facts, bool(gpus)),
        _rest(facts),
    ]  # fmt: skip
    return "\n".join(parts)


def scalar(value: str) -> str:
    """A text as a YAML value or key."""
    plain = PLAIN.fullmatch(value) is not None and value.lower() not in NOT_PLAIN
    return value if plain else json.dumps(value, ensure_ascii=False)


def _task(facts: Facts) -> str:
    key = "labels" if facts.task == "classification" else "types"
    lines = [f"task:\n  type: {facts.task}", _flow(key, facts.labels)]
    description = facts.description or "say in one sentence what the labels are about"
    if key == "types":
        description = facts.description or "say in one sentence what is marked in the texts"
    for setting, column in facts.columns.items():
        lines.append(f"  {setting + ': ' + scalar(column):<33} # your column; predict and evaluate look for it, too")
    commented = "" if facts.description else "# "
    lines.append(f"  {commented}description: {scalar(description)}")
    noun = facts.noun or "text"
    remark = (
        "what one text is, and every prompt says it" if key == "labels" else "what one text is, and prompts ask for it"
    )
    if facts.noun_from_column:
        remark = f"the name of the column: {remark}"
    elif not facts.noun:
        remark = f"say {remark}: review, question, support ticket"
    lines.append(f"  noun: {scalar(noun):<27} # {remark}")
    if key == "labels":
        lines.append(
            "  # What each label is called in prompts. A teacher knows nothing of your abbreviations and codes: words help"
        )
        lines.append("  # it more than anything else in this file.\n  label_names:")
        for label, name in zip(facts.labels, facts.names, strict=True):
            remark = "  # say in words what it stands for" if ABBREVIATION.fullmatch(name) else ""
            lines.append(f"    {scalar(label)}: {scalar(name)}{remark}")
        described, example = "label_descriptions", facts.labels[0]
    else:
        described, example = "type_descriptions", facts.labels[0]
    lines.append(
        f"  # {described}:        # where a name is not enough\n  #   {scalar(example)}: what it covers, what not"
    )
    return "\n".join(lines) + "\n"


def _flow(key: str, labels: Sequence[str]) -> str:
    text = ", ".join(map(scalar, labels))
    if len(text) + len(key) + 6 <= LINE:
        return f"  {key}: [{text}]"
    return "\n".join([f"  {key}:", *(f"    - {scalar(label)}" for label in labels)])


def _sources(facts: Facts) -> str:
    drawn = f", per_class: {facts.per_class}" if facts.per_class else ""
    remark = "" if drawn else "  # all of them; per_class: 8 draws 8 of each class"
    test = f"test: {{path: {scalar(facts.test)}}}  # only ever scored; no text of it reaches a prompt\n"
    if not facts.label_map:
        return f"seeds: {{path: {scalar(facts.seeds)}{drawn}}}{remark}\n{test}"
    pairs = "".join(
        f"    {json.dumps(old, ensure_ascii=False)}: {scalar(new)}\n" for old, new in facts.label_map.items()
    )
    per_class = (
        f"  per_class: {facts.per_class}\n" if facts.per_class else f"  # per_class: 8{remark.partition('8')[2]}\n"
    )
    return (
        f"seeds:\n  path: {scalar(facts.seeds)}\n{per_class}"
        f"  label_map:                       # your labels; evaluate reads files that have them\n{pairs}{test}"
    )


def _teacher(facts: Facts, gpus: Sequence[Accelerator]) -> str:
    smallest = min((gpu.memory for gpu in gpus), default=0)
    fitting = [model for model in TEACHERS if model.needs_gib * GIB <= smallest]
    chosen = fitting[0].name if fitting else TEACHERS[-1].name
    small = "no GPU here: it will be slow" if facts.teacher else "no GPU here, so a small one"
    machine = f"{len(gpus)} x {gpus[0].name}, {gib(smallest)} each" if gpus else small
    others = "".join(f"  #   {model.name:<18}{model.needs_gib:>3} GiB\n" for model in TEACHERS if model.name != chosen)
    context = next(
        (size for size in (2048, 4096, 8192, 16384) if size >= 1000 + (24 * facts.typical + 2 * facts.longest) / 2.5),
        32768,
    )
    answer = max(512, -(-facts.longest // 2 // 256) * 256)
    return (
        f"teacher:                           # writes and labels texts; {machine}\n"
        f"  engine: vllm\n  model: {scalar(facts.teacher or (chosen if gpus else CPU_TEACHER))}\n"
        f"{_revision(facts.teacher, 'a commit, for an experiment that lasts')}"
        f"  max_model_len: {context:<17} # room for 24 demonstrations in a prompt\n"
        f"  max_tokens: {answer:<20} # of one answer\n"
        "  top_p: 0.9                       # only from the likeliest tokens: without it small models write debris now and then\n"
        "  # The larger the better it labels; `evokd-data preview` measures it. GPU memory that others take:\n"
        f"{others}"
        "  # A server that speaks OpenAI's protocol instead, such as `vllm serve` or a paid one (its key is never in this file):\n"
        '  #   {engine: server, dialect: openai, urls: ["https://api.example.com/v1"], model: NAME, api_key_env: MY_KEY}\n'
    )


def _revision(named: str, why: str) -> str:
    """The setting of a model on the Hub; a folder, a file and a package have none."""
    return "" if named.startswith((PACKAGE, *FOLDER)) else f"  revision: main                   # {why}\n"


def _rounds(facts: Facts, gpu: bool) -> str:
    classes = len(facts.labels)
    count, samples = (5, max(200, 10 * classes)) if gpu else (3, max(60, 5 * classes))
    why = "" if gpu else "                # small, for a CPU; on a GPU {count: 5, samples: 200}"
    filters = f"filters: {{max_characters: {-(-facts.longest * 2 // 1000) * 1000}}}\n" if facts.longest > 2000 else ""
    return f"rounds: {{count: {count}, samples: {samples}}}{why}\n{filters}"


def _student(facts: Facts, gpu: bool) -> str:
    encoder = (
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
        if facts.multilingual
        else "sentence-transformers/all-MiniLM-L6-v2"
    )
    tuned = "FacebookAI/xlm-roberta-base" if facts.multilingual else "distilbert/distilbert-base-uncased"
    other = ("contrastive", encoder) if gpu else ("transformer", tuned)
    kind, model = ("transformer", tuned) if gpu else ("contrastive", encoder)
    note = "with a handful of seeds, or without a GPU" if gpu else "with a GPU, or for the last points"
    languages = (
        ""
        if facts.multilingual
        else "\n  # For texts that are not English: sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2 (contrastive),\n  # FacebookAI/xlm-roberta-base (transformer)."
    )
    return (
        f"student:                           # the small model that you deploy\n  kind: {kind}\n  model: {scalar(facts.student or model)}\n"
        f"{_revision(facts.student, 'likewise')}"
        f"  # {note}: {{kind: {other[0]}, model: {other[1]}}}{languages}\n"
    )


def _rest(facts: Facts) -> str:
    lines = f"""\
        # What the run may use; it ends cleanly when one of them is spent, and goes on when the number is larger:
        # budget: {{tokens: 2000000, hours: 4}}
        # Dollars per million tokens of a server that bills them; `preview` then says what the run will cost:
        # prices: {{prompt: 0.10, completion: 0.40}}

        # Where rounds are published: the Hub (log in with `hf auth login`), or a local one under ./hub (endpoint: local).
        # publish: {{repo: your-name/{facts.name}, private: true}}
        """
    return textwrap.dedent(lines)
