"""The report in a browser: it draws without an error, at two widths and in two colours, and its search and filters work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from evokd_data.atomic_files import write_json
from evokd_data.reporting.html_report import report
from evokd_data.stages.correct import begin_corrected_round, write_corrected_round
from evokd_data.storage.shards import read_table
from evokd_data.storage.workspace import Workspace
from tests.support.chromium_page import CHROMIUM, ChromiumPage, chromium_page
from tests.support.example_tagging_task import places
from tests.support.example_task import RECIPE, SEEDS, TEST, play, quick, write_rows
from tests.support.finished_runs import make_run
from tests.support.hostile_runs import hostile_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH; on Debian: apt install chromium"),
]

WINDOWS = [(1280, 900), (500, 900)]
COUNT = "document.querySelector('#row-count').textContent"
TEXTS = "[...document.querySelectorAll('#rows .row .foreign')].map(node => node.textContent)"

Look = Callable[[ChromiumPage], Awaitable[None]]


def browse(file: Path, folder: Path, look: Look, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
    """Open the file in a new browser, look at it, and require that nothing went wrong and nothing was asked for elsewhere."""

    async def visit() -> None:
        async with chromium_page(folder / "profile") as page:
            await page.open(file, width, height, dark=dark)
            await look(page)
            await page.settle()
            assert page.errors == []
            assert set(page.requests) == {file.as_uri()}

    asyncio.run(visit())


def colours(folder: Path) -> Workspace:
    """Two rounds of a classification task, and the exam before them, with the scripted teacher."""
    for name, rows in (("seeds", SEEDS), ("test", TEST)):
        write_rows(folder / f"{name}.jsonl", rows)
    path = folder / "recipe.yaml"
    path.write_text(
        RECIPE.replace("teacher_trust: off", "teacher_trust: force").replace("per_class: 1", "per_class: 3")
    )
    return play(quick(path), folder / "runs", 3)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind: a task with labels, one with spans, hostile texts, and several runs with the arms of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("labels", "spans", "made"):
        (folder / name).mkdir()
    runs = {
        "labels": colours(folder / "labels"),
        "spans": play(places(folder / "spans", "teacher_trust=force"), folder / "spans" / "runs", 3),
        "made": make_run(folder / "made", 4)[1],
        "hostile": hostile_run(folder / "hostile"),
        "many": make_run(folder / "many", 2, rows=60, labels=tuple(f"class {number}" for number in range(30)))[1],
    }
    files = {name: report([workspace], folder / f"{name}.html") for name, workspace in runs.items()}
    arm = {"strategy": "evokd", "macro_f1": [0.8, 0.6], "kept": [18, 18], "tokens": [900, 700],
           "score_by_round": [[0.4, 0.8], [0.4, 0.6]]}  # fmt: skip
    results = {"metric": "macro_f1", "budget": {"rounds": 1, "samples_per_round": 12}, "test": {"n": 60}, "arms": {"evokd": arm},
               "differences": []}  # fmt: skip
    write_json(folder / "results.json", results)
    files["several"] = report([runs["made"], runs["hostile"]], folder / "several.html", folder / "results.json")
    return files


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), WINDOWS)
@pytest.mark.parametrize("name", ["labels", "spans", "hostile", "several"])
def test_a_page_draws_itself_and_fits(
    pages: dict[str, Path], name: str, width: int, height: int, dark: bool, tmp_path: Path
) -> None:
    async def look(page: ChromiumPage) -> None:
        assert await page.run("document.documentElement.scrollWidth") == width
        sections = await page.run("[...document.querySelectorAll('main > section')].map(section => section.id)")
        assert sections == [
            *(["runs"] if name == "several" else []), "outcome", "curve", *(["arms"] if name == "several" else []), "teacher",
            "student", "weaknesses", "rejections", "costs", "samples", "lineage", "words",
        ]  # fmt: skip
        background = await page.run("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
        assert await page.run("document.querySelectorAll('#curve .uplot canvas').length") == 1
        painted = (
            "(canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size)"
            "(document.querySelector('#curve canvas'))"
        )
        assert await page.run(painted) > 20
        assert await page.run("document.querySelectorAll('#rows > li').length") > 8

    browse(pages[name], tmp_path, look, width, height, dark=dark)


@pytest.mark.parametrize(("width", "height"), WINDOWS)
def test_search_and_filters_change_the_rows(pages: dict[str, Path], width: int, height: int, tmp_path: Path) -> None:
    async def look(page: ChromiumPage) -> None:
        assert await page.run(COUNT) == "1 to 48 of 48 rows"
        await search(page, "TEXT 7 on")
        assert await page.run(TEXTS) == [f"round {index} text 7 on weather" for index in (1, 2, 3)]
        await choose(page, "round", "2")
        assert await page.run(TEXTS) == ["round 2 text 7 on weather"]
        await search(page, "nothing like it")
        assert await page.run(COUNT) == "No row matches."
        await search(page, "")
        assert await page.run(COUNT) == "1 to 14 of 14 rows"
        await choose(page, "fate", "rejected")
        assert await page.run(COUNT) == "1 to 2 of 2 rows"
        await choose(page, "fate", "kept")
        await choose(page, "label", "1")
        assert await page.run(TEXTS) == [f"round 2 text {number} on weather" for number in (1, 4, 7, 10)]
        await choose(page, "difficulty", "1")
        assert await page.run(TEXTS) == ["round 2 text 1 on weather", "round 2 text 7 on weather"]
        await choose(page, "guess", "right")
        assert await page.run(COUNT) == "No row matches."

    browse(pages["made"], tmp_path, look, width, height)


def test_a_row_opens_on_its_prompt_and_answer(pages: dict[str, Path], tmp_path: Path) -> None:
    async def look(page: ChromiumPage) -> None:
        await choose(page, "round", "2")
        await choose(page, "fate", "kept")
        await page.run("document.querySelector('#rows .row').click()")
        opened = await page.run("document.querySelector('#rows .more').innerText")
        assert "asked for" in opened and "label" in opened and "answer" in opened
        await page.run("document.querySelector('#rows .more details').open = true")
        assert "colour" in await page.run("document.querySelector('#rows .more .message').innerText")
        await page.run("document.querySelector('#rows .row').click()")
        assert await page.run("document.querySelectorAll('#rows .more').length") == 0

    browse(pages["labels"], tmp_path, look)


def test_a_row_that_a_person_relabelled_says_so(tmp_path: Path) -> None:
    recipe, workspace = make_run(tmp_path, 2)
    row = read_table(workspace.round(1).shard_files()[0]).to_pylist()[1]
    relabelled = {
        "round": 1,
        "id": row["id"],
        "action": "relabel",
        "from": {"label": "weather"},
        "to": {"label": "books"},
    }
    begin_corrected_round(workspace, 2, [{**relabelled, "becomes": None, "rule": None}], 1)
    write_corrected_round(recipe, workspace, 2)

    async def look(page: ChromiumPage) -> None:
        metas = "[...document.querySelectorAll('#rows .meta')].map(each => [...each.children].map(part => part.textContent))"
        person = ["books", "asked for weather", "round 2", "relabelled by a person", "hard"]
        assert [parts for parts in await page.run(metas) if "relabelled by a person" in parts] == [person]
        await choose(page, "round", "2")
        assert await page.run(TEXTS) == ["round 1 text 1 on weather"]
        await page.run("document.querySelector('#rows .row').click()")
        opened = await page.run("document.querySelector('#rows .more').innerText")
        assert "A person gave this label to a row of an earlier round: no teacher was asked." in opened
        rounds = "[...document.querySelectorAll('#filter-round option')].map(option => option.textContent)"
        assert await page.run(rounds) == ["any round", "seeds (round 0)", "round 1", "round 2 (corrections)"]

    browse(report([workspace], tmp_path / "report.html"), tmp_path, look)


def test_spans_are_marked_in_the_text(pages: dict[str, Path], tmp_path: Path) -> None:
    async def look(page: ChromiumPage) -> None:
        await search(page, "ada went by train")
        assert await page.run("[...document.querySelectorAll('#rows mark')].map(mark => mark.textContent)") == [
            "Adaperson", "Osloplace",
        ]  # fmt: skip

    browse(pages["spans"], tmp_path, look)


def test_a_round_of_the_confusion_matrix_and_a_run_can_be_chosen(pages: dict[str, Path], tmp_path: Path) -> None:
    async def look(page: ChromiumPage) -> None:
        first_cell = "document.querySelector('#confusion tbody td').textContent"
        assert await page.run(first_cell) == "20"
        await page.run(change("#confusion-round", "0"))
        assert await page.run(first_cell) == "8"
        assert await page.run("document.querySelector('h1').textContent") == "intents"
        await page.run(change("#run-choice", "1"))
        assert await page.run(first_cell) == "12"
        await page.settle()
        assert await page.run("document.querySelectorAll('#curve canvas').length") == 1

    browse(pages["several"], tmp_path, look)


def test_of_many_classes_the_most_confused_are_shown_and_the_page_says_so(
    pages: dict[str, Path], tmp_path: Path
) -> None:
    async def look(page: ChromiumPage) -> None:
        assert await page.run("document.querySelectorAll('#confusion tbody tr').length") == 20
        assert (await page.run("document.querySelector('#confusion .note').textContent")).startswith("20 of 30 classes")
        assert await page.run("[...document.querySelectorAll('#student summary')].map(each => each.textContent)") == [
            "F1 of each class on the test set: all 30"
        ]
        assert await page.run("document.documentElement.scrollWidth") == 500

    browse(pages["many"], tmp_path, look, 500)


def test_hostile_texts_do_nothing_and_are_read_as_they_are(pages: dict[str, Path], tmp_path: Path) -> None:
    async def look(page: ChromiumPage) -> None:
        await page.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        await page.run("document.querySelectorAll('#rows .row').forEach(each => each.click())")
        await page.settle()
        assert await page.run("typeof window.owned") == "undefined"
        assert await page.run("document.querySelectorAll('img, main script, iframe, [onclick], [onload]').length") == 0
        texts = await page.run(TEXTS)
        assert "</script><img src=x onerror=\"window.owned='img'\">" in texts
        assert "\\u202ereversed\\u2066 and isolated" in texts

    browse(pages["hostile"], tmp_path, look)


def test_the_policy_lets_no_script_in_and_no_request_out(pages: dict[str, Path], tmp_path: Path) -> None:
    async def look(page: ChromiumPage) -> None:
        refused = await page.run(
            """new Promise(done => {
                const refused = [];
                addEventListener('securitypolicyviolation', event => {
                    refused.push(event.effectiveDirective);
                    if (refused.length === 3) done(refused.sort());
                });
                fetch('data:text/plain,x').catch(() => {});
                document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.owned = 1'}));
                document.body.append(Object.assign(document.createElement('img'), {src: 'data:image/png;base64,'}));
            })"""
        )
        assert refused == ["connect-src", "img-src", "script-src-elem"]
        assert await page.run("typeof window.owned") == "undefined"
        page.errors.clear()  # Chromium reports what it refused as errors
        page.requests[:] = [address for address in page.requests if not address.startswith("data:")]

    browse(pages["made"], tmp_path, look)


def test_paper_is_light_and_shows_what_is_folded_away(pages: dict[str, Path], tmp_path: Path) -> None:
    async def look(page: ChromiumPage) -> None:
        folded = "document.querySelectorAll('main > section:not(#samples) details:not([open])').length"
        before = await page.run(folded)
        assert before >= 2
        await page.run("dispatchEvent(new Event('beforeprint'))")
        assert await page.run(folded) == 0
        assert await page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        await page.run("dispatchEvent(new Event('afterprint'))")
        assert await page.run(folded) == before

    browse(pages["labels"], tmp_path, look, dark=True)


def change(selector: str, value: str) -> str:
    """A script that chooses an option as a user does."""
    return (
        f"(select => {{ select.value = {value!r}; select.dispatchEvent(new Event('change')); }})"
        f"(document.querySelector({selector!r}))"
    )


async def choose(page: ChromiumPage, name: str, value: str) -> None:
    await page.run(change(f"#filter-{name}", value))


async def search(page: ChromiumPage, words: str) -> None:
    """Type into the search field, and wait until the rows follow."""
    await page.run(
        f"(field => {{ field.value = {words!r}; field.dispatchEvent(new Event('input')); }})(document.querySelector('#search'))"
    )
    await page.settle()
