"""What the teacher, and the student that knows the seeds alone, think of texts whose true label nobody knows.

A text was asked for by a label, and neither of the two is told which when it labels the text. So whoever gives that label more often knows
the classes better. Both can be wrong together with the writer; the teacher is the writer, which can only speak for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from evokd_data.records import Completion, GenerationRequest
from evokd_data.storage.journal import read_answers
from evokd_data.strategies import Brief
from evokd_data.strategies.labelling import STUDENT, read_probabilities, read_student
from evokd_data.strategies.trust import calibrate, chance_of_so_many
from evokd_data.tasks import Unreadable

MOST_COMPARED = 2000
SIGNIFICANCE = 0.01
"""Of a sign test over the texts on which one of the two gives the label asked for."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """Of one text: the class it was asked for by, as an index, and the probability of each class by teacher and student, at temperature 1."""

    asked: int
    teacher: tuple[float, ...]
    student: tuple[float, ...]

    @property
    def by_teacher(self) -> bool:
        """Whether the teacher's label is the one that was asked for. No temperature changes which that is."""
        return _largest(self.teacher) == self.asked

    @property
    def by_student(self) -> bool:
        """Whether the student's label is the one that was asked for."""
        return _largest(self.student) == self.asked


def read_opinions(brief: Brief, asked_for: Callable[[int], str], journal: Path) -> Iterator[Opinions]:
    """The opinions of each text that both have labelled. Of several votes the first counts. `asked_for`: the index of a request -> the
    label that its texts were asked for, "" for a request whose texts do not count."""
    classes, rows = brief.task.classes, dict[tuple[int, int], dict[str, tuple[float, ...]]]()
    for row in read_answers(journal):
        template, *place = row["key"].split("/")
        if template not in ("label", STUDENT) or not place[0].isdecimal() or any(int(vote) for vote in place[2:]):
            continue
        answer = Completion(row["text"], row["finish_reason"], 0, 0, row.get("choice_logprobs"))
        try:
            read = read_student(brief, answer) if template == STUDENT else _of_teacher(brief, answer)
        except Unreadable:
            continue
        text = int(place[0]), int(place[1])
        of_text = rows.setdefault(text, {})
        of_text[template] = read
        if len(of_text) == 2:
            del rows[text]
            if (label := asked_for(text[0])) in classes:
                yield Opinions(classes.index(label), of_text["label"], of_text[STUDENT])


@dataclass(frozen=True, slots=True)
class Compared:
    """How often teacher and student give the label that was asked for: counts of texts. `..._alone`: where the other does not."""

    texts: int
    by_teacher: int
    by_student: int
    teacher_alone: int
    student_alone: int

    @classmethod
    def of(cls, opinions: Iterable[Opinions]) -> Compared:
        pairs = [(each.by_teacher, each.by_student) for each in opinions]
        by_teacher, by_student = sum(teacher for teacher, _ in pairs), sum(student for _, student in pairs)
        both = sum(teacher and student for teacher, student in pairs)
        return cls(len(pairs), by_teacher, by_student, by_teacher - both, by_student - both)

    @property
    def chance(self) -> float:
        """The probability of so many texts that the student alone gets, or more, were both equally good (sign test)."""
        return chance_of_so_many(self.student_alone, self.student_alone + self.teacher_alone, 0.5)


def opinions_in_words(brief: Brief, planned: Sequence[GenerationRequest], journal: Path) -> str:
    """A sentence where the seeds-only student labels the texts of a round as they were asked for significantly more often than the
    teacher; else "". Then the teacher's labels may take more than they give, and the round is doubted (see `stages.adopt`)."""
    opinions = read_opinions(brief, lambda index: planned[index].quota.target, journal)
    compared = Compared.of(islice(opinions, MOST_COMPARED))
    if compared.chance > SIGNIFICANCE:
        return ""
    return (
        f"by itself the seeds-only student labels {compared.by_student} of {compared.texts} texts as they were asked for, the teacher "
        f"{compared.by_teacher}: the teacher may know the classes less well than your seeds; unless teacher_trust is force, such a round is "
        "adopted only where real texts show that it is better; give more seeds, or take a larger teacher"
    )


def _of_teacher(brief: Brief, answer: Completion) -> tuple[float, ...]:
    return calibrate(read_probabilities(brief, answer, ""), brief.labelling.prior)


def _largest(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)
