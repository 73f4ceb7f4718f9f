"""The README of a revision and its learning curve, from the recipe and the rounds' manifests, metrics and plans.

Whatever a teacher or a user wrote goes through `escaped` on its way into the page, and through a YAML library on its way
into the metadata: no label, text or description can end a table, open a tag or add a key.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evokd_data import repo_layout
from evokd_data.errors import DataError
from evokd_data.generation.filters import REASONS
from evokd_data.recipe import Recipe
from evokd_data.repo_layout import round_tag
from evokd_data.reporting import comparison_tables
from evokd_data.reporting.primary_metric import NAMES, primary_metric
from evokd_data.yaml_files import dump_yaml

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
SECOND = {"macro_f1": "accuracy", "micro_f1": "macro_f1"}  # shown beside the headline
TAGS = ("synthetic", "knowledge-distillation", "evokd")


@dataclass(frozen=True)
class RoundFacts:
    """What the card reads of one round. `manifest` is the published form; its `files` may still lack the card."""

    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any]
    plan: Mapping[str, Any]

    @property
    def index(self) -> int:
        return self.manifest["round"]

    @property
    def tag(self) -> str:
        return round_tag(self.index)

    @property
    def rows(self) -> int:
        return self.manifest["identity"]["rows"]

    @property
    def branched(self) -> bool:
        """Whether a branch begins here: its first own round."""
        return "from" in self.manifest["identity"]

    def parts(self, kind: str) -> list[str]:
        """The round's Parquet files of one kind, in row order."""
        return sorted(path for path in self.manifest["files"] if path.startswith(f"{kind}/{self.tag}/"))


class Markdown(str):
    """Text that is Markdown on purpose; every other string is escaped where the template prints it."""

    __slots__ = ()


def escaped(text: str) -> str:
    """Words of others as plain text in Markdown: a character that could mean something becomes a reference to itself.

    References never act as markup (CommonMark 2.5), not even in table cells. Invisible controls, among them those that
    turn the direction of writing, become U+FFFD.
    """
    flat = _BREAKS.sub(" ", text)
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", _HIDDEN.sub("\ufffd", flat))


_BREAKS = re.compile(r"[\s\u0085\u2028\u2029]+")
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_SPECIAL = re.compile(r"[^\w .,;?'()%/=+-]|_")


def render(recipe: Recipe, repo: str, rounds: Sequence[RoundFacts]) -> str:
    """The card of the last of `rounds`, which are all rounds so far, in order."""
    last = rounds[-1]
    rejected = Counter[str]()
    for one in rounds:
        rejected.update(one.manifest["totals"]["rejected"])
    identity, task = last.manifest["identity"], recipe.task.describe()
    meanings: Mapping[str, str] = next((value for key, value in task.items() if key.endswith("_descriptions")), {})
    return environment(markdown=True).get_template("dataset.md.j2").render(
        metadata=Markdown(as_yaml(metadata(recipe, rounds))),
        title=title(recipe),
        repo=Markdown(repo),
        seed=recipe.seed,
        strategy=recipe.strategy.name,
        rows=sum(one.rows for one in rounds),
        asked=sum(one.manifest["totals"]["asked"] for one in rounds),
        rejected=rejected.total(),
        rejections=[
            {"reason": reason, "count": count, "meaning": REASONS.get(reason, "")} for reason, count in rejected.most_common()
        ],
        has_rejections=any(one.parts(repo_layout.REJECTIONS) for one in rounds),
        has_journal=any(one.parts(repo_layout.JOURNAL) for one in rounds),
        has_probe=any(one.parts(repo_layout.PROBE) for one in rounds),
        origins=[{"first": one.tag, **one.manifest["identity"]["from"]} for one in rounds if one.branched],
        description=task.get("description", ""),
        classes=recipe.task.labels,
        meanings=meanings,
        score=primary_metric(last.metrics["test"]),
        second=NAMES[SECOND[primary_metric(last.metrics["test"]).key]],
        targets=list(recipe.task.columns()),
        rounds=[_round(one) for one in rounds],
        last=_round(last),
        curve=Markdown(repo_layout.CURVE),
        teacher={
            "model": model_name(identity["teacher"], recipe.settings.get("teacher", {})),
            "revision": model_revision(identity["teacher"]),
            "kind": recipe.teacher.name,
            "settings": Markdown(_sampling(recipe)),
        },
        student={
            "model": model_name(identity["student"].get("base", identity["student"]), recipe.settings.get("student", {})),
            "revision": model_revision(identity["student"].get("base", identity["student"])),
            "kind": recipe.student.name,
        },
        prompts=identity["prompts"],
        comparison=_comparison(recipe),
        limits=Markdown(recipe.card.limits.strip()),
        version=last.manifest["environment"]["versions"].get("evokd-data", ""),
    )  # fmt: skip


