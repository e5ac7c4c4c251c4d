"""Damaged recordings: files that open, and hold no usable samples."""

import numpy as np
import pytest
import soundfile

from audiopalm.data.audio import DamagedAudio, read_audio


@pytest.mark.parametrize("name", ["a.wav", "a.ogg"])
def test_a_file_without_samples_is_refused_as_damaged(tmp_path, name):
    soundfile.write(tmp_path / name, np.zeros(0), 16000)
    with pytest.raises(DamagedAudio, match="holds no samples"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au"])
def test_what_follows_an_empty_recording_is_not_taken_for_samples(tmp_path, name):
    soundfile.write(tmp_path / name, np.zeros(0), 16000, subtype="PCM_16")
    with open(tmp_path / name, "ab") as file:
        file.write(b"LIST" + (26).to_bytes(4, "little" if name == "a.wav" else "big") + b"INFOISFT" + bytes(18))
    with pytest.raises(DamagedAudio, match="holds no samples"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_as_damaged(tmp_path, value):
    samples = np.zeros(1600, np.float32)
    samples[800] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(DamagedAudio, match="not numbers"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [0, 1, 999, 768001, 2147483647])
def test_an_impossible_sample_rate_is_refused_as_damaged(tmp_path, rate):
    """A resampler asked for 2147483647 Hz wants 320 GiB."""
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DamagedAudio, match="impossible sample rate|cannot be decoded"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("name, subtype", [("a.wav", "PCM_16"), ("b.wav", "FLOAT"), ("a.flac", "PCM_16"),
                                           ("a.aiff", "PCM_16"), ("a.au", "PCM_16")])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_is_cut_off_is_refused_as_damaged(tmp_path, name, subtype, share):
    samples = np.random.default_rng(0).normal(0, 0.1, 32000)
    soundfile.write(tmp_path / name, samples, 16000, subtype=subtype)
    content = (tmp_path / name).read_bytes()
    assert len(read_audio(tmp_path / name)) == 32000
    (tmp_path / name).write_bytes(content[:int(share * len(content))])
    with pytest.raises(DamagedAudio, match="is cut off|is damaged|cannot be decoded"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_that_was_written_into_a_pipe_is_read(tmp_path, size):
    """The header states a length that no file has, because the writer did not know it."""
    soundfile.write(tmp_path / "a.wav", np.full(1600, 0.1), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_audio(tmp_path / "a.wav")) == 1600
