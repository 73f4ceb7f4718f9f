"""The napkin, drawn from the package's own imports: down, not up, not across, never in a circle.

    wing          what it holds                                                    may import
    cli           parse, call, print                                               everything below
    loop          rounds, compare: whole loops                                     ...
    revisions     reading published rounds back
    stages        the verbs of a round
    reporting     what a person looks at
    generation    how texts come about: scheduler, filters, near-duplicates
    storage       what lies on disk and in a repository
    inputs        the recipe and the user's data
    plugs         the members of the five families; none imports another family
    contracts     the __init__ of each family, and the templates they speak of
    ground        records, digest, errors, registry, settings, ...                 libraries only
    localhub      a package of its own: knows two modules of the ground and nothing else of the toolkit

A module imports from lower wings and from its own, never from a higher one. Within a wing modules may import each other,
but not in a circle. An import in a function's body counts as one at the top does: it saves time, it grants no rights. One
for annotations alone (TYPE_CHECKING) may close a circle, nothing else.
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
WINGS = (
    "localhub", "ground", "contracts", "plugs", "inputs", "storage", "generation", "reporting", "stages", "revisions",
    "loop", "cli",
)  # fmt: skip
"""From the lowest to the highest."""
STANDARD_LIBRARY_ONLY = {
    "records", "digest", "errors", "registry", "repo_layout", "progress", "atomic_files", "writing_systems",
}  # fmt: skip
GROUND = STANDARD_LIBRARY_ONLY | {"settings", "yaml_files", "models"}
LOCALHUB_MAY_IMPORT = {"atomic_files", "yaml_files"}
"""Two modules that import nothing of ours themselves. The local Hub could be a package of its own with copies of them."""
INPUTS = {"recipe", "recipe_file", "recipe_sections", "seeds", "sources"}
LOOP = {"rounds", "compare"}
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
BY_NAME = {"registry", "cli", "teachers.vllm.names"}
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


class Room(NamedTuple):
    """Where a module belongs: its wing and, for a plug, its family."""

    wing: str
    family: str = ""


def room(module: str) -> Room:
    head, _, rest = module.partition(".")
    if head in {"cli", "__main__"}:
        return Room("cli")
    if head in FAMILIES:
        return Room("plugs", head) if rest else Room("contracts")
    if head in WINGS:
        return Room(head)
    assert not rest, f"the package {head!r} has no place in the napkin"
    for wing, modules in (("ground", GROUND), ("contracts", {"templates"}), ("inputs", INPUTS), ("loop", LOOP)):
        if head in modules:
            return Room(wing)
    raise AssertionError(f"the module {head!r} has no place in the napkin: name its wing in this file")


def objection(one: Import) -> str | None:
    importer, imported = room(one.importer), room(one.imported)
    if importer.wing == "localhub":
        own = imported.wing == "localhub" or one.imported in LOCALHUB_MAY_IMPORT
        return None if own else "the local Hub knows nothing of the toolkit"
    if WINGS.index(imported.wing) > WINGS.index(importer.wing):
        return f"up, from {importer.wing} to {imported.wing}"
    if importer.family != imported.family and imported.family and importer.family:
        return f"across, from {importer.family} to {imported.family}"
    return None


def test_the_whole_package_was_read() -> None:
    assert len(MODULES) >= 115
    assert len(IMPORTS) >= 300
    assert {room(module).wing for module in MODULES if module} == set(WINGS)
    assert {room(module).family for module in MODULES if module} == FAMILIES | {""}


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


def test_the_ground_needs_only_the_standard_library() -> None:
    used = {(module, name) for module in STANDARD_LIBRARY_ONLY for name, _ in READ[module][1]}
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
        ("records", "tasks", "up, from ground to contracts"),
        ("tasks", "tasks.ner", "up, from contracts to plugs"),
        ("storage.shards", "generation.filters", "up, from storage to generation"),
        ("generation.filters", "reporting.plots", "up, from generation to reporting"),
        ("reporting.dataset_card", "stages.publish", "up, from reporting to stages"),
        ("stages.plan", "revisions.load", "up, from stages to revisions"),
        ("revisions.load", "rounds", "up, from revisions to loop"),
        ("strategies.evokd", "tasks.ner", "across, from strategies to tasks"),
        ("teachers.vllm.plug", "storage.journal", "up, from plugs to storage"),
        ("localhub.store", "errors", "the local Hub"),
    ],
)
def test_a_wrong_import_is_seen(importer: str, imported: str, said: str) -> None:
    assert (objection(Import(importer, imported, "call")) or "").startswith(said)
