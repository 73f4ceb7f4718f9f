"""evokd-data schema"""

from __future__ import annotations

import json

import click

from evokd_data.cli.echo import echo


@click.command("schema", short_help="Print the JSON Schema of a recipe, for editors.")
def command() -> None:
    """Print the JSON Schema of a recipe.

    For completion in an editor begin the recipe with: # yaml-language-server: $schema=recipe.schema.json

    Example: evokd-data schema > recipe.schema.json
    """
    from evokd_data.recipe import schema

    echo(json.dumps(schema(), indent=2, ensure_ascii=False))
