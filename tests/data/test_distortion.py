"""Distortions have the effect of their names, measured on the signal, by scipy where it has the measure."""

import numpy as np
import pytest
from scipy import signal

from audiopalm.data.distortion import (
    CONDITIONS,
    DistortionConfig,
    add_noise,
    change_gain,
    change_speed,
    coloured_noise,
    distort,
    mu_law,
    reverberate,
    telephone,
)

RATE = 16000


def speech(seconds: float = 2.0) -> np.ndarray:
    """A buzz with the loudness of syllables: harmonics of 120 Hz up to 7 kHz, float32 `[T]`."""
    times = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * harmonic * times) / harmonic for harmonic in range(1, 58))
    return (0.1 * buzz * (1 + np.sin(2 * np.pi * 4 * times))).astype(np.float32)


def others(random: np.random.Generator) -> np.ndarray:
    return speech(random.uniform(0.5, 3.0))


def decibels(samples: np.ndarray, low: float, high: float) -> float:
    frequencies, power = signal.welch(samples, RATE, nperseg=1024)
    return 10 * np.log10(power[(frequencies >= low) & (frequencies < high)].sum() + 1e-20)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_gives_finite_float32_that_only_depends_on_the_seed(name):
    first, second = (CONDITIONS[name](speech(), np.random.default_rng(3), others) for _ in range(2))
    assert first.dtype == np.float32 and first.ndim == 1 and np.isfinite(first).all()
    assert np.array_equal(first, second) and not np.array_equal(first, speech())


def test_random_distortions_keep_the_clean_speech_aligned():
    for seed in range(30):
        made, clean = distort(speech(), DistortionConfig(), np.random.default_rng(seed), others)
        assert made.shape == clean.shape and made.dtype == clean.dtype == np.float32
        assert np.isfinite(made).all() and np.abs(clean).max() > 0.1
    made, clean = distort(speech(), DistortionConfig(speed=0, silence=0, reverberation=0, noise=0, band=0, gain=0),
                          np.random.default_rng(0), others)
    assert np.array_equal(made, speech()) and np.array_equal(clean, speech())


def test_noise_has_the_ratio_that_was_asked_for():
    noisy = add_noise(speech(), coloured_noise(len(speech()), 0.0, np.random.default_rng(0)), 10.0)
    noise = noisy - speech()
    assert 10 * np.log10(np.square(speech()).mean() / np.square(noise).mean()) == pytest.approx(10.0, abs=0.01)
    brown = coloured_noise(4 * RATE, 1.0, np.random.default_rng(0))  # 6 dB an octave
    assert decibels(brown, 500, 1000) - decibels(brown, 1000, 2000) == pytest.approx(3.0, abs=0.7)  # twice as wide


def test_a_telephone_passes_its_band_and_nothing_outside():
    narrow = telephone(speech())
    assert len(narrow) == len(speech())
    for low, high, loss in ((500, 3000, 0.0), (60, 180, -25.0), (4400, 7500, -35.0)):
        change = decibels(narrow, low, high) - decibels(speech(), low, high)
        assert change == pytest.approx(0.0, abs=1.0) if loss == 0.0 else change < loss


def test_the_error_of_mu_law_is_38_decibels_below_the_signal():
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
    error = mu_law(tone) - tone
    assert 36 < 10 * np.log10(np.square(tone).mean() / np.square(error).mean()) < 41  # G.711: about 38 dB
    assert len(np.unique(np.abs(mu_law(np.linspace(-1, 1, 10001, dtype=np.float32))))) == 128


def test_reverberation_falls_by_60_decibels_in_the_time_that_was_asked_for():
    click = np.zeros(RATE, dtype=np.float32)
    click[0] = 1
    energy = np.cumsum(np.square(reverberate(click, 0.5, -10.0, np.random.default_rng(0)))[::-1])[::-1]
    decay = 10 * np.log10(energy / energy[0] + 1e-12)  # Schroeder's integral
    fall = np.flatnonzero(decay < -25)[0] - np.flatnonzero(decay < -5)[0]
    assert 3 * fall / RATE == pytest.approx(0.5, rel=0.15)


def test_speed_changes_the_length_and_gain_the_level():
    assert len(change_speed(speech(), 1.1)) == pytest.approx(len(speech()) / 1.1, abs=2)
    assert np.abs(change_gain(speech(), -20.0)).max() == pytest.approx(np.abs(speech()).max() / 10, rel=1e-3)
    assert np.abs(change_gain(speech(), 40.0)).max() == 1.0
