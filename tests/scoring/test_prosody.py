"""Speech rate, pauses and pitch of signals whose measures are known."""

import numpy as np
import pytest

from audiopalm.scoring.prosody import likeness, prosody

RATE = 16000


def signal(syllables, pitch=120.0, pause=0.0, glide=0.0, seconds=0.2):
    """Syllables of `seconds`, with harmonics of a pitch that glides by octaves, and a pause in the middle."""
    parts = []
    for number in range(syllables):
        time = np.arange(int(seconds * RATE)) / RATE
        f0 = pitch * 2 ** (glide * number / syllables)
        tone = sum(np.sin(2 * np.pi * f0 * harmonic * time) / harmonic for harmonic in range(1, 8))
        parts.append(tone * np.hanning(len(time)))
        if number == syllables // 2 - 1:
            parts.append(np.zeros(int(pause * RATE)))
    return (0.1 * np.concatenate(parts)).astype(np.float32)


def test_the_rate_is_that_of_the_syllables_and_pauses_do_not_count():
    for seconds in (0.15, 0.2, 0.3):
        assert prosody(signal(8, seconds=seconds)).rate == pytest.approx(1 / seconds, rel=0.2)
    with_pause = prosody(signal(8, pause=1.6))
    assert with_pause.pauses == pytest.approx(0.5, abs=0.06)
    assert with_pause.rate == pytest.approx(prosody(signal(8)).rate, rel=0.2)


@pytest.mark.parametrize("pitch", [80.0, 130.0, 260.0])
def test_the_contour_is_the_pitch(pitch):
    assert np.exp(np.median(prosody(signal(6, pitch)).contour)) == pytest.approx(pitch, rel=0.04)
    rising = prosody(signal(6, pitch, glide=0.5)).contour
    assert rising[-1] - rising[0] == pytest.approx(0.5 * np.log(2) * 5 / 6, abs=0.08)


def test_silence_and_noise_have_no_prosody_or_no_contour():
    assert prosody(np.zeros(RATE, np.float32)) is None and prosody(np.ones(100, np.float32)) is None
    noise = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    assert prosody(noise).contour is None


def test_likeness_correlates_over_utterances_and_within_contours():
    signals = [signal(8, pause=0.3 * number, glide=0.2 * (number - 2), seconds=0.14 + 0.03 * number)
               for number in range(5)]
    sources = {f"u{number}": prosody(samples) for number, samples in enumerate(signals)}
    same = likeness(sources, sources)
    assert {metric: score.value for metric, score in same.items()} == pytest.approx(
        {"rate_likeness": 1.0, "pause_likeness": 1.0, "pitch_likeness": 1.0}, abs=0.25)
    shifted = dict(zip(sources, [*list(sources.values())[1:], sources["u0"]], strict=True))
    assert likeness(shifted, sources)["rate_likeness"].value < 0.2
    assert likeness({"u0": sources["u0"]}, sources) == {}
