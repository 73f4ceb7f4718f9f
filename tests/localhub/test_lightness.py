"""The local Hub imports no heavy library until a server starts, and nothing of the toolkit but two modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import evokd_data.localhub

FOLDER = Path(evokd_data.localhub.__file__).parent
ALLOWED = {"evokd_data.atomic_files", "evokd_data.yaml_files"}
"""These import nothing of the toolkit themselves."""


def test_importing_the_package_loads_no_server():
    heavy = ("dulwich", "uvicorn", "starlette", "lz4", "ruamel", "h11", "asyncio", "ssl")
    code = (
        f"import sys, evokd_data.localhub, evokd_data.localhub.child; print([m for m in {heavy} if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_the_hub_knows_nothing_of_the_toolkit():
    allowed = {"evokd_data", "dulwich", "uvicorn", "lz4", "ruamel", "markdown_it", "pyarrow"} | set(
        sys.stdlib_module_names
    )
    files = sorted(FOLDER.rglob("*.py"))
    assert len(files) > 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in allowed, (file.name, name)
                of_hub = name.startswith("evokd_data.localhub") or name in ALLOWED
                assert of_hub or not name.startswith("evokd_data"), (file.name, name)
