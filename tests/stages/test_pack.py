"""Stage 14: the folder, its manifest and a zip that is the same each time."""

import json
import sys
import zipfile

import pytest

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.stages import pack


@pytest.fixture
def expdir(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path / "mini")
    for name, (files, _) in pack.CONTENTS.items():
        folder = tmp_path / "mini/exp" / name
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text(json.dumps({"seed": 0, "of": name, "file": file, "languages": ["en", "ru"]}))
        (folder / "log.jsonl").write_text("not needed for inference\n")
    (tmp_path / "mini/exp/vocabulary/text.model").write_text("a tokenizer")
    return tmp_path / "mini/exp"


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pack", "--output", "exp/pack", *arguments])
    pack.main()


def test_folder_manifest_and_zip(expdir, monkeypatch):
    command(monkeypatch)
    manifest = json.loads((expdir / "pack/audiopalm.json").read_text())
    found = {path.relative_to(expdir / "pack").as_posix() for path in (expdir / "pack").rglob("*") if path.is_file()}
    assert found == {*manifest["files"], "audiopalm.json"} and "lm/log.jsonl" not in found
    assert all(sha256(expdir / "pack" / name) == entry["sha256"] for name, entry in manifest["files"].items())
    card = (expdir / "pack/README.md").read_text()
    assert "Apache-2.0" in card and "Russian" in card and "[S2ST ...]" in card
    with zipfile.ZipFile(expdir / "pack.zip") as archive:
        assert {f"pack/{name}" for name in found} == set(archive.namelist())
    first = sha256(expdir / "pack.zip")
    (expdir / "pack/stale").write_text("left by someone")
    command(monkeypatch)
    assert sha256(expdir / "pack.zip") == first and not (expdir / "pack/stale").exists()


def test_the_tokenizer_of_an_imported_lm_goes_along(expdir, monkeypatch):
    tokenizer = expdir / "vocabulary" / "text.model"
    tokenizer.rename(expdir / "vocabulary" / "tokenizer.json")
    command(monkeypatch)
    assert (expdir / "pack/vocabulary/tokenizer.json").read_text() == "a tokenizer"
    assert not (expdir / "pack/vocabulary/text.model").exists()


def test_folders_from_elsewhere(expdir, monkeypatch, tmp_path):
    (expdir / "codec").rename(tmp_path / "pretrained")
    with pytest.raises(AudioPaLMError, match=r"exp/codec/config.json does not exist; run stage 4 \(codec\) first"):
        command(monkeypatch)
    assert not (expdir / "pack").exists() and not (expdir / ".pack.partial").exists()
    command(monkeypatch, "--codec", str(tmp_path / "pretrained"))
    assert (expdir / "pack/codec/model.safetensors").is_file()
