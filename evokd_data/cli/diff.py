"""evokd-data diff"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from evokd_data.cli import options
from evokd_data.cli.echo import echo


@click.command("diff", short_help="Show what changed between two published rounds.")
@options.repo
@click.argument("round", metavar="ONE", type=int)
@click.argument("other_round", metavar="OTHER", type=int)
@options.endpoint
@options.as_json
def command(repo: str, round: int, other_round: int, endpoint: str | None, as_json: bool) -> None:
    """Show what changed from the earlier to the later of two rounds of REPO: recipe, prompts, plan, metrics, rows, rejections.

    Example: evokd-data diff org/reviews 2 4
    """
    from evokd_data.revisions.diff import diff
    from evokd_data.storage.snapshot import of_known_form

    changes = diff(repo, round, other_round, endpoint=options.endpoint_of(repo, endpoint))
    if as_json:
        echo(json.dumps(changes, indent=2, ensure_ascii=False))
        return
    with of_known_form(repo):
        _print(changes)


def _print(changes: Mapping[str, Any]) -> None:
    """One table for each section, or one line when nothing in the section changed."""
    was, now = changes["from"]["tag"], changes["to"]["tag"]
    echo(f"{changes['repo']}: {was} {changes['from']['commit'][:10]} -> {now} {changes['to']['commit'][:10]}\n")
    settings = [[entry["setting"], _short(entry["from"]), _short(entry["to"])] for entry in changes["recipe"]]
    settings += [
        [name, _short(changes[name]["from"]), _short(changes[name]["to"])]
        for name in ("teacher", "student")
        if name in changes
    ]
    _section("recipe", ("setting", was, now), settings)
    if changes["prompts"]:
        echo("prompts\n" + "\n".join(changes["prompts"].values()) + "\n")
    else:
        echo("prompts: the same\n")
    weaknesses = [
        [entry["name"], *(_missed(entry[side]) for side in ("from", "to"))] for entry in changes["weaknesses"]
    ]
    _section("weaknesses: missed of seen", ("weakness", was, now), weaknesses)
    keys = ("target", "difficulty", "contrast", "weakness", "from", "to")
    quotas = [[entry[key] for key in keys] for entry in changes["cells"]]
    _section("texts asked for", ("target", "difficulty", "to look like", "weakness", was, now), quotas)
    metrics = [
        [entry["split"], entry["metric"], entry["class"], *(_score(entry, side) for side in ("from", "to")),
         None if entry["change"] is None else f"{entry['change']:+.3f}"]
        for entry in changes["metrics"]
    ]  # fmt: skip
    _section("metrics", ("split", "metric", "class", was, now, "change"), metrics)
    classes = list(dict.fromkeys(entry["class"] for entry in changes["rows"] if entry["class"] is not None))
    counts = {(entry["round"], entry["class"]): entry["rows"] for entry in changes["rows"]}
    rounds = [entry["round"] for entry in changes["rows"] if entry["class"] is None]
    samples = [[index, counts[index, None], *(counts[index, name] for name in classes)] for index in rounds]
    _section("samples added", ("round", "samples", *classes), samples)
    if changes["corrections"]:
        actions = ("round", "accept", "relabel", "reject")
        _section("corrections", actions, [[entry[key] for key in actions] for entry in changes["corrections"]])
    rejected = [[entry["reason"], entry["from"], entry["to"], entry["added"]] for entry in changes["rejected"]]
    _section("rejected", ("reason", f"in {was}", f"in {now}", "in all rounds added"), rejected)


def _section(title: str, columns: tuple[str, ...], rows: list[list[object]]) -> None:
    from evokd_data.cli.console import table

    if rows:
        table(title, columns, rows)
    else:
        echo(f"{title}: the same")
    echo()


def _short(value: object) -> str:
    from evokd_data.settings import short

    return short(value)


def _missed(weakness: Mapping[str, int] | None) -> str | None:
    return None if weakness is None else f"{weakness['missed']} of {weakness['seen']}"


def _score(metric: Mapping[str, Any], side: str) -> str | None:
    if metric[side] is None:
        return None
    bounds = metric[f"{side}_interval"]
    return f"{metric[side]:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")
