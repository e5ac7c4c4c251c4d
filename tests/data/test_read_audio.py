"""Files that can be opened and hold no sound speech."""

import numpy as np
import pytest
import soundfile

from audiopalm.data.audio import DamagedAudio, read_audio


@pytest.mark.parametrize("name", ["a.wav", "a.ogg"])
def test_a_file_without_samples_is_damaged(tmp_path, name):
    soundfile.write(tmp_path / name, np.zeros(0), 16000)
    with pytest.raises(DamagedAudio, match="holds no samples"):
        read_audio(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_damage(tmp_path, value):
    samples = np.zeros(1600, np.float32)
    samples[800] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(DamagedAudio, match="not numbers"):
        read_audio(tmp_path / "a.wav")
