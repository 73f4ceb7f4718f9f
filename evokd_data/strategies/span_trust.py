"""Which spans of a labelled text are believed. Pure functions.

A span has a probability where the engine gives log-probabilities: calibrated on the seeds it is that of being right. The least certain
fifth is asked for a second time, with the demonstrations in another order, and only spans that both answers give are kept (ProgGen,
Heng et al. 2024, arXiv 2403.11103, corrects the least certain fifth; where we differ: it asks whether a span is right, which a small
model affirms, we ask for all spans again). Where a strategy knows which spans a text was written for, they are the intended ones, and
labels agree when they hold all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from evokd_data.records import Labelling, Span
from evokd_data.strategies.trust import calibrate

Spans = tuple[Span, ...]

DOUBTED_SHARE = 0.2
"""Of the spans that the teacher marked in its exam: so many are less probable than `Labelling.doubt`."""


def calibrated(probability: float, labelling: Labelling) -> float:
    """The probability that a span is right, from that of its tokens, as the exam lets one expect."""
    return calibrate((probability, 1 - probability), labelling.prior, labelling.temperature)[0]


def doubt_of(probabilities: Sequence[float]) -> float:
    """The probability below which a fifth of these lie; 0 for none."""
    return sorted(probabilities)[int(len(probabilities) * DOUBTED_SHARE)] if probabilities else 0.0


def confirmed(
    first: Spans, sure: Sequence[float], second: Spans, second_sure: Sequence[float] | None
) -> tuple[Spans, list[float]]:
    """The spans of the first answer that the second one gives, too, each with the mean of its two probabilities."""
    again = dict(zip(second, second_sure, strict=True)) if second_sure is not None else {}
    common = [
        (span, (value + again.get(span, value)) / 2) for span, value in zip(first, sure, strict=True) if span in second
    ]
    return tuple(span for span, _ in common), [value for _, value in common]


def disagreement(intended: Spans, labelled: Spans) -> str:
    """How the labelled spans differ from those that the text was written for; "" when they hold all of them. Further spans are no
    difference, unless the text was to have none."""
    missing = [span for span in intended if span not in labelled]
    if missing:
        return f"asked for {', '.join(f'{span.surface!r} as {span.type}' for span in missing)}"
    if labelled and not intended:
        return f"asked for no span, labelled {', '.join(f'{span.surface!r} as {span.type}' for span in labelled)}"
    return ""


def with_intended(intended: Spans, labelled: Spans) -> Spans:
    """The intended spans, and of the labelled ones those beside them, in the order of the text."""
    beside = [
        span for span in labelled if all(span.end <= other.start or other.end <= span.start for other in intended)
    ]
    return tuple(sorted((*intended, *beside), key=lambda span: span.start))
