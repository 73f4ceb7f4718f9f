"""evokd-data: distil a large language model into a small one, round by round, each round a dataset revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evokd_data.revisions.load import load_round as load_round

__version__ = "0.1.0"
__all__ = ["__version__", "load_round"]


def __getattr__(name: str) -> Any:
    # load_round pulls in `datasets`; `import evokd_data` alone must stay as cheap as the standard library.
    if name == "load_round":
        from evokd_data.revisions.load import load_round

        return load_round
    raise AttributeError(f"module 'evokd_data' has no attribute {name!r}")
