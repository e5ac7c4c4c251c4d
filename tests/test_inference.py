"""The packed model on one recording, by its class and by its command, with tiny random models of the real kinds."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from packed import make_pack, tone

from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.audio import read_audio
from audiopalm.inference import AudioPaLM


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack"))


def test_every_modality(packed, tmp_path):
    model = AudioPaLM.from_pretrained(packed)
    wav = tone(tmp_path / "x.wav")
    combined = model(wav, task="[ASR AST S2ST Spanish English]")
    assert set(combined.text) == {"asr", "ast"} and combined.audio.dtype == np.float32
    assert len(combined.audio) % 640 == 0 and np.abs(combined.audio).max() <= 1.5
    assert model(wav, task="[ASR Spanish]").audio is None
    assert set(model("uno dos", task="[MT Spanish English]").text) == {"mt"}
    spoken = model("one two", task="[TTS English]", prompt=wav)
    again = model("one two", task="[TTS English]", prompt=wav)
    assert spoken.audio is not None and np.array_equal(spoken.audio, again.audio)


def test_48_khz_stereo_is_the_same_recording(packed, tmp_path):
    mono = read_audio(tone(tmp_path / "a.wav"))
    stereo = read_audio(tone(tmp_path / "b.wav", rate=48000, channels=2))
    assert len(mono) == len(stereo) and np.abs(mono - stereo)[100:-100].max() < 1e-3
    model = AudioPaLM.from_pretrained(packed)
    assert model(tmp_path / "b.wav", task="[ASR Spanish]").text.keys() == {"asr"}


@pytest.mark.parametrize("make, task, message", [
    (None, "[ASR Spanish]", "does not exist"),
    (b"", "[ASR Spanish]", "cannot be decoded"),
    (b"<html>not found</html>", "[ASR Spanish]", "cannot be decoded"),
    ("wav", "[ASR Spannish]", "did you mean 'Spanish'"),
    ("wav", "[ASK Spanish]", "unknown task 'ASK'"),
    ("wav", "[S2ST Spanish English]", "--out"),
    ("wav", "[TTS English]", "--out"),
])
def test_bad_input_is_one_line(packed, tmp_path, make, task, message):
    path = tmp_path / "x.wav"
    if make == "wav":
        tone(path)
    elif make is not None:
        path.write_bytes(make)
    result = subprocess.run([sys.executable, "-m", "audiopalm.bin.infer", str(path), "--task", task, "--model",
                             str(packed)], capture_output=True, text=True)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_command_writes_speech(packed, tmp_path):
    wav, out = tone(tmp_path / "x.wav"), tmp_path / "y.wav"
    result = subprocess.run([sys.executable, "-m", "audiopalm.bin.infer", str(wav), "--task",
                             "[ASR AST S2ST Spanish English]", "--out", str(out), "--model", str(packed)],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("asr: ") and "\nast: " in result.stdout
    assert soundfile.info(out).samplerate == 16000


def test_missing_model_and_empty_text(packed, tmp_path):
    with pytest.raises(AudioPaLMError, match="run stage 14"):
        AudioPaLM.from_pretrained(tmp_path / "nowhere")
    model = AudioPaLM.from_pretrained(packed)
    with pytest.raises(AudioPaLMError, match="needs a text"):
        model("  ", task="[MT Spanish English]")
    with pytest.raises(AudioPaLMError, match="give a prompt"):
        model("one", task="[TTS English]")
    with pytest.raises(AudioPaLMError, match="not trained on Welsh; it knows English, Spanish"):
        model("one", task="[MT Welsh English]")
    with pytest.raises(AudioPaLMError, match="at most 60 s"):
        model(np.zeros(16000 * 61, dtype=np.float32), task="[ASR Spanish]")


def test_a_task_that_was_never_trained_is_refused_with_the_nearest_one(packed):
    model = AudioPaLM.from_pretrained(packed)
    with pytest.raises(AudioPaLMError, match=r"not trained on \[MT English Spanish\]; did you mean '\["):
        model("hello", "[MT English Spanish]")
