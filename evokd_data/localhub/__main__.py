"""`python -m evokd_data.localhub --root DIR`: a Hub in the foreground. The first line of stdout is its address."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evokd_data.localhub.wire import Application


def main(arguments: Sequence[str] | None = None, wrap: Callable[[Application], Application] | None = None) -> int:
    """Serve until told to end. A program that serves the Hub with middleware calls this with `wrap`; see `server.serve`.

    Returns the exit code: 2, with a message on stderr, where the Hub cannot be served.
    """
    parser = argparse.ArgumentParser(prog="python -m evokd_data.localhub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the Hub, created if missing")
    parser.add_argument("--host", default="127.0.0.1", help="another than loopback needs tokens")
    parser.add_argument("--allow-host", action="append", default=[], help="a name to answer to besides loopback names")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--log", type=Path, help="request log; default ROOT/requests.log")
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    from evokd_data.localhub.child import read_token
    from evokd_data.localhub.server import UnsafeAddress, serve

    token = read_token() if options.with_parent else None
    try:
        serve(
            options.root,
            options.host,
            options.port,
            ready=_print_endpoint,
            log=options.log or options.root / "requests.log",
            until=_wait_for_parent if options.with_parent else None,
            parent_token=token,
            wrap=wrap,
            allow_hosts=options.allow_host,
        )
    except (UnsafeAddress, OSError, ValueError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _print_endpoint(endpoint: str) -> None:
    sys.stdout.write(f"{endpoint}\n")
    sys.stdout.flush()


def _wait_for_parent() -> None:
    from evokd_data.localhub.child import parent_ended

    parent_ended()
    # The server now ends by itself. If that takes longer than 5 seconds, end the process: nobody waits for it.
    threading.Timer(5, os._exit, [0]).start()


if __name__ == "__main__":
    sys.exit(main())
