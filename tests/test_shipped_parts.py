"""The parts in egs/mini/pretrained have the hashes of their READMEs, fit together, and do what they are for."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from audiopalm import AudioPaLM
from audiopalm.acoustic.audiolm.generation import AudioLMAcoustic
from audiopalm.codec.registry import load_codec
from audiopalm.codec.spectral_training import MelDistance
from audiopalm.core.files import sha256
from audiopalm.data.audio import read_audio
from audiopalm.units.registry import UnitTokenizer

MINI = Path(__file__).resolve().parents[1] / "egs/mini"
PACK = MINI / "pretrained/pack"


@pytest.mark.parametrize("folder, files", [
    *((folder, ("model.safetensors", "config.json")) for folder in ("codec_soundstream", "audiolm", "units_w2vbert")),
    (".", [f"pack/{part}/model.safetensors" for part in ("acoustic", "codec", "lm", "units")]
     + ["pack/vocabulary/text.model"])])
def test_files_have_the_hashes_of_the_readme(folder, files):
    folder = MINI / "pretrained" / folder
    named = dict(re.findall(r"^\| `([\w./]+)`.*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.MULTILINE))
    assert named == {file: sha256(folder / file) for file in files}


@pytest.mark.parametrize("name, one_level, all_levels", [("pack/codec", 0.7, 0.45), ("codec_soundstream", 0.95, 0.8)])
def test_decoded_speech_is_close_to_the_original_and_closer_with_all_levels(name, one_level, all_levels):
    if name == "codec_soundstream" and importlib.util.find_spec("espnet2") is None:
        pytest.skip("espnet is not installed")
    codec = load_codec(MINI / "pretrained" / name)
    recording = MINI / "corpus/recordings/allison-en.ogg"
    speech = read_audio(recording)[:6 * 16000]
    ids = codec.encode([speech])[0]
    distances = [MelDistance()(*(torch.from_numpy(samples[:len(speech)])[None] for samples in (
        speech, codec.decode([ids[:, :levels]])[0]))).item() for levels in (1, codec.levels)]
    assert distances[0] < one_level and distances[1] < all_levels and distances[1] < distances[0]
    assert np.abs(codec.decode([ids])[0]).max() <= 1.5


def test_audiolm_speaks_for_the_shipped_model(tmp_path):
    for part in PACK.iterdir():
        if part.name != "acoustic":
            (tmp_path / part.name).symlink_to(part)
    (tmp_path / "acoustic").symlink_to(MINI / "pretrained/audiolm")
    model = AudioPaLM.from_pretrained(tmp_path, verify=False)
    assert isinstance(model.acoustic, AudioLMAcoustic)
    answer = model(text="six dollars", task="[TTS English]", voice=MINI / "corpus/recordings/allison-en.ogg")
    assert len(answer.audio) > 8000 and len(answer.audio) % 640 == 0 and np.abs(answer.audio).max() > 0.05


def test_speech_has_many_units_of_w2v_bert():
    units = UnitTokenizer.load(MINI / "pretrained/units_w2vbert")
    speech = read_audio(MINI / "corpus/recordings/allison-en.ogg")[:10 * 16000]
    ids = units.encode([speech])[0]
    assert len(ids) == 250 and len(set(ids.tolist())) > 60
    assert np.array_equal(ids, units.encode([speech])[0])
