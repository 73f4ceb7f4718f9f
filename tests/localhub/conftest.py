"""Fixtures: real servers in child processes, and unmodified clients of them. All files are in temporary folders."""

from __future__ import annotations

import atexit
import io
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Set before huggingface_hub is imported, which reads these once. Tests must not use the caches of the user.
_caches = tempfile.TemporaryDirectory(prefix="localhub-caches-")
atexit.register(_caches.cleanup)
CLIENT_ENVIRONMENT = {
    "HF_HOME": _caches.name,
    "HF_HUB_CACHE": f"{_caches.name}/hub",
    "HF_XET_CACHE": f"{_caches.name}/xet",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
if "huggingface_hub" not in sys.modules:
    os.environ.update(CLIENT_ENVIRONMENT)

from evokd_data import localhub  # noqa: E402
from evokd_data.localhub.child import RunningHub  # noqa: E402

_numbers = itertools.count()


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One server without tokens, shared by all tests that do not start one. Each test uses its own repositories."""
    with localhub.running(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture
def api(hub: RunningHub):
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def dataset(api) -> str:
    """The id of a new dataset repository."""
    name = f"local/data-{next(_numbers)}"
    api.create_repo(name, repo_type="dataset")
    return name


@pytest.fixture
def parquet() -> Callable[..., bytes]:
    """Parquet bytes of a table whose column `a` holds `start` to `start + rows - 1`."""

    def make(rows: int, start: int = 0) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        out = io.BytesIO()
        pq.write_table(pa.table({"a": range(start, start + rows)}), out)
        return out.getvalue()

    return make


@pytest.fixture
def in_client(hub: RunningHub, tmp_path: Path) -> Callable[..., str]:
    """Runs Python code in a process that finds the Hub by HF_ENDPOINT alone, and returns its output."""

    def run(code: str, **environment: str) -> str:
        settings = {**os.environ, **CLIENT_ENVIRONMENT, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token}
        settings |= {"HF_DATASETS_CACHE": str(tmp_path / "datasets"), "HF_HOME": str(tmp_path / "home"), **environment}
        settings |= {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_XET_CACHE": str(tmp_path / "xet"), **environment}
        process = subprocess.run(
            [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        return process.stdout.strip()

    return run
