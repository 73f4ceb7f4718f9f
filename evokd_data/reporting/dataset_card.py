"""The dataset card: the README of a revision and its learning curve, made from recipe, manifests, metrics and plans.

Everything that a teacher or a user wrote is escaped by `escaped` in the page, and by a YAML library in the metadata. So no label,
text or description can end a table, open a tag or add a key.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from evokd_data import repo_layout
from evokd_data.errors import DataError
from evokd_data.generation.filters import REASONS
from evokd_data.recipe import Recipe
from evokd_data.reporting import comparison_tables
from evokd_data.reporting.label_trust import asked_again, first_texts, what_becomes_of_a_text
from evokd_data.reporting.primary_metric import NAMES, primary_metric
from evokd_data.reporting.round_facts import RoundFacts, live_files, live_rows
from evokd_data.reporting.verdict_words import adoption_in_words, paired_sentence
from evokd_data.seeds import LEFT_OUT
from evokd_data.yaml_files import dump_yaml

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
SECOND = {"macro_f1": "accuracy", "micro_f1": "macro_f1"}
"""Primary metric -> the metric that the card shows beside it."""
TAGS = ("synthetic", "knowledge-distillation", "evokd")


class Markdown(str):
    """Text that is Markdown already. A template escapes every other string when it prints it."""

    __slots__ = ()


def escaped(text: str) -> str:
    """The text as plain text in Markdown: each character that could be markup becomes a character reference.

    References never act as markup (CommonMark 2.5), not even in table cells. Invisible control characters, such as those
    that change the writing direction, become U+FFFD.
    """
    flat = _BREAKS.sub(" ", text)
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", _HIDDEN.sub("\ufffd", flat))


_BREAKS = re.compile(r"[\s\u0085\u2028\u2029]+")
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_SPECIAL = re.compile(r"[^\w .,;?'()%/=+-]|_")


def render(recipe: Recipe, repo: str, rounds: Sequence[RoundFacts]) -> str:
    """The card of the newest of `rounds`, which are all rounds so far, in order.

    Raises DataError when the comparison that the recipe names is not a results.json.
    """
    newest = rounds[-1]
    rejected = Counter[str]()
    for facts in rounds:
        rejected.update(facts.manifest["totals"]["rejected"])
    # An exam holds until the next: a corrected round takes none, and its plan names none.
    examined = next((facts.plan for facts in reversed(rounds) if facts.plan.get("exam")), newest.plan)
    identity, task = newest.manifest["identity"], recipe.task.describe()
    meanings: Mapping[str, str] = next((value for key, value in task.items() if key.endswith("_descriptions")), {})
    return environment(markdown=True).get_template("dataset.md.j2").render(
        metadata=Markdown(as_yaml(metadata(recipe, rounds))),
        title=title(recipe),
        repo=Markdown(repo),
        seed=recipe.seed,
        strategy=recipe.strategy.name,
        rows=live_rows(rounds),
        asked=sum(facts.manifest["totals"]["asked"] for facts in rounds),
        first_aimed=next((facts.index for facts in rounds if facts.plan["weaknesses"]), None),
        corrected=[{"tag": facts.tag, **facts.corrections} for facts in rounds if facts.corrections is not None],
        rejected=rejected.total(),
        rejections=[
            {"reason": reason, "count": count, "meaning": REASONS.get(reason, "")} for reason, count in rejected.most_common()
        ],
        has_rejections=any(facts.parquet_files(repo_layout.REJECTIONS) for facts in rounds),
        has_journal=any(facts.parquet_files(repo_layout.JOURNAL) for facts in rounds),
        has_probe=any(facts.parquet_files(repo_layout.PROBE) for facts in rounds),
        origins=[{"first": facts.tag, **facts.manifest["identity"]["from"]} for facts in rounds if facts.begins_branch],
        left_out=_left_out(rounds[0]),
        description=task.get("description", ""),
        classes=recipe.task.labels,
        meanings=meanings,
        score=primary_metric(newest.metrics["test"]),
        second=NAMES[SECOND[primary_metric(newest.metrics["test"]).key]],
        targets=list(recipe.task.columns()),
        rounds=[_round(facts) for facts in rounds],
        last=_round(newest),
        seeds_only=_seeds_only(rounds[0].metrics),
        paired=Markdown(paired_sentence(rounds[0].metrics, newest.index, newest.metrics)),
        adoption=Markdown(adoption_in_words([facts.metrics for facts in rounds])),
        adopted_by=(newest.metrics.get("adoption") or {"by": "seeds"})["by"],
        exam=examined.get("exam"),
        trust=" ".join(filter(None, (say(examined) for say in (first_texts, asked_again, what_becomes_of_a_text)))),
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
        comparison=comparison(recipe),
        limits=Markdown(recipe.card.limits.strip()),
        version=newest.manifest["environment"]["versions"].get("evokd-data", ""),
    )  # fmt: skip


def _left_out(first: RoundFacts) -> list[str]:
    """For each split of which rows were left out: how many, and why."""
    lines = []
    for split, counts in first.manifest["totals"].get("left_out", {}).items():
        reasons = {reason: counts[reason] for reason in LEFT_OUT if reason in counts}
        lines.append(
            f"Of the {counts['rows']} rows given as {split}, {sum(reasons.values())} were left out ("
            + "; ".join(f"{count} {LEFT_OUT[reason]}" for reason, count in reasons.items())
            + ")."
        )
    return lines


def _seeds_only(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The template's variables for the simplest student, from the metrics of round 0."""
    score = metrics.get("seeds_only")
    return score and {"kind": score["kind"], **_score(score)}


