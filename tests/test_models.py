"""Which model a name means: folders by their content, packages unimported, the Hub by commits. No torch: a model is files here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from evokd_data import models
from evokd_data.errors import StudentError, TeacherError
from evokd_data.models import Model, ModelReference, download_model, find_model, folder_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def download(name: str | Path, revision: str | None = None) -> Model:
    return download_model(ModelReference(str(name), revision), "student", StudentError)


def find(name: str | Path, revision: str | None = None) -> Model:
    return find_model(ModelReference(str(name), revision), "teacher", TeacherError)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_folder_is_identified_by_its_content_alone(base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    (copy / "README.txt.bak").write_text("notes")
    (copy / "README.md").write_text("not part of it")
    same = {"digest": folder_digest(base)}
    assert download(copy).identity == download(base).identity == find(copy).identity == same
    for name in ("tokenizer_config.json", "bpe.codes"):
        (copy / name).write_text('{"a": 1}')
        assert download(copy).identity != same
        (copy / name).unlink()


def test_a_large_file_of_the_hubs_cache_is_not_read_again(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    name = "ab" * 32
    (blobs / name).write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to(blobs / name)
    assert models._content(snapshot / "model.safetensors") == name


def test_a_model_inside_a_package_is_found_and_the_package_not_imported(base, tmp_path, monkeypatch):
    package = tmp_path / "carrier_of_models"
    shutil.copytree(base, package / "inner" / "model")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    model = download("package:carrier-of-models")
    assert model.folder == package / "inner" / "model"
    assert model == download("package:carrier_of_models/inner/model") == find("package:carrier-of-models")
    assert model.identity == {"digest": folder_digest(base)}
    shutil.copytree(base, package / "second")
    with pytest.raises(StudentError, match="found: inner/model, second; give package:carrier-of-models/FOLDER"):
        download("package:carrier-of-models")
    with pytest.raises(StudentError, match="no folder 'third'"):
        download("package:carrier-of-models/third")
    assert "carrier_of_models" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "there is no folder './nowhere'"),
        ("a/b/c", "there is no folder 'a/b/c'"),
        ("package:no-such-package", "pip install no-such-package"),
        ("package:evokd_data", "should carry one model, found: none"),
        ("not a name/at all", "neither a folder nor a model on the Hub; check the spelling"),
    ],
)
def test_a_model_that_is_nowhere_says_where_it_was_looked_for(name, message):
    for look, error, section in ((download, StudentError, "student"), (find, TeacherError, "teacher")):
        with pytest.raises(error, match=rf"{section}\.model: ") as caught:
            look(name)
        assert message in str(caught.value)


def test_a_folder_has_no_revision_and_training_needs_its_weights(base, tmp_path):
    with pytest.raises(StudentError, match=r"student\.revision: 'v1' is for models of the Hub"):
        download(base, "v1")
    with pytest.raises(TeacherError, match=r"teacher\.revision: 'v1' is for models of the Hub"):
        find(base, "v1")
    # What a first recipe has: whoever puts a folder in need not know that it has no branches, and no Hub is asked.
    assert download(base, "main") == download(base) and find(base, "main") == find(base)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StudentError, match=r"holds no config\.json with "):
        download(tmp_path)
    assert find(tmp_path).identity == {"digest": folder_digest(tmp_path)}


def test_without_network_a_model_that_was_never_downloaded_says_how_to_get_it(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StudentError, match="hf download someone/something") as caught:
        download("someone/something")
    assert "cannot be reached" in str(caught.value)


def test_a_downloaded_model_is_found_without_network_and_named_by_its_commit(base, monkeypatch, tmp_path):
    import huggingface_hub.constants

    cache = tmp_path / "models--someone--something"
    shutil.copytree(base, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert download("someone/something").identity == {"model": "someone/something", "revision": COMMIT}
    assert download("someone/something", COMMIT).folder == cache / "snapshots" / COMMIT


def test_a_commit_needs_no_hub() -> None:
    assert find("org/name", COMMIT) == Model("org/name", COMMIT, {"model": "org/name", "revision": COMMIT})


@pytest.mark.parametrize(
    ("name", "revision", "moves"),
    [
        ("org/name", None, True),
        ("org/name", "main", True),
        ("org/name", COMMIT, False),
        ("./mine", None, False),
        ("package:x", None, False),
    ],
)
def test_only_a_branch_of_the_hub_can_move(name, revision, moves):
    assert ModelReference(name, revision).can_move is moves
