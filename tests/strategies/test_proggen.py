"""ProgGen on a small task of places and people: names first, texts around them second, labels third."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from evokd_data.generation.filters import REASONS
from evokd_data.loop.rounds import generate_next
from evokd_data.progress import Progress
from evokd_data.records import Completion, Draft, Prompt, Span
from evokd_data.storage.journal import read_answers, segments
from evokd_data.storage.shards import ShardedSamples
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.strategies import Brief
from evokd_data.strategies.proggen import Name, ProgGen, draw_names, place_names
from evokd_data.tasks.ner import NER
from tests.support.example_tagging_task import SAMPLES, TAGGING, measured_places, tagging_brief
from tests.support.example_task import TASK, play
from tests.support.written_drafts import RecordingTeacher, plan, write

NAMES = {"place": ["Quito", "  El  Paso ", "quito", "Oslo", 7, "?!", "x" * 90], "person": ["Ann Lee", "Li Wei", "Bo"]}


class Teacher(RecordingTeacher):
    """Lists NAMES, writes one sentence around the names it is given, and marks them. It leaves out names in `forgets`."""

    def __init__(self, forgets: tuple[str, ...] = (), misses: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.forgets, self.misses = forgets, misses

    async def __call__(self, prompt: Prompt) -> Completion:
        self.append(prompt)
        variables = prompt.variables
        if prompt.template == "names":
            return Completion(orjson.dumps({"names": NAMES[variables["target"]]}).decode(), "stop", 1, 1)
        if prompt.template == "contexts":
            names = [name["text"] for name in variables["names"] if name["text"] not in self.forgets]
            return Completion(f"Text {prompt.seed % 9973} on {' and '.join(names) or 'rain'}", "stop", 1, 1)
        text = variables["text"]
        for type_, names in {"place": ("Quito", "El Paso"), "person": ("Ann Lee", "Bo")}.items():
            for name in set(names) - set(self.misses):
                text = re.sub(rf"\b{name}\b", f"[{type_}: {name}]", text)
        return Completion(text, "stop", 1, 1)


def drafts_of(strategy: ProgGen, teacher: Teacher, budget: int = 36, **labelling: object) -> list[Draft]:
    round_brief = strict(tagging_brief(budget), **labelling)
    written = write(strategy, round_brief, teacher, plan(strategy, round_brief))
    return [draft for index in sorted(written) for draft in written[index]]


def strict(round_brief: Brief, **labelling: object) -> Brief:
    return replace(round_brief, labelling=replace(round_brief.labelling, **{"rule": "reject", **labelling}))  # type: ignore[arg-type]


def test_it_is_for_texts_with_spans():
    assert "attrprompt" in (ProgGen().accepts(TASK) or "")
    assert ProgGen().accepts(TAGGING) is None


def test_names_are_listed_once_a_type_ten_a_call_and_each_call_knows_the_earlier_ones():
    teacher = Teacher()
    drafts_of(ProgGen(names=25, attributes={"region": ("Asia", "Africa")}), teacher)
    calls = {prompt.key: prompt for prompt in teacher if prompt.template == "names"}
    assert sorted(calls) == [f"names/{type_}/{call:06d}" for type_ in ("person", "place") for call in range(3)]
    assert [calls[f"names/place/{call:06d}"].variables["count"] for call in range(3)] == [10, 10, 10]
    first, second = (calls[f"names/place/{call:06d}"] for call in range(2))
    assert first.variables["known"] == [] and second.variables["known"] == ["Quito", "El Paso"]
    shown = first.messages[-1].content
    assert re.search(r"Only such with region: (Asia|Africa)\.", shown)
    assert all(name in shown for name in ("Oslo", "New York", "Rome")), "the seeds' names show the form"
    assert "Not these: Quito; El Paso" in second.messages[-1].content


def test_names_are_new_and_could_be_spans():
    teacher = Teacher()
    drafts_of(ProgGen(without=0), teacher, 60)
    given = {(name["type"], name["text"]) for p in teacher if p.template == "contexts" for name in p.variables["names"]}
    # Not the seeds' Oslo and Li Wei, no name twice, none without letters, none far longer than a seed's.
    assert given == {("place", "Quito"), ("place", "El Paso"), ("person", "Ann Lee"), ("person", "Bo")}


def test_a_teacher_that_lists_nothing_gets_the_names_of_the_seeds():
    class Mute(Teacher):
        async def __call__(self, prompt: Prompt) -> Completion:
            answer = await super().__call__(prompt)
            return replace(answer, text="I know none") if prompt.template == "names" else answer

    teacher = Mute()
    drafts_of(ProgGen(), teacher)
    given = {name["text"] for p in teacher if p.template == "contexts" for name in p.variables["names"]}
    assert given and given <= {span.surface for seed in SAMPLES for span in seed.target}


def test_texts_hold_the_types_of_a_seed_and_a_share_holds_none():
    teacher = Teacher()
    drafts_of(ProgGen(without=0.25), teacher, 400)
    patterns = Counter(
        tuple(sorted(name["type"] for name in p.variables["names"])) for p in teacher if p.template == "contexts"
    )
    assert set(patterns) == {(), ("person", "place")}, "every seed holds a person and places"
    assert 60 < patterns[()] < 140
    alone = Teacher()
    drafts_of(ProgGen(without=0, names_per_text=1), alone, 20)
    assert {len(p.variables["names"]) for p in alone if p.template == "contexts"} == {1}


def test_seeds_are_shown_as_turns_with_their_names():
    teacher = Teacher()
    drafts_of(ProgGen(without=0), teacher, 4)
    prompt = next(prompt for prompt in teacher if prompt.template == "contexts")
    roles = [message.role for message in prompt.messages]
    assert (
        roles[0] == "system" and roles[-1] == "user" and roles[1:-1] == ["user", "assistant"] * ((len(roles) - 2) // 2)
    )
    by_text = {seed.text: seed for seed in SAMPLES}
    for asked, answered in pairwise(prompt.messages[1:-1]):
        if answered.role == "assistant":
            names = dict.fromkeys(f"{span.surface} ({span.type})" for span in by_text[answered.content].target)
            assert asked.content == "; ".join(names)
    given = prompt.variables["names"]
    assert prompt.messages[-1].content == "; ".join(f"{name['text']} ({name['type']})" for name in given)


def test_a_text_is_kept_when_all_its_names_are_labelled_as_they_were_given():
    teacher = Teacher()
    drafts = drafts_of(ProgGen(without=0.2), teacher, 60)
    assert {draft.problem for draft in drafts} == {""}
    assert {len(draft.target) for draft in drafts} == {0, 2}
    assert all(not TAGGING.check(draft.text, draft.target) for draft in drafts)


def test_a_text_that_lacks_a_name_is_a_rejection_and_is_not_labelled():
    teacher = Teacher(forgets=("Quito",))
    drafts = drafts_of(ProgGen(without=0), teacher, 60)
    lacking = [draft for draft in drafts if draft.problem]
    assert 0 < len(lacking) < 60
    assert {(draft.problem, draft.detail) for draft in lacking} == {("name_not_in_text", "'Quito' as place")}
    assert sum(prompt.template == "label" for prompt in teacher) == 60 - len(lacking)


@pytest.mark.parametrize("rule", ["reject", "relabel", "intended"])
def test_what_becomes_of_a_name_that_the_label_lacks_follows_from_the_rule(rule):
    drafts = drafts_of(ProgGen(without=0), Teacher(misses=("Bo",)), 60, rule=rule)
    with_bo = [draft for draft in drafts if draft.text.endswith(" Bo") or " Bo " in draft.text]
    assert 0 < len(with_bo) < 60
    for draft in with_bo:
        if rule == "reject":
            assert (draft.problem, draft.detail) == ("label_disagreement", "asked for 'Bo' as person")
        else:
            assert (draft.problem, "Bo" in {span.surface for span in draft.target}) == ("", rule == "intended")


def test_names_in_one_text_are_no_part_of_each_other():
    pools = {"place": ["York", "New York", "Oslo"], "person": ["york", "Ann"]}
    for seed in range(30):
        texts = [name.text for name in draw_names(["place", "place", "person"], pools, random.Random(seed))]
        assert len(set(texts)) == len(texts)
        assert not any(a != b and a.casefold() in b.casefold() for a in texts for b in texts)
    assert draw_names(["place", "place"], {"place": ["Oslo"]}, random.Random(1)) == [Name("Oslo", "place")]


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("rome, or Rome again", [Name("Rome", "place")], [(0, 4), (9, 13)]),
        ("New York and York", [Name("York", "person"), Name("New York", "place")], [(0, 8), (13, 17)]),
        ("Romeo went", [Name("Rome", "place")], "'Rome' as place"),
        ("nothing", [Name("Rome", "place"), Name("Ann Lee", "person")], "'Ann Lee' as person, 'Rome' as place"),
        ("我爱北京天安门", [Name("北京", "place")], [(2, 4)]),
        ("nothing at all", [], []),
    ],
)
def test_names_are_placed_where_they_stand_as_whole_words(text, names, expected):
    placed = place_names(TAGGING, text, names)
    if isinstance(expected, str):
        assert placed == expected
    else:
        assert [(span.start, span.end) for span in placed] == expected
        assert all(isinstance(span, Span) and text[span.start : span.end] == span.surface for span in placed)
        assert TAGGING.check(text, placed) == ""


# Whole rounds

NOISY = ("teacher={engine: scripted, wrong_labels: 0.3, broken_answers: 0.2}", "strategy={name: proggen, names: 20}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return play(measured_places(folder, *NOISY), folder / "runs", 2)


def test_a_round_ends_in_samples_that_hold_their_names_and_rejections_with_reasons(undisturbed):
    task, folder = NER(types=("person", "place")), undisturbed.round(1)
    samples = list(ShardedSamples(task, folder.shard_files()))
    prompts = {row["key"]: row for row in read_answers(folder.journal)}
    for sample in samples:
        key = f"contexts/{sample.origin.request:06d}/{sample.origin.position:06d}"
        given = re.findall(r"(?:^|; )(.+?) \((\w+)\)", prompts[key]["messages"][-1]["content"])
        assert {(name, type_) for name, type_ in given} <= {(span.surface, span.type) for span in sample.target}
        assert given or not sample.target
    totals = read_json(folder.generated)
    assert samples and set(totals["rejected"]) <= set(REASONS)
    assert totals["rejected"]["label_disagreement"] > 0
    assert sum(totals["rejected"].values()) + totals["kept"] == totals["asked"]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.8, 0.99])
def test_a_round_that_was_killed_anywhere_goes_on_to_the_same_rows(undisturbed, tmp_path, part):
    """As kill -9 leaves it: the journal ends in the middle of a line, and nothing that follows from it is there."""
    shutil.copytree(undisturbed.root.parent, tmp_path / "runs")
    recipe = measured_places(tmp_path, *NOISY)
    run = Workspace(tmp_path / "runs" / "places")
    folder = run.round(1)
    for path in (*folder.shard_files(), *folder.rejection_files(), folder.generated, folder.plan, folder.exam):
        path.unlink(missing_ok=True)
    for path in (folder.manifest, folder.metrics, folder.probe):
        path.unlink(missing_ok=True)
    left = int(part * sum(path.stat().st_size for path in segments(folder.journal)))
    for segment in segments(folder.journal):  # of the exam, then of the texts
        size = segment.stat().st_size
        os.truncate(segment, min(size, max(0, left)))
        left -= size
    before = {row["key"] for row in read_answers(folder.journal)}
    generate_next(recipe, tmp_path / "runs", Progress())
    assert [path.read_bytes() for path in folder.shard_files()] == [
        path.read_bytes() for path in undisturbed.round(1).shard_files()
    ]
    keys = [row["key"] for row in read_answers(folder.journal)]
    assert len(keys) == len(set(keys)) > len(before), "what was answered is not asked again"
    assert sorted(keys) == sorted(row["key"] for row in read_answers(undisturbed.round(1).journal))
