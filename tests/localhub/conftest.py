"""Real servers in child processes, spoken to by unmodified clients. Nothing outside of temporary folders is touched."""

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

# Before huggingface_hub is imported: it reads these once. Never the caches of whoever runs the tests.
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
    """One server without tokens for all tests that do not need their own; each test uses repositories of its own."""
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
    """Runs Python in a process that knows of the Hub by HF_ENDPOINT alone; its output, last line stripped."""

    def run(code: str, **environment: str) -> str:
        settings = {**os.environ, **CLIENT_ENVIRONMENT, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token}
        settings |= {"HF_DATASETS_CACHE": str(tmp_path / "datasets"), "HF_HOME": str(tmp_path / "home"), **environment}
        settings |= {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_XET_CACHE": str(tmp_path / "xet"), **environment}
        done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
