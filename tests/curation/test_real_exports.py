"""Files that annotation tools exported, a few rows of each: the versions are in their names. What a person did is beside them here.

Samples were exported by `evokd-data review --export`, imported into the tool, annotated on its page or through its API, and exported.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evokd_data.curation.reviewed_run import ReviewedRun
from evokd_data.curation.tool_files import Exported, Imported, export_samples, import_decisions
from evokd_data.errors import DataError
from evokd_data.records import Span
from evokd_data.storage.corrections import CorrectionLog
from evokd_data.storage.workspace import Workspace
from tests.support.finished_runs import make_run
from tests.support.tagging_runs import make_tagging_run

EXPORTS = Path(__file__).parent / "exports"


def marked(text: str, *marks: tuple[str, str]) -> tuple[str, tuple[Span, ...]]:
    """A text, and spans for words of it in their order."""
    spans: list[Span] = []
    for surface, type_ in marks:
        start = text.index(surface, spans[-1].end if spans else 0)
        spans.append(Span(start, start + len(surface), type_, surface))
    return text, tuple(spans)


TEXTS = dict(
    [
        marked("😀 EU rejects German call", ("EU", "ORG")),
        marked('He said "NATO met in Paris", didn\'t he?', ("NATO", "ORG"), ("Paris", "LOC")),
        marked(
            "First line with Berlin\nsecond line 👩‍🚀 with UN\r\nthird: Oslo",
            ("Berlin", "LOC"), ("UN", "ORG"), ("Oslo", "LOC"),
        ),
        marked("زار الوفد الأمم المتحدة في القاهرة أمس", ("الأمم المتحدة", "ORG"), ("القاهرة", "LOC")),
        marked("  leading blanks before Rome and NATO ", ("Rome", "LOC"), ("NATO", "ORG")),
        marked("🇩🇪🇫🇷 Café in Zürich: cafe\u0301 of the EU", ("Zürich", "LOC"), ("EU", "ORG")),
        marked("<b>Paris</b> &amp; <script>alert('x')</script> Rome {{ 1 }}", ("Rome", "LOC")),
        marked("tab\there, U+2028\u2028there, Lima\\n no line", ("Lima", "LOC")),
        marked("Nothing is here to mark"),
        marked("Madrid is a clean one 😀😀 Tokyo", ("Madrid", "LOC"), ("Tokyo", "LOC")),
        marked("To be deleted: Cairo", ("Cairo", "LOC")),
        marked("To be skipped: Lagos", ("Lagos", "LOC")),
        marked("Left alone: Quito", ("Quito", "LOC")),
        marked("東京の国連 NATO で", ("NATO", "ORG")),
    ]
)  # fmt: skip
EU, QUOTES, LINES, ARABIC, BLANKS, FLAGS, HTML, SEPARATOR, NOTHING, MADRID, DELETED, SKIPPED, _, JAPANESE = TEXTS


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tagging_run(tmp_path_factory.mktemp("tagging"), TEXTS).root


@pytest.fixture
def review(run_folder: Path, tmp_path: Path) -> ReviewedRun:
    """A copy of the run: its corrections are the test's own."""
    workspace = Workspace(Path(shutil.copytree(run_folder, tmp_path / "places")))
    return ReviewedRun(workspace, CorrectionLog(workspace.root))


def decided(review: ReviewedRun) -> dict[str, object]:
    """Text -> "accept", "reject", or the label or the marked words that it has been given."""
    result: dict[str, object] = {}
    for correction in ReviewedRun(review.workspace, CorrectionLog(review.workspace.root)).corrections():
        target = correction.target
        given = target if isinstance(target, str) else [(span.surface, span.type) for span in target]
        action = correction.decision.action
        result[correction.sample.text] = given if action == "relabel" else action
    return result


