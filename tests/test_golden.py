"""What the package writes is what the files in tests/golden hold: prompts, the plan, the manifest. `make golden` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest

from evokd_data.recipe import Recipe
from evokd_data.records import LabelForm, Prompt, Weakness
from evokd_data.seeds import load_splits
from evokd_data.stages.plan import plan as plan_round
from evokd_data.storage.workspace import Workspace
from evokd_data.strategies import DEFAULT_LABELLING, STRATEGIES, Brief
from evokd_data.strategies.pooling import WithPool
from evokd_data.tasks import TASKS
from evokd_data.templates import PACKAGED
from tests.support.example_tagging_task import SAMPLES, TAGGING, tagging_brief
from tests.support.example_task import TASK, brief, sample
from tests.support.finished_runs import facts_of_rounds, make_run
from tests.support.golden_files import GOLDEN, golden
from tests.support.written_drafts import RecordingTeacher, build_strategy, plan, write

TEMPLATES = sorted(f"{path.parent.name}/{path.stem}" for path in PACKAGED.glob("*/*.j2"))
SHOWN = ("difficulty", "contrast", "kind", "codes", "rewriting")
"""Variables that change what a prompt says: of each template, one prompt for each combination of them is in its file."""


def briefs() -> Iterator[tuple[str, Brief]]:
    """Rounds in which all templates are rendered, each with a word for it."""
    confused = Weakness("confused", "red", "blue", 5, 9, (sample("a red sea"),), (sample("a blue sea", "blue"),), 0.5)
    described = replace(TASK, label_descriptions={"red": "the colour of blood", "blue": "the colour of the sky"})
    classification = replace(brief(round=2, budget=40, weaknesses=(confused,)), task=described)
    yield "classification", classification
    for answer, turns in (("names", True), ("codes", False), ("codes", True)):
        asked = replace(DEFAULT_LABELLING, form=LabelForm(answer, turns, 24), scored=True)
        yield f"classification, {asked.form.name}", replace(classification, labelling=asked)
    yield "classification, a text of the pool", replace(classification, budget=1, pool=("a text of the pool",))
    tagging = replace(tagging_brief(40), round=2, weaknesses=tuple(_tagging_weaknesses()))
    described_types = replace(TAGGING, type_descriptions={"place": "a town or a country", "person": "a name"})
    yield "ner", replace(tagging, task=described_types)
    for labelling in ("json", "enum"):
        yield f"ner, labelling {labelling}", replace(tagging, task=replace(described_types, labelling=labelling))


def _tagging_weaknesses() -> Iterator[Weakness]:
    pairs = [("missed", "place", ""), ("spurious", "", "person"), ("wrong_type", "place", "person")]
    for kind, expected, got in [*pairs, ("wrong_boundary", "person", "")]:
        yield Weakness(kind, expected, got, 3, 9, tuple(SAMPLES[:2]), tuple(SAMPLES[2:]), 0.3)


def strategies(round_brief: Brief) -> Iterator[tuple[str, Any]]:
    for name in STRATEGIES:
        variants: list[dict[str, Any]] = [{}, {"separation": False}] if name == "evokd" else [{}]
        for settings in variants:
            strategy = build_strategy(name, settings)
            if strategy.accepts(round_brief.task) is None:
                shown = " ".join([name, *(f"({key}: {value})" for key, value in settings.items())])
                yield shown, WithPool(strategy, True) if round_brief.pool else strategy


@lru_cache
def rendered_prompts() -> Mapping[str, Mapping[str, Mapping[str, list[str]]]]:
    """Template -> text of a prompt -> round -> the strategies that asked it there."""
    texts: dict[str, dict[str, dict[str, list[str]]]] = {template: {} for template in TEMPLATES}
    for situation, round_brief in briefs():
        for shown, strategy in strategies(round_brief):
            teacher = RecordingTeacher()
            write(strategy, round_brief, teacher, plan(strategy, round_brief))
            seen: set[tuple[str, ...]] = set()
            for prompt in sorted(teacher, key=lambda prompt: prompt.key):
                has_names = str(bool(prompt.variables.get("names")))
                kind = (prompt.template, has_names, *(str(prompt.variables.get(name)) for name in SHOWN))
                if kind not in seen:
                    seen.add(kind)
                    by_text = texts[f"{round_brief.task.name}/{prompt.template}"]
                    by_text.setdefault(as_text(prompt), {}).setdefault(situation, []).append(shown)
    return texts


def as_text(prompt: Prompt) -> str:
    return "".join(f"[{message.role}]\n{message.content}\n" for message in prompt.messages)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_is_the_golden_one(template: str) -> None:
    texts = rendered_prompts()[template]
    assert texts, f"no strategy renders {template}.j2"
    page = "\n".join(
        "".join(f"=== {situation}: {', '.join(dict.fromkeys(names))}\n" for situation, names in by_situation.items())
        + text
        for text, by_situation in texts.items()
    )
    assert page == golden(f"prompts/{template}.txt", page), "if this is meant: make golden"


def test_every_golden_prompt_has_its_template() -> None:
    assert {path.parent.name for path in GOLDEN.glob("prompts/*/*.txt")} == set(TASKS)
    files = sorted(
        path.relative_to(GOLDEN / "prompts").with_suffix("").as_posix() for path in GOLDEN.glob("prompts/*/*")
    )
    assert files == TEMPLATES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Workspace]:
    """Three rounds made by hand, so that no student's arithmetic decides what is planned."""
    return make_run(tmp_path_factory.mktemp("golden"))


def test_the_plan_is_the_golden_one(run: tuple[Recipe, Workspace]) -> None:
    recipe, workspace = run
    path = workspace.round(2).plan
    path.unlink()
    plan_round(recipe, workspace, 2, load_splits(recipe))
    written = path.read_text(encoding="utf-8")
    assert written == golden("plan.json", written), "if this is meant: make golden"


def test_the_manifest_is_the_golden_one(run: tuple[Recipe, Workspace]) -> None:
    recipe, workspace = run
    manifest = facts_of_rounds(recipe, workspace, 3)[2].manifest
    written = json.dumps(settled(manifest), indent=2) + "\n"
    assert written == golden("manifest.json", written), "if this is meant: make golden"


def settled(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with a word for what differs from one machine, version of a library or prompt to the next."""
    identity = {
        **manifest["identity"],
        "parent": "a digest",
        "prompts": dict.fromkeys(manifest["identity"]["prompts"], "a digest"),
    }
    environment = {
        **manifest["environment"],
        "versions": sorted(set(manifest["environment"]["versions"]) & {"python", "evokd-data"}),
        "hardware": sorted(manifest["environment"]["hardware"]),
        "finished": "a time",
    }
    files = {
        path: {key: value if key == "rows" else f"a {key}" for key, value in entry.items()}
        for path, entry in manifest["files"].items()
    }
    previous = {key: value if key == "round" else f"a {key}" for key, value in manifest["previous"].items()}
    shards = [{**shard, "sha256": "a sha256"} for shard in manifest["shards"]]
    settled_parts = {
        "identity": identity,
        "shards": shards,
        "round_files": dict.fromkeys(manifest["round_files"], "a sha256"),
        "environment": environment,
        "files": files,
        "previous": previous,
    }
    return {**manifest, **settled_parts, "digest": "a digest", "seal": "a digest"}
