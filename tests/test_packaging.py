"""Wheel and sdist: what is in them, and that the package works from the wheel alone, in a fresh environment, far from the checkout.

Nothing is downloaded: the new environment sees the installed dependencies, but not the checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_string
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import evokd_data
from tests.support import ROOT

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IN_SDIST = ("evokd_data", "cards", "recipes")
SCRIPTED = (
    "teacher={engine: scripted}", "student={kind: linear}", "teacher_trust=off", "prompts=null", "rounds.count=1",
    "rounds.samples=14",
)  # fmt: skip


def sources(*folders: str) -> set[str]:
    """The files of these folders, relative to the checkout, but for caches and what recipes/snips.py downloads."""
    files = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {path.as_posix() for path in files if not {"__pycache__", "data"} & set(path.parts)}


def in_wheel(files: set[str]) -> set[str]:
    """Where the wheel has the files of the checkout: the templates of cards lie inside the package there."""
    return {f"evokd_data/{path}" if path.startswith("cards/") else path for path in files}


def build(project: Path, into: Path, target: str) -> Path:
    """The wheel or sdist of a checkout, by the backend that pyproject.toml names, without a network."""
    line = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    done = subprocess.run(line, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def missing(wheel: Path) -> set[str]:
    """Files of the package that are not in the wheel."""
    return in_wheel(sources("evokd_data", "cards")) - names(wheel)


def distributions(lines: list[str]) -> dict[str, SpecifierSet]:
    """What requirements ask for, by name."""
    requirements = map(Requirement, lines)
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    return build(ROOT, folder / "wheel", "wheel")


@pytest.fixture(scope="module")
def sdist(folder: Path) -> Path:
    """The sdist, unpacked."""
    archive = build(ROOT, folder / "sdist", "sdist")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert missing(wheel) == set()
    assert {"evokd_data/py.typed", "evokd_data/prompts/ner/label.j2", "evokd_data/cards/dataset.md.j2"} <= names(wheel)
    info = f"evokd_data-{evokd_data.__version__}.dist-info"
    licences = [f"licenses/{path}" for path in PROJECT["project"]["license-files"]]
    metadata = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", *licences)}
    assert names(wheel) - in_wheel(sources("evokd_data", "cards")) == metadata


def test_the_wheels_metadata_are_the_projects(wheel: Path) -> None:
    project = PROJECT["project"]
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = message_from_string(archive.read(info).decode())
        entry_points = archive.read(info.replace("METADATA", "entry_points.txt")).decode()
        licence = archive.read(info.replace("METADATA", "licenses/LICENSE")).decode()
    assert (metadata["Name"], metadata["Version"]) == ("evokd-data", evokd_data.__version__)
    assert metadata["License-Expression"] == project["license"] and "Apache License" in licence
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert distributions(required) == distributions(project["dependencies"])
    assert "evokd-data = evokd_data.cli:main" in entry_points and "vllm.general_plugins" in entry_points


@pytest.mark.parametrize("name", ["evokd_data/prompts/ner/label.j2", "evokd_data/py.typed", "cards/dataset.md.j2"])
def test_a_file_that_is_missing_from_the_wheel_is_seen(tmp_path: Path, name: str) -> None:
    """The comparison can fail: here of a checkout that lacks the file."""
    for path in (*IN_SDIST[:2], "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        copy(ROOT / path, tmp_path / path)
    (tmp_path / name).unlink()
    assert missing(build(tmp_path, tmp_path / "out", "wheel")) == in_wheel({name})


def test_the_sdist_holds_recipes_and_gives_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    files = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    assert sources(*IN_SDIST) - files == set()
    pages = {"README.md", "LICENSE", "CHANGELOG.md"}
    assert files - sources(*IN_SDIST) == {"PKG-INFO", "pyproject.toml", ".gitignore", *pages}
    line = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w"]
    done = subprocess.run([*line, str(tmp_path), str(sdist)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (from_sdist,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(from_sdist) as other:
        assert {info.filename: info.CRC for info in ours.infolist()} == {
            info.filename: info.CRC for info in other.infolist()
        }


@pytest.fixture(scope="module")
def environment(wheel: Path, folder: Path) -> Path:
    """The `bin` of a fresh environment into which the wheel is installed."""
    root = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    python = root / "bin" / "python"
    line = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The path of the dependencies alone: what their own .pth files say is not read, so the checkout is not seen.
    (site,) = root.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return root / "bin"


def run(environment: Path, folder: Path, *words: str) -> str:
    """What a program of the environment prints, started in a folder. It must succeed."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables |= {"PATH": f"{environment}:{os.environ['PATH']}", "HF_HOME": str(folder / "home")}
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_has_the_wheel_and_not_the_checkout(environment: Path, tmp_path: Path) -> None:
    code = "import evokd_data, importlib.metadata as m; print(evokd_data.__file__, m.version('evokd-data'))"
    file, version = run(environment, tmp_path, str(environment / "python"), "-c", code).split()
    assert Path(file).is_relative_to(environment.parent) and version == evokd_data.__version__


def test_the_quickstarts_recipe_runs_from_the_wheel(environment: Path, sdist: Path, tmp_path: Path) -> None:
    """With the scripted teacher: help, check, a run that is published, and all that is made of templates."""
    command, overrides = str(environment / "evokd-data"), [word for line in SCRIPTED for word in ("--set", line)]
    recipe = str(sdist / "recipes" / "quickstart.yaml")
    assert "Distil a large language model" in run(environment, tmp_path, command, "--help")
    assert ": sound: classification with 7 classes" in run(environment, tmp_path, command, "check", recipe, *overrides)
    done = run(environment, tmp_path, command, "run", recipe, *overrides)
    assert done.startswith("quickstart ") and done.endswith("local/quickstart-intents@round-001\n")
    assert "is as published" in run(environment, tmp_path, command, "verify", "local/quickstart-intents")
    rounds = json.loads(run(environment, tmp_path, command, "show", "quickstart", "--json"))["rounds"]
    assert [entry["kept"] for entry in rounds] == [7, 14]
    page = run(environment, tmp_path, command, "report", "quickstart").split()[-1]
    assert "<html" in (tmp_path / page).read_text(encoding="utf-8")


def test_tagging_runs_from_the_wheel(environment: Path, sdist: Path, tmp_path: Path) -> None:
    overrides = [word for line in (*SCRIPTED, "publish=null") for word in ("--set", line)]
    recipe = str(sdist / "recipes" / "quickstart-slots.yaml")
    assert run(environment, tmp_path, str(environment / "evokd-data"), "run", recipe, *overrides).startswith(
        "quickstart"
    )


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_quickstart_runs_from_the_wheel_with_its_own_teacher(
    environment: Path, sdist: Path, tmp_path: Path
) -> None:
    lines = ("rounds.count=1", "rounds.samples=7", "student={kind: linear}", "teacher_test_texts=7")
    overrides = [word for line in lines for word in ("--set", line)]
    recipe = str(sdist / "recipes" / "quickstart.yaml")
    done = run(environment, tmp_path, str(environment / "evokd-data"), "run", recipe, *overrides)
    assert done.endswith("local/quickstart-intents@round-001\n")
