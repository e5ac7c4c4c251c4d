"""The decoder of the spectral codec: a harmonic source and noise, each through a filter that a network predicts.

The source has the predicted pitch, so that its phases continue from frame to frame. Phases that a small network
predicts for every frame make rough speech. DDSP (arXiv 2001.04643) adds harmonics and filtered noise; HiFTNet (arXiv
2309.09493) gives a source to a decoder with an inverse STFT.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiopalm.codec.convnext import ConvNeXt
from audiopalm.core.config import MAX_SIZE, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import no_grad
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.pitch import HIGHEST_PITCH, LOWEST_PITCH

MAX_LOG_GAIN = 6.0  # without a limit, a single outlier frame could make the loss infinite
FIRST_LOG_GAINS = (-3.0, -4.0)  # of source and noise before training: about the level of speech
NOISE = 1 << 16  # samples of noise, 4 s, which are repeated


@dataclass
class SourceFilterConfig:
    """`decoder:` of the spectral codec's model."""

    dim: int = ranged(256, low=1, high=MAX_SIZE)
    blocks: int = ranged(8, low=0, high=1000)
    frames: int = ranged(2, low=1, high=64)  # filters for each code, evenly in time; the codec's hop is a multiple
    n_fft: int = ranged(512, low=2, high=MAX_SIZE)  # of the STFT in which the filters are applied


