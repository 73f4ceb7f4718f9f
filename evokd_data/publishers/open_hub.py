"""Opening a Hub, to publish or to read. A module of its own, so that readers do not import the card renderer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.errors import PublishError

if TYPE_CHECKING:
    from evokd_data.publishers.hub import Hub

LOCAL = "local"


@contextmanager
def open_hub(
    endpoint: str | None,
    token: str | None = None,
    *,
    root: Path = Path("hub"),
    cache_dir: Path | None = None,
    create: bool = False,
    **settings: Any,
) -> Iterator[Hub]:
    """A Hub to publish to or read from. For `endpoint` "local" a local Hub with the folder `root` runs during the block, for
    "local:FOLDER" one with that folder; `create` makes the folder where there is none, for a publication.

    `settings` are further fields of `Hub`. Raises PublishError when the local Hub's packages are not installed, it does not
    start, or there is none to read from.
    """
    from evokd_data.publishers.hub import Hub

    if endpoint is None or not (endpoint == LOCAL or endpoint.startswith(f"{LOCAL}:")):
        yield Hub(endpoint, token, cache_dir, **settings)
        return
    root = Path(endpoint.removeprefix(f"{LOCAL}:")) if endpoint != LOCAL else root
    if not create and not root.is_dir():
        raise PublishError(
            f"there is no local Hub under {root.absolute()}; call this in the folder in which rounds were published, name the Hub's folder "
            "(endpoint local:FOLDER), or leave out the endpoint for a repository that is not on a local Hub"
        )
    from evokd_data import localhub
    from evokd_data.localhub.child import HubDidNotStart

    try:
        running = localhub.running(root)
        with running as local:
            # Not remembered: the port may belong to another local Hub tomorrow, with other commits.
            called = f"the local Hub under {root}"  # its address is gone when the block ends
            yield Hub(local.endpoint, local.token, cache_dir, remember=False, called=called, **settings)
    except ImportError as error:
        raise PublishError(f"the local Hub needs {error.name}; run: pip install 'evokd-data[hub]'") from None
    except HubDidNotStart as error:
        raise PublishError(f"{error}\nmend what it names, or choose another folder: publish.hub_root") from None
