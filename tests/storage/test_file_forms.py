"""The form of a run's JSON files, beside what tests/cli/test_damaged_files.py shows from outside."""

from __future__ import annotations

import pytest

from evokd_data.storage.file_forms import check_form

QUOTA = {"target": "red", "samples": 3}


@pytest.mark.parametrize(
    ("refills", "problem"),
    [
        ([], ""),
        ([[QUOTA], [{**QUOTA, "difficulty": "hard"}]], ""),
        ({}, "the 'refills' of it is {}"),
        ([QUOTA], "an entry of 'refills' is {'target': 'red', 'samples': 3}"),
        ([["red"]], "an entry of 'refills' is no table but 'red'"),
        ([[{"target": "red"}]], "an entry of 'refills' has no 'samples'"),
        ([[{**QUOTA, "sample": 3}]], "an entry of 'refills' has 'sample', which is no part of a quota"),
    ],
)
def test_refills_are_lists_of_quotas(refills, problem):
    plan = {"weaknesses": [], "cells": [QUOTA], "refills": refills}
    if not problem:
        check_form("plan.json", plan)
        return
    with pytest.raises(ValueError) as raised:
        check_form("plan.json", plan)
    assert str(raised.value) == problem


@pytest.mark.parametrize("neighbours", [[], None, {"red": "blue"}, {"red": [3]}])
def test_neighbours_are_lists_of_labels(neighbours):
    plan = {"weaknesses": [], "cells": [QUOTA]}
    check_form("plan.json", {**plan, "neighbours": {"red": ["blue"]}})
    with pytest.raises(ValueError, match="'neighbours'"):
        check_form("plan.json", {**plan, "neighbours": neighbours})
