"""A model in a GGUF file is the model of the folder it was made from, read once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evokd_data.digest import file_digest
from evokd_data.errors import StudentError, TeacherError
from evokd_data.models import ModelReference, check_files, download_model, find_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    from tests.support import gguf_file

    root = tmp_path_factory.mktemp("gguf")
    gguf_file.build(root / "folder", root / "tiny.gguf")
    return root


def test_it_answers_as_the_folder_it_was_made_from(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("EVOKD_CACHE", str(tmp_path))
    reference = ModelReference(str(files / "tiny.gguf"), None)
    assert check_files(reference, "teacher", TeacherError, weights=False)
    model = find_model(reference, "teacher", TeacherError)
    assert model.identity == {"digest": file_digest(files / "tiny.gguf")}
    assert sorted(path.name for path in (tmp_path / "gguf").iterdir()) == [model.identity["digest"]]

    text = "will it rain in Berlin tomorrow"
    chat = [{"role": "user", "content": text}]
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (model.folder, files / "folder")]
    assert len({str(tokenizer(text)["input_ids"]) for tokenizer in tokenizers}) == 1
    assert len({tokenizer.apply_chat_template(chat, tokenize=False) for tokenizer in tokenizers}) == 1
    tokens = torch.tensor([tokenizers[1](text)["input_ids"]])
    logits = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits
        for folder in (model.folder, files / "folder")
    ]
    torch.testing.assert_close(logits[0], logits[1])


def test_it_is_read_once_and_its_name_does_not_matter(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOKD_CACHE", str(tmp_path / "cache"))
    shutil.copy(files / "tiny.gguf", tmp_path / "Other.GGUF")
    first = download_model(ModelReference(str(files / "tiny.gguf"), None), "teacher", TeacherError)
    written = (first.folder / "config.json").stat().st_mtime_ns
    second = download_model(ModelReference(str(tmp_path / "Other.GGUF"), None), "teacher", TeacherError)
    assert second == first and (second.folder / "config.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.gguf", None, r"there is no file .*none.gguf'; give a GGUF file, the folder of a model, or ORG/NAME"),
        ("page.gguf", b"<html>not found</html>", r"page.gguf' is no GGUF file .*download it again"),
        ("torn.gguf", b"GGUF\x03\x00\x00\x00", r"transformers cannot read .*torn.gguf'"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(name, content, message, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setenv("EVOKD_CACHE", str(tmp_path / "cache"))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TeacherError, match=f"^teacher.model: .*{message}") as raised:
        download_model(ModelReference(str(tmp_path / name), None), "teacher", TeacherError)
    assert "\n" not in str(raised.value)


def test_another_architecture_and_settings_that_are_not_for_a_file_are_told(files, tmp_path, monkeypatch):
    from tests.support import gguf_file

    monkeypatch.setenv("EVOKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    gguf_file.build(tmp_path / "folder", tmp_path / "strange.gguf", architecture="strange")
    with pytest.raises(TeacherError, match=r"transformers cannot read .*strange.gguf'.*engine: server"):
        download_model(ModelReference("./strange.gguf", None), "teacher", TeacherError)
    with pytest.raises(TeacherError, match=r"'strange.gguf' is a file; write './strange.gguf' for it"):
        download_model(ModelReference("strange.gguf", None), "teacher", TeacherError)
    with pytest.raises(TeacherError, match=r"teacher.revision: 'v1' is for models of the Hub; drop it for the file"):
        download_model(ModelReference("./strange.gguf", "v1"), "teacher", TeacherError)
    with pytest.raises(StudentError, match=r"student.model: .* is a language model in a GGUF file, no student"):
        download_model(ModelReference("./strange.gguf", None), "student", StudentError)
    assert list((tmp_path / "cache").rglob("config.json")) == []
