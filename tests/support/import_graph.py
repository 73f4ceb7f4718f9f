"""The package's own imports as a graph, and the wing of each module. Read with `ast`; the package is not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import evokd_data

PACKAGE = "evokd_data"
ROOT = Path(evokd_data.__file__).parent
FAMILIES = {"tasks", "teachers", "strategies", "students", "publishers"}
WINGS = (
    "localhub", "ground", "contracts", "plugs", "inputs", "storage", "generation", "reporting", "stages", "revisions",
    "deployment", "loop", "curation", "cli",
)  # fmt: skip
"""From the lowest to the highest."""
STANDARD_LIBRARY_ONLY = {
    "records", "digest", "errors", "printable", "redaction", "registry", "repo_layout", "repo_names", "progress", "atomic_files", "scratch", "strict_json",
    "machine", "normal_form", "writing_systems", "interrupts", "runner",
}  # fmt: skip
GROUND = STANDARD_LIBRARY_ONLY | {"arrow_seal", "template_limits", "settings", "yaml_files", "gguf_models", "models"}
LOCALHUB_MAY_IMPORT = {"atomic_files", "yaml_files"}
"""Two modules that import nothing of ours themselves. The local Hub could be a package of its own with copies of them."""
INPUTS = {
    "intake", "published_recipe", "recipe", "recipe_checks", "recipe_file", "recipe_sections", "seeds", "sources",
}  # fmt: skip


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
    if head in INPUTS:
        return Room("inputs")
    assert not rest, f"the package {head!r} has no place in the napkin"
    for wing, modules in (("ground", GROUND), ("contracts", {"templates"})):
        if head in modules:
            return Room(wing)
    raise AssertionError(f"the module {head!r} has no place in the napkin: name its wing in this file")


def objection(edge: Import) -> str | None:
    importer, imported = room(edge.importer), room(edge.imported)
    if importer.wing == "localhub":
        allowed = imported.wing == "localhub" or edge.imported in LOCALHUB_MAY_IMPORT
        return None if allowed else "the local Hub knows nothing of the toolkit"
    if WINGS.index(imported.wing) > WINGS.index(importer.wing):
        return f"up, from {importer.wing} to {imported.wing}"
    if importer.family != imported.family and imported.family and importer.family:
        return f"across, from {importer.family} to {imported.family}"
    return None


def wing_edges() -> set[tuple[str, str]]:
    """(higher wing, lower wing) for every pair of wings between which something is imported."""
    pairs = {(room(edge.importer).wing, room(edge.imported).wing) for edge in IMPORTS if edge.importer}
    return {(importer, imported) for importer, imported in pairs if importer != imported}


def wings_picture() -> str:
    """The wings as a Mermaid flowchart. An arrow that follows from two others is left out."""
    edges = wing_edges()
    reachable = set(edges)
    while longer := {(a, d) for a, b in reachable for c, d in reachable if b == c} - reachable:
        reachable |= longer
    direct = {(a, b) for a, b in edges if not any((a, c) in reachable and (c, b) in reachable for c in WINGS)}
    lines = ["```mermaid", "flowchart TD"]
    for wing in reversed(WINGS):
        modules = sorted(module for module in MODULES if module and room(module).wing == wing and module != "__main__")
        if wing == "plugs":
            modules = sorted({module.partition(".")[0] + ".*" for module in modules})
        elif wing not in ("ground", "contracts", "inputs", "loop"):
            modules = sorted({module.split(".")[1] for module in modules if "." in module})
        shown = " ".join(modules)
        lines.append(f'  {wing}["<b>{wing}</b><br>{shown}"]')
    order = {wing: index for index, wing in enumerate(WINGS)}
    lines += [f"  {a} --> {b}" for a, b in sorted(direct, key=lambda edge: (-order[edge[0]], -order[edge[1]]))]
    return "\n".join([*lines, "```"])
