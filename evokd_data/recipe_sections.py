"""The sections of a recipe that are no plugs: frozen dataclasses, whose docstrings are the descriptions in the JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from evokd_data import repo_names
from evokd_data.settings import NOT_IDENTITY, Count, Rate, Share, from_anyone, from_user
from evokd_data.tasks import Layout, Unit

RepoId = Annotated[
    str,
    AfterValidator(repo_names.checked),
    Field(json_schema_extra={"pattern": f"^{repo_names.REPO_ID.pattern}$"}),
]
Column = Annotated[str, Field(min_length=1)]


@from_user(
    "dataset",
    "revision",
    "config",
    "split",
    "format",
    "text",
    "label",
    "label_map",
    "offsets",
    path="not-taken-from-a-downloaded-recipe",
)
@dataclass(frozen=True)
class Source:
    """Where labelled texts come from: a file (`path`), or a Hub dataset pinned by `revision`.

    Files are jsonl, json, csv, tsv, xlsx, parquet or arrow, also compressed (.gz, .zst, .bz2, .xz), for tagging CoNLL columns, too.
    `format` names the tool that exported the file where its mark is not seen; `spans`: rows of the task's own columns.
    `text` and `label` are this source's columns (or, of an export, its field and question), "a.b" a field within one.
    `label_map`: a label, type or tag as the source has it, e.g. a number -> the task's. `offsets`: what offsets of spans count.
    Where a file lies is not part of a run's identity, nor how it is read; what it holds is.
    """

    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    dataset: str | None = field(default=None, metadata=NOT_IDENTITY)
    revision: str | None = field(default=None, metadata=NOT_IDENTITY)
    config: str | None = field(default=None, metadata=NOT_IDENTITY)
    split: str = field(default="train", metadata=NOT_IDENTITY)
    format: Literal["doccano", "label-studio", "argilla", "prodigy", "conll", "spans"] | None = field(
        default=None, metadata=NOT_IDENTITY
    )
    text: Column | None = field(default=None, metadata=NOT_IDENTITY)
    label: Column | None = field(default=None, metadata=NOT_IDENTITY)
    label_map: Mapping[str, str] = field(default_factory=dict, hash=False, metadata=NOT_IDENTITY)
    offsets: Unit | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path (a file) or dataset (a Hub id with its revision)")
        if self.dataset is not None and not self.revision:
            raise ValueError(f"dataset {self.dataset!r} needs a revision: a data set that can move makes no experiment")
        if self.dataset is not None and (problem := repo_names.fault(self.dataset, needs_namespace=False)):
            raise ValueError(f"dataset {self.dataset!r}: {problem}")

        for setting in ("revision", "config"):
            if self.path is not None and getattr(self, setting) is not None:
                raise ValueError(f"{setting} is for data sets of the Hub; drop it for the file {str(self.path)!r}")
        if self.text is not None and self.text == self.label:
            raise ValueError(f"text and label are both {self.text!r}")

    @property
    def layout(self) -> Layout:
        """How its rows are read."""
        return Layout(self.text, self.label, self.offsets, self.label_map)

    def __str__(self) -> str:
        """The source as messages name it."""
        return str(self.path) if self.path is not None else f"{self.dataset}@{self.revision} ({self.split})"


@from_anyone("per_class")
@dataclass(frozen=True)
class Seeds(Source):
    """The labelled examples the student starts from. `per_class` draws k of each class; without it all are used."""

    per_class: Count | None = None


@from_anyone("share", "candidates")
@dataclass(frozen=True)
class Pool(Source):
    """Unlabelled real texts (ELAD, Zhang et al. 2024, arXiv 2402.13098). A share `share` of each round's texts is not
    written but chosen from the pool: those the last student is least sure of. The teacher labels them; labels in the file
    are not read. Each round draws `candidates` texts to choose from."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    candidates: Count = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("label", "label_map"):
            if getattr(self, setting):
                raise ValueError(f"{setting}: labels of a pool are not read; drop the setting")


@from_anyone("count", "samples", "ask_at_most", "shard_size")
@dataclass(frozen=True)
class Rounds:
    """How much is generated: `count` rounds after round 0, each with `samples` texts that the filters kept.

    What the filters reject is asked for again, until the round is full or `ask_at_most` times `samples` texts were asked for (1: no
    text is asked for again). `shard_size` decides nothing but the number of files: an answer is safe before its shard is written."""

    count: Annotated[int, Field(ge=0)] = field(default=5, metadata=NOT_IDENTITY)
    samples: Count = 200
    ask_at_most: Annotated[float, Field(ge=1, le=100)] = 3.0
    shard_size: Count = field(default=1024, metadata=NOT_IDENTITY)


