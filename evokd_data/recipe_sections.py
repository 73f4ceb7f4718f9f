"""The sections of a recipe that are no plugs: frozen dataclasses. The docstrings of classes and fields are the descriptions in the
JSON Schema."""

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


@from_anyone("text", "label", "label_map", "offsets")
@from_user("dataset", "revision", "config", "split", "format", path="not-taken-from-a-downloaded-recipe")
@dataclass(frozen=True)
class Source:
    """Where labelled texts come from: a file, or a data set on the Hub.

    Where a file lies is not part of a run's identity, nor how it is read; what it holds is.
    """

    path: Path | None = field(default=None, metadata=NOT_IDENTITY)
    """A file: jsonl, json, csv, tsv, xlsx, parquet or arrow, for tagging CoNLL columns, too; compressed ones as well
    (.gz, .zst, .bz2, .xz). A relative path begins at the recipe's folder. Give this or `dataset`."""
    dataset: str | None = field(default=None, metadata=NOT_IDENTITY)
    """A data set on the Hub, ORG/NAME, pinned by `revision`. Give this or `path`."""
    revision: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The branch, tag or commit of `dataset`. Give a commit: a branch can move, and then the run is another experiment."""
    config: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The configuration of `dataset`, where it has several. By default the data set's own."""
    split: str | None = field(default=None, metadata=NOT_IDENTITY)
    """The split of `dataset` that is read. By default train."""
    format: Literal["doccano", "label-studio", "argilla", "prodigy", "conll", "spans"] | None = field(
        default=None, metadata=NOT_IDENTITY
    )
    """The tool that exported the file. By default it is recognised; set it when `check` cannot tell. `spans`: rows of
    the task's own columns."""
    text: Column | None = field(default=None, metadata=NOT_IDENTITY)
    """The column with the text in this source (in an export: the field). a.b is a field within a column. By default the
    task's column."""
    label: Column | None = field(default=None, metadata=NOT_IDENTITY)
    """The column with the label or the spans in this source (in an export: the question). By default the task's column."""
    label_map: Mapping[str, str] = field(default_factory=dict, hash=False, metadata=NOT_IDENTITY)
    """A label, type or tag as the source has it, e.g. a number -> the task's. Labels that it does not name stay as they
    are."""
    offsets: Unit | None = field(default=None, metadata=NOT_IDENTITY)
    """What the offsets of spans count. By default characters, unless the texts of the spans show otherwise."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either path (a file) or dataset (a Hub id with its revision)")
        if self.dataset is not None and not self.revision:
            raise ValueError(f"dataset {self.dataset!r} needs a revision: a data set that can move makes no experiment")
        if self.dataset is not None and (problem := repo_names.fault(self.dataset, needs_namespace=False)):
            raise ValueError(f"dataset {self.dataset!r}: {problem}")

        for setting in ("revision", "config", "split"):
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
        return str(self.path) if self.path is not None else f"{self.dataset}@{self.revision} ({self.split_read})"

    @property
    def split_read(self) -> str:
        """The split of `dataset` that is read."""
        return self.split or "train"


@from_anyone("per_class")
@dataclass(frozen=True)
class Seeds(Source):
    """Labelled texts that the student starts from, and that prompts show as demonstrations."""

    per_class: Count | None = None
    """How many seeds of each label are drawn (k-shot). By default all seeds are used."""


@from_anyone("share", "candidates")
@dataclass(frozen=True)
class Pool(Source):
    """Real texts without labels (ELAD, Zhang et al. 2024, arXiv 2402.13098). A share of each round's texts is not written but
    chosen from the pool: those the last student is least sure of. The teacher labels them; labels in the file are not read."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """The share of each round's texts that is chosen from the pool; the teacher writes the rest."""
    candidates: Count = 2000
    """How many texts of the pool each round looks at. The student chooses among them; more of them take longer to
    predict."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("label", "label_map"):
            if getattr(self, setting):
                raise ValueError(f"{setting}: labels of a pool are not read; drop the setting")


@from_anyone("count", "samples", "ask_at_most", "shard_size")
@dataclass(frozen=True)
class Rounds:
    """How many rounds are made, and how many texts each of them holds."""

    count: Annotated[int, Field(ge=0)] = field(default=5, metadata=NOT_IDENTITY)
    """At most so many rounds follow round 0: a run ends after two rounds in a row that are not adopted, or after a
    doubted one that nothing can compare. Increase it to let a run that has made them all go on."""
    samples: Count = 200
    """How many texts a round holds, counted after the filters."""
    ask_at_most: Annotated[float, Field(ge=1, le=100)] = 3.0
    """A round asks again for what its filters rejected, until it is full or until this many times `samples` texts were
    asked for. 1: nothing is asked for again."""
    shard_size: Count = field(default=1024, metadata=NOT_IDENTITY)
    """Texts in one shard file. It decides nothing but the number of files: an answer is safe before its shard is
    written."""


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
    """What a draft must pass to become a sample."""

    min_characters: Count = 2
    """A shorter text is rejected (reason `too_short`). In characters."""
    max_characters: Count = 4000
    """A longer text is rejected (reason `too_long`). In characters."""
    near_duplicates: Share = 0.85
    """From this estimated Jaccard similarity of character 5-grams on, two texts are too alike. A text is compared with
    all texts kept before, and with the texts of test and dev (reason `test_overlap`). 1 turns the filter off; increase
    it when short texts are rejected that differ in one important word."""
    label_disagreement: Literal["auto", "relabel", "intended", "reject"] = "auto"
    """What happens when the teacher labels a text otherwise than it was asked to write it. `auto` follows from the
    teacher's exam; `relabel` takes the teacher's label, `intended` the label that was asked for, `reject` drops the
    text."""
    label_confidence: Share = 0.5
    """With `label_disagreement: auto`, the least probability that a label is right, as the exam lets one expect. A text with
    a less probable span is labelled a second time, and what both answers say is kept. Increase it for fewer and cleaner
    samples."""
    label_votes: Count = 1
    """How many labelling answers each text gets, each with the demonstrations in another order; the majority decides.
    Labelling costs this many times as much."""
    seed_form: bool = True
    """Drop texts and spans that no seed resembles: another script, a fourth of the length or four times the length, no
    question where all seeds are questions; spans of bare punctuation, of nearly the whole text, or three times as long
    as any span of the seeds. It needs 10 seeds. Turn it off when your seeds show only some of the forms that texts can
    have."""
    max_refused: Share = field(default=0.2, metadata=NOT_IDENTITY)
    """The run stops when the teacher's server refuses a larger share of a round's texts."""


@from_anyone("boost", "seed_weight")
@dataclass(frozen=True)
class Training:
    """How much samples weigh when a student learns them."""

    boost: Annotated[float, Field(ge=1)] = 1.0
    """How many times as much a sample weighs that the student before got wrong, compared with one that it got right
    (boosting, arXiv 2306.14101). 1: all weigh alike."""
    seed_weight: Annotated[float, Field(gt=0)] = 3.0
    """How many synthetic samples a seed weighs. Increase it when the teacher is weak and your seeds are good."""


@from_user("tokens", "hours", "cost")
@dataclass(frozen=True)
class Budget:
    """What a run may use, all its processes together. When one of them is used up the run ends cleanly, with every complete
    round published; the same command with a larger budget goes on. By default there is no limit."""

    tokens: Count | None = field(default=None, metadata=NOT_IDENTITY)
    """Tokens of prompts and answers together."""
    hours: Rate | None = field(default=None, metadata=NOT_IDENTITY)
    """Hours of work, of all processes of the run together."""
    cost: Rate | None = field(default=None, metadata=NOT_IDENTITY)
    """Dollars, counted at `prices`, which this limit needs."""


@from_user("prompt", "completion")
@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens of the teacher's prompts and answers. Without them no cost is counted."""

    prompt: Annotated[float, Field(ge=0)] = field(default=0.0, metadata=NOT_IDENTITY)
    """Dollars per million tokens of prompts."""
    completion: Annotated[float, Field(ge=0)] = field(default=0.0, metadata=NOT_IDENTITY)
    """Dollars per million tokens of answers."""

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars for so many tokens."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@from_user("repo", "student", "private", "endpoint", "hub_root", "journal")
@dataclass(frozen=True)
class Publish:
    """Where rounds are published. Without this section they stay on this machine."""

    repo: RepoId = field(metadata=NOT_IDENTITY)
    """The data set that gets one commit and one tag for each round: ORG/NAME. It is made when it is not there."""
    student: RepoId | None = field(default=None, metadata=NOT_IDENTITY)
    """A model repository, ORG/NAME, that gets each round's student. By default students stay on this machine."""
    private: bool = field(default=True, metadata=NOT_IDENTITY)
    """Whether a new repository is private. A repository that is there stays as it is."""
    endpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    """null: the Hub, or what HF_ENDPOINT names. `local`: a local Hub, started for the run. Or the URL of a Hub."""
    hub_root: Path = field(default=Path("hub"), metadata=NOT_IDENTITY)
    """The folder of the local Hub. A relative path begins at the working folder, as `runs` does."""
    journal: bool = field(default=True, metadata=NOT_IDENTITY)
    """Publish every prompt and answer with the round. Without the journal nobody can `replay` it."""

    def __post_init__(self) -> None:
        if self.endpoint not in (None, "local") and not re.match(r"https?://", str(self.endpoint)):
            raise ValueError(f"endpoint {self.endpoint!r} is neither null, 'local' nor a http(s) URL")


