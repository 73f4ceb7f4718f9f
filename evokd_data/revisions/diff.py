"""Diff: what changed between two rounds of a repository. Everything is read from their revisions."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evokd_data import repo_layout
from evokd_data.errors import PublishError
from evokd_data.publishers.open_hub import open_hub
from evokd_data.repo_layout import round_tag
from evokd_data.revisions.load import fetch_rounds, round_number
from evokd_data.storage import parquet
from evokd_data.storage.snapshot import Snapshot, load_task
from evokd_data.yaml_files import load_yaml


def diff(
    repo: str,
    one: int | str,
    other: int | str,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> dict[str, Any]:
    """The later of two rounds against the earlier one; both are numbers or tags.

    {"repo", "from": revision, "to": revision, with {round, tag, commit, digest} each,
     "recipe": [{setting, from, to}],            "prompts": {file: unified diff},
     "weaknesses": [{name, from, to}], each {missed, seen} or null,
     "cells": [{target, difficulty, contrast, weakness, from, to}], texts asked for,
     "metrics": [{split, metric, class, from, to, change, from_interval, to_interval, from_n, to_n}],
     "rows": [{round, class, rows}] of the rounds added, "rejected": [{reason, from, to, added}],
     "teacher", "student": {from, to} of what changed}

    An interval is the metric's own bootstrap interval on its test set: two that overlap do not say that nothing changed.
    Raises PublishError when a round is not there, VerificationError when a file is not as published.
    """
    first, last = sorted((round_number(repo, one), round_number(repo, other)))
    if first == last:
        raise PublishError(
            f"{repo}: {round_tag(first)} cannot differ from itself; give two rounds, e.g. {first} {first + 1}"
        )
    texts = [
        repo_layout.RECIPE,
        f"{repo_layout.PROMPTS}/",
        *(f"{repo_layout.ROUNDS}/{round_tag(one)}/" for one in (first, last)),
    ]
    cache = Path(cache_dir) if cache_dir is not None else None
    with open_hub(endpoint, token, cache_dir=cache) as hub:
        before = fetch_rounds(hub, repo, first, kinds=(), also=texts)
        after = fetch_rounds(
            hub, repo, last, kinds=[repo_layout.DATA], of=lambda newest: range(first + 1, newest + 1), also=texts
        )
    plans = _json(before, repo_layout.plan), _json(after, repo_layout.plan)
    return {
        "repo": repo,
        "from": _revision(before),
        "to": _revision(after),
        "recipe": list(_settings(before, after)),
        "prompts": dict(_prompts(before, after)),
        "weaknesses": list(_weaknesses(*plans)),
        "cells": list(_quotas(*plans)),
        "metrics": list(_metrics(before.metrics(first), after.metrics(last))),
        "rows": list(_rows(after, range(first + 1, last + 1))),
        "rejected": list(_rejected(after, first, last)),
        **{
            who: {"from": was, "to": now}
            for who in ("teacher", "student")
            if (was := before.rounds[first].identity[who]) != (now := after.rounds[last].identity[who])
        },
    }


def _revision(snapshot: Snapshot) -> dict[str, Any]:
    last = snapshot.rounds[-1]
    return {"round": last.index, "tag": last.tag, "commit": snapshot.commit, "digest": last.manifest["digest"]}


def _json(snapshot: Snapshot, where: Any) -> Any:
    return json.loads((snapshot.folder / where(snapshot.rounds[-1].tag)).read_bytes())


def _settings(before: Snapshot, after: Snapshot) -> Iterator[dict[str, Any]]:
    """Settings by their path in the recipe; null where a recipe has none."""

    def flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                yield from flat(item, f"{path}.{key}" if path else str(key))
        else:
            yield path, value

    def settings(snapshot: Snapshot) -> dict[str, Any]:
        text = (snapshot.folder / repo_layout.RECIPE).read_text(encoding="utf-8")
        return dict(flat(load_yaml(text), ""))

    was, now = settings(before), settings(after)
    for path in sorted(was.keys() | now.keys()):
        if was.get(path) != now.get(path):
            yield {"setting": path, "from": was.get(path), "to": now.get(path)}


def _prompts(before: Snapshot, after: Snapshot) -> Iterator[tuple[str, str]]:
    was, now = _sources(before), _sources(after)
    for name in sorted(was.keys() | now.keys()):
        lines = difflib.unified_diff(
            was.get(name, "").splitlines(),
            now.get(name, "").splitlines(),
            f"{before.revision}/{name}",
            f"{after.revision}/{name}",
            lineterm="",
        )
        if text := "\n".join(lines):
            yield name, text


def _sources(snapshot: Snapshot) -> dict[str, str]:
    paths = [f"{repo_layout.PROMPTS}/{name}" for name in snapshot.rounds[-1].identity["prompts"]]
    return {path: (snapshot.folder / path).read_text(encoding="utf-8") for path in paths}


def _weaknesses(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    was, now = ({one["name"]: one for one in plan["weaknesses"]} for plan in (before, after))
    for name in sorted(was.keys() | now.keys(), key=lambda name: (-now.get(name, {}).get("missed", 0), name)):
        found: dict[str, Any] = {"name": name}
        for side, known in (("from", was), ("to", now)):
            found[side] = {key: known[name][key] for key in ("missed", "seen")} if name in known else None
        yield found


def _quotas(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    keys = ("target", "difficulty", "contrast", "weakness")

    def texts(plan: Mapping[str, Any]) -> Counter[tuple[Any, ...]]:
        found: Counter[tuple[Any, ...]] = Counter()
        for quota in plan["cells"]:
            found[tuple(quota[key] for key in keys)] += quota["samples"]
        return found

    was, now = texts(before), texts(after)
    for quota in dict.fromkeys([*now, *was]):
        if was[quota] != now[quota]:
            yield {**dict(zip(keys, quota, strict=True)), "from": was[quota], "to": now[quota]}


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each number that both or one of them has; classes and their precision, recall, F1 after the overall ones."""
    for split in ("test", "dev", "probe"):
        was, now = before.get(split) or {}, after.get(split) or {}
        for metric in _numbers(was, now):
            yield _metric(split, metric, "", was, now)
        classes = [side.get("per_class") or {} for side in (was, now)]
        for name in dict.fromkeys([*classes[0], *classes[1]]):
            per = [side.get(name) or {} for side in classes]
            for metric in _numbers(*per):
                yield _metric(split, metric, name, *per)


