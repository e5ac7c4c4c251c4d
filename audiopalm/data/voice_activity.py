"""Voice activity detection by Silero's network, with the weights in its package.

The package silero-vad (MIT) holds the network in several formats. This module reads the safetensors file of the 16 kHz
model: it needs no pickle and no other runtime, and computes all frames of a block at once, while TorchScript computes
one frame after another.
"""

import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.weights import load_module
from audiopalm.data.audio import SAMPLE_RATE

FRAME = 512  # samples: 32 ms
CONTEXT = 64  # samples before a frame that its probability depends on
BLOCK_FRAMES = 1000  # frames computed at once, 32 s: the memory does not grow with the recording
FRAMES_PER_SECOND = SAMPLE_RATE / FRAME
WEIGHTS = "data/silero_vad_16k.safetensors"


class Silero(nn.Module):
    """Magnitudes of a short-time Fourier transform, four convolutions, an LSTM over frames, one logit per frame."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)  # 129 real and 129 imaginary parts
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, frames: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Frames with their context `[N, CONTEXT + FRAME]` -> (probabilities of speech `[N]`, state of the LSTM)."""
        spectrum = self.stft_conv(functional.pad(frames[:, None], (0, CONTEXT), mode="reflect"))
        x = spectrum.unflatten(1, (2, 129)).square().sum(dim=1).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = convolution(x).relu()
        cell = self.lstm_cell
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        zero = x.new_zeros(1, 128)
        outputs, hidden, memory = torch.lstm(x[None, :, :, 0], [part[None] for part in state or (zero, zero)], weights,
                                             True, 1, 0.0, False, False, True)
        return self.final_conv(outputs.relu().transpose(1, 2))[0, 0].sigmoid(), (hidden[0], memory[0])


@cache
def load_silero() -> Silero:
    """The network of the installed package. Raises AudioPaLMError where the package is not installed."""
    package = importlib.util.find_spec("silero_vad")
    if package is None or package.origin is None:
        raise AudioPaLMError("voice activity needs the package silero-vad, which is not installed: "
                             "pip install silero-vad")
    return load_module(Silero, Path(package.origin).parent / WEIGHTS, "pip install silero-vad").eval()


def speech_probabilities(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Probabilities of speech, float32 `[frames]` of 32 ms, block by block, from samples `[T]` float32 at 16 kHz."""
    network, state, block = load_silero(), None, BLOCK_FRAMES * FRAME
    for start in range(0, len(samples), block):
        first, last = max(0, start - CONTEXT), min(len(samples), start + block)
        frames = -(-(last - start) // FRAME)
        before = CONTEXT - (start - first)
        padded = np.pad(samples[first:last], (before, start + frames * FRAME - last))
        windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]
        with torch.inference_mode():
            probabilities, state = network(torch.from_numpy(windows.copy()), state)
        yield probabilities.numpy()
