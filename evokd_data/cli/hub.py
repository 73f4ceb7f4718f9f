"""evokd-data hub"""

from __future__ import annotations

from pathlib import Path

import click


@click.group("hub", short_help="Serve a local Hub, and look after it.")
def command() -> None:
    """A local Hub: git repositories and large files under one folder, spoken to by ordinary Hub clients."""


root = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), default=Path("hub"), show_default=True,
    help="The folder with all repositories.",
)  # fmt: skip


@command.command("serve")
@root
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Other than loopback needs tokens: see `hub token`."
)
@click.option("--port", type=int, default=8480, show_default=True)
def serve(root: Path, host: str, port: int) -> None:
    """Serve the Hub under ROOT until Ctrl-C. The first line on stdout is its endpoint."""
    from evokd_data.localhub import server

    def ready(url: str) -> None:
        click.echo(url)
        click.echo(f"clients find it by: export HF_ENDPOINT={url}", err=True)

    server.serve(root, host, port, ready=ready)
