"""One real engine for the module that asks for it, on a model of random weights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from evokd_data.errors import TeacherError
from evokd_data.teachers.vllm.names import version
from evokd_data.teachers.vllm.plug import VLLM
from tests.support.tiny_model import build
from tests.support.vllm_engine import SETTINGS, OpenEngine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        version()
    except TeacherError as error:
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def opened(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenEngine]:
    log = tmp_path_factory.mktemp("log") / "teacher.log"
    serving = VLLM(model=str(model), **SETTINGS).serve(log)
    with asyncio.Runner() as runner:
        yield OpenEngine(runner.run(serving.__aenter__()), runner, log)
        runner.run(serving.__aexit__(None, None, None))
