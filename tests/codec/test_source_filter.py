"""The decoder of the spectral codec: its harmonic source, its filters, the pitch that it learns."""

import numpy as np
import pytest
import torch
from scipy.signal import find_peaks

from audiopalm.codec.source_filter import SourceFilterConfig, SourceFilterDecoder, harmonic_source
from audiopalm.codec.spectral_training import pitch_error
from audiopalm.core.errors import AudioPaLMError
from audiopalm.data.pitch import measure_pitch

HOP = 320


def constant(hertz: float, frames: int = 50) -> torch.Tensor:
    return torch.full((1, frames + 1), hertz)


@pytest.mark.parametrize("hertz", [61.0, 100.0, 217.3, 480.0])
def test_the_source_has_all_harmonics_of_the_pitch_and_a_variance_of_one(hertz):
    source = harmonic_source(constant(hertz), HOP)[0]
    assert source.shape == (50 * HOP,) and source.square().mean() == pytest.approx(1, rel=0.05)
    spectrum = torch.fft.rfft(source * torch.hann_window(len(source))).abs()  # 1 Hz a bin
    harmonics = spectrum[(hertz * torch.arange(1, int(7900 / hertz))).round().long()]
    between = spectrum[(hertz * (torch.arange(1, int(7900 / hertz)) + 0.5)).round().long()]
    assert harmonics.min() > 0.6 * harmonics.max() and between.max() < 0.05 * harmonics.min()


def test_the_pulses_of_the_source_follow_a_gliding_pitch():
    glide = torch.linspace(120, 240, 51)[None]
    source = harmonic_source(glide, HOP)[0].numpy()
    pulses, _ = find_peaks(source, height=0.3 * source.max(), distance=30)
    assert len(pulses) == pytest.approx(180, abs=1)
    middle = (pulses[1:] + pulses[:-1]) / 2
    np.testing.assert_allclose(16000 / np.diff(pulses), 120 + 120 * middle / 16000, rtol=0.03)


def test_a_source_ends_where_it_would_end_alone():
    both = torch.cat([constant(100), constant(100)])
    both[1, 31:] = 400  # what follows has no effect on what was before
    source = harmonic_source(both, HOP)
    torch.testing.assert_close(source[0, :30 * HOP], source[1, :30 * HOP])


def test_gains_shape_the_source_and_the_noise():
    decoder = SourceFilterDecoder(4, HOP, SourceFilterConfig(dim=8, blocks=1)).eval()
    silent, flat = torch.full((1, decoder.bins, 101), -30.0), torch.zeros(1, decoder.bins, 101)
    voiced = decoder.synthesise(torch.stack([flat, flat, silent], 1), constant(150))
    torch.testing.assert_close(voiced, harmonic_source(constant(150), HOP), atol=1e-4, rtol=1e-4)
    unvoiced = decoder.synthesise(torch.stack([silent, flat, flat], 1), constant(150))
    torch.testing.assert_close(unvoiced[0], decoder.noise[:50 * HOP], atol=1e-4, rtol=1e-4)


def test_noise_is_new_in_training_and_the_same_in_use():
    decoder = SourceFilterDecoder(4, HOP, SourceFilterConfig(dim=8, blocks=1))
    latents = torch.randn(1, 9, 4)
    with torch.no_grad():
        assert not torch.equal(decoder(latents), decoder(latents))
        decoder.eval()
        assert torch.equal(decoder(latents), decoder(latents))


def test_silence_is_unvoiced_and_a_tone_has_its_pitch():
    time = np.arange(16000) / 16000
    tone = sum(np.cos(2 * np.pi * 130 * number * time) for number in range(1, 20)) * 0.02
    pitch = measure_pitch(np.stack([tone, np.zeros(16000)]).astype(np.float32), HOP)
    assert pitch.shape == (2, 51) and pitch.dtype == np.float32 and not pitch[1].any()
    np.testing.assert_allclose(pitch[0, 4:-4], 130, rtol=0.01)


def test_the_error_of_the_pitch_counts_voiced_frames():
    measured = torch.tensor([[100.0, 0.0, 200.0]])
    assert pitch_error(torch.tensor([[100.0, 440.0, 200.0]]), measured) == 0
    assert pitch_error(torch.tensor([[200.0, 440.0, 200.0]]), measured).item() == pytest.approx(np.log(2) / 2)
    assert pitch_error(torch.tensor([[200.0]]), torch.zeros(1, 1)) == 0


@pytest.mark.parametrize("settings", [{"frames": 3}, {"frames": 1, "n_fft": 512}])
def test_frames_that_do_not_divide_the_hop_and_windows_that_do_not_overlap_are_refused(settings):
    with pytest.raises(AudioPaLMError, match="frames must divide hop"):
        SourceFilterDecoder(4, HOP, SourceFilterConfig(dim=8, blocks=1, **settings))
