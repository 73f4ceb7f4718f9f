"""Other people's clients read a published round: those this environment has; `make clients` asks the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from evokd_data import localhub
from tests.support import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from clients import READERS, Published, Reader, publish, read

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with localhub.running(tmp_path_factory.mktemp("hub")) as server:
        yield publish(server, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("name", ["datasets-streaming", "hf", "http", "pandas", "pyarrow"])
def test_a_client_reads_the_rows_of_the_round_it_asked_for(published: Published, name: str) -> None:
    if name == "pandas" and find_spec("pandas") is None:
        pytest.skip("pandas is not installed")
    assert read(Path(sys.executable), READERS[name], published) == ""


def test_a_client_that_takes_the_newest_round_is_found_out(published: Published) -> None:
    newest = READERS["pyarrow"].code.replace("@{tag}", "@main")
    assert read(Path(sys.executable), Reader("newest", newest), published).startswith("other rows: 30 with digest")


def test_the_page_tells_of_every_client() -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert [reader.title for reader in READERS.values() if reader.title not in page] == []
