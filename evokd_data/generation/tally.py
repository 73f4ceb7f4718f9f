"""The running totals of a round: texts asked for, kept, rejected by reason, and how many are labelled as they were asked for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from evokd_data.errors import TeacherError
from evokd_data.generation.refusals import Refusals
from evokd_data.progress import Progress, Totals
from evokd_data.recipe import MEASURED, Recipe
from evokd_data.records import Completion, Prompt, Quota, Rejection, Sample
from evokd_data.strategies import POOL
from evokd_data.strategies.labelling import can_be_scored, is_unlabelled
from evokd_data.strategies.quotas import RequestPlan, kind_of
from evokd_data.strategies.trust import SIGNIFICANCE, chance_of_so_many
from evokd_data.tasks import Task

ENOUGH_TO_COMPARE = 60
EXAMPLES = 3
NEWEST = 3


class Tally:
    """Running totals of a round, reported to `progress`. `asked` is the number of texts asked for, `accepted_by_kind` the number
    kept of each kind of quota. `rule`: see `records.Labelling`."""

    def __init__(self, planned: RequestPlan, progress: Progress, task: Task, rule: str) -> None:
        self._task, self._rule = task, rule
        self._plan(planned)
        self.accepted = 0
        self.accepted_by_kind: Counter[Quota] = Counter()
        self.rejected: Counter[str] = Counter()
        self.refusals = Refusals()
        self.agreed = self.disagreed = 0
        """Texts labelled as they were asked for, and otherwise."""
        self.unlabelled = 0
        """Texts dropped before a label was asked for."""
        self._examples: list[str] = []
        self._newest: deque[Sample] = deque(maxlen=NEWEST)
        self._tokens = 0
        self._report: Callable[[Totals], None] = progress.generated

    @property
    def decided(self) -> int:
        """Texts that were kept or rejected."""
        return self.accepted + self.rejected.total()

    def ask_for_more(self, planned: RequestPlan) -> None:
        """The plan has another wave. It is told at once: the first of its texts may take a minute."""
        self._plan(planned)
        self._tell()

    def _plan(self, planned: RequestPlan) -> None:
        self._planned = planned
        self.asked = sum(request.count for request in planned)

    def on_answer(self, _: Prompt, answer: Completion, is_new: bool) -> None:
        if is_new:
            self.add_tokens(answer.completion_tokens)

    def add_tokens(self, tokens: int) -> None:
        self._tokens += tokens

    def add(self, fate: Sample | Rejection) -> None:
        if isinstance(fate, Sample):
            self.accepted += 1
            self._newest.append(fate)
            self.accepted_by_kind[kind_of(self._planned[fate.origin.request].quota)] += 1
            if fate.origin.strategy != POOL:  # nobody asked for a text of the pool
                # By the rule "reject" nothing is kept that is labelled otherwise than it was asked for, be it without a span.
                agrees = self._rule == "reject" or self._task.carries(fate.target, fate.origin.intended)
                self._compare(agrees, fate.text, f"labelled {fate.target}")
        else:
            self.rejected[fate.reason] += 1
            self.unlabelled += is_unlabelled(fate)
            if fate.reason == "label_disagreement":
                self._compare(False, fate.text, fate.detail)
            elif fate.reason == "refused":
                self.refusals.add(fate.detail)
        self._tell()

    def _tell(self) -> None:
        self._report(
            Totals(
                self.decided,
                self.asked,
                self.accepted,
                self.rejected,
                self._tokens,
                self.agreed,
                self.agreed + self.disagreed,
                self._newest,
            )
        )

    def _compare(self, agrees: bool, text: str, label: str) -> None:
        self.agreed += agrees
        self.disagreed += not agrees
        if not agrees and len(self._examples) < EXAMPLES:
            self._examples.append(f"{text!r}: {label}")

    def require_agreement(self, recipe: Recipe) -> None:
        """Raises TeacherError when texts are labelled as they were asked for no more often than chance would have it: then the
        teacher writes something else than it is asked for, or cannot label it."""
        count, classes = self.agreed + self.disagreed, len(recipe.task.classes)
        if count < ENOUGH_TO_COMPARE or recipe.teacher_trust != MEASURED or not can_be_scored(recipe.task):
            return
        if chance_of_so_many(self.agreed, count, 1 / classes) > SIGNIFICANCE:
            raise TeacherError(
                f"{recipe.path}: {self.agreed} of {count} texts are labelled as they were asked for, no more than chance would have "
                f"it, for example {'; '.join(self._examples)}; take a larger teacher, spell out task.noun, label_names and "
                "label_descriptions, or set teacher_trust: force"
            )


def refill_note(waves: Sequence[Sequence[Quota]], quotas: Sequence[Quota], accepted: Mapping[Quota, int]) -> str:
    """What is told when texts are asked for again, as `quotas` of another wave; `accepted` are the texts kept of each kind."""
    wanted = Counter[Quota]()
    for quota in waves[0]:
        wanted[kind_of(quota)] += 0 if quota.text else quota.samples
    asked_again = {kind_of(quota) for quota in quotas}
    lacking = {
        kind.target for kind, count in wanted.items() if accepted.get(kind, 0) < count and kind not in asked_again
    }
    note = (
        f"{sum(accepted.values())} of {sum(quota.samples for quota in waves[0])} texts were kept; "
        f"{sum(quota.samples for quota in quotas)} more are asked for"
    )
    return f"{note}; no more of {', '.join(sorted(lacking))}: too few of them are kept" if lacking else note