def _comparison(recipe: Recipe) -> Markdown:
    """The tables of the comparison that the recipe names; a recipe from another machine names none that is here."""
    path = recipe.card.comparison
    if path is None or not path.is_file():
        return Markdown("")
    try:
        lines = comparison_tables.tables(json.loads(path.read_text(encoding="utf-8")), escaped)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"card.comparison: {path} is no results.json of evokd-data compare ({type(error).__name__}: {error}); "
            "name one, or leave the setting out"
        ) from None
    return Markdown("\n".join(lines))


def title(recipe: Recipe) -> str:
    return recipe.card.title or recipe.name


def metadata(recipe: Recipe, rounds: Sequence[RoundFacts]) -> dict[str, Any]:
    """The card's YAML block: only configs that have files at this revision, for a client that finds none of a config's
    files falls back to its cache in silence."""
    from evokd_data.storage.parquet import JOURNAL_SCHEMA, features
    from evokd_data.storage.shards import probe_schema, rejection_schema, sample_schema

    rows = sum(one.rows for one in rounds)
    found: dict[str, Any] = {
        "pretty_name": title(recipe),
        "license": recipe.card.license,
        "language": list(recipe.card.languages),
        "task_categories": [recipe.task.hub_category],
        "size_categories": [next((name for bound, name in SIZES if rows < bound), "n>10M")],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "source_datasets": list(
            dict.fromkeys(one.manifest["identity"]["from"]["repo"] for one in rounds if one.branched)
        )
        or ["original"],
        "tags": [*TAGS, *([] if recipe.strategy.name in TAGS else [recipe.strategy.name])],
    }
    teacher = model_name(rounds[-1].manifest["identity"]["teacher"], {})
    if HUB_ID.match(teacher):
        found["base_model"] = [teacher]
    samples = features(sample_schema(recipe.task))
    # A round's own config needs no columns: the files have them.
    kinds: list[tuple[str, str, Sequence[RoundFacts], Any]] = [("default", repo_layout.DATA, rounds, samples)]
    kinds += [(one.tag, repo_layout.DATA, [one], None) for one in rounds]
    kinds += [
        ("rejections", repo_layout.REJECTIONS, rounds, features(rejection_schema())),
        ("journal", repo_layout.JOURNAL, rounds, features(JOURNAL_SCHEMA)),
        ("probe", repo_layout.PROBE, rounds, features(probe_schema())),
    ]
    found["configs"], found["dataset_info"] = [], []
    for name, kind, of, columns in kinds:
        files = {path: one.manifest["files"][path] for one in of for path in one.parts(kind)}
        if not files:
            continue
        config = {"config_name": name, "data_files": [{"split": repo_layout.SPLIT, "path": list(files)}]}
        found["configs"].append({**config, "default": True} if name == "default" else config)
        if columns is not None:
            # The number of rows: `load_dataset` refuses a split that has another.
            split = {"name": repo_layout.SPLIT, "num_examples": sum(entry["rows"] for entry in files.values())}
            size = sum(entry["size"] for entry in files.values())
            found["dataset_info"].append(
                {"config_name": name, "features": columns, "splits": [split], "download_size": size}
            )
    return found


