"""ESPnet's pack of a model, and inference from it, with tiny random models of the real kinds."""

import importlib.util
import shutil
import sys

import numpy as np
import pytest
import yaml
from packed import make_pack, spoken

from audiopalm.core.errors import AudioPaLMError
from audiopalm.inference import AudioPaLM
from audiopalm.lm.generation.config import DecodingConfig

if importlib.util.find_spec("espnet2") is None:
    pytest.skip("espnet is not installed", allow_module_level=True)

from audiopalm.bin import espnet_pack
from audiopalm.espnet.convert import to_espnet
from audiopalm.espnet.imports import unpack
from audiopalm.espnet.inference import Speech2Any

TASKS = ("[ASR Spanish]", "[ASR AST S2ST Spanish English]")
SHORT = DecodingConfig(8, 8)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The directory of a recipe with exp/ and, in exp/espnet_lm, the language model as ESPnet's Trainer leaves it."""
    root = tmp_path_factory.mktemp("recipe")
    exp = make_pack(root / "exp")
    to_espnet(exp / "lm", exp / "vocabulary", exp / "espnet_lm")
    (exp / "espnet_lm" / "model.pth").rename(exp / "espnet_lm" / "1epoch.pth")
    (exp / "espnet_lm" / "valid.loss.best.pth").symlink_to("1epoch.pth")
    return root


def pack(recipe, monkeypatch, *arguments):
    monkeypatch.chdir(recipe)
    monkeypatch.setattr(sys, "argv", ["espnet_pack", *map(str, arguments)])
    espnet_pack.main()


def test_the_unpacked_model_answers_as_before(recipe, tmp_path, monkeypatch):
    pack(recipe, monkeypatch, "--model_file", "exp/espnet_lm/valid.loss.best.pth", "--outpath", tmp_path / "pack.zip")
    wav = spoken(), 16000
    before = AudioPaLM.from_pretrained(recipe / "exp")
    (moved := tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "pack.zip", moved)
    after = Speech2Any.from_pretrained(moved / "pack.zip", decoding=SHORT)
    files = unpack(moved / "pack.zip", moved / "again")
    assert set(files) == {"audiopalm_train_config", "audiopalm_model_file", "vocabulary_file", "units_file",
                          "acoustic_file", "codec_file"}
    assert files["audiopalm_model_file"].endswith("again/exp/espnet_lm/1epoch.pth")
    for model in (after, Speech2Any.from_pretrained(**files, decoding=SHORT)):
        for task in TASKS:
            expected, found = before(wav, task, decoding=SHORT), model(wav, task)
            assert found.text == expected.text and any(found.text.values())
            assert (found.audio is None) == (expected.audio is None)
            assert found.audio is None or np.array_equal(found.audio, expected.audio)
    wide = Speech2Any.from_pretrained(**files, decoding=SHORT, beam_size=3)
    assert wide(wav, TASKS[1]).audio is not None


def test_what_cannot_be_packed_is_named(recipe, tmp_path, monkeypatch):
    config = recipe / "exp" / "espnet_lm" / "config.yaml"
    (other := recipe / "other.yaml").write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()),
                                                               "vocabulary_hash": "0123456789abcdef"}))
    shutil.copy(config, tmp_path / "outside.yaml")
    for config_file, message in ((other, "vocabulary mismatch"), (tmp_path / "outside.yaml", "not below the current"),
                                 ("nowhere.yaml", "nowhere.yaml does not exist")):
        with pytest.raises(AudioPaLMError, match=message):
            pack(recipe, monkeypatch, "--model_file", "exp/espnet_lm/1epoch.pth", "--config_file", config_file,
                 "--outpath", tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()
    with pytest.raises(AudioPaLMError, match="vocabulary mismatch"):
        exp = recipe / "exp"
        Speech2Any(other, exp / "espnet_lm" / "1epoch.pth", exp / "vocabulary" / "vocabulary.json",
                   exp / "units" / "config.json", exp / "acoustic" / "config.json", exp / "codec" / "config.json")
