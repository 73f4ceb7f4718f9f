"""What tests share: recipes on disk, and no way out of this machine."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything of Hugging Face's is imported: it reads them then.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="evokd-tests-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE"):
    os.environ.pop(name, None)
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what it puts into the background deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from evokd_data.recipe import Recipe  # noqa: E402
from tests.support.example_task import RECIPE, SEEDS, TEST, quick, write_rows  # noqa: E402 - the environment comes first

# No deadline: how long an example takes says how busy the machine is. The same examples every time: a red test stays red.
settings.register_profile("evokd", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("evokd")


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the colours recipe with its data into tmp_path; keyword arguments replace text in it."""

    def write(text: str = RECIPE, **changes: str) -> Path:
        write_rows(tmp_path / "seeds.jsonl", SEEDS)
        write_rows(tmp_path / "test.jsonl", TEST)
        for old, new in changes.items():
            assert old in text, f"{old!r} is not in the recipe"
            text = text.replace(old, new)
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def recipe(recipe_file: Callable[..., Path]) -> Callable[..., Recipe]:
    """The colours recipe, written and loaded, with a student that learns little; keyword arguments replace text in it."""
    return lambda **changes: quick(recipe_file(**changes))


@pytest.fixture(scope="module", autouse=True)
def hub_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's caches, or uses their token; and no module another's: what a tag names is remembered by
    the address of its Hub, and the ports of Hubs that have ended are given to others."""
    cache = str(tmp_path_factory.mktemp("hub-cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_TOKEN", raising=False)
        patch.setenv("HF_HUB_CACHE", cache)
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
        yield


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT of random weights, for students to start from."""
    from tests.support.tiny_encoders import make_base

    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def tiny_static(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Model2Vec model that model2vec distilled from `tiny_encoder`."""
    from tests.support.tiny_encoders import make_static

    return make_static(tmp_path_factory.mktemp("static") / "model", tiny_encoder)


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Qwen2 of random weights."""
    from tests.support.tiny_encoders import make_base

    return make_base(tmp_path_factory.mktemp("decoder"), "qwen2")


@pytest.fixture(scope="session")
def tiny_gliclass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny GLiClass model of random weights."""
    from tests.support.tiny_encoders import make_gliclass

    return make_gliclass(tmp_path_factory.mktemp("gliclass"))
