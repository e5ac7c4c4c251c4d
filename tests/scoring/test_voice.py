"""Cosines and wins of speaker embeddings, and Resemblyzer on real signals."""

import numpy as np
import pytest
from scoring_data import write_wav

from audiopalm.scoring.speaker_encoder import Resemblyzer
from audiopalm.scoring.voice import Voices, cosines, wins


def test_cosines_and_wins_are_those_computed_by_hand():
    x, y, silent = np.array([1.0, 0.0]), np.array([0.6, 0.8]), np.zeros(2)
    assert cosines({"u": x, "v": silent, "w": x}, {"u": y, "v": x}) == {"u": pytest.approx(0.6), "v": None}
    own, other = {"u": 0.9, "v": 0.2, "w": None, "x": 0.5}, {"u": 0.3, "v": 0.4, "w": 0.1}
    assert wins(own, other) == {"u": 1.0, "v": 0.0, "w": 0.0}  # silence loses; x has no other speaker


def test_embeddings_of_speech_and_of_silence_are_cached(tmp_path, monkeypatch):
    pytest.importorskip("resemblyzer", reason="Resemblyzer is not installed (tools/setup.sh installs it)")
    assets = pytest.importorskip("moonshine_voice", reason="its package holds the recording").get_assets_path()
    files = {"speech": f"{assets}/beckett.wav", "silence": write_wav(tmp_path / "silent.wav", 0)}
    embedded = Voices(tmp_path / "cache", Resemblyzer()).embed(files)
    assert np.linalg.norm(embedded["speech"]) == pytest.approx(1.0, abs=1e-4) and not embedded["silence"].any()
    monkeypatch.setattr(Resemblyzer, "embed", lambda self, samples: pytest.fail("not from the cache"))
    again = Voices(tmp_path / "cache", Resemblyzer()).embed(files)
    assert all(np.array_equal(again[name], embedded[name]) for name in files)
