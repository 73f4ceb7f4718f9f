"""A student's pretrained model and its tokenizer: what is refused, what is remarked on, and words that no token stands for."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from evokd_data.errors import StudentError
from evokd_data.loop.checks import check
from evokd_data.models import Model, ModelReference, check_files
from evokd_data.recipe import load
from evokd_data.records import Origin, Sample
from evokd_data.stages import evaluate
from evokd_data.students.contrastive import Contrastive
from evokd_data.students.embeddings import embed_words
from evokd_data.students.encoding import inherit
from evokd_data.students.frozen import Frozen
from evokd_data.students.frozen_readme import frozen_readme
from evokd_data.students.pretrained import check_pretrained, remarks, share_without_token
from evokd_data.students.transformer import Transformer
from evokd_data.tasks.ner import NER
from tests.support.student_data import CLASSES, tagged, texts
from tests.support.student_training import fit
from tests.support.tiny_encoders import ARCHITECTURES, QUICK, make_base, make_tokenizer

pytestmark = pytest.mark.slow

TASK = NER(("ORG",))
INVISIBLE = {
    "soft hyphen": "\u00ad",
    "zero-width space": "\u200b",
    "zero-width non-joiner": "\u200c",
    "right-to-left mark": "\u200f",
    "byte order mark": "\ufeff",
    "private use": "\uf8ff",
    "two of them": "\u200b\u00ad",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def copy(base: Path, folder: Path, keep: str = "") -> Path:
    """The model without the files of its tokenizer, but for those named."""
    shutil.copytree(base, folder)
    for path in folder.glob("tokenizer*"):
        if path.name != keep:
            path.unlink()
    return folder


def test_a_folder_without_a_tokenizer_is_refused_before_the_run(base, tmp_path):
    folder = copy(base, tmp_path / "model")
    message = (
        f"student.model: '{folder}' holds no tokenizer \\(tokenizer.json, vocab.txt or the like\\); save it there: "
    )
    with pytest.raises(StudentError, match=message):
        check_files(ModelReference(str(folder), None), "student", StudentError, weights=True)
    with pytest.raises(StudentError, match=message):
        fit(Transformer(str(folder), **QUICK), tmp_path / "a", texts(9))


@pytest.mark.parametrize("student", [Transformer, Frozen])
def test_a_tokenizer_without_a_vocabulary_is_refused(student, base, tmp_path):
    folder = copy(base, tmp_path / "model", keep="tokenizer_config.json")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    # As older versions of transformers wrote it: the class says how to make a tokenizer of a vocab.txt that is not there.
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "BertTokenizer"}))
    message = r"student\.model: .*model holds no vocabulary of its tokenizer \(.*vocab\.txt"
    with pytest.raises(StudentError, match=message):
        fit(student(str(folder)), tmp_path / "a", texts(9))
    with pytest.raises(StudentError, match=message):
        check_pretrained(folder)


@pytest.mark.parametrize("student", [Transformer, Frozen])
@pytest.mark.parametrize(
    ("rows", "message"), [(60, "a tokenizer of 86 tokens and a model of 60"), (400, "a model of 400")]
)
def test_a_tokenizer_of_another_vocabulary_is_refused(student, rows, message, tmp_path):
    folder = make_base(tmp_path / "model", vocab_size=rows)
    message += "; save the tokenizer that the model was trained with there"
    with pytest.raises(StudentError, match=message):
        fit(student(str(folder)), tmp_path / "a", texts(9))
    with pytest.raises(StudentError, match=message):
        check_pretrained(folder)


def test_check_refuses_a_base_that_the_run_would_refuse_and_says_it_in_the_same_words(base, recipe_file, tmp_path):
    path = recipe_file()
    broken = copy(base, tmp_path / "broken", keep="tokenizer.json")
    (broken / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    for folder, words in [
        (base, None),
        (make_base(tmp_path / "other", vocab_size=60), "has a tokenizer of 86 tokens and a model of 60"),
        (broken, "cannot be used"),
    ]:
        recipe = load(path, [f"student={{kind: transformer, model: {folder}}}"])
        problems = check(recipe).problems
        assert len(problems) == (words is not None)
        if words:
            assert words in problems[0]
            with pytest.raises(StudentError) as error:
                fit(recipe.student, tmp_path / folder.name / "student", texts(9))
            assert str(error.value) == problems[0]


@pytest.mark.parametrize("student", [Transformer, Frozen])
def test_a_base_that_does_not_know_the_texts_words_is_remarked_on(student, base, tmp_path):
    quick = {**QUICK, "min_steps": 2} if student is Transformer else {}
    figures = fit(student(str(base), **quick), tmp_path / "a", texts(9))
    assert figures["unknown_tokens"] == 0
    assert remarks(figures) == []
    russian = [type(example)("яблоко " + example.text, example.target) for example in texts(9)]
    figures = fit(student(str(base), **quick), tmp_path / "b", russian)
    assert figures["unknown_tokens"] == pytest.approx(1 / np.mean([len(e.text.split()) for e in russian]), abs=1e-5)
    (line,) = remarks(figures)
    assert line.startswith(
        f"student.model: its tokenizer does not know {figures['unknown_tokens']:.0%} of what stands in the texts;"
    )


def organisations(join: str, edge: str = "") -> list[Sample]:
    """Names of two words, with something between them, and at their ends, that no reader sees. Read as a user's rows are."""
    samples = []
    for index, (first, second) in enumerate([("apple", "pear"), ("cat", "dog"), ("hammer", "saw")] * 4):
        text = ["I see a {} here", "the {} is here", "give me your {} now please", "{}"][index // 3].format(
            f"{edge}{first}{join} {join}{second}{edge}"
        )
        start = text.index(f"{edge}{first}")
        end = text.index(second) + len(f"{second}{edge}")
        row = {"text": text, "spans": [{"start": start, "end": end, "type": "ORG"}]}
        samples.append(Sample(str(index), *TASK.read_example(row, "organisations"), Origin(0, -1, index, "seed")))
    return samples


