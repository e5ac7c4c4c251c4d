"""A small discriminator of spectrograms at several resolutions, for artefacts that mel losses do not measure."""

import torch
from torch import Tensor, nn


class SpectrogramDiscriminator(nn.Module):
    """Samples `[B, T]` -> the feature maps `[B, channels, frames, bins]` of each resolution.

    The last map of each resolution is its prediction: 1 for recordings, 0 for codec output.
    """

    def __init__(self, resolutions: tuple[int, ...] = (256, 512, 1024), channels: int = 16):
        super().__init__()
        self.resolutions = resolutions
        self.nets = nn.ModuleList(self._net(channels) for _ in resolutions)

    @staticmethod
    def _net(channels: int) -> nn.ModuleList:
        sizes = [2, channels, channels, 2 * channels, 2 * channels]
        layers = [nn.Sequential(nn.Conv2d(before, after, (5, 3), stride=(3, 1), padding=(2, 1)), nn.LeakyReLU(0.1))
                  for before, after in zip(sizes, sizes[1:], strict=False)]
        return nn.ModuleList([*layers, nn.Conv2d(sizes[-1], 1, 3, padding=1)])

    def forward(self, samples: Tensor) -> list[list[Tensor]]:
        features = []
        for n_fft, net in zip(self.resolutions, self.nets, strict=True):
            window = torch.hann_window(n_fft, device=samples.device)
            spectrum = torch.stft(samples, n_fft, n_fft // 2, window=window, return_complex=True)
            x = torch.view_as_real(spectrum).permute(0, 3, 1, 2)
            # Magnitudes are compressed, so that loud vowels do not dominate.
            x = x / (x.square().sum(1, keepdim=True) + 1e-6) ** 0.35
            maps = []
            for layer in net:
                x = layer(x)
                maps.append(x)
            features.append(maps)
        return features


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """The least-squares loss, 0-d: predictions are trained towards 1 for recordings and 0 for codec output.

    real, fake: the discriminator's maps of recordings and of codec output.
    """
    return sum(((1 - a[-1]) ** 2).mean() + (b[-1] ** 2).mean() for a, b in zip(real, fake, strict=True)) / len(real)


def generator_losses(real: list[list[Tensor]], fake: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """The adversarial loss and the feature loss of the codec, both 0-d; arguments as in `discriminator_loss`.

    The adversarial loss is the squared distance of the predictions for codec output from 1. The feature loss is the
    relative distance of its other maps to those of recordings.
    """
    adversarial = sum(((1 - maps[-1]) ** 2).mean() for maps in fake) / len(fake)
    distances = [(a.detach() - b).abs().mean() / (a.detach().abs().mean() + 1e-6)
                 for maps, others in zip(real, fake, strict=True) for a, b in zip(maps[:-1], others[:-1], strict=True)]
    return adversarial, sum(distances) / len(distances)
