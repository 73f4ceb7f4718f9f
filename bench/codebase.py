"""The code base in figures: how it is laid out, named and documented. Reads the source with `ast`; runs none of it.

    python bench/codebase.py                         this tree
    python bench/codebase.py OTHER/TREE evokd_data   before and after: one command for both

flat modules            modules that lie directly in the package, in no wing
generic local names     share of local variables that say nothing of what they hold (GENERIC), each counted once a function
documented              share of public functions, methods and classes with a docstring; what only implements a method of a
                        Protocol of the package, documented there, is not counted
atomic writers          modules that sync and rename a file themselves
longest function        lines, decorators and docstring included
long files              files above 400 lines
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

WORDS = "found made told said one own seen place known wanted kept held"
GENERIC = frozenset(WORDS.split())
MAX_LINES = 400

Function = ast.FunctionDef | ast.AsyncFunctionDef


@lru_cache
def parse(package: Path) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def inner_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions and classes inside it."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def local_names(function: Function) -> set[str]:
    """Parameters, and names that the function stores: by assignment, `for`, `with`, `:=` or a comprehension."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    stored = {
        node.id for node in inner_nodes(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return (stored | {parameter.arg for parameter in parameters}) - {"self", "cls"}


def is_generic(name: str) -> bool:
    return name.strip("_") in GENERIC


def protocol_methods(trees: dict[Path, ast.Module]) -> set[str]:
    """Names of the documented methods of the package's Protocols."""
    names = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).startswith("Protocol") or ast.unparse(base).endswith("Protocol")
                for base in node.bases
            ):
                names |= {
                    method.name for method in node.body if isinstance(method, Function) and ast.get_docstring(method)
                }
    return names


def public(tree: ast.Module) -> Iterator[Function | ast.ClassDef]:
    """Public functions and classes of a module, and public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (item for item in node.body if isinstance(item, Function) and not item.name.startswith("_"))


def undocumented(trees: dict[Path, ast.Module]) -> tuple[list[str], int]:
    """Public names without a docstring, as "file:line name", and how many public names were looked at."""
    inherited = protocol_methods(trees)
    missing, count = [], 0
    for path, tree in trees.items():
        for node in public(tree):
            if node.name in inherited and isinstance(node, Function) and not ast.get_docstring(node):
                continue
            count += 1
            if not ast.get_docstring(node):
                missing.append(f"{path}:{node.lineno} {node.name}")
    return missing, count


def generic_names(trees: dict[Path, ast.Module]) -> tuple[list[str], int]:
    """Generic local names, as "file:line function: name", and how many local names there are."""
    generic, count = [], 0
    for path, tree in trees.items():
        for function in functions(tree):
            names = local_names(function)
            count += len(names)
            generic += [
                f"{path}:{function.lineno} {function.name}: {name}" for name in sorted(names) if is_generic(name)
            ]
    return generic, count


def atomic_writers(trees: dict[Path, ast.Module]) -> list[str]:
    """Modules in which one function both syncs a file and renames one."""
    writers = set()
    for path, tree in trees.items():
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if (
            "fsync" in attributes
            and attributes & {"replace", "rename"}
            and any(_renames(function) for function in functions(tree))
        ):
            writers.add(str(path))
    return sorted(writers)


def _renames(function: Function) -> bool:
    """Whether it calls `something.replace(target)` or `.rename(target)` with one argument: of a path, not of a string."""
    calls = [
        node for node in inner_nodes(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    return any(call.func.attr in {"replace", "rename"} and len(call.args) == 1 and not call.keywords for call in calls)  # type: ignore[attr-defined]  # all of `calls` call an attribute


def figures(package: Path) -> dict[str, Any]:
    trees = parse(package)
    generic, names = generic_names(trees)
    missing, documented_of = undocumented(trees)
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in trees}
    longest = max(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.name}")
        for path, tree in trees.items()
        for node in functions(tree)
    )
    return {
        "modules": len(trees),
        "flat modules": sum(path.parent == package and path.name != "__init__.py" for path in trees),
        "generic local names": round(len(generic) / names, 4),
        "documented": round(1 - len(missing) / documented_of, 3),
        "atomic writers": len(atomic_writers(trees)),
        "longest function": longest[0],
        "long files": sum(count > MAX_LINES for count in lines.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, nargs="*", default=[Path(__file__).resolve().parents[1] / "evokd_data"])
    parser.add_argument("--list", action="store_true", help="what to mend: generic names, missing docstrings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tables = {str(package): figures(package) for package in options.packages}
    if options.json:
        print(json.dumps(tables, indent=1))
        return
    for name in next(iter(tables.values())):
        print(f"{name:22}", *(f"{table[name]:>10}" for table in tables.values()))
    if options.list:
        for package in options.packages:
            trees = parse(package)
            print(*generic_names(trees)[0], *undocumented(trees)[0], *atomic_writers(trees), sep="\n")


if __name__ == "__main__":
    main()