@from_anyone(
    "min_characters",
    "max_characters",
    "near_duplicates",
    "label_disagreement",
    "label_confidence",
    "label_votes",
    "seed_form",
    "max_refused",
)
@dataclass(frozen=True)
class Filters:
    """What a draft must pass to become a sample.

    `near_duplicates`: the estimated Jaccard similarity of character 5-grams from which two texts are too alike (1 turns
    the filter off). It is applied against every text kept before and, as `test_overlap`, against the texts of test and dev.
    `label_disagreement`: what happens to a text when the teacher labels it otherwise than it was asked to write it. `auto` follows
    from the teacher's exam; `relabel` takes the teacher's label, `intended` the label that was asked for, `reject` drops the text.
    `label_confidence`: with `auto`, the least probability that a label is right, as the exam lets one expect. `label_votes`:
    labelling answers per text, each with the demonstrations in another order. `seed_form`: texts and spans that no seed resembles
    are dropped: another script, a fourth or four times the length, no question where all seeds are; spans of bare punctuation, of
    nearly the whole text, or three times as long as any of the seeds'. `max_refused`: a round stops when the teacher's server
    refuses a larger share of its texts.
    """

    min_characters: Count = 2
    max_characters: Count = 4000
    near_duplicates: Share = 0.85
    label_disagreement: Literal["auto", "relabel", "intended", "reject"] = "auto"
    label_confidence: Share = 0.5
    label_votes: Count = 1
    seed_form: bool = True
    max_refused: Share = field(default=0.2, metadata=NOT_IDENTITY)


@from_anyone("boost", "seed_weight")
@dataclass(frozen=True)
class Training:
    """How much samples weigh when a student learns them. `boost`: a sample that the student before got wrong weighs this
    many times as much as one that it got right (boosting, as in "Language models are weak learners", arXiv 2306.14101).
    `seed_weight`: how many synthetic samples a seed weighs."""

    boost: Annotated[float, Field(ge=1)] = 1.0
    seed_weight: Annotated[float, Field(gt=0)] = 3.0


@from_user("tokens", "hours", "cost")
@dataclass(frozen=True)
class Budget:
    """What a run may use, all its processes together. When one of them is used up the run ends cleanly, with every complete
    round published; the same command with a larger budget goes on. `tokens`: of prompts and answers; `hours`: of work;
    `cost`: dollars at `prices`."""

    tokens: Count | None = field(default=None, metadata=NOT_IDENTITY)
    hours: Rate | None = field(default=None, metadata=NOT_IDENTITY)
    cost: Rate | None = field(default=None, metadata=NOT_IDENTITY)


@from_user("prompt", "completion")
@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens of the teacher's prompts and answers. Without them no cost is counted."""

    prompt: Annotated[float, Field(ge=0)] = field(default=0.0, metadata=NOT_IDENTITY)
    completion: Annotated[float, Field(ge=0)] = field(default=0.0, metadata=NOT_IDENTITY)

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars for so many tokens."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@from_user("repo", "student", "private", "endpoint", "hub_root", "journal")
@dataclass(frozen=True)
class Publish:
    """Where rounds go. `endpoint`: null is the Hub (or HF_ENDPOINT), `local` a local Hub started for the run, or a URL.
    `student`: a model repository for each round's student."""

    repo: RepoId = field(metadata=NOT_IDENTITY)
    student: RepoId | None = field(default=None, metadata=NOT_IDENTITY)
    private: bool = field(default=True, metadata=NOT_IDENTITY)
    endpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    hub_root: Path = field(default=Path("hub"), metadata=NOT_IDENTITY)
    journal: bool = field(default=True, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        if self.endpoint not in (None, "local") and not re.match(r"https?://", str(self.endpoint)):
            raise ValueError(f"endpoint {self.endpoint!r} is neither null, 'local' nor a http(s) URL")


@from_user("to", "project")
@dataclass(frozen=True)
class Tracking:
    """An experiment tracker that is told the numbers of each complete round. Off by default. `project`: of the tracker; TensorBoard
    writes into the run's folder instead. Addresses and keys are the tracker's own, from its own environment variables."""

    to: Literal["tensorboard", "trackio", "wandb", "mlflow"] = field(metadata=NOT_IDENTITY)
    project: Annotated[str, Field(min_length=1)] = field(default="evokd-data", metadata=NOT_IDENTITY)


@from_user("license", "languages", "title", "limits", "comparison")
@dataclass(frozen=True)
class Card:
    """What the dataset card says that no other file holds. `comparison` is the results.json of an `evokd-data compare`; its
    tables become a section of the card."""

    license: str = "other"
    languages: tuple[str, ...] = ("en",)
    title: str = ""
    limits: str = ""
    comparison: Path | None = None


SECTIONS: dict[str, type] = {
    "seeds": Seeds, "test": Source, "dev": Source, "pool": Pool, "rounds": Rounds, "filters": Filters,
    "training": Training, "budget": Budget, "prices": Prices, "publish": Publish, "tracking": Tracking, "card": Card,
}  # fmt: skip
"""Key of the recipe -> its class."""