def test_doccano_spans(review: ReviewedRun, tmp_path: Path) -> None:
    """`Madrid`: "one " was marked with the mouse, and with the blank behind it."""
    export_samples(review, tmp_path / "samples.jsonl", "doccano")
    file = EXPORTS / "doccano-1.8.4-spans.jsonl"
    assert import_decisions(review, file, None, "reject") == Imported(0, 8, 1, 0, 5, 0)
    assert decided(review) == {
        EU: [("EU", "ORG"), ("German", "LOC")],
        LINES: [("Berlin", "LOC"), ("UN", "LOC"), ("Oslo", "LOC")],
        ARABIC: [("الوفد", "ORG"), ("الأمم المتحدة", "ORG"), ("القاهرة", "LOC")],
        BLANKS: [("NATO", "ORG")],
        HTML: [],
        NOTHING: [("Nothing", "ORG")],
        MADRID: [("Madrid", "LOC"), ("clean", "ORG"), ("one", "LOC"), ("Tokyo", "LOC")],
        JAPANESE: [("東京の国連", "LOC"), ("NATO", "ORG")],
        DELETED: "reject",
    }


def test_label_studio_spans(review: ReviewedRun) -> None:
    """Marked with the mouse: a span over a line break, and one with the blank behind it."""
    file = EXPORTS / "label-studio-1.23.2-spans.json"
    assert import_decisions(review, file, None, "leave") == Imported(1, 4, 1, 0, 0, 0)
    assert decided(review) == {
        EU: [("EU", "ORG"), ("German", "LOC")],
        QUOTES: [("He said", "LOC"), ("NATO", "ORG"), ("Paris", "LOC")],
        LINES: [("Berlin\nsecond", "LOC"), ("UN", "ORG"), ("Oslo", "LOC")],
        FLAGS: [("Zürich", "LOC"), ("of the", "LOC"), ("EU", "ORG")],
        ARABIC: "accept",
        SKIPPED: "reject",
    }


def test_argilla_spans(review: ReviewedRun) -> None:
    """The Arabic text was saved as a draft; what was discarded has the spans that were suggested."""
    assert import_decisions(review, EXPORTS / "argilla-2.8.0-spans.json", None, "leave") == Imported(2, 2, 1, 0, 2, 0)
    assert decided(review) == {
        EU: [("EU", "ORG"), ("German", "LOC")],
        BLANKS: [("blanks", "LOC"), ("Rome", "LOC"), ("NATO", "ORG")],
        QUOTES: "accept",
        NOTHING: "accept",
        DELETED: "reject",
    }


def test_an_argilla_file_that_hides_what_was_discarded_is_refused(review: ReviewedRun) -> None:
    with pytest.raises(DataError, match=r"row 2: its response is a draft or discarded.*to_list\(flatten=True\)"):
        import_decisions(review, EXPORTS / "argilla-2.8.0-to-json.json", None, "leave")
    assert not review.log.path.exists()


def test_argilla_gets_no_sample_whose_spans_it_refuses_or_shows_elsewhere(review: ReviewedRun, tmp_path: Path) -> None:
    """Spans behind emoji at the text's end (refused), carriage returns and HTML (shown elsewhere)."""
    file = tmp_path / "samples.json"
    assert export_samples(review, file, "argilla") == Exported(10, 4)
    left_out = TEXTS.keys() - {row["fields"]["text"] for row in json.loads(file.read_text(encoding="utf-8"))}
    assert left_out == {LINES, FLAGS, HTML, MADRID}


@pytest.mark.parametrize(
    ("file", "outcome"),
    [
        ("doccano-1.8.4-labels.jsonl", Imported(0, 1, 0, 0, 4, 0)),
        ("label-studio-1.23.2-labels.json", Imported(1, 2, 1, 0, 0, 0)),
        ("label-studio-1.23.2-labels-min.json", Imported(1, 2, 0, 0, 1, 0)),
    ],
)
def test_labels(tmp_path: Path, file: str, outcome: Imported) -> None:
    workspace = make_run(tmp_path)[1]
    review = ReviewedRun(workspace, CorrectionLog(workspace.root))
    assert import_decisions(review, EXPORTS / file, None, "leave") == outcome
    assert decided(review)[review.samples[0].text] == "books"
