from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.generation.filters import REASONS, FilterPipeline
from evokd_data.generation.near_duplicates import PERMUTATIONS, MinHashIndex, band_count
from evokd_data.generation.text_filters import TextFilters
from evokd_data.normal_form import normal_form
from evokd_data.recipe_sections import Filters
from evokd_data.records import Draft, Origin, Rejection, Sample
from tests.support.example_task import TASK, sample

words = st.sampled_from(["red", "rose", "Rose,", "sea", "the", "!", "ß", "SS", "grass", "ocean"])
texts = st.lists(words, max_size=6).map(" ".join)
drafts = st.lists(
    st.builds(
        Draft,
        texts,
        st.sampled_from([*TASK.labels, "mauve"]),
        st.builds(Origin, st.just(1), st.integers(0, 9), st.integers(0, 4), st.just("static"), intended=st.sampled_from(TASK.labels)),
        problem=st.sampled_from(["", "", "", "truncated"]),
    ),
    max_size=12,
)  # fmt: skip


def pipeline(protected=(), earlier=(), **settings) -> FilterPipeline:
    filters = Filters(**settings)
    return FilterPipeline(filters, TASK, TextFilters(filters, protected, earlier))


def draft(text: str, target: str = "red", intended: str = "red", problem: str = "") -> Draft:
    return Draft(text, target, Origin(1, 0, 0, "static", intended=intended), problem=problem)


def reason(fate: Sample | Rejection) -> str:
    return fate.reason if isinstance(fate, Rejection) else "kept"


@pytest.mark.slow
@given(drafts, st.sampled_from(["relabel", "reject"]))
def test_every_draft_is_kept_or_rejected_for_a_known_reason_and_keeps_its_origin(some_drafts, policy):
    filters = pipeline(["the sea"], label_disagreement=policy)
    fates = [filters.apply(one_draft) for one_draft in some_drafts]
    assert [fate.origin for fate in fates] == [one_draft.origin for one_draft in some_drafts]
    assert all(isinstance(fate, Sample) or fate.reason in REASONS for fate in fates)


@pytest.mark.slow
@given(drafts)
def test_what_was_kept_is_kept_again_and_nothing_twice(some_drafts):
    first, second = pipeline(), pipeline()
    samples = [fate for fate in map(first.apply, some_drafts) if isinstance(fate, Sample)]
    fates = [second.apply(Draft(s.text, s.target, s.origin)) for s in samples]
    assert fates == samples
    assert all(isinstance(first.apply(Draft(s.text, s.target, s.origin)), Rejection) for s in samples)
    assert len({normal_form(s.text) for s in samples}) == len(samples)


@pytest.mark.slow
@given(drafts, st.integers(0, 12))
def test_accepting_finished_shards_is_as_good_as_having_filtered_them(some_drafts, cut):
    whole, first, second = pipeline(), pipeline(), pipeline()
    expected = [whole.apply(one_draft) for one_draft in some_drafts]
    for fate in map(first.apply, some_drafts[:cut]):
        if isinstance(fate, Sample):
            second.accept(fate)
    assert [second.apply(one_draft) for one_draft in some_drafts[cut:]] == expected[cut:]


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (draft("a red rose in the garden"), "kept"),
        (draft("", problem="missing"), "missing"),
        (draft("a"), "too_short"),
        (draft("a" * 4001), "too_long"),
        (draft("a violet", "violet"), "invalid_target"),
        (draft("Moss covered   the STONES!"), "test_overlap"),
        (draft("moss covered all the stones of the old wall by the mill pond"), "test_overlap"),
        (draft("a fire engine came by."), "duplicate"),
        (draft("strawberries are ripe now and sweet in every garden of ours"), "near_duplicate"),
    ],
)
def test_each_filter_gives_its_reason(candidate, expected):
    filters = pipeline(
        ["moss covered the stones", "moss covered all the stones of the old wall by the mill"],
        [sample("a fire engine came by"), sample("strawberries are ripe now and sweet in every garden of yours")],
        near_duplicates=0.8,
    )
    assert reason(filters.apply(candidate)) == expected


def test_a_label_that_a_text_was_not_asked_for_is_no_matter_of_the_filters():
    fate = pipeline().apply(draft("the sea is blue", "blue", intended="red"))
    assert isinstance(fate, Sample) and fate.target == "blue" and fate.origin.intended == "red"


def test_a_rejection_names_what_it_is_like_but_never_a_test_text():
    filters = pipeline(["cold ice on the lake"], [sample("a red rose")])
    like, overlap = filters.apply(draft("A red rose!")), filters.apply(draft("Cold ice on the lake."))
    assert sample("a red rose").id in like.detail
    assert overlap.detail == ""


def test_near_duplicates_can_be_switched_off_exact_ones_cannot():
    filters = pipeline(
        earlier=[sample("strawberries are ripe now and sweet in every garden of yours")], near_duplicates=1.0
    )
    assert reason(filters.apply(draft("strawberries are ripe now and sweet in every garden of ours"))) == "kept"
    assert reason(filters.apply(draft("strawberries are ripe now, and sweet in every garden of ours"))) == "duplicate"


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7, 0.85, 0.95])
def test_pairs_above_the_threshold_become_candidates_whatever_the_threshold(threshold):
    count = band_count(threshold)
    assert PERMUTATIONS % count == 0
    assert 1 - (1 - threshold ** (PERMUTATIONS // count)) ** count >= 0.99


def test_a_low_threshold_finds_texts_that_share_half_their_words():
    index = MinHashIndex(0.4)
    stems = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]
    pairs = [(f"{' '.join(stems[i : i + 8])}", f"{' '.join(stems[i : i + 6])} xxxxx yyyyy") for i in range(0, 100, 5)]
    for number, (text, _) in enumerate(pairs):
        index.add(text, str(number))
    matches = [index.find(variant) for _, variant in pairs]
    assert sum(match is not None and match[1] == str(number) for number, match in enumerate(matches)) >= 19


@pytest.mark.parametrize(
    ("text", "variant"), [("Straße", "STRASSE"), ("ﬁne", "fine"), ("a  b\n", "A, b!"), ("under_score", "under score")]
)
def test_texts_that_differ_in_form_alone_are_one(text, variant):
    assert normal_form(text) == normal_form(variant)


@given(st.text(max_size=40))
def test_the_normal_form_is_normal(text):
    assert normal_form(normal_form(text)) == normal_form(text)