def comparison(recipe: Recipe) -> Markdown:
    """The tables of the comparison that the recipe names. Empty when the file is not on this machine."""
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
    """The title in the recipe's `card` section, else the recipe's name."""
    return recipe.card.title or recipe.name


def metadata(recipe: Recipe, rounds: Sequence[RoundFacts]) -> dict[str, Any]:
    """The card's YAML block. It lists only configs that have files at this revision: when a config has none, a client reads
    its cache instead, without a warning."""
    from evokd_data.storage.parquet import JOURNAL_SCHEMA
    from evokd_data.storage.row_datasets import in_card, sample_features, text_features
    from evokd_data.storage.shards import probe_schema, rejection_schema

    rows = live_rows(rounds)
    table: dict[str, Any] = {
        "pretty_name": title(recipe),
        "license": recipe.card.license,
        "language": list(recipe.card.languages),
        "task_categories": [recipe.task.hub_category],
        "size_categories": [next((name for bound, name in SIZES if rows < bound), "n>10M")],
        "annotations_creators": [
            "machine-generated",
            *(["expert-generated"] if any(facts.corrections for facts in rounds) else []),
        ],
        "language_creators": ["machine-generated"],
        "source_datasets": list(
            dict.fromkeys(facts.manifest["identity"]["from"]["repo"] for facts in rounds if facts.begins_branch)
        )
        or ["original"],
        "tags": [*TAGS, *([] if recipe.strategy.name in TAGS else [recipe.strategy.name])],
    }
    teacher = model_name(rounds[-1].manifest["identity"]["teacher"], {})
    if HUB_ID.match(teacher):
        table["base_model"] = [teacher]
    # The files hold labels as text, for all readers. `datasets` makes class numbers of it because the card has their names.
    samples = in_card(sample_features(recipe.task))
    configs: list[tuple[str, str, Sequence[RoundFacts], Any]] = [("default", repo_layout.DATA, rounds, samples)]
    configs += [(facts.tag, repo_layout.DATA, [facts], samples) for facts in rounds]
    configs += [
        (name, kind, rounds, in_card(text_features(schema)))
        for name, kind, schema in (
            ("rejections", repo_layout.REJECTIONS, rejection_schema()),
            ("journal", repo_layout.JOURNAL, JOURNAL_SCHEMA),
            ("probe", repo_layout.PROBE, probe_schema()),
        )
    ]
    table["configs"], table["dataset_info"] = [], []
    for name, kind, config_rounds, columns in configs:
        if kind == repo_layout.DATA:
            files = live_files(rounds, config_rounds)
        else:
            files = {
                path: facts.manifest["files"][path] for facts in config_rounds for path in facts.parquet_files(kind)
            }
        if not files:
            continue
        config = {"config_name": name, "data_files": [{"split": repo_layout.SPLIT, "path": list(files)}]}
        table["configs"].append({**config, "default": True} if name == "default" else config)
        # With the number of rows: `load_dataset` refuses a split that has another number.
        size = sum(entry["size"] for entry in files.values())
        number = sum(entry["rows"] for entry in files.values())
        # Without `num_bytes` it calls the card malformed; it compares them with nothing, and the files' are those we know.
        split = {"name": repo_layout.SPLIT, "num_bytes": size, "num_examples": number}
        info = {"config_name": name, "features": columns, "splits": [split]}
        table["dataset_info"].append({**info, "download_size": size, "dataset_size": size})
    return table


