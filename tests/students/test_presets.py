"""Presets: what they stand for, and that each architecture among them is learned from, for texts and for words."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from evokd_data.errors import RecipeError
from evokd_data.recipe import load, schema
from evokd_data.registry import resolve
from evokd_data.settings import build
from evokd_data.students import STUDENTS
from evokd_data.students.lora import Lora
from evokd_data.students.presets import PRESETS
from evokd_data.students.transformer import Transformer
from tests.support import ROOT
from tests.support.student_data import CLASSES, TAGS, tagged, texts
from tests.support.student_training import fit, right
from tests.support.tiny_encoders import ARCHITECTURES, QUICK, make_base


def test_a_preset_stands_for_its_settings_and_what_is_set_beside_it_counts(recipe_file):
    path = recipe_file(**{"{kind: linear}": "{preset: deberta-v3-base, epochs: 3, precision: bfloat16}"})
    student = load(path).student
    assert student == Transformer("microsoft/deberta-v3-base", learning_rate=2e-5, epochs=3.0, precision="bfloat16")
    assert "preset" not in load(path).settings["student"]


def test_a_wrong_preset_is_refused_with_the_nearest(recipe_file):
    path = recipe_file(**{"{kind: linear}": "{kind: static, preset: potion-base-8}"})
    with pytest.raises(
        RecipeError, match=r"student\.preset: \"potion-base-8\" is unknown; did you mean 'potion-base-8m'"
    ):
        load(path)
    with pytest.raises(RecipeError, match=r"student\.preset: no such setting"):
        load(recipe_file(**{"{kind: linear}": "{kind: linear, preset: minilm}"}))


def test_every_preset_builds_a_student_stands_in_the_schema_and_on_the_page():
    page = (ROOT / "docs" / "students.md").read_text(encoding="utf-8")
    variants = {
        variant["properties"]["kind"]["const"]: variant for variant in schema()["properties"]["student"]["oneOf"]
    }
    for kind, presets in PRESETS.items():
        assert variants[kind]["properties"]["preset"]["enum"] == sorted(presets)
        for name, settings in presets.items():
            student, problems = build(resolve(STUDENTS, kind), settings, "student")
            assert problems == [] and student.base_model.name == settings["model"]
            assert f"| `{name}` | {settings['model']} |" in page


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_each_architecture_learns_words(kind, tmp_path):
    student = Transformer(str(make_base(tmp_path / "base", kind)), **{**QUICK, "learning_rate": 5e-3, "min_steps": 60})
    fit(student, tmp_path / "a", tagged(), classes=TAGS)
    rows = student.predict(tagged(), tmp_path / "a")
    hits = [
        int(row.argmax()) == target
        for e, r in zip(tagged(), rows, strict=True)
        for row, target in zip(r, e.targets, strict=True)
    ]
    assert sum(hits) / len(hits) > 0.9


@pytest.mark.slow
def test_a_vocabulary_that_is_a_sentencepiece_file_alone_is_read(tmp_path):
    """As the repositories of DeBERTa-v3 have it: spm.model, and no tokenizer.json."""
    import sentencepiece

    lines = [example.text for example in texts(45)] * 20
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    base = make_base(tmp_path / "base", "deberta-v2")
    for file in base.glob("tokenizer*"):
        file.unlink()
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "lines.txt"), model_prefix=str(tmp_path / "spm"), vocab_size=100, hard_vocab_limit=False,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
        user_defined_symbols="[MASK]", minloglevel=2,
    )  # fmt: skip
    shutil.copy(tmp_path / "spm.model", base / "spm.model")
    (base / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    student = Transformer(str(base), **{**QUICK, "learning_rate": 5e-3, "min_steps": 60})
    figures = fit(student, tmp_path / "a", texts())
    assert figures["unknown_tokens"] == 0
    assert right(student, tmp_path / "a", texts()) > 0.9
    fit(student, tmp_path / "b", tagged(), classes=TAGS)  # its tokens know which characters they cover


@pytest.mark.slow
def test_without_peft_the_message_names_the_extra(tiny_decoder, tmp_path, monkeypatch):
    from evokd_data.errors import StudentError

    monkeypatch.setitem(sys.modules, "peft", None)
    student = Lora(model=str(tiny_decoder), **QUICK)
    with pytest.raises(StudentError, match=r"peft is not installed, .*pip install 'evokd-data\[lora\]'"):
        fit(student, tmp_path / "a", texts())
    assert [line for line in student.lacks() if "evokd-data[lora]" in line]


@pytest.mark.slow
def test_a_decoders_checkpoint_is_its_updates_and_names_no_folder_of_this_machine(tiny_decoder, tmp_path):
    student = Lora(model=str(tiny_decoder), **QUICK)
    fit(student, tmp_path / "a", texts())
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors", "evokd.json"]
    assert str(tiny_decoder) not in (tmp_path / "a" / "adapter_config.json").read_text()
    assert len(student.predict(texts(3), tmp_path / "a")[0]) == len(CLASSES)


def test_a_decoder_is_never_trained_on_from_a_checkpoint(recipe_file):
    path = recipe_file(**{"{kind: linear}": "{kind: lora, preset: qwen2.5-0.5b, from_scratch: false}"})
    with pytest.raises(RecipeError, match="a lora student is always trained from its base model; drop the setting"):
        load(path)