def _numbers(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name in dict.fromkeys([*was, *now])
        if any(isinstance(side.get(name), int | float) for side in (was, now)) and name not in ("n", "right", "support")
    ]


def _metric(split: str, metric: str, name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"split": split, "metric": metric, "class": name}
    for side, values in (("from", was), ("to", now)):
        found[side] = values.get(metric)
        found[f"{side}_interval"] = (values.get("intervals") or {}).get(metric)
        found[f"{side}_n"] = values.get("n", values.get("support"))
    known = found["from"] is not None and found["to"] is not None
    return {**found, "change": round(found["to"] - found["from"], 6) if known else None}


def _rows(after: Snapshot, added: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Samples of each round and class; one that holds two types of span counts for both."""
    task = load_task(after.folder / repo_layout.RECIPE)
    for index in added:
        counts = dict.fromkeys(task.labels, 0)
        for sample in parquet.read_samples(task, after.paths(repo_layout.DATA, [index])):
            for label in task.labels:
                counts[label] += task.carries(sample.target, label)
        yield {"round": index, "class": None, "rows": after.rounds[index].identity["rows"]}
        yield from ({"round": index, "class": label, "rows": rows} for label, rows in counts.items())


def _rejected(after: Snapshot, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Of either round alone, and in all rounds added."""
    by_round = [Counter[str](one.manifest["totals"]["rejected"]) for one in after.rounds]
    added = sum(by_round[first + 1 : last + 1], Counter[str]())
    for reason in sorted(added.keys() | by_round[first].keys()):
        yield {
            "reason": reason,
            "from": by_round[first][reason],
            "to": by_round[last][reason],
            "added": added[reason],
        }