def learning_curve(recipe: Recipe, rounds: Sequence[RoundFacts]) -> str:
    """The score on the test set by round, with its interval, as SVG."""
    width, height, left, right, top, bottom = 640, 320, 52, 616, 32, 262
    scores = [primary_metric(one.metrics["test"]) for one in rounds]
    spans = [score.interval or (score.value, score.value) for score in scores]
    floor = max(0, min(9, int(min(low for low, _ in spans) * 10)))
    ceiling = max(floor + 1, min(10, -int(-max(high for _, high in spans) * 10 // 1)))

    def at(value: float) -> float:
        return round(bottom - (value * 10 - floor) / (ceiling - floor) * (bottom - top), 1)

    step = (right - left) / max(1, len(rounds) - 1)
    every = -(-len(rounds) // 16)  # more labels than that run into each other
    points = [
        {
            "x": round(left + step * place, 1) if len(rounds) > 1 else (left + right) / 2,
            "y": at(score.value),
            "low": at(low),
            "high": at(high),
            "label": str(one.index) if place % every == 0 else "",
        }
        for place, (one, score, (low, high)) in enumerate(zip(rounds, scores, spans, strict=True))
    ]
    grid = [{"y": at(tenth / 10), "label": f"{tenth / 10:.1f}"} for tenth in range(floor, ceiling + 1)]
    n = rounds[-1].metrics["test"]["n"]
    name = f"{scores[-1].title} of the student on the test set (n = {n}), 95 % interval"
    return environment(markdown=False).get_template("learning-curve.svg.j2").render(
        width=width, height=height, left=left, right=right, bottom=bottom, points=points, grid=grid, title=name
    )  # fmt: skip


def templates() -> Path:
    """The folder of card templates: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    packaged = package / "cards"
    return packaged if packaged.is_dir() else package.with_name("cards")


@cache
def environment(*, markdown: bool) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=not markdown,  # noqa: S701 - Markdown is escaped by `finalize`
        **({"finalize": _printed} if markdown else {}),  # type: ignore[arg-type]
    )
    environment.filters["share"] = lambda value: Markdown("" if value is None else f"{value:.3f}")
    environment.filters["percent"] = lambda value: Markdown(f"{100 * value:.1f} %")
    environment.filters["code"] = _code
    return environment


def _printed(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markdown) else value


def _code(text: str) -> Markdown:
    """A name in a code span: nothing is markup there but the closing tick, and, in a table, the pipe."""
    return Markdown(f"`{re.sub(r'[^ -~]|[`|]', '?', text)}`")


def _round(one: RoundFacts) -> dict[str, Any]:
    """A round as the template sees it."""
    test = one.metrics["test"]
    score = primary_metric(test)
    quotas = one.plan["cells"]
    return {
        "index": one.index,
        "tag": one.tag,
        "rows": one.rows,
        "rejected": sum(one.manifest["totals"]["rejected"].values()),
        "tokens": sum(one.manifest["environment"]["tokens"].values()),
        "test": {
            "n": test["n"],
            "score": score.value,
            "second": test.get(SECOND[score.key]),
            "interval": Markdown(score.within),
        },
        "per_class": test.get("per_class", {}),
        "weaknesses": one.plan["weaknesses"],
        "planned": sum(quota["samples"] for quota in quotas),
        "targeted": sum(quota["samples"] for quota in quotas if quota.get("weakness")),
        "digest": one.manifest["digest"],
        "content": one.manifest["identity"]["content"],
    }


def model_name(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """A Hub id, or the last part of whatever path the recipe names."""
    name = str(identity.get("model") or settings.get("model") or "")
    return name if HUB_ID.match(name) else name.rstrip("/").rsplit("/", 1)[-1]


def model_revision(identity: Mapping[str, Any]) -> Markdown:
    if identity.get("revision"):
        return _code(str(identity["revision"]))
    return Markdown(f"files {_code(str(identity['digest'])[:12])}") if identity.get("digest") else Markdown("")


def _sampling(recipe: Recipe) -> str:
    teacher = recipe.teacher
    return (
        f"The teacher drew with temperature {teacher.temperature:g}, top-p {teacher.top_p:g} and at most "
        f"{teacher.max_tokens} tokens an answer, each request with a seed of its own."
    )


def as_yaml(table: Mapping[str, Any]) -> str:
    """YAML that a 1.1 reader (PyYAML, in the Hub's clients) and a 1.2 reader (the Hub) take for the same: strings that
    either might take for something else (no, 1e3, 2024-01-01) are quoted."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {plain(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, str) and (not _HARMLESS.fullmatch(value) or value.lower() in _WORDS):
            return DoubleQuotedScalarString(_HIDDEN.sub("\ufffd", value))
        return value

    return dump_yaml(plain(table), width=10_000)


_HARMLESS = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
