"""The counter of bench/labellers.py: it must see what is invented, in every form of answer, whole or cut."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from evokd_data.records import Completion
from evokd_data.tasks.ner import NER
from tests.support import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from labellers import Count, Row, ratios, raw_spans

TASK = NER(types=("city", "party size"))
TEXT = "book in New [York for two"


@pytest.mark.parametrize(
    ("answer", "spans"),
    [
        ("book in [city: New \\[York] for [party size: two]", ["New [York", "two"]),
        ("book in [city: New \\[Yo", ["New [Yo"]),
        ('{"entities":[{"text":"New [York","type":"city"},{"text":"two","type":"party size"}]}', ["New [York", "two"]),
        ('{"entities":[{"text":"a \\"b\\"","type":"city"},{"text":"tw', ['a "b"']),
        ('{"entities":[]}', []),
        ("book in New \\[York for two", []),
    ],
)
def test_the_spans_of_a_raw_answer(answer, spans):
    assert raw_spans(answer) == spans


def test_what_is_not_in_the_text_is_invented_and_what_cannot_be_read_is_counted():
    count, task = Count(wall_s=[2.0], tokens=[30]), replace(TASK, labelling="json")
    gold = task.read_label('{"entities":[{"text":"two","type":"party size"}]}', TEXT)
    for answer in (
        '{"entities":[{"text":"two","type":"party size"}]}',
        '{"entities":[{"text":"Paris","type":"city"},{"text":"two","type":"party size"}]}',
        '{"entities":[{"text":"two","ty',
    ):
        count.add(task, Row(TEXT, "own_test", gold), Completion(answer, "stop", 1, 10))
    figures = count.figures()
    assert (figures["spans"], figures["invented_spans"]) == (4, 1)
    assert figures["unusable_by_reason"] == {"span_not_in_text": 1, "unreadable": 1}
    assert figures["micro_f1"] == {"own_test": 0.5}  # 1 right of 1 predicted, 3 expected
    assert ratios(count, Count(wall_s=[1.0], tokens=[60])) == {
        "wall": 2.0, "wall_min": 2.0, "wall_max": 2.0, "output_tokens": 0.5
    }  # fmt: skip


def test_a_text_without_gold_counts_for_everything_but_f1():
    count = Count()
    count.add(TASK, Row(TEXT, "generated"), Completion("book in [city: New \\[York] for two", "stop", 1, 10))
    assert (count.figures()["spans"], count.figures()["micro_f1"]) == (1, {})
