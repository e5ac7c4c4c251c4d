"""Opus and Codec 2, which the report compares with a codec: lengths, true bit rates, refusals."""

import io
import sys

import numpy as np
import pytest
import soundfile

from audiopalm.codec.classic import codec2, ogg_payloads, opus
from audiopalm.core.errors import AudioPaLMError


def buzz(seconds: float) -> np.ndarray:
    """A sound like a voice of 150 Hz."""
    time = np.arange(round(16000 * seconds)) / 16000
    sound = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20))
    return (0.1 * sound * (1 + np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def test_opus_has_the_sound_and_about_the_asked_for_bit_rate():
    sound = buzz(4)
    for bitrate in (6000, 12000):
        made, bits = opus(sound, bitrate)
        assert made.shape == sound.shape and bits / 4 == pytest.approx(bitrate, rel=0.3)  # the bit rate is variable
    assert np.corrcoef(made, sound)[0, 1] > 0.7
    with pytest.raises(AudioPaLMError, match="6000 to 256000 bit/s here, not 4000"):
        opus(sound, 4000)


def test_the_pages_of_an_ogg_file_add_up_to_the_file():
    file = io.BytesIO()
    soundfile.write(file, buzz(3), 16000, format="OGG", subtype="OPUS")
    content = file.getvalue()
    sizes = ogg_payloads(content)
    starts = [offset for offset in range(len(content)) if content[offset:offset + 4] == b"OggS"]
    assert len(sizes) == len(starts) > 2
    assert sum(sizes) + sum(27 + content[start + 26] for start in starts) == len(content)


def test_an_absent_codec2_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycodec2", None)
    with pytest.raises(AudioPaLMError, match="pip install pycodec2"):
        codec2(buzz(0.1), 1200)


def test_codec2_preserves_the_length_and_the_pitch():
    pytest.importorskip("pycodec2", reason="pycodec2 is not installed; no recipe needs it")
    made, bits = codec2(buzz(2), 3200)
    assert made.shape == (32000,) and bits == 6400
    peaks = np.abs(np.fft.rfft(made))[100:1000].argsort()[-3:] + 100  # in steps of 0.5 Hz
    assert (np.abs((peaks / 2 + 75) % 150 - 75) < 8).all()
