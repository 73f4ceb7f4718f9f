"""Who says more often what a text was written for: the teacher, or the student that knows the seeds alone?

Neither is told. So whoever says it more often knows the classes better, and no true label is needed to see it. Both can be wrong
together with the writer; the teacher is the writer, which can only speak for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evokd_data.records import Completion, GenerationRequest
from evokd_data.storage.journal import read_answers
from evokd_data.strategies import Brief
from evokd_data.strategies.labelling import STUDENT, read_probabilities, read_student
from evokd_data.strategies.trust import calibrate, chance_of_so_many
from evokd_data.tasks import Unreadable

TEXTS = 2000
"""The most texts that are compared."""
SIGNIFICANCE = 0.01
"""Of a sign test over the texts on which one of the two is right."""


def opinions_in_words(brief: Brief, planned: Sequence[GenerationRequest], journal: Path) -> str:
    """A sentence where the seeds-only student labels the texts of a round as they were asked for significantly more often than the
    teacher; else "". Then the teacher's labels may take more than they give."""
    agreed = _agreed(brief, planned, journal)
    student_alone = sum(student and not teacher for teacher, student in agreed)
    teacher_alone = sum(teacher and not student for teacher, student in agreed)
    one_of_them = student_alone + teacher_alone
    if student_alone <= teacher_alone or chance_of_so_many(student_alone, one_of_them, 0.5) > SIGNIFICANCE:
        return ""
    by_student, by_teacher = sum(student for _, student in agreed), sum(teacher for teacher, _ in agreed)
    return (
        f"the seeds-only student labels {by_student} of {len(agreed)} texts as they were asked for, the teacher {by_teacher}: the teacher may "
        "know the classes less well than your seeds, and its labels may take more than they give; compare the scores with those of "
        "the seeds alone, give more seeds, or take a larger teacher"
    )


def _agreed(brief: Brief, planned: Sequence[GenerationRequest], journal: Path) -> list[tuple[bool, bool]]:
    """For each text that both have labelled, whether the teacher, and whether the student, labels it as it was asked for."""
    labels: dict[tuple[int, int], dict[str, str]] = {}
    found = []
    for row in read_answers(journal):
        template, *place = row["key"].split("/")
        if template not in ("label", STUDENT) or not place[0].isdecimal() or any(int(vote) for vote in place[2:]):
            continue
        answer = Completion(row["text"], row["finish_reason"], 0, 0, row.get("choice_logprobs"))
        try:
            read = read_student(brief, answer) if template == STUDENT else _teacher(brief, answer)
        except Unreadable:
            continue
        text = int(place[0]), int(place[1])
        by = labels.setdefault(text, {})
        by[template] = brief.task.classes[max(range(len(read)), key=read.__getitem__)]
        if len(by) == 2:
            intended = planned[text[0]].quota.target
            found.append((by["label"] == intended, by[STUDENT] == intended))
            del labels[text]
            if len(found) == TEXTS:
                break
    return found


def _teacher(brief: Brief, answer: Completion) -> tuple[float, ...]:
    """The teacher's probability of each class, calibrated as it is for the label. Raises Unreadable."""
    return calibrate(read_probabilities(brief, answer, ""), brief.labelling.prior, brief.labelling.temperature)