def learning_curve(recipe: Recipe, rounds: Sequence[RoundFacts]) -> str:
    """The primary metric on the test set by round, with its interval, as SVG."""
    width, height, left, right, top, bottom = 640, 320, 52, 616, 32, 262
    scores = [primary_metric(facts.metrics["test"]) for facts in rounds]
    intervals = [score.interval or (score.value, score.value) for score in scores]
    floor = max(0, min(9, int(min(low for low, _ in intervals) * 10)))
    ceiling = max(floor + 1, min(10, -int(-max(high for _, high in intervals) * 10 // 1)))

    def y(value: float) -> float:
        return round(bottom - (value * 10 - floor) / (ceiling - floor) * (bottom - top), 1)

    step = (right - left) / max(1, len(rounds) - 1)
    label_every = -(-len(rounds) // 16)  # more labels would overlap
    points = [
        {
            "x": round(left + step * position, 1) if len(rounds) > 1 else (left + right) / 2,
            "y": y(score.value),
            "low": y(low),
            "high": y(high),
            "label": str(facts.index) if position % label_every == 0 else "",
        }
        for position, (facts, score, (low, high)) in enumerate(zip(rounds, scores, intervals, strict=True))
    ]
    grid = [{"y": y(tenth / 10), "label": f"{tenth / 10:.1f}"} for tenth in range(floor, ceiling + 1)]
    n = rounds[-1].metrics["test"]["n"]
    name = f"{scores[-1].title} of the student on the test set (n = {n}), 95 % interval"
    return environment(markdown=False).get_template("learning-curve.svg.j2").render(
        width=width, height=height, left=left, right=right, bottom=bottom, points=points, grid=grid, title=name
    )  # fmt: skip


def templates() -> Path:
    """The folder of card templates: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    in_wheel = package / "cards"
    return in_wheel if in_wheel.is_dir() else package.with_name("cards")


@cache
def environment(*, markdown: bool) -> Any:
    """The Jinja2 environment of the card templates. It escapes strings for Markdown, or else for XML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=not markdown,  # noqa: S701 - Markdown is escaped by `finalize`
        **({"finalize": _finalize} if markdown else {}),  # type: ignore[arg-type]
    )
    environment.filters["share"] = lambda value: Markdown("" if value is None else f"{value:.3f}")
    environment.filters["percent"] = lambda value: Markdown(f"{100 * value:.1f} %")
    environment.filters["code"] = _code
    return environment


def _finalize(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markdown) else value


def _code(text: str) -> Markdown:
    """A name in a code span. Only the backtick, and in a table the pipe, is markup there; both become "?"."""
    return Markdown(f"`{re.sub(r'[^ -~]|[`|]', '?', text)}`")


def _round(facts: RoundFacts) -> dict[str, Any]:
    """The template's variables for one round."""
    test = facts.metrics["test"]
    quotas = facts.plan["cells"]
    return {
        "index": facts.index,
        "tag": facts.tag,
        "rows": facts.rows,
        "rejected": sum(facts.manifest["totals"]["rejected"].values()),
        "tokens": sum(facts.manifest["environment"]["tokens"].values()),
        "test": {
            "n": test["n"],
            "truncated": test.get("truncated", 0),
            "notes": test.get("notes", []),
            **_score(test),
        },
        "adopted": "yes" if (facts.metrics.get("adoption") or {"adopted": True})["adopted"] else "no",
        "per_class": test.get("per_class", {}),
        "weaknesses": facts.plan["weaknesses"],
        "planned": sum(quota["samples"] for quota in quotas),
        "targeted": sum(quota["samples"] for quota in quotas if quota.get("weakness")),
        "digest": facts.manifest["digest"],
        "content": facts.manifest["identity"]["content"],
    }


def _score(test: Mapping[str, Any]) -> dict[str, Any]:
    """Primary metric, the one beside it, and the interval."""
    score = primary_metric(test)
    return {"score": score.value, "second": test.get(SECOND[score.key]), "interval": Markdown(score.within)}


ANONYMOUS = ("model", "checkpoint", "best")
"""Names of folders that say nothing: the folder above names the model."""


def model_name(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The model's Hub id, or the last part of its path; empty when there is no model."""
    name = str(identity.get("model") or settings.get("model") or "")
    if HUB_ID.match(name):
        return name
    *folders, last = name.rstrip("/").split("/")
    return folders[-1] if folders and last in ANONYMOUS else last


def model_revision(identity: Mapping[str, Any]) -> Markdown:
    """The model's commit, or the beginning of the digest of its files; empty when the identity has neither."""
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
    """YAML with the same meaning in YAML 1.1 (PyYAML, which the Hub's clients use) and in YAML 1.2 (the Hub): strings that
    one of them could read as another type (no, 1e3, 2024-01-01) are quoted."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def plain(value: Any, exact: bool = False) -> Any:
        if isinstance(value, Mapping):
            # Names of classes must be those in the files, also with a joiner in them: `datasets` refuses every other label.
            return {plain(key): plain(item, exact or key == "class_label") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, str) and (not _HARMLESS.fullmatch(value) or value.lower() in _WORDS):
            return DoubleQuotedScalarString(value if exact else _HIDDEN.sub("\ufffd", value))
        return value

    return dump_yaml(plain(table), width=10_000)


_HARMLESS = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
