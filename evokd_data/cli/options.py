"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evokd_data.cli.echo import LOG_JSON, QUIET, echo, failure

if TYPE_CHECKING:
    from evokd_data.storage.workspace import Workspace

recipe = click.argument("recipe", type=click.Path(path_type=Path))
recipes = click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path))
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a setting of the recipe; may be repeated."
)
runs = click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
    help="The folder that holds run folders.",
)  # fmt: skip
mirror = click.option(
    "--mirror", metavar="URL", envvar="EVOKD_MIRROR", show_envvar=True,
    help="Keep a copy of the run there (s3://bucket/runs, a shared folder), and begin from it on another machine.",
)  # fmt: skip
origin = click.option(
    "--from", "origin", metavar="ORG/NAME@ROUND-003", help="Go on, or branch off, from a published round."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
model = click.argument("model")
model_round = click.option(
    "--round", "round", type=int, help="Of a run or a repository: the round; without it the last adopted one."
)
text_column = click.option("--text", metavar="COLUMN", help="The column with the text, where it is not the recipe's.")
repo = click.argument("repo", callback=lambda _, __, value: _without_round(value))
endpoint = click.option(
    "--endpoint",
    help="A Hub's URL, or 'local' for the local Hub under ./hub, 'local:FOLDER' for another. Without it: where a run under ./runs published REPO, else "
    "HF_ENDPOINT or the Hub.",
)


def workspace_of(run: Path, runs: Path) -> Workspace:
    """The folder of a run, given as a folder or by its name under `runs`."""
    from evokd_data.storage.workspace import Workspace

    return Workspace(run if run.is_dir() or len(run.parts) > 1 else runs / run)


def output(command: Callable[..., None]) -> Callable[..., None]:
    """How a command that works for long tells of it."""
    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_remember(QUIET),
        help="Print results and errors only.",
    )
    log_json = click.option(
        "--log-json",
        is_flag=True,
        expose_value=False,
        callback=_remember(LOG_JSON),
        help="On stderr, one JSON object a line.",
    )
    return quiet(log_json(command))


def _remember(key: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.meta[key] = value

    return callback


def _without_round(repo: str) -> str:
    name, _, tag = repo.partition("@")
    if tag:
        number = tag.removeprefix("round-").lstrip("0") or "0"
        raise failure(
            f"{repo}: the round is an option here; write: {name} --round {number if number.isdigit() else tag}"
        )
    return repo


def endpoint_of(repo: str, endpoint: str | None) -> str | None:
    """The endpoint that was given, else that of the run under ./runs that published the repository; None: the Hub."""
    from evokd_data.storage.published_here import endpoint_of as remembered

    if endpoint is None and (published := remembered(repo)) is not None:
        endpoint, run = published
        place = "the local Hub under ./hub" if endpoint == "local" else endpoint
        echo(f"{repo}: at {place}, where {run} was published", err=True)
    return endpoint
