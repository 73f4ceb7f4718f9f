"""First texts: before round 1 writes a shard, how far the teacher's probabilities can be trusted is estimated on its first texts.

The exam has the seeds alone. A few of them cannot tell a teacher that knows less than the seeds-only student from one that knows more: with
seven seeds, six of them right, a teacher that was right on .52 of the test set counted as much as a student that was right on .70, and the
loop took 8 points away. The texts of the round say more. At most TEXTS of them, evenly over the plan, are written and labelled by both.
Then the teacher's temperature is raised to where the labels that were asked for are likeliest (see `temperature_of_requests`). A teacher
that labels its texts as they were asked for keeps the temperature of the exam.

They are the round's own texts: their answers are journalled, and the round begins with them. So this costs no token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evokd_data.recipe import Recipe
from evokd_data.records import GenerationRequest
from evokd_data.stages.opinions import Opinions, read_opinions
from evokd_data.stages.plan import latest_exam
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.strategies import Brief
from evokd_data.strategies.labelling import can_be_scored
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.strategies.trust import temperature_of_requests

TEXTS = 100
"""Written before the first shard."""
LEAST = 20
"""With fewer texts nothing is corrected."""


def needs_first_texts(recipe: Recipe, workspace: Workspace, index: int) -> bool:
    """Whether first texts are to correct the exam of round `index`: the strategy writes texts, teacher and student label each of them, and
    it was not done yet."""
    exam = latest_exam(workspace, index)
    return (
        exam is not None
        and can_be_scored(recipe.task)
        and "generate" in recipe.strategy.prompt_templates
        and bool(exam["chosen"]["student_weight"])
        and "first_texts" not in exam
    )


def first_requests(planned: RequestPlan, per_request: int) -> list[GenerationRequest]:
    """Requests for about TEXTS texts, evenly over the plan and so over the labels."""
    wanted = min(len(planned), -(-TEXTS // per_request))
    return [planned[position * len(planned) // wanted] for position in range(wanted)]


def correct_by_first_texts(workspace: Workspace, index: int, brief: Brief, planned: RequestPlan) -> str:
    """Write what the first texts in the round's journal say into its exam.json: "first_texts", and "corrected" where that raises the
    temperature. Returns what changes in a sentence, "" when nothing does. `brief` has the labelling of the exam alone."""
    folder = workspace.round(index)
    opinions = list(read_opinions(brief, planned, folder.journal))
    found = _measured(opinions, brief)
    content = {**read_json(folder.exam), "first_texts": found}
    sentence = ""
    if found["temperature"] is not None:
        content["corrected"] = {"temperature": found["temperature"]}
        sentence = in_words(found, brief.labelling.temperature)
        content["message"] = f"{content['message']}; {sentence}"
    write_checked_json(folder.exam, content)
    return sentence


def _measured(opinions: Sequence[Opinions], brief: Brief) -> dict[str, Any]:
    """{"texts", "teacher_as_asked", "student_as_asked", "temperature", "off_target"}. `temperature` is None where that of the exam stays;
    `off_target` is the share of texts that are something else than was asked for, an estimate."""
    before, temperature, off_target = brief.labelling.temperature, None, None
    if len(opinions) >= LEAST:
        readings = [(text.asked, text.teacher, text.student) for text in opinions]
        found, off_target = temperature_of_requests(readings, brief.labelling.student_weight, before)
        temperature = found if found > before else None
    return {
        "texts": len(opinions),
        "teacher_as_asked": sum(text.by_teacher for text in opinions),
        "student_as_asked": sum(text.by_student for text in opinions),
        "temperature": temperature,
        "off_target": off_target,
    }


def in_words(found: Mapping[str, Any], before: float) -> str:
    """What the first texts show and what it changes."""
    return (
        f"of its first {found['texts']} texts the teacher labels {found['teacher_as_asked']} as they were asked for, the seeds-only student "
        f"{found['student_as_asked']}: the teacher's probabilities are flattened (temperature {before:g} to {found['temperature']:g}), because "
        "they are surer than that shows"
    )
