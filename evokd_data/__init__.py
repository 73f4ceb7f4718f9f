"""evokd-data: distil a large language model into a small one, round by round, each round a dataset revision.

docs/python.md shows the classes and functions that are named here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evokd_data.deployment.opening import open_model as open_model
    from evokd_data.errors import EvokdError as EvokdError
    from evokd_data.loop.run import Run as Run
    from evokd_data.progress import Progress as Progress
    from evokd_data.recipe import Recipe as Recipe
    from evokd_data.revisions.load import list_rounds as list_rounds
    from evokd_data.revisions.load import load_round as load_round

__version__ = "0.1.0"
_PUBLIC = {
    "EvokdError": "evokd_data.errors:EvokdError",
    "Progress": "evokd_data.progress:Progress",
    "Recipe": "evokd_data.recipe:Recipe",
    "Run": "evokd_data.loop.run:Run",
    "list_rounds": "evokd_data.revisions.load:list_rounds",
    "load_round": "evokd_data.revisions.load:load_round",
    "open_model": "evokd_data.deployment.opening:open_model",
}
__all__ = [
    "__version__", "EvokdError", "Progress", "Recipe", "Run", "list_rounds", "load_round", "open_model",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Most of them need pydantic or pyarrow; `import evokd_data` alone must stay as cheap as the standard library.
    if name not in _PUBLIC:
        raise AttributeError(f"module 'evokd_data' has no attribute {name!r}")
    from evokd_data.registry import resolve

    globals()[name] = exported = resolve(_PUBLIC, name)
    return exported


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
