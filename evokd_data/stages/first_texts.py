"""First texts: before round 1 writes a shard, how far the teacher's probabilities can be trusted is estimated on its first texts.

The exam has the seeds alone. A few of them cannot tell a teacher that knows less than the seeds-only student from one that knows more: with
seven seeds, six of them right, a teacher that was right on .52 of the test set counted as much as a student that was right on .70, and the
loop took 8 points away. The texts of the round say more. At most TEXTS of them, evenly over the plan, are written and labelled by both.

- The teacher's temperature is raised to where the labels that were asked for are likeliest (see `temperature_of_requests`).
- Where the student gives these labels significantly more often than the teacher, the teacher knows less than the seeds alone: then the run
  stops. Of eight whole runs with general teachers the test had a p of at most 0.02 in four: two took 8 points from the student, one
  changed nothing, one gave 3. In the four others it was at least 0.19, and they gave 1 to 16 points.

A teacher that labels its texts as they were asked for changes nothing.

They are the round's own texts: their answers are journalled, and the round begins with them. So this costs no token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evokd_data.recipe import Recipe
from evokd_data.records import GenerationRequest
from evokd_data.reporting.exam_words import BELOW_SEEDS, REFUSED, finding
from evokd_data.stages.opinions import Compared, read_opinions
from evokd_data.stages.plan import latest_exam
from evokd_data.storage.workspace import Workspace, read_json, write_checked_json
from evokd_data.strategies import Brief
from evokd_data.strategies.labelling import can_be_scored
from evokd_data.strategies.quotas import RequestPlan
from evokd_data.strategies.trust import SIGNIFICANCE, temperature_of_requests

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


def first_requests(planned: RequestPlan) -> list[GenerationRequest]:
    """Requests for about TEXTS texts, evenly over the plan and so over the labels. Texts of the pool, last in a plan, are not among them.

    Of many labels each has a request of few texts, so that more requests are needed than of few labels.
    """
    written, texts = planned.written, planned.texts_written
    wanted = min(written, -(-TEXTS * written // texts)) if texts else 0
    return [planned[position * written // wanted] for position in range(wanted)]


def correct_by_first_texts(
    workspace: Workspace, index: int, brief: Brief, requests: Sequence[GenerationRequest]
) -> tuple[Mapping[str, Any], str]:
    """Write what the first texts, those of `requests`, say into the round's exam.json: "first_texts", "corrected" where that raises the
    temperature, and perhaps another verdict. Returns its content, and what follows in a sentence, as `in_words`.

    `brief` has the labelling of the exam alone. The answers are in the round's journal; what it may hold of other requests, as after
    the loss of a plan, does not count.
    """
    folder = workspace.round(index)
    label_of = {request.index: request.quota.target for request in requests}
    exam = read_json(folder.exam)
    opinions = list(read_opinions(brief, lambda request: label_of.get(request, ""), folder.journal))
    compared, before = Compared.of(opinions), brief.labelling.temperature
    temperature, off_target = before, None
    if compared.texts >= LEAST:
        readings = [(text.asked, text.teacher, text.student) for text in opinions]
        temperature, off_target = temperature_of_requests(readings, brief.labelling.student_weight, before)
    content = {
        **exam,
        "first_texts": {
            "texts": compared.texts,
            "teacher_as_asked": compared.by_teacher,
            "student_as_asked": compared.by_student,
            "teacher_alone": compared.teacher_alone,
            "student_alone": compared.student_alone,
            "temperature": temperature if temperature > before else None,
            "off_target": off_target,
        },
    }
    if temperature > before:
        content["corrected"] = {"temperature": temperature}
    if compared.texts >= LEAST and compared.chance <= SIGNIFICANCE and exam["verdict"] not in REFUSED:
        content["verdict"] = BELOW_SEEDS
    sentence = in_words(content, compared.chance, before)
    if content["verdict"] == BELOW_SEEDS:  # what decides comes first; what followed from the exam alone no longer does
        content["message"] = f"{sentence}; {finding(exam)}"
    elif sentence:
        content["message"] = f"{exam['message']}; {sentence}"
    write_checked_json(folder.exam, content)
    return content, sentence


def in_words(content: Mapping[str, Any], chance: float, before: float) -> str:
    """What the first texts show and what follows, in a sentence; "" where nothing follows. `content` is that of exam.json, `before` the
    temperature of the exam alone."""
    found = content["first_texts"]
    if content["verdict"] == BELOW_SEEDS:
        follows = "the teacher knows the classes less well than the seeds alone teach them"
    elif found["temperature"] is not None:
        follows = f"the teacher's probabilities are flattened (temperature {before:g} to {found['temperature']:g}), because they are surer than that shows"
    else:
        return ""
    return (
        f"by itself the teacher labels {found['teacher_as_asked']} of its first {found['texts']} texts as they were asked for, a small student that has "
        f"learned the seeds alone {found['student_as_asked']} ({found['student_alone']} texts that only the student labels so, "
        f"{found['teacher_alone']} that only the teacher does; sign test: p {chance:.3f}): {follows}"
    )
