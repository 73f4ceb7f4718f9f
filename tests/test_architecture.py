"""The napkin, drawn from the package's own imports: down, not up, not across, never in a circle.

    row 7  cli
    row 6  rounds                          the loop, and whatever runs whole loops
    row 5  stages/*                        where plugs and services make a round
    row 4  cluster/*                       the teacher that is given whole partitions of a round: a plug made of services
    row 3  plugs, a family a column        | services: every other module of the package | localhub
    row 2  contracts: the __init__ of each family, and the templates they speak of
    row 1  records, digest, errors, registry, layout: standard library only

Within a column modules may import each other, but not in a circle. An import in a function's body counts as one at the
top does: it saves time, it grants no rights. One for annotations alone (TYPE_CHECKING) may close a circle, nothing else.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import evokd_data

PACKAGE = "evokd_data"
ROOT = Path(evokd_data.__file__).parent
FAMILIES = {"tasks", "teachers", "strategies", "students", "publishers"}
FOUNDATION = {"records", "digest", "errors", "registry", "layout"}
LOOPS = {"rounds", "compare"}
HEAVY = {
    "torch",
    "transformers",
    "vllm",
    "ray",
    "datasets",
    "pandas",
    "huggingface_hub",
    "sklearn",
    "scipy",
    "matplotlib",
}
BY_NAME = {"registry", "cli", "teachers.vllm"}
"""Who may import by a name in a string: plugs, commands, and vLLM's names, which wander between its modules."""


class Import(NamedTuple):
    importer: str
    imported: str
    when: str
    """At the `top`, on a `call` (in a function's body), or for `typing`."""

    def __str__(self) -> str:
        return f"{self.importer} -> {self.imported} ({self.when})"


def module_name(path: Path) -> str:
    """`tasks.ner`, `tasks` for a package's __init__, `` for the whole package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def statements(node: ast.AST, when: str = "top") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, when
    for field, value in ast.iter_fields(node):
        inner = when
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "call"
        elif isinstance(node, ast.If) and field == "body" and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            inner = "typing"
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from statements(child, inner)


def imported_names(node: ast.Import | ast.ImportFrom, importer: str) -> Iterator[str]:
    """Dotted names: of a `from` import also those that may be submodules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        here = [PACKAGE, *importer.split(".")] if importer else [PACKAGE]
        drop = node.level - (MODULES[importer].name == "__init__.py")
        base = ".".join([*here[: len(here) - drop], *filter(None, [node.module])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names)


def read_imports(importer: str) -> tuple[set[Import], set[tuple[str, str]]]:
    """What a module imports of the package, and (top-level name, when) of everything else."""
    ours, others = set(), set()
    for node, when in statements(ast.parse(MODULES[importer].read_text(encoding="utf-8"))):
        for name in imported_names(node, importer):
            head, _, inside = name.partition(".")
            if head != PACKAGE:
                others.add((head, when))
            elif inside and inside in MODULES:
                ours.add(Import(importer, inside, when))
    return ours, others


READ = {module: read_imports(module) for module in MODULES}
IMPORTS = sorted(set().union(*(ours for ours, _ in READ.values())))


def place(module: str) -> tuple[int, str]:
    """(row, column) of a module."""
    head, _, rest = module.partition(".")
    if head in {"cli", "__main__"}:
        return 7, "cli"
    if head in LOOPS:
        return 6, "rounds"
    if head == "stages":
        return 5, "stages"
    if head == "cluster":
        return 4, "cluster"
    if head == "localhub":
        return 3, "localhub"
    if head in FAMILIES:
        return (3, head) if rest else (2, "contracts")
    assert not rest, f"the package {head!r} has no place in the napkin"
    if head == "templates":
        return 2, "contracts"
    return (1, "foundation") if head in FOUNDATION else (3, "services")


def objection(one: Import) -> str | None:
    (row, column), (lower, other) = place(one.importer), place(one.imported)
    if column == "localhub" != other:
        return "the local Hub knows nothing of the toolkit"
    if lower > row:
        return f"up, from {column} to {other}"
    if lower == row and column != other:
        return f"across, from {column} to {other}"
    return None


def test_the_whole_package_was_read() -> None:
    assert len(MODULES) >= 115
    assert len(IMPORTS) >= 300
    assert {place(module)[1] for module in MODULES if module} == FAMILIES | {
        "foundation", "contracts", "services", "localhub", "cluster", "stages", "rounds", "cli"
    }  # fmt: skip


def test_imports_point_down() -> None:
    wrong = {str(one): said for one in IMPORTS if one.importer and (said := objection(one))}
    assert wrong == {}


def test_no_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for one in IMPORTS:
        if one.importer and one.when != "typing":
            graph[one.importer].add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_the_package_itself_imports_nothing_until_asked() -> None:
    assert [str(one) for one in IMPORTS if not one.importer and one.when == "top"] == []


def test_the_lowest_row_needs_only_the_standard_library() -> None:
    used = {(module, name) for module in FOUNDATION for name, _ in READ[module][1]}
    assert {(module, name) for module, name in used if name not in sys.stdlib_module_names} == set()


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    loaded = {(module, name) for module, (_, others) in READ.items() for name, when in others if when == "top"}
    assert {(module, name) for module, name in loaded if name in HEAVY} == set()


def test_imports_by_name_stay_where_they_belong() -> None:
    calls = {module for module, path in MODULES.items() if {"import_module", "__import__"} & names_in(path)}
    assert calls <= BY_NAME


def names_in(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


@pytest.mark.parametrize(
    ("importer", "imported", "said"),
    [
        ("records", "tasks", "up"),
        ("tasks", "tasks.ner", "up"),
        ("shards", "stages.plan", "up"),
        ("stages.plan", "rounds", "up"),
        ("strategies.evokd", "tasks.ner", "across"),
        ("teachers.vllm", "journal", "across"),
        ("feeding", "teachers.vllm", "across"),
        ("publishers.hub", "localhub.store", "across"),
        ("localhub.store", "errors", "the local Hub"),
    ],
)
def test_a_wrong_import_is_seen(importer: str, imported: str, said: str) -> None:
    assert (objection(Import(importer, imported, "call")) or "").startswith(said)