@pytest.mark.parametrize("kind", ["transformer", "frozen"])
def test_words_without_a_token_inherit_from_their_neighbours_so_scores_are_equal_with_and_without(kind, base, tmp_path):
    student = Transformer(str(base), **QUICK) if kind == "transformer" else Frozen(str(base))
    plain = organisations("")
    figures = fit(student, tmp_path / "a", [TASK.supervise(sample) for sample in plain], classes=TASK.classes)
    assert figures["words_without_token"] == 0

    def score(samples):
        rows = student.predict([TASK.supervise(sample) for sample in samples], tmp_path / "a")
        return TASK.score(samples, rows, seed=0)["micro_f1"]

    assert score(plain) == 1.0
    assert {name: score(organisations(character)) for name, character in INVISIBLE.items()} == dict.fromkeys(
        INVISIBLE, 1.0
    )
    at_edges = {name: character for name, character in INVISIBLE.items() if name != "private use"}  # a font may show it
    assert {name: score(organisations("", edge)) for name, edge in at_edges.items()} == dict.fromkeys(at_edges, 1.0)


def test_the_share_of_words_without_a_token_is_counted_and_remarked_on(base, tmp_path):
    figures = fit(
        Transformer(str(base), **{**QUICK, "min_steps": 2}),
        tmp_path / "a",
        [TASK.supervise(sample) for sample in organisations("\u200b")],
        classes=TASK.classes,
    )
    words = [len(TASK.supervise(sample).words) for sample in organisations("\u200b")]
    assert figures["words_without_token"] == pytest.approx(2 * len(words) / sum(words), abs=1e-5)
    assert [line.partition(";")[0] for line in remarks(figures)] == [
        f"student.model: its tokenizer drops {figures['words_without_token']:.2%} of the words (invisible characters, for the most part)"
    ]


