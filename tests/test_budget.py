"""A budget ends a run cleanly: nothing is asked beyond it, what is complete stays, and a larger one goes on from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evokd_data.cli import cli
from evokd_data.errors import BudgetSpent
from evokd_data.generation.budget import Meter
from evokd_data.recipe_sections import Budget, Prices
from evokd_data.records import Completion, Message, Prompt, Sampling
from evokd_data.storage.journal import read_answers
from evokd_data.storage.workspace import Workspace
from tests.support.example_task import QUICK, contents

FAST = [part for override in QUICK for part in ("--set", override)]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def tokens(workspace: Workspace) -> int:
    """Of all answers in the run's journals."""
    folders = [*(folder.journal for folder in workspace.rounds()), workspace.teacher_test_journal]
    rows = [row for folder in folders for row in read_answers(folder)]
    return sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)


def prompt(number: int, max_tokens: int = 30) -> Prompt:
    return Prompt(f"generate/{number:06d}", "generate", (Message("user", "x" * 30),), number, Sampling(1.0, max_tokens))


async def many(meter: Meter, count: int, spent: list[int], together: int = 1000) -> list[object]:
    """`count` questions at once to a teacher whose answers take 10 + 10 tokens and some time."""
    slots = asyncio.Semaphore(together)

    async def answer(_: Prompt) -> Completion:
        await asyncio.sleep(0.001)
        spent.append(20)
        return Completion("a", "stop", 10, 10)

    async def ask(number: int) -> Completion:
        async with slots:
            return await meter.complete(prompt(number), answer)

    return await asyncio.gather(*map(ask, range(count)), return_exceptions=True)


@pytest.mark.parametrize("together", [1, 7, 1000])
def test_no_more_is_asked_than_the_budget_holds_and_every_answer_arrives(together: int) -> None:
    spent: list[int] = []
    meter = Meter(Budget(tokens=1000))
    results = asyncio.run(many(meter, 200, spent, together))
    answers = [result for result in results if isinstance(result, Completion)]
    assert len(answers) == len(spent) == 50 and sum(spent) == meter.prompt_tokens + meter.completion_tokens == 1000
    assert all(isinstance(result, BudgetSpent) for result in results if not isinstance(result, Completion))
    assert str(results[-1]) == "budget.tokens: 1,000 of 1,000 are used; raise it to go on"


def test_cost_and_hours_are_limits_too() -> None:
    meter = Meter(Budget(cost=0.0015), Prices(prompt=20, completion=30))
    asyncio.run(many(meter, 10, []))
    assert meter.prompt_tokens == 30  # an answer is 0.0005 dollars
    late = Meter(Budget(hours=1), seconds=3601)
    with pytest.raises(BudgetSpent, match=r"budget.hours: 1.00 of 1 are over"):
        late.require_left()
    free = Meter()
    assert len(asyncio.run(many(free, 40, []))) == 40 and free.completion_tokens == 400


@pytest.mark.slow
def test_a_run_ends_with_what_is_complete_and_a_larger_budget_makes_the_same_rounds(
    recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = recipe_file()
    assert call("run", path, *FAST, "--runs", tmp_path / "whole").exit_code == 0
    whole = Workspace(tmp_path / "whole" / "colours")
    first_round = json.loads(whole.round(1).generated.read_text())
    limit = int(1.5 * (first_round["prompt_tokens"] + first_round["completion_tokens"]))

    runs = tmp_path / "runs"
    limited = call("run", path, *FAST, "--runs", runs, "--set", f"budget.tokens={limit}")
    run = Workspace(runs / "colours")
    assert limited.exit_code == 0, limited.stderr
    assert "colours ends here, and rounds 0 to 1 are complete: budget.tokens:" in limited.stderr
    assert limited.stdout == f"colours {contents(whole)[1]} not published\n"
    assert not run.round(2).generated.exists() and 0 < tokens(run) <= limit
    answered = [row["prompt"] for row in read_answers(run.round(2).journal)]

    again = call("run", path, *FAST, "--runs", runs, "--set", f"budget.tokens={limit}")
    assert again.exit_code == 0 and answered == [row["prompt"] for row in read_answers(run.round(2).journal)]
    assert call("run", path, *FAST, "--runs", runs, "--set", "budget.tokens=10000000").exit_code == 0
    assert contents(run) == contents(whole) and tokens(run) == tokens(whole)


@pytest.mark.slow
def test_a_budget_stops_the_exam_too_before_an_engine_is_opened(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file(**{"teacher_trust: off\n": ""})
    runs = path.parent / "runs"
    result = call("run", path, *FAST, "--runs", runs, "--set", "budget.tokens=1", "--set", "rounds.count=1")
    assert result.exit_code == 0 and "rounds 0 to 0 are complete" in result.stderr
    assert "opening the teacher" not in result.stderr


@pytest.mark.slow
def test_prices_give_each_round_a_cost_and_a_cost_without_prices_is_a_problem(recipe_file: Callable[..., Path]) -> None:
    path = recipe_file()
    refused = call("check", path, "--set", "budget.cost=1")
    assert refused.exit_code == 1 and "budget.cost: no cost is counted without prices" in refused.stderr
    runs = path.parent / "runs"
    prices = ["--set", "prices.prompt=2", "--set", "prices.completion=10"]
    assert call("run", path, *FAST, "--runs", runs, "--set", "rounds.count=1", *prices).exit_code == 0
    folder = Workspace(runs / "colours").round(1)
    totals = json.loads(folder.generated.read_text())
    expected = (2 * totals["prompt_tokens"] + 10 * totals["completion_tokens"]) / 1e6
    assert totals["cost_usd"] == pytest.approx(expected, abs=1e-6) and expected > 0
    assert json.loads(folder.manifest.read_text())["environment"]["cost_usd"] == totals["cost_usd"]


@pytest.mark.slow
def test_a_trial_run_lies_in_a_folder_of_its_own_and_is_never_published(
    recipe_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a checkout may have a hub, of its quickstart
    path = recipe_file(**{"strategy:": "publish: {repo: local/colours, endpoint: local}\nstrategy:"})
    result = call("run", path, *FAST, "--runs", tmp_path / "runs", "--limit", 6)
    assert "the teacher does not label the test set (teacher_test_texts is 0 here, " in result.stderr
    assert result.exit_code == 0, result.stderr
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["colours-limit-6"]
    assert result.stdout.startswith("colours-limit-6 ") and result.stdout.endswith(" not published\n")
    run = Workspace(tmp_path / "runs" / "colours-limit-6")
    assert [json.loads(folder.generated.read_text())["asked"] for folder in run.rounds()] == [0, 6, 6]
    assert not (tmp_path / "hub").exists()
