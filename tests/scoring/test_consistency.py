"""Acoustic consistency: recordings in one room are alike, loudness does not matter, silence has no value."""

import numpy as np
import soundfile
import torch
from scipy.signal import lfilter

from audiopalm.data.mel import LogMel
from audiopalm.scoring.consistency import Conditions, statistics
from audiopalm.scoring.voice import cosines

ROOMS = {"dull": ([0.2], [1, -0.8], 0.001), "bright": ([1, -0.8], [1], 0.02)}


def record(path, room: str, seed: int, loudness: float = 1.0) -> str:
    """Two seconds of noise with the rhythm of syllables, coloured by the seed, in a room with noise of its own."""
    random = np.random.default_rng(seed)
    syllables = 1 + np.sin(2 * np.pi * 4 * np.arange(32000) / 16000)
    sound = lfilter([1], [1, -random.uniform(0, 0.3)], random.normal(0, 0.05, 32000) * syllables)
    numerator, denominator, noise = ROOMS[room]
    sound = lfilter(numerator, denominator, sound) + random.normal(0, noise, 32000)
    soundfile.write(path, loudness * sound, 16000, subtype="FLOAT")
    return str(path)


def test_recordings_in_one_room_are_nearer_than_recordings_in_two(tmp_path):
    files = {f"{room}-{seed}": record(tmp_path / f"{room}{seed}.wav", room, seed)
             for room in ROOMS for seed in range(5)}
    conditions = Conditions(files)
    embedded = conditions.embed(files)
    same = cosines({"x": embedded["dull-0"]}, {"x": embedded["dull-1"]})["x"]
    other = cosines({"x": embedded["dull-0"]}, {"x": embedded["bright-1"]})["x"]
    assert same > 0.3 > -0.3 > other


def test_loudness_does_not_matter_and_silence_has_no_value(tmp_path):
    files = {"soft": record(tmp_path / "soft.wav", "dull", 3, 0.25), "loud": record(tmp_path / "loud.wav", "dull", 3),
             "bright": record(tmp_path / "bright.wav", "bright", 3)}
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    embedded = Conditions(files).embed(files | {"silent": str(tmp_path / "silent.wav")})
    assert cosines({"x": embedded["soft"]}, {"x": embedded["loud"]})["x"] > 0.9
    assert cosines({"x": embedded["silent"]}, {"x": embedded["loud"]}) == {"x": None}


def test_statistics_are_those_of_the_spectrum():
    samples, mel = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32), LogMel(4, 512, 160)
    bands = mel(torch.from_numpy(samples)[None])[0].numpy()
    mean, deviation, low = np.split(statistics(samples, mel), 3)
    np.testing.assert_allclose(mean, bands.mean(0) - bands.mean(), atol=1e-5)
    np.testing.assert_allclose(deviation, bands.std(0), atol=1e-5)
    np.testing.assert_allclose(low, np.sort(bands - bands.mean(), axis=0)[5], atol=0.2)


def test_names_of_files_change_nothing(tmp_path, monkeypatch):
    """Stage 2 names audio files by a hash that depends on the folder of the repository."""
    monkeypatch.setattr("audiopalm.scoring.consistency.MOST_RECORDINGS", 2)
    folders = (tmp_path / "one", tmp_path / "two")
    vectors = []
    for folder, names in zip(folders, ([0, 1, 2, 3], [3, 1, 0, 2]), strict=True):
        folder.mkdir()
        files = {f"u{seed}": record(folder / f"{name}.wav", "dull" if seed % 2 else "bright", seed)
                 for seed, name in enumerate(names)}
        vectors.append(Conditions(files).embed(files))
    assert all(np.array_equal(vectors[0][name], vectors[1][name]) for name in vectors[0])
