"""Which model a name means: a repository of the Hub at one commit, or a folder by the digest of its files.

The path of a folder is no identity: the same files give the same digest on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from evokd_data.digest import digest, file_digest
from evokd_data.errors import TeacherError

COMMIT = re.compile(r"[0-9a-f]{40}")
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Model:
    """`source` and `commit` are what an engine loads; `identity` says which model that is on every machine."""

    source: str
    commit: str | None
    identity: Mapping[str, str]


@lru_cache(maxsize=32)
def find(model: str, revision: str | None) -> Model:
    """Resolved once per process, so that a branch that moves meanwhile cannot split a run in two.

    Asks the Hub only when `revision` is no full commit; without a connection the commit in the local cache counts.
    Raises TeacherError when the folder holds no model or the repository cannot be found.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise TeacherError(
                f"teacher.revision: {revision!r} is for models of the Hub; drop it for the folder {model!r}"
            )
        if not (folder / "config.json").is_file():
            raise TeacherError(
                f"teacher.model: {model!r} is a folder without a config.json; name the folder of a model"
            )
        return Model(str(folder), None, {"digest": folder_digest(folder)})
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise TeacherError(f"teacher.model: there is no folder {model!r}")
    if revision and COMMIT.fullmatch(revision):
        return Model(model, revision, {"model": model, "revision": revision})
    return _on_hub(model, revision)


def folder_digest(folder: Path) -> str:
    """One digest of every configuration, tokenizer and weight file of a model's folder, by name."""
    files = {path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}
    with ThreadPoolExecutor(
        4
    ) as pool:  # hashing lets go of the interpreter: a large model is read in a quarter of the time
        contents = pool.map(_content, sorted(files))
        return digest({path.name: content for path, content in zip(sorted(files), contents, strict=True)})


def _content(path: Path) -> str:
    # The Hub's cache names a large file by its sha256: no need to read a hundred gigabytes again.
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return file_digest(path)


def _on_hub(model: str, revision: str | None) -> Model:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{model!r} at {revision!r}" if revision else repr(model)
    try:
        commit = HfApi().model_info(model, revision=revision, timeout=20).sha
        assert commit is not None
        return Model(model, commit, {"model": model, "revision": commit})
    except GatedRepoError as error:
        raise TeacherError(
            f"teacher.model: {where} asks for its licence to be accepted on the Hub; then run: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise TeacherError(f"teacher.revision: {model!r} has no revision {revision!r} on the Hub") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise TeacherError(
            f"teacher.model: {model!r} is neither a folder nor a model on the Hub; "
            "check the spelling, or, when it is private, run: hf auth login"
        ) from error
    except Exception as error:  # what a client without a connection raises differs between versions
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
        if isinstance(cached, str):
            folder = Path(cached).parent  # its name is the commit; by its path an engine needs no connection either
            return Model(str(folder), None, {"model": model, "revision": folder.name})
        raise TeacherError(
            f"teacher.model: {where} is not in the local cache and the Hub cannot be asked ({type(error).__name__}); "
            "connect once, or give a folder"
        ) from error