class SourceFilterDecoder(nn.Module):
    """Latents `[B, T + 1, latent_dim]`, whose last frame is repeated -> samples `[B, T * hop]`.

    Raises AudioPaLMError if `hop` is not a multiple of `config.frames`, and if the windows do not overlap.
    """

    window: Tensor
    noise: Tensor

    def __init__(self, latent_dim: int, hop: int, config: SourceFilterConfig):
        super().__init__()
        if hop % config.frames or 2 * hop > config.frames * config.n_fft:
            raise AudioPaLMError(f"decoder.frames is {config.frames}, decoder.n_fft {config.n_fft}, hop {hop}: frames "
                                 "must divide hop, and hop / frames be at most half of n_fft")
        self.config, self.hop, self.bins = config, hop, config.n_fft // 2 + 1
        outputs = 1 + 3 * config.frames * self.bins
        self.network = ConvNeXt(latent_dim, config.dim, 3 * config.dim, config.blocks, outputs)
        self.register_buffer("window", torch.hann_window(config.n_fft, device="cpu"), persistent=False)
        noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("noise", noise, persistent=False)
        self._start_near_the_level_of_speech()

    @no_grad
    def _start_near_the_level_of_speech(self) -> None:
        last = self.network.last
        last.weight.mul_(0.3)
        last.bias.zero_()
        gains = last.bias[1:].view(self.config.frames, 3, self.bins)
        gains[:, 0], gains[:, 2] = FIRST_LOG_GAINS

    def forward(self, latents: Tensor, valid: Tensor | None = None) -> Tensor:
        """valid: float `[B, T + 1, 1]`, 0 on padding, which then has no effect; None means no padding."""
        filters, pitch = self.predict(latents, valid)
        return self.synthesise(filters, pitch, valid)

    def predict(self, latents: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents `[B, T + 1, latent_dim]` -> filters `[B, 3, bins, frames * T + 1]` and pitch `[B, T + 1]` in Hz.

        The filters are the log gain and the phase for the source, and the log gain for the noise.
        """
        outputs = self.network(latents, valid).float()
        octaves = math.log(HIGHEST_PITCH / LOWEST_PITCH)
        pitch = LOWEST_PITCH * torch.exp(octaves * outputs[..., 0].sigmoid())
        filters = outputs[..., 1:].unflatten(2, (self.config.frames, 3, self.bins)).flatten(1, 2)
        return filters[:, :(latents.shape[1] - 1) * self.config.frames + 1].permute(0, 2, 3, 1), pitch

    def synthesise(self, filters: Tensor, pitch: Tensor, valid: Tensor | None = None) -> Tensor:
        """Filters and pitch as `predict` returns them -> samples `[B, T * hop]`; valid: see `forward`."""
        frames, hop = self.config.frames, self.hop // self.config.frames
        source = harmonic_source(pitch, self.hop)
        noise = self.noise_like(source)
        if valid is not None:
            sounding = valid[:, 1:, 0].repeat_interleave(self.hop, dim=1)
            source, noise = source * sounding, noise * sounding
            valid = torch.cat([valid[:, :1], valid[:, 1:].repeat_interleave(frames, dim=1)], dim=1)
        gain, phase, noise_gain = filters.unbind(1)
        spectrum = (torch.polar(torch.exp(gain.clamp(max=MAX_LOG_GAIN)), phase) * self.stft(source, hop)
                    + torch.exp(noise_gain.clamp(max=MAX_LOG_GAIN)) * self.stft(noise, hop))
        if source.device.type != "cpu" or valid is not None:
            return inverse_stft(spectrum, self.window, hop, valid)
        return torch.istft(spectrum, self.config.n_fft, hop, window=self.window, length=source.shape[1])

    def stft(self, samples: Tensor, hop: int) -> Tensor:
        # Zeros around the signal, so that a recording in a padded batch has the same frames as alone.
        return torch.stft(samples, self.config.n_fft, hop, window=self.window, pad_mode="constant", return_complex=True)

    def noise_like(self, samples: Tensor) -> Tensor:
        """New noise in training; otherwise always the same, so that decoding has one result."""
        if self.training:
            return torch.randn_like(samples)
        return self.noise.repeat(-(-samples.shape[1] // NOISE))[:samples.shape[1]].expand_as(samples)


def harmonic_source(pitch: Tensor, hop: int) -> Tensor:
    """Pitch `[B, T + 1]` in Hz at every `hop`-th sample -> samples `[B, T * hop]` of variance 1.

    Between its values the pitch changes linearly. All harmonics below the Nyquist frequency have the same amplitude.
    """
    position = torch.arange(hop, device=pitch.device) / hop
    pitch = pitch.double()
    by_sample = (pitch[:, :-1, None] + (pitch[:, 1:] - pitch[:, :-1])[:, :, None] * position).flatten(1)
    half_phase = math.pi * (by_sample.cumsum(1) / SAMPLE_RATE).remainder(1)
    number = torch.floor(SAMPLE_RATE / 2 / by_sample)
    # The sum of cos(k * phase) for k = 1 ... number in closed form; where its denominator vanishes, it is `number`.
    sine = torch.sin(half_phase)
    at_pulse = sine.abs() < 1e-6
    total = torch.sin((2 * number + 1) * half_phase) / (2 * torch.where(at_pulse, 1.0, sine)) - 0.5
    return (torch.where(at_pulse, number, total) * (2 / number).sqrt()).float()


def inverse_stft(spectrum: Tensor, window: Tensor, hop: int, valid: Tensor | None = None) -> Tensor:
    """Spectra `[B, n_fft // 2 + 1, frames]` -> samples `[B, (frames - 1) * hop]`, as `torch.istft`.

    `torch.istft` checks on the host whether windows overlap, so that the host would have to wait for the device. valid:
    float `[B, frames, 1]`, 0 for frames that do not belong to the signal; None means that all frames do.
    """
    n_fft, frames = len(window), spectrum.shape[2]
    signal = torch.fft.irfft(spectrum, n_fft, dim=1) * window[:, None]
    weight = window.square()[None, :, None].expand(1, n_fft, frames)
    if valid is not None:
        signal, weight = signal * valid.mT, weight * valid.mT
    length = n_fft + (frames - 1) * hop
    added, weights = (nn.functional.fold(windows, (1, length), (1, n_fft), stride=(1, hop))[:, 0, 0]
                      for windows in (signal, weight))
    inner = slice(n_fft // 2, n_fft // 2 + (frames - 1) * hop)
    return added[:, inner] / weights[:, inner].clamp(min=1e-11)
