"""Speech -> units -> speech by the command, on all kinds of recordings, with tiny random models of the real kinds."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import call, command
from packed import make_pack

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack"))


def record(path: Path, seconds: float, rate: int = 16000, loudness: float = 0.1, channels: int = 1) -> Path:
    noise = np.random.default_rng(0).normal(0, loudness, (round(seconds * rate), channels)).astype(np.float32)
    soundfile.write(path, noise, rate, subtype="FLOAT")
    return path


def resynthesize(*arguments: object) -> np.ndarray:
    call("resynthesize", *arguments)
    samples, rate = soundfile.read(arguments[1])
    assert rate == 16000 and samples.ndim == 1
    return samples


@pytest.mark.parametrize("recording", [
    {"seconds": 1.0, "loudness": 0.0},  # silence
    {"seconds": 1.0, "loudness": 50.0},  # far beyond full scale: clipped
    {"seconds": 0.1},
    {"seconds": 120.0},
    {"seconds": 1.0, "rate": 8000},
    {"seconds": 1.0, "rate": 48000, "channels": 2},
], ids=str)
def test_any_recording_comes_back_with_its_length(model, tmp_path, capsys, recording):
    recorded = record(tmp_path / "x.wav", **recording)
    spoken = resynthesize(recorded, tmp_path / "y.wav", "--model", model)
    assert len(spoken) == -(-round(recording["seconds"] * 16000) // 640) * 640
    assert np.isfinite(spoken).all() and np.abs(spoken).max() <= 1
    assert "real-time factor" in capsys.readouterr().out


@pytest.mark.parametrize("seconds", [0.1, 30.0])
def test_the_voice_may_be_of_another_recording_of_any_length(model, tmp_path, seconds):
    recorded, voice = record(tmp_path / "x.wav", 1.0), record(tmp_path / "v.wav", seconds, loudness=0.0)
    own = resynthesize(recorded, tmp_path / "y.wav", "--model", model, "temperature=0")
    other = resynthesize(recorded, tmp_path / "z.flac", "--voice", voice, "--model", model, "temperature=0")
    assert len(own) == len(other) and (own != other).any()


def write_bad(folder: Path, kind: str) -> Path:
    path = folder / "bad.wav"
    if kind == "nan":
        soundfile.write(path, np.full(16000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    elif kind == "empty":
        record(path, 0.0)
    elif kind == "text":
        path.write_text("no speech\n")
    return path


@pytest.mark.parametrize("kind, message", [("nan", "not numbers"), ("empty", "no samples"), ("text", "be decoded"),
                                           ("absent", "does not exist")])
@pytest.mark.parametrize("role", ["input", "voice"])
def test_a_file_that_is_no_speech_is_refused(model, tmp_path, kind, message, role):
    good, path = record(tmp_path / "x.wav", 1.0), write_bad(tmp_path, kind)
    arguments = [path, tmp_path / "y.wav"] if role == "input" else [good, tmp_path / "y.wav", "--voice", path]
    with pytest.raises(AudioPaLMError, match=message):
        resynthesize(*arguments, "--model", model)
    assert not (tmp_path / "y.wav").exists()


@pytest.mark.parametrize("part, key", [("units", "units_sha256"), ("codes of codec", "codes_sha256")])
def test_parts_that_do_not_belong_together_are_refused(model, tmp_path, part, key):
    config = read_json(model / "acoustic" / "config.json")
    write_json(model / "acoustic" / "config.json", {**config, key: "cccc"})
    with pytest.raises(AudioPaLMError, match=f"trained with {part} cccc.*holds {config[key]}"):
        resynthesize(record(tmp_path / "x.wav", 1.0), tmp_path / "y.wav", "--model", model)
    write_json(model / "acoustic" / "config.json", config)


def test_errors_are_one_line(tmp_path):
    result = command("resynthesize", record(tmp_path / "x.wav", 1.0), "y.mp3")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == "resynthesize: error: y.mp3: the name must end in .wav or .flac\n"
