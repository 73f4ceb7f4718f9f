"""Diff: the changes between two rounds of a repository, read from their revisions."""

from __future__ import annotations

import difflib
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
from evokd_data.storage.corrected_rounds import ACTIONS
from evokd_data.storage.snapshot import Snapshot, load_task, of_known_form
from evokd_data.yaml_files import load_yaml


def diff(
    repo: str,
    round: int | str,
    other_round: int | str,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> dict[str, Any]:
    """The changes from the earlier to the later of two rounds. Rounds are given as numbers or tags, in any order.

    {"repo", "from": revision, "to": revision, each {round, tag, commit, digest},
     "recipe": [{setting, from, to}],            "prompts": {file: unified diff},
     "weaknesses": [{name, from, to}], each {missed, seen} or None,
     "cells": [{target, difficulty, contrast, weakness, from, to}], numbers of texts asked for,
     "metrics": [{split, metric, class, from, to, change, from_interval, to_interval, from_n, to_n}],
     "rows": [{round, class, rows}] of the rounds added, "corrections": [{round, accept, relabel, reject}], "rejected": [{reason, from, to, added}],
     "teacher", "student": {from, to}, only where they changed}

    An interval is the metric's bootstrap interval on its test set. Overlapping intervals do not prove that nothing changed.
    Raises PublishError when there is no such round, VerificationError when a file is not as published.
    """
    first, last = sorted((round_number(repo, round), round_number(repo, other_round)))
    if first == last:
        raise PublishError(
            f"{repo}: {round_tag(first)} cannot differ from itself; give two rounds, e.g. {first} {first + 1}"
        )
    texts = [
        repo_layout.RECIPE,
        f"{repo_layout.PROMPTS}/",
        *(f"{repo_layout.ROUNDS}/{round_tag(index)}/" for index in (first, last)),
    ]
    cache = Path(cache_dir) if cache_dir is not None else None
    with open_hub(endpoint, token, cache_dir=cache) as hub:
        before = fetch_rounds(hub, repo, first, kinds=(), also=texts)
        after = fetch_rounds(
            hub, repo, last, kinds=[repo_layout.DATA], of=lambda newest: range(first + 1, newest + 1), also=texts
        )
    with of_known_form(after.name):
        return _changes(repo, before, after, first, last)


def _changes(repo: str, before: Snapshot, after: Snapshot, first: int, last: int) -> dict[str, Any]:
    plans = _plan(before), _plan(after)
    return {
        "repo": repo,
        "from": _revision(before),
        "to": _revision(after),
        "recipe": list(_settings(before, after)),
        "prompts": dict(_prompts(before, after)),
        "weaknesses": list(_weakness_changes(*plans)),
        "cells": list(_quotas(*plans)),
        "metrics": list(_metrics(before.metrics(first), after.metrics(last))),
        "rows": list(_rows(after, range(first + 1, last + 1))),
        "corrections": list(_corrections(after, range(first + 1, last + 1))),
        "rejected": list(_rejected(after, first, last)),
        **{
            who: {"from": was, "to": now}
            for who in ("teacher", "student")
            if (was := before.rounds[first].identity[who]) != (now := after.rounds[last].identity[who])
        },
    }


def _revision(snapshot: Snapshot) -> dict[str, Any]:
    newest = snapshot.rounds[-1]
    return {"round": newest.index, "tag": newest.tag, "commit": snapshot.commit, "digest": newest.manifest["digest"]}


def _plan(snapshot: Snapshot) -> Any:
    return snapshot.json(repo_layout.plan(snapshot.rounds[-1].tag))


def _settings(before: Snapshot, after: Snapshot) -> Iterator[dict[str, Any]]:
    """Settings that changed, by their path in the recipe. None where a recipe does not have the setting."""

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


def _weakness_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every weakness of either plan. The most missed ones of the later plan come first."""
    was, now = ({weakness["name"]: weakness for weakness in plan["weaknesses"]} for plan in (before, after))
    for name in sorted(was.keys() | now.keys(), key=lambda name: (-now.get(name, {}).get("missed", 0), name)):
        change: dict[str, Any] = {"name": name}
        for side, weaknesses in (("from", was), ("to", now)):
            change[side] = {key: weaknesses[name][key] for key in ("missed", "seen")} if name in weaknesses else None
        yield change


def _quotas(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Quotas whose number of texts changed. Quotas that differ only in their text count as one."""
    keys = ("target", "difficulty", "contrast", "weakness")

    def texts(plan: Mapping[str, Any]) -> Counter[tuple[Any, ...]]:
        counts: Counter[tuple[Any, ...]] = Counter()
        for quota in plan["cells"]:
            counts[tuple(quota[key] for key in keys)] += quota["samples"]
        return counts

    was, now = texts(before), texts(after)
    for quota in dict.fromkeys([*now, *was]):
        if was[quota] != now[quota]:
            yield {**dict(zip(keys, quota, strict=True)), "from": was[quota], "to": now[quota]}


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each number in the metrics of either round. Of each split the overall numbers come first, then those of each class."""
    for split in ("test", "dev", "probe"):
        was, now = before.get(split) or {}, after.get(split) or {}
        for metric in _numbers(was, now):
            yield _metric(split, metric, "", was, now)
        classes = [side.get("per_class") or {} for side in (was, now)]
        for name in dict.fromkeys([*classes[0], *classes[1]]):
            of_class = [side.get(name) or {} for side in classes]
            for metric in _numbers(*of_class):
                yield _metric(split, metric, name, *of_class)


def _numbers(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name in dict.fromkeys([*was, *now])
        if any(isinstance(side.get(name), int | float) for side in (was, now)) and name not in ("n", "right", "support")
    ]


def _metric(split: str, metric: str, name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"split": split, "metric": metric, "class": name}
    for side, values in (("from", was), ("to", now)):
        entry[side] = values.get(metric)
        entry[f"{side}_interval"] = (values.get("intervals") or {}).get(metric)
        entry[f"{side}_n"] = values.get("n", values.get("support"))
    on_both_sides = entry["from"] is not None and entry["to"] is not None
    return {**entry, "change": round(entry["to"] - entry["from"], 6) if on_both_sides else None}


def _rows(after: Snapshot, added: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The numbers of samples of each added round, in all and of each label. A sample with two labels counts for both."""
    task = load_task(after.folder / repo_layout.RECIPE)
    for index in added:
        counts = dict.fromkeys(task.labels, 0)
        for sample in parquet.read_samples(task, after.paths(repo_layout.DATA, [index])):
            for label in task.labels:
                counts[label] += task.carries(sample.target, label)
        yield {"round": index, "class": None, "rows": after.rounds[index].identity["rows"]}
        yield from ({"round": index, "class": label, "rows": rows} for label, rows in counts.items())


def _corrections(after: Snapshot, added: Sequence[int]) -> Iterator[dict[str, Any]]:
    """How many earlier rows a person confirmed, relabelled and rejected, for each added corrected round."""
    for index in added:
        if (counts := after.rounds[index].manifest["totals"].get("corrections")) is not None:
            yield {"round": index, **{action: counts[action] for action in ACTIONS}}


def _rejected(after: Snapshot, first: int, last: int) -> Iterator[dict[str, Any]]:
    """The numbers of rejections by reason: of the first round, of the last, and of all added rounds together."""
    by_round = [Counter[str](published.manifest["totals"]["rejected"]) for published in after.rounds]
    added = sum(by_round[first + 1 : last + 1], Counter[str]())
    for reason in sorted(added.keys() | by_round[first].keys()):
        yield {
            "reason": reason,
            "from": by_round[first][reason],
            "to": by_round[last][reason],
            "added": added[reason],
        }
