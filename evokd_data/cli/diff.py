"""evokd-data diff"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from evokd_data.cli import options


@click.command("diff", short_help="Show what changed between two published rounds.")
@options.repo
@click.argument("one", type=int)
@click.argument("other", type=int)
@options.endpoint
@options.as_json
def command(repo: str, one: int, other: int, endpoint: str | None, as_json: bool) -> None:
    """Show what changed from the earlier to the later of two rounds of REPO: recipe, prompts, plan, metrics, rows, rejections."""
    from evokd_data.revisions.diff import diff

    found = diff(repo, one, other, endpoint=endpoint)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    """One table a part; parts in which nothing changed are one line."""
    from evokd_data.cli.console import table

    was, now = found["from"]["tag"], found["to"]["tag"]

    def part(title: str, columns: tuple[str, ...], rows: list[list[object]]) -> None:
        if rows:
            table(title, columns, rows)
        else:
            click.echo(f"{title}: the same")
        click.echo()

    click.echo(f"{found['repo']}: {was} {found['from']['commit'][:10]} -> {now} {found['to']['commit'][:10]}\n")
    changes = [[one["setting"], _short(one["from"]), _short(one["to"])] for one in found["recipe"]]
    changes += [
        [who, _short(found[who]["from"]), _short(found[who]["to"])] for who in ("teacher", "student") if who in found
    ]
    part("recipe", ("setting", was, now), changes)
    if found["prompts"]:
        click.echo("prompts\n" + "\n".join(found["prompts"].values()) + "\n")
    else:
        click.echo("prompts: the same\n")
    weak = [[one["name"], *(_missed(one[side]) for side in ("from", "to"))] for one in found["weaknesses"]]
    part("weaknesses: missed of seen", ("weakness", was, now), weak)
    keys = ("target", "difficulty", "contrast", "weakness", "from", "to")
    quotas = [[one[key] for key in keys] for one in found["cells"]]
    part("texts asked for", ("target", "difficulty", "to look like", "weakness", was, now), quotas)
    metrics = [
        [one["split"], one["metric"], one["class"], *(_score(one, side) for side in ("from", "to")),
         None if one["change"] is None else f"{one['change']:+.3f}"]
        for one in found["metrics"]
    ]  # fmt: skip
    part("metrics", ("split", "metric", "class", was, now, "change"), metrics)
    rounds = [one for one in found["rows"] if one["class"] is None]
    classes = list(dict.fromkeys(one["class"] for one in found["rows"] if one["class"] is not None))
    held = {(one["round"], one["class"]): one["rows"] for one in found["rows"]}
    rows: list[list[object]] = [
        [one["round"], one["rows"], *(held[one["round"], name] for name in classes)] for one in rounds
    ]
    part("samples added", ("round", "samples", *classes), rows)
    rejected = [[one["reason"], one["from"], one["to"], one["added"]] for one in found["rejected"]]
    part("rejected", ("reason", f"in {was}", f"in {now}", "in all rounds added"), rejected)


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
