"""Opening a Hub: what every stage begins with that publishes or reads. Apart from them, for readers need no card."""

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
    **settings: Any,
) -> Iterator[Hub]:
    """A Hub to publish to or read from; for `endpoint` "local" a local one at `root` is there as long as the block."""
    from evokd_data.publishers.hub import Hub

    if endpoint != LOCAL:
        yield Hub(endpoint, token, cache_dir, **settings)
        return
    from evokd_data import localhub

    try:
        running = localhub.running(root)
        with running as local:
            # Its port is another's tomorrow, and what was at that address then is not what is there now.
            yield Hub(local.endpoint, local.token, cache_dir, remember=False, **settings)
    except ImportError as error:
        raise PublishError(f"the local Hub needs {error.name}; run: pip install 'evokd-data[hub]'") from None
