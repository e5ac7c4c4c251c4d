"""Cleaning of callers' speech: where long speech is cut, and that a bang does not hide speech."""

import numpy as np
import pytest
from packed import spoken

from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.cleaning import LEVEL, MARGIN, MAX_SEGMENT, at_level, cut_long, speech_segments
from audiopalm.data.voice_activity import FRAME


def level(samples):
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("pause", [200, 250, 350])
def test_long_speech_is_cut_at_its_pause_and_not_at_the_limit(pause):
    probabilities = np.ones(600)
    probabilities[pause:pause + 4] = 0.4  # 128 ms
    spans = list(cut_long(iter([(0, probabilities)])))
    assert pause <= spans[0][1] / FRAME <= pause + 4
    assert [last for _, last in spans] == [*(begin for begin, _ in spans[1:]), 600 * FRAME]
    assert max(last - begin for begin, last in spans) / SAMPLE_RATE <= MAX_SEGMENT - 2 * MARGIN


def test_a_bang_changes_neither_the_segments_nor_their_level():
    """Speech at -36 dBFS, and 50 ms at full scale a second before it."""
    random = np.random.default_rng(0)
    speech = np.concatenate([np.zeros(2 * SAMPLE_RATE), spoken(3.0), np.zeros(SAMPLE_RATE)]).astype(np.float32)
    speech = speech * np.float32(10 ** (-36 / 20) / np.abs(speech).max())
    speech += random.normal(0, 1e-5, len(speech)).astype(np.float32)
    bang = speech.copy()
    bang[SAMPLE_RATE:SAMPLE_RATE + 800] = random.uniform(-1, 1, 800)
    plain = list(speech_segments(speech))
    found = [segment for segment in speech_segments(bang) if segment.start > 1.2]
    assert len(plain) == len(found) == 1
    assert found[0].start == pytest.approx(plain[0].start, abs=0.2)
    assert found[0].end == pytest.approx(plain[0].end, abs=0.2)
    assert level(found[0].samples) == pytest.approx(level(plain[0].samples), rel=0.1)


def test_a_bang_within_speech_hardly_changes_its_level():
    speech = np.random.default_rng(0).normal(0, 0.005, 2 * SAMPLE_RATE).astype(np.float32)
    bang = speech.copy()
    bang[SAMPLE_RATE:SAMPLE_RATE + 800] = 0.9
    assert level(at_level(speech)) == pytest.approx(LEVEL, rel=0.01)
    assert level(at_level(bang)[:SAMPLE_RATE]) > LEVEL / 2
