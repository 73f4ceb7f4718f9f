"""The napkin, drawn from the package's own imports: down, not up, not across, never in a circle.

    wing          what it holds                                                    may import
    cli           parse, call, print                                               everything below
    loop          rounds, compare: whole loops                                     ...
    deployment    the student at work: predict, evaluate, export
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
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT
from tests.support.import_graph import (
    FAMILIES,
    IMPORTS,
    MODULES,
    READ,
    STANDARD_LIBRARY_ONLY,
    WINGS,
    Import,
    objection,
    room,
)

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
    "onnx",
    "onnxruntime",
}
BY_NAME = {"registry", "cli", "teachers.vllm.names"}
"""Who may import by a name in a string: plugs, commands, and vLLM's names, which wander between its modules."""


def test_the_whole_package_was_read() -> None:
    assert len(MODULES) >= 115
    assert len(IMPORTS) >= 300
    assert {room(module).wing for module in MODULES if module} == set(WINGS)
    assert {room(module).family for module in MODULES if module} == FAMILIES | {""}


def test_imports_point_down() -> None:
    wrong = {str(edge): problem for edge in IMPORTS if edge.importer and (problem := objection(edge))}
    assert wrong == {}


def test_no_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for edge in IMPORTS:
        if edge.importer and edge.when != "typing":
            graph[edge.importer].add(edge.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_the_package_itself_imports_nothing_until_asked() -> None:
    assert [str(edge) for edge in IMPORTS if not edge.importer and edge.when == "top"] == []


def test_the_ground_needs_only_the_standard_library() -> None:
    used = {(module, name) for module in STANDARD_LIBRARY_ONLY for name, _ in READ[module][1]}
    assert {(module, name) for module, name in used if name not in sys.stdlib_module_names} == set()


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    loaded = {(module, name) for module, (_, others) in READ.items() for name, when in others if when == "top"}
    assert {(module, name) for module, name in loaded if name in HEAVY} == set()


def test_every_library_that_is_imported_is_declared() -> None:
    """A library that only another one brings along is gone with the other's next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    imported = {name for _, others in READ.values() for name, _ in others} - set(sys.stdlib_module_names)
    assert len(imported) > 20
    distributions = packages_distributions()
    undeclared = {
        name
        for name in imported - {"vllm"}  # named by an extra, and not installed everywhere
        if not declared & {canonicalize_name(distribution) for distribution in distributions.get(name, [name])}
    }
    assert undeclared == set()


def test_imports_by_name_stay_where_they_belong() -> None:
    calls = {module for module, path in MODULES.items() if {"import_module", "__import__"} & names_in(path)}
    assert calls <= BY_NAME


def names_in(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


@pytest.mark.parametrize(
    ("importer", "imported", "problem"),
    [
        ("records", "tasks", "up, from ground to contracts"),
        ("tasks", "tasks.ner", "up, from contracts to plugs"),
        ("storage.shards", "generation.filters", "up, from storage to generation"),
        ("generation.filters", "reporting.plots", "up, from generation to reporting"),
        ("reporting.dataset_card", "stages.publish", "up, from reporting to stages"),
        ("stages.plan", "revisions.load", "up, from stages to revisions"),
        ("revisions.load", "loop.rounds", "up, from revisions to loop"),
        ("strategies.evokd", "tasks.ner", "across, from strategies to tasks"),
        ("teachers.vllm.plug", "storage.journal", "up, from plugs to storage"),
        ("localhub.store", "errors", "the local Hub"),
    ],
)
def test_a_wrong_import_is_seen(importer: str, imported: str, problem: str) -> None:
    assert (objection(Import(importer, imported, "call")) or "").startswith(problem)
