"""Dividing a budget of texts into quotas, and the quotas of a plan into requests."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from math import ceil
from typing import overload

from evokd_data.digest import derive_seed
from evokd_data.records import GenerationRequest, Quota


def divide(budget: int, weights: Sequence[float], turn: int = 0) -> list[int]:
    """`budget` split in proportion to `weights`, in whole numbers that sum to it (largest remainder).

    Of equal remainders the one at index `turn` is served first, then those after it, and so on in a circle. With the round as
    `turn`, no index is left out in every round.
    """
    total = sum(weights)
    if not weights or total <= 0:
        return [0] * len(weights)
    exact = [budget * weight / total for weight in weights]
    shares = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], (i - turn) % len(weights)))
    for i in order[: budget - sum(shares)]:
        shares[i] += 1
    return shares


def uniform_quotas(labels: Sequence[str], budget: int, turn: int) -> list[Quota]:
    """The same number of texts for every label, of no particular difficulty. `turn` as in `divide`."""
    shares = divide(budget, [1.0] * len(labels), turn)
    return [Quota(label, samples) for label, samples in zip(labels, shares, strict=True) if samples]


def stratified_quotas(labels: Sequence[str], budget: int, easy: float, turn: int) -> list[Quota]:
    """The same number of texts for every label, a share `easy` of them easy, the others hard. `turn` as in `divide`."""
    return by_difficulty(dict(zip(labels, divide(budget, [1.0] * len(labels), turn), strict=True)), easy, turn)


def by_difficulty(samples_of: Mapping[str, int], easy: float, turn: int) -> list[Quota]:
    """So many texts for each label, a share `easy` of them easy, the others hard. `turn` as in `divide`."""
    quotas = []
    for index, (label, samples) in enumerate(samples_of.items()):
        easy_samples, hard_samples = divide(samples, [easy, 1 - easy], turn + index)
        quotas += [Quota(label, easy_samples, "easy"), Quota(label, hard_samples, "hard")]
    return [quota for quota in quotas if quota.samples]


CONTRASTED_WITH = 2
"""The neighbours that a label's texts are written against, in equal parts."""


def contrasted_quotas(
    quotas: Sequence[Quota], neighbours: Mapping[str, Sequence[str]], share: float, turn: int
) -> list[Quota]:
    """The same numbers of texts for every label and difficulty, a `share` of each quota written against the label's nearest
    neighbours. `turn` as in `divide`: where a part is too small for all of them, it is another one's in each round."""
    divided = []
    for quota in quotas:
        nearest = list(neighbours.get(quota.target, ()))[:CONTRASTED_WITH] if share else []
        plain, contrasted = divide(quota.samples, [1 - share, share]) if nearest else (quota.samples, 0)
        parts = divide(contrasted, [1.0] * len(nearest), turn)
        divided.append(replace(quota, samples=plain))
        divided += [replace(quota, samples=part, contrast=label) for label, part in zip(nearest, parts, strict=True)]
    return [quota for quota in divided if quota.samples]


MAX_REFILLS = 4
HOPELESS = 0.1
"""A quota of which a smaller share is kept is given up, once `ENOUGH` of its texts were asked for."""
ENOUGH = 10


def kind_of(quota: Quota) -> Quota:
    """What a quota asks for, whatever its number of texts."""
    return replace(quota, samples=0)


def refill(waves: Sequence[Sequence[Quota]], kept: Mapping[Quota, int], at_most: float) -> list[Quota]:
    """The quotas of the next wave: what the first wave wanted and the filters did not keep. Empty when the round is full, when
    `at_most` times the first wave's texts were asked for, or when nothing that is asked for is kept.

    `waves` are the quotas asked for so far, `kept` the texts kept of each kind of quota (see `kind_of`). Each quota is asked for
    as many texts as its share of kept texts lets one expect to be needed. What a quota that is given up lacks goes to the others.
    A quota with a real text is asked for once.
    """
    wanted, asked = Counter[Quota](), Counter[Quota]()
    for number, quotas in enumerate(waves):
        for quota in quotas:
            asked[kind_of(quota)] += quota.samples
            wanted[kind_of(quota)] += 0 if number else quota.samples
    missing = wanted.total() - sum(kept.values())
    allowance = int(at_most * wanted.total()) - asked.total()
    if missing <= 0 or allowance <= 0 or len(waves) > MAX_REFILLS:
        return []
    rates = {kind: (kept.get(kind, 0) + 1) / (asked[kind] + 2) for kind in wanted if not kind.text}
    kinds = [kind for kind, rate in rates.items() if asked[kind] < ENOUGH or rate >= HOPELESS]
    lacks = [max(0, wanted[kind] - kept.get(kind, 0)) for kind in kinds]
    lacks = divide(missing, lacks) if sum(lacks) > missing else lacks
    extra = divide(missing - sum(lacks), [wanted[kind] for kind in kinds])
    needs = [ceil((lack + more) / rates[kind]) for kind, lack, more in zip(kinds, lacks, extra, strict=True)]
    if sum(needs) > allowance:
        needs = divide(allowance, needs)
    return [replace(kind, samples=need) for kind, need in zip(kinds, needs, strict=True) if need]


class RequestPlan(Sequence[GenerationRequest]):
    """The requests of a round, of at most `per_request` texts each, wave after wave and in a wave quota after quota.

    Requests of one quota share the beginning of their prompts. They follow each other, so that the engine finds it in its
    prefix cache (4 to 8 % faster, measured). A request is made when it is accessed: a round of a million texts takes as
    much memory as its quotas.
    """

    def __init__(self, waves: Sequence[Sequence[Quota]], per_request: int, seed: int, round: int) -> None:
        quotas = [quota for wave in waves for quota in wave]
        self._quotas = quotas
        self._per_request = per_request
        self._seed_path = seed, round
        self._ends = list(accumulate(-(-quota.samples // per_request) for quota in quotas))
        quotas_before = accumulate(map(len, waves))
        self.texts_written = sum(quota.samples for quota in (waves[0] if waves else ()) if not quota.text)
        """How many texts the requests of the first wave write."""
        self.wave_ends = [self._ends[count - 1] if count else 0 for count in quotas_before]
        """For each wave the index after its last request. A shard lies within one wave."""

    @property
    def written(self) -> int:
        """How many requests of the first wave write texts. Those that label a text of the pool follow them."""
        return self.wave_ends[0] - sum(bool(quota.text) for quota in self._quotas) if self.wave_ends else 0

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> GenerationRequest: ...
    @overload
    def __getitem__(self, index: slice) -> list[GenerationRequest]: ...
    def __getitem__(self, index: int | slice) -> GenerationRequest | list[GenerationRequest]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = bisect_right(self._ends, index)
        quota = self._quotas[number]
        texts_before = self._per_request * (index - (self._ends[number - 1] if number else 0))
        count = min(self._per_request, quota.samples - texts_before)
        return GenerationRequest(index, quota, count, derive_seed(*self._seed_path, "generate", index))
