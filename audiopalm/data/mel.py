"""Log-mel spectrograms, the input of the audio tokenizers and the measure of the codec's loss."""

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.data.audio import SAMPLE_RATE


def mel_filters(bands: int, n_fft: int, rate: int = SAMPLE_RATE) -> Tensor:
    """Triangular filters `[n_fft // 2 + 1, bands]`, evenly spaced in mel, 2595 log10(1 + f / 700), to half the rate."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, n_fft // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


class LogMel(nn.Module):
    """Samples `[B, T]` -> log of mel magnitudes `[B, ceil(T / hop), bands]`; frame t is centred on sample t * hop."""

    def __init__(self, bands: int, n_fft: int, hop: int, floor: float = 1e-4):
        super().__init__()
        self.n_fft, self.hop, self.floor = n_fft, hop, floor
        # The device is named because making a window on the meta device, for its shape, takes seconds of imports.
        self.register_buffer("window", torch.hann_window(n_fft, device="cpu"), persistent=False)
        self.register_buffer("filters", mel_filters(bands, n_fft), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        frames = -(-samples.shape[1] // self.hop)
        # Zeros at both ends, not reflection: a signal may be shorter than half a window.
        padded = nn.functional.pad(samples, (self.n_fft // 2, self.n_fft // 2 + frames * self.hop - samples.shape[1]))
        spectrum = torch.stft(padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        spectrum = spectrum[:, :, :frames].transpose(1, 2)
        # Much faster than abs(), and with a gradient where the spectrum is zero.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()
        return torch.log(torch.clamp(magnitude @ self.filters, min=self.floor))
