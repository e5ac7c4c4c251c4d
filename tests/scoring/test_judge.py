"""Transcripts of the judges, and their cache by content."""

import json
import shutil
from pathlib import Path

import jiwer
import pytest
from scoring_data import write_wav

from audiopalm.errors import AudioPaLMError
from audiopalm.scoring import judge
from audiopalm.scoring.text import english


class Counting:
    """A judge that writes how many samples it got and counts its calls."""

    package = "numpy"
    calls = 0

    def transcribe(self, samples):
        Counting.calls += 1
        return f"{len(samples)} samples"


@pytest.fixture
def counting(monkeypatch):
    Counting.calls = 0
    monkeypatch.setitem(judge.JUDGES, "counting", Counting)
    monkeypatch.setattr(judge, "_judges", {})


def test_a_file_is_judged_once_by_its_content(counting, tmp_path):
    first = write_wav(tmp_path / "a.wav", 200)
    same = shutil.copy(first, tmp_path / "c.wav")
    files = {"u1": first, "u2": same, "u3": write_wav(tmp_path / "d.wav", 300, 1.0)}
    found = judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    # 0.5 s and 1.0 s, with 0.3 s of silence on both sides
    assert found == {"u1": "17600 samples", "u2": "17600 samples", "u3": "25600 samples"}
    assert Counting.calls == 2
    assert judge.transcribe("counting", files, tmp_path / "cache", processes=1) == found
    assert Counting.calls == 2
    write_wav(Path(first), 250)
    judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    assert Counting.calls == 3


def test_another_signature_empties_the_cache(counting, tmp_path):
    files = {"u1": write_wav(tmp_path / "a.wav", 200)}
    judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    path = tmp_path / "cache/counting.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"signature": "an older one"}))
    judge.transcribe("counting", files, tmp_path / "cache", processes=1)
    assert Counting.calls == 2


def test_missing_audio_names_its_stage(counting, tmp_path):
    with pytest.raises(AudioPaLMError, match="stage 11"):
        judge.transcribe("counting", {"u1": str(tmp_path / "none.wav")}, tmp_path)


def test_unknown_judge_and_missing_package(counting, monkeypatch):
    with pytest.raises(AudioPaLMError, match="known: counting, moonshine"):
        judge.judge_signature("moonshin")
    monkeypatch.setattr(Counting, "package", "no-such-package")
    with pytest.raises(AudioPaLMError, match="needs the package no-such-package; run tools/setup.sh"):
        judge.judge_signature("counting")


# A quick, accented reading: Moonshine gets 2 of 12 words wrong ("Fare again. Fale better"), PocketSphinx most of them.
@pytest.mark.parametrize("name, package, limit", [("moonshine", "moonshine_voice", 2 / 12),
                                                  ("pocketsphinx", "pocketsphinx", 1.0)])
def test_on_a_real_recording(name, package, limit, tmp_path):
    pytest.importorskip(package, reason=f"the judge {name} is not installed (tools/setup.sh installs it)")
    assets = pytest.importorskip("moonshine_voice", reason="its package holds the recording").get_assets_path()
    heard = english(judge.transcribe(name, {"u": f"{assets}/beckett.wav"}, tmp_path, processes=1)["u"])
    wanted = "ever tried ever failed no matter try again fail again fail better"
    assert "try again" in heard and jiwer.wer(english(wanted), heard) <= limit, heard