def test_a_word_without_an_output_belongs_to_a_span_only_between_two_words_of_it():
    classes = ("O", "B-a", "I-a", "B-b", "I-b")

    def tags(written):
        rows = np.array([[name == tag for name in classes] for tag in written.split()], dtype=np.float32)
        rows = inherit(rows, np.array([tag != "?" for tag in written.split()]), classes)
        assert rows.sum(axis=1).tolist() == [1] * len(rows)
        return " ".join(classes[row.argmax()] for row in rows)

    assert tags("B-a ? I-a") == "B-a I-a I-a"
    assert tags("B-a ? ? I-a ? I-a O") == "B-a I-a I-a I-a I-a I-a O"
    assert tags("B-a ? O") == "B-a O O"
    assert tags("B-a ? B-a") == "B-a O B-a"
    assert tags("B-a ? I-b") == "B-a O I-b"
    assert tags("? B-a ?") == "O B-a O"
    assert tags("O ? I-a") == "O O I-a"
    assert tags("? ?") == "O O"


def test_words_beyond_the_last_token_are_not_counted_as_dropped():
    assert share_without_token([np.array([1, -1, 2, -1, -1]), np.array([-1]), None]) == pytest.approx(1 / 3, abs=1e-6)
    assert make_tokenizer().unk_token_id is not None


def test_texts_longer_than_the_student_reads_are_counted(base, tmp_path):
    for student in (
        Transformer(str(base), **{**QUICK, "min_steps": 2, "max_length": 5}),
        Frozen(str(base), max_length=5),
    ):
        folder = tmp_path / student.name
        fit(student, folder, texts(9))
        long = sum(len(example.text.split()) > 3 for example in texts(75))
        assert 0 < student.truncated(texts(75), folder) == long < 75


def test_texts_that_were_read_in_part_are_remarked_on():
    metrics = {"training": {"unknown_tokens": 0.01}, "test": {"n": 30, "truncated": 3}, "dev": None}
    assert evaluate.remarks(metrics) == [
        (
            "test: 3 of 30 texts are longer than the student reads; it is scored on their beginnings; raise student.max_length where "
            "its model can read more"
        )
    ]
    assert evaluate.remarks({**metrics, "test": {"n": 30}, "dev": {"n": 3}}) == []


@pytest.mark.parametrize("kind", [Frozen, partial(Contrastive, steps=10, learning_rate=1e-2)])
def test_the_page_of_a_student_with_a_head_loads_it_in_ten_lines(base, tmp_path, monkeypatch, capsys, kind):
    student, examples = kind(str(base), name_weight=0.0), texts(30)
    fit(student, tmp_path / "student", examples)
    page = (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path / "student")
    for example in examples[:5]:
        exec(code.replace("a text", example.text), {})
        (row,) = student.predict([example], tmp_path / "student")
        assert capsys.readouterr().out.strip() == repr([CLASSES[row.argmax()]])
    names = json.loads((tmp_path / "student" / "evokd.json").read_text())["files"]
    assert "head.npz" in names and "README.md" not in names, "a pushed student has its model card as README.md"


def test_the_page_of_a_tagger_with_frozen_embeddings_names_the_command(base, tmp_path):
    page = frozen_readme("org/name", "a1", ("O", "B-x", "I-x"), words=True)
    assert "open_model" in page and "org/name a1" in page and "evokd-data predict FOLDER texts.csv" in page


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_words_of_frozen_embeddings_are_read_from_the_middle_layer(kind, tmp_path):
    layers = {"n_layers" if kind == "distilbert" else "num_hidden_layers": 4}
    base = make_base(tmp_path / "base", kind, **layers)
    words = tagged()[0].words
    (vectors,) = embed_words(Model(str(base), None, {"model": "it"}), tagged()[:1], 64)
    from transformers import AutoModel, AutoTokenizer

    encoder = AutoModel.from_pretrained(base, **dict.fromkeys(layers, 2)).eval()
    if kind == "modernbert":
        encoder.final_norm = torch.nn.Identity()  # it belongs to the last layer
    tokens = AutoTokenizer.from_pretrained(base)([list(words)], is_split_into_words=True, return_tensors="pt")
    firsts = [tokens.word_ids().index(word) for word in range(len(words))]
    with torch.inference_mode():
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        hidden = torch.nn.functional.normalize(encoder(**inputs).last_hidden_state[0][firsts], dim=-1)
    np.testing.assert_allclose(vectors, hidden.numpy(), atol=1e-5)
