"""A model in one GGUF file, as llama.cpp and Ollama keep them: read once through transformers into a folder that every engine loads.

The folder lies in the cache, named by the file's digest, so a file is read once on a machine. Weights become bfloat16: a file of 4 bits
a weight grows to four times its size. The file's digest is the model's identity.
"""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from evokd_data.digest import file_digest
from evokd_data.errors import EvokdError

SUFFIX = ".gguf"
MAGIC = b"GGUF"


def check_gguf(file: Path, section: str, error: type[EvokdError]) -> None:
    """Raises `error`, naming settings of `section`, when the file cannot be a GGUF model, or cannot be read here."""
    if not file.is_file():
        raise error(
            f"{section}.model: there is no file {str(file)!r}; give a GGUF file, the folder of a model, or ORG/NAME"
        )
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise error(
                f"{section}.model: {str(file)!r} is no GGUF file (it does not begin with GGUF); download it again"
            )
    if find_spec("gguf") is None:
        raise error(f"{section}.model: {str(file)!r} needs the package gguf; run: pip install 'evokd-data[gguf]'")


def gguf_folder(file: Path, section: str, error: type[EvokdError]) -> tuple[Path, str]:
    """(folder with the model of the file, digest of the file). Reads the file into the cache when it is not there yet.

    Raises `error` when transformers cannot read the file: another architecture, or a part of a divided model.
    """
    check_gguf(file, section, error)
    file = file.resolve()
    checksum = file_digest(file)
    folder = cache_root() / checksum
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".reading-") as scratch:
            _read_into(Path(scratch), file, section, error)
            try:
                Path(scratch).rename(folder)
            except OSError:  # another process was first
                if not (folder / "config.json").is_file():
                    raise
            else:
                Path(scratch).mkdir()  # for the context manager to remove
    return folder, checksum


def cache_root() -> Path:
    """Where folders of GGUF files lie: $EVOKD_CACHE, otherwise evokd-data in the user's cache."""
    base = os.environ.get("EVOKD_CACHE")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evokd-data"
    return (Path(base).expanduser() if base else default) / "gguf"


def _read_into(folder: Path, file: Path, section: str, error: type[EvokdError]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
        # transformers remembers the file's quantization, which the weights no longer have.
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as raised:  # what a reader raises on a damaged file depends on where the damage is
        if isinstance(raised, OSError) and raised.errno is not None:  # a full disk, no right to write
            raise
        reason = " ".join(str(raised).split())[:200]
        raise error(
            f"{section}.model: transformers cannot read {str(file)!r} ({type(raised).__name__}: {reason}); take a model whose "
            "architecture it reads, the original folder, or a server (engine: server) that runs the file"
        ) from raised
