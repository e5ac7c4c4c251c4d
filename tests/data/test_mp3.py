"""mp3 files that do not state their length are decoded to their end."""

import io

import numpy as np
import pytest
import soundfile
from miniatures.sound import without_length

from audiopalm.data.audio import DamagedAudio, read_audio
from audiopalm.data.mp3 import states_its_length

ID3 = b"ID3\x04\x00\x00\x00\x00\x04\x00" + b"\xff" * 512  # a header of ten bytes, and 512 bytes that could be a picture


def encoded(rate: int, channels: int) -> bytes:
    """One second loud, then four of near silence, at a variable bit rate: the first frames are the largest."""
    noise = np.random.default_rng(0).normal(0, 0.1, (5 * rate, channels))
    noise[rate:] *= 1e-4
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, format="MP3", subtype="MPEG_LAYER_III",
                             bitrate_mode="VARIABLE", compression_level=0.6) as file:
        file.write(noise)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [48000, 44100, 32000, 24000, 22050, 16000, 8000])
@pytest.mark.parametrize("front", [b"", ID3], ids=["bare", "ID3"])
def test_an_untagged_mp3_is_read_to_its_end(tmp_path, rate, channels, front):
    path = tmp_path / "a.mp3"
    path.write_bytes(front + without_length(encoded(rate, channels)))
    with open(path, "rb") as stream:
        assert not states_its_length(stream)
    assert soundfile.info(path).duration < 3  # the estimate of libsndfile
    first, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert np.allclose(read_audio(path, rate)[:len(first)], first.mean(axis=1), atol=1e-6)
    samples = read_audio(path)
    assert len(samples) / 16000 == pytest.approx(5.0, abs=0.4 if rate == 8000 else 0.2)
    assert np.abs(samples[1600:14400]).mean() > 0.01 and np.abs(samples[24000:]).max() < 0.001


def test_a_tag_behind_a_title_is_found(tmp_path):
    whole = encoded(48000, 1)
    (tmp_path / "a.mp3").write_bytes(ID3 + whole)
    with open(tmp_path / "a.mp3", "rb") as stream:
        assert states_its_length(stream)
    assert len(read_audio(tmp_path / "a.mp3")) == 80000
    (tmp_path / "cut.mp3").write_bytes(ID3 + whole[:len(whole) // 2])
    with pytest.raises(DamagedAudio, match="is damaged"):
        read_audio(tmp_path / "cut.mp3")
