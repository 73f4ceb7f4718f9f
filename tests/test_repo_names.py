"""Our rules for names of repositories against those of the Hub's client, and of the local Hub."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.localhub.names import is_name
from evokd_data.repo_names import RESERVED, fault

GOOD = ["o/a", "o/a-b", "o/a_b.c", "O1/A2", "o/a_", "o/" + "a" * 96, "a" * 96 + "/b", "o/a.gitt", "o/git"]
BAD = ["o/a--b", "o/a..b", "o/a.git", "o/a.", "o/a-", "o/" + "a" * 97, "ö/a", "o/ä", "o/文", "o/.a", "o/-a", "o/a/b", "a", "",
       "/", "o/", "/a", "o/a b", "o/a\n", "o--p/a", "o./a", "-o/a", "datasets/a", "https://x/y", "o.git/a"]  # fmt: skip


def client_accepts(repo_id: str) -> bool:
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return True


@pytest.mark.parametrize("repo_id", GOOD)
def test_a_good_name_passes_here_at_the_client_and_at_a_local_hub(repo_id):
    assert not fault(repo_id) and client_accepts(repo_id)
    assert all(is_name(part) for part in repo_id.split("/"))


@pytest.mark.parametrize("repo_id", BAD)
def test_a_bad_name_is_refused_with_what_to_do(repo_id):
    assert ";" in fault(repo_id)


@given(
    st.text("aZ0_.-/gité", min_size=1, max_size=12) | st.from_regex(r"[aZ0_.-]{1,99}/[aZ0_.-]{1,99}", fullmatch=True)
)
def test_whatever_passes_here_passes_at_the_client_and_at_a_local_hub(repo_id):
    if not fault(repo_id):
        assert client_accepts(repo_id)
        assert all(is_name(part) for part in repo_id.split("/"))


@given(st.from_regex(r"[aZ0][aZ0_.-]{0,97}/[aZ0][aZ0_.-]{0,97}", fullmatch=True))
def test_whatever_the_client_accepts_passes_here(repo_id):
    assert (not fault(repo_id)) == client_accepts(repo_id)


def test_a_name_without_a_namespace_is_one_of_an_old_data_set():
    assert not fault("glue", needs_namespace=False) and client_accepts("glue")
    assert fault("gl--ue", needs_namespace=False) and fault("glue")
    assert all(fault(f"{name}/a", needs_namespace=False) for name in RESERVED)
