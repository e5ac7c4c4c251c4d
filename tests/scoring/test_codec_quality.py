"""The report on the quality of a codec."""

import sys

import numpy as np
import pytest
import torch
from commands import call
from tiny_models import tiny_codec

from audiopalm.codec.spectral_training import save_codec
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json
from audiopalm.data.audio import write_audio
from audiopalm.data.datadir import write_table
from audiopalm.scoring import codec_quality
from audiopalm.scoring.codec_quality import CodebookUse
from audiopalm.scoring.quality import dnsmos


def test_codebook_use_is_that_counted_by_hand():
    ids = np.array([[0, 3], [1, 3], [2, 3], [3, 3]])
    assert codec_quality.codebook_use(ids, 4) == [CodebookUse(4, 4.0), CodebookUse(1, 1.0)]


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """The name and arguments of the command for a data directory of one recording."""
    monkeypatch.setitem(sys.modules, "pycodec2", None)
    save_codec(tiny_codec(), tmp_path)
    write_audio(tmp_path / "a.flac", torch.randn(8000).numpy() * 0.1)
    write_table(tmp_path / "wav.scp", {"anna-en-0": str(tmp_path / "a.flac")})
    write_table(tmp_path / "text", {"anna-en-0": "one"})
    write_table(tmp_path / "utt2lang", {"anna-en-0": "en"})
    return ["codec_report", "--codec", str(tmp_path), "--data_dir", str(tmp_path),
            "--output", str(tmp_path / "report.json"), "--judge", "none", "--dnsmos", "0"]


def test_the_report_has_a_row_for_every_number_of_levels_and_for_other_codecs(arguments, tmp_path, capsys, caplog):
    call(*arguments)
    report = read_json(tmp_path / "report.json")
    assert [(row["codec"], row["asked"]) for row in report["rows"]] == [
        ("recordings", 0), ("levels", 1), ("levels", 2), ("opus", 6000), ("opus", 12000)]  # no codec2
    assert [row["bitrate"] for row in report["rows"][:3]] == [0, 200, 400]  # 50 frames of 4 bits a level
    assert report["rows"][0]["mel_distance"] == 0 < report["rows"][4]["mel_distance"]
    shown = capsys.readouterr().out
    assert "| 2 levels | 400 | " in shown and "codec2" not in shown
    assert not (tmp_path / "report.json.partial").exists()
    assert caplog.text.count("codec2 is left out: Codec 2 needs the package pycodec2") == 1


def test_a_stopped_report_goes_on(arguments, tmp_path, monkeypatch):
    measured, measure = [], codec_quality.measure

    def stop_at_the_third(*inputs):
        if len(measured) == 2:
            measured.append(0)
            raise KeyboardInterrupt
        row = measure(*inputs)
        measured.append(1)
        return row

    monkeypatch.setattr(codec_quality, "measure", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        call(*arguments)
    call(*arguments)
    assert len(read_json(tmp_path / "report.json")["rows"]) == sum(measured)  # each row was measured once


def test_dnsmos_hears_noise():
    """A sound like a voice, clean and in noise."""
    time = np.arange(9.1 * 16000) / 16000  # a little more than one window of DNSMOS
    buzz = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20))
    clean = buzz * (0.2 + 0.1 * np.sin(2 * np.pi * 4 * time))
    noisy = clean + np.random.default_rng(0).normal(0, 0.2, len(time))
    assert 1 <= dnsmos(noisy.astype(np.float32)) < dnsmos(clean.astype(np.float32)) <= 5


def test_a_language_without_utterances_is_named(arguments):
    with pytest.raises(AudioPaLMError, match="no utterance in 'ru'"):
        call(*arguments, "--language", "ru", "--judge", "none")
    with pytest.raises(AudioPaLMError, match="the judges understand en alone; give --judge none for 'ru'"):
        call(*arguments, "--language", "ru", "--judge", "moonshine")
