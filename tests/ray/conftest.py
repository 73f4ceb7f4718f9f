"""Tests with real actors, skipped where Ray is not installed."""

from __future__ import annotations

import pytest

from evokd_data.errors import TeacherError
from evokd_data.teachers.ray.pipeline import version


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        version()
    except TeacherError as error:
        for item in items:
            if item.get_closest_marker("ray"):
                item.add_marker(pytest.mark.skip(reason=str(error)))
