"""Names of repositories that the Hub accepts: the rules of huggingface_hub's `validate_repo_id`, without its import.

The Hub's client takes a sixth of a second to import, and `check` reads a recipe without it. tests/test_repo_names.py
compares these rules with the client's. Where a local Hub is stricter, so are we: a part begins with a letter or a digit.
"""

from __future__ import annotations

import re

NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
REPO_ID = re.compile(f"{NAME}/{NAME}", re.ASCII)
DATASET_ID = re.compile(f"(?:{NAME}/)?{NAME}", re.ASCII)
RESERVED = ("api", "datasets", "models", "spaces")
"""What other addresses of a Hub begin with."""


def fault(repo_id: str, needs_namespace: bool = True) -> str:
    """Why no repository can have this id, with what to do; "" when one can. Old data sets have an id without a namespace."""
    if "--" in repo_id or ".." in repo_id:
        return "the Hub refuses '--' and '..' in a name; choose another"
    if any(part.endswith(".git") for part in repo_id.split("/")):
        return "the Hub refuses a name that ends in '.git'; choose another"
    if needs_namespace and repo_id.count("/") != 1:
        return "is not of the form org/name; write the user or organisation, a slash, and a name"
    if not (REPO_ID if needs_namespace else DATASET_ID).fullmatch(repo_id):
        return (
            "the Hub takes names of at most 96 letters (a-z), digits, '.', '_' and '-', beginning with a letter or digit "
            "and not ending in '.' or '-'; choose another"
        )
    if repo_id.partition("/")[0] in RESERVED and "/" in repo_id:
        return f"no user or organisation can be called {repo_id.partition('/')[0]!r}; write org/name"
    return ""


def checked(repo_id: str) -> str:
    """The id of a repository to publish to. Raises ValueError, see `fault`."""
    if problem := fault(repo_id):
        raise ValueError(problem)
    return repo_id
