"""evokd-data hub"""

from __future__ import annotations

from pathlib import Path

import click

from evokd_data.cli.echo import echo, failure


@click.group("hub", short_help="Serve a local Hub, and look after it.")
def command() -> None:
    """A local Hub: git repositories and large files under one folder, spoken to by ordinary Hub clients."""


root = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), default=Path("hub"), show_default=True,
    help="The folder with all repositories.",
)  # fmt: skip


def _existing(root: Path) -> Path:
    """The folder of a Hub to look at. Raises an error for one that is not there: to look at it must not make it."""
    if not root.is_dir():
        raise failure(f"{root}: there is no local Hub; name its folder with --root")
    return root


@command.command("serve")
@root
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Other than loopback needs tokens: see `hub token`."
)
@click.option("--port", type=int, default=8480, show_default=True)
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="NAME",
    help="Without tokens the Hub answers to loopback names only; answer to this name, too.",
)  # fmt: skip
def serve(root: Path, host: str, port: int, allow_hosts: tuple[str, ...]) -> None:
    """Serve the Hub under ROOT until Ctrl-C. The first line on stdout is its endpoint.

    Example: evokd-data hub serve --root hub
    """
    from evokd_data.localhub import server

    def ready(url: str) -> None:
        echo(url)
        echo(f"clients find it by: export HF_ENDPOINT={url}", err=True)

    try:
        server.serve(root, host, port, ready=ready, allow_hosts=allow_hosts)
    except (server.UnsafeAddress, OSError) as error:
        raise failure(error) from None
    except ImportError as error:
        raise failure(f"the local Hub needs {error.name}; run: pip install 'evokd-data[hub]'") from None


@command.group("token")
def token() -> None:
    """Who may use the Hub. As soon as there is a token, only tokens count."""


@token.command("add")
@root
@click.argument("user")
@click.option("--role", type=click.Choice(["read", "write", "admin"]), default="write", show_default=True)
@click.option("--org", "orgs", multiple=True, help="An organisation the user belongs to; may be repeated.")
def token_add(root: Path, user: str, role: str, orgs: tuple[str, ...]) -> None:
    """Make a token for USER and print it: this once, only its hash is kept.

    Example: evokd-data hub token add ada --role write
    """
    from evokd_data.localhub.auth import add_token
    from evokd_data.localhub.errors import HubError

    try:
        secret, _ = add_token(root, user, role, orgs)
    except HubError as error:
        raise failure(f"{user}: {error}; choose another name") from None
    echo(secret)


@token.command("list")
@root
def token_list(root: Path) -> None:
    """List tokens by id, user, role and organisations.

    Example: evokd-data hub token list --root hub
    """
    from evokd_data.localhub.auth import list_tokens

    for token in list_tokens(_existing(root)):
        echo(f"{token.id} {token.user} {token.role} {','.join(token.orgs)}".rstrip())


@token.command("revoke")
@root
@click.argument("token_id")
def token_revoke(root: Path, token_id: str) -> None:
    """End a token, at once, by its id.

    Example: evokd-data hub token revoke 3f9c1a2b
    """
    from evokd_data.localhub.auth import revoke_token

    try:
        revoked = revoke_token(_existing(root), token_id)
    except KeyError:
        raise failure(f"{token_id}: no such token; see: evokd-data hub token list") from None
    echo(f"revoked a {revoked.role} token of {revoked.user}")


@command.command("gc")
@root
@click.option("--grace-hours", type=float, default=24.0, show_default=True, help="Leave alone what is younger.")
@click.option("--repack", is_flag=True, help="Also join each repository's packs into one.")
def gc(root: Path, grace_hours: float, repack: bool) -> None:
    """Remove large files no revision refers to, and what stopped uploads left behind.

    Example: evokd-data hub gc --grace-hours 1
    """
    from dataclasses import asdict

    from evokd_data.localhub.errors import HubError
    from evokd_data.localhub.gc import collect

    try:
        counts = collect(_existing(root), grace_hours * 3600, repack=repack)
    except HubError as error:
        raise failure(f"{root}: {error}; call it again") from None
    echo(", ".join(f"{name} {value}" for name, value in asdict(counts).items()))