@from_user("to", "project")
@dataclass(frozen=True)
class Tracking:
    """An experiment tracker that is told the numbers of each complete round. Off by default. Addresses and keys are the tracker's own,
    from its own environment variables."""

    to: Literal["tensorboard", "trackio", "wandb", "mlflow"] = field(metadata=NOT_IDENTITY)
    """The tracker. TensorBoard writes into the run's folder."""
    project: Annotated[str, Field(min_length=1)] = field(default="evokd-data", metadata=NOT_IDENTITY)
    """The project of the tracker that holds the runs. TensorBoard has none."""


@from_user("license", "languages", "title", "limits", "comparison")
@dataclass(frozen=True)
class Card:
    """What the dataset card says that no other file holds."""

    license: str = "other"
    """The licence on the dataset card, as the Hub spells it, e.g. cc-by-4.0."""
    languages: tuple[str, ...] = ("en",)
    """The languages of the texts, as codes such as en, de, zh."""
    title: str = ""
    """The title of the card. By default the name of the recipe."""
    limits: str = ""
    """What readers of the card must know: where the texts come from, what they should not be used for."""
    comparison: Path | None = None
    """The results.json of an `evokd-data compare`. Its tables become a section of the card."""


SECTIONS: dict[str, type] = {
    "seeds": Seeds, "test": Source, "dev": Source, "pool": Pool, "rounds": Rounds, "filters": Filters,
    "training": Training, "budget": Budget, "prices": Prices, "publish": Publish, "tracking": Tracking, "card": Card,
}  # fmt: skip
"""Key of the recipe -> its class."""
