"""The encoder of `usm-v2` and `w2v-bert`: log-mel at 100 Hz, two convolutions to 25 Hz, Conformer blocks."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from audiopalm.core.gradients import no_grad
from audiopalm.data.mel import LogMel
from audiopalm.units.bounded_conformer import ConformerBlock
from audiopalm.units.encoder import MEL_HOP, SpeechEncoder, pad_to_units

WINDOW = 500  # units per pass, 20 s; longer recordings take several passes
MAX_UNITS = 20_000  # units of a pass over several recordings, on a GPU


class MelConformer(SpeechEncoder):
    """The base of both kinds. Subclasses define `encode`, whose output is quantised, and `reach`."""

    def __init__(self, bands: int, dim: int):
        super().__init__()
        self.log_mel = LogMel(bands, n_fft=512, hop=MEL_HOP)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("scale", torch.ones(bands))
        # Even kernels with a stride of 2: T mel frames become exactly T / 4, centred between their inputs.
        self.halve = nn.Conv1d(bands, dim, 6, stride=2, padding=2)
        self.halve_again = nn.Conv1d(dim, dim, 4, stride=2, padding=1)
        self.input_norm = nn.LayerNorm(dim)

    @property
    def reach(self) -> int:
        """The number of frames (40 ms) on each side that a unit depends on, with subsampling and mel window."""
        raise NotImplementedError

    def encode(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]`, mask `[B, T]` -> the features to quantise, `[B, T, dim of the codebook]`."""
        raise NotImplementedError

    def normalise(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]` of whole recordings, mask `[B, T]` -> the log-mel that the other methods take."""
        return mel

    def subsample(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]`, mask `[B, T]` -> `[B, T, dim]`, the input of the first block."""
        mel = (mel - self.mean) / self.scale * valid.repeat_interleave(4, dim=1)[:, :, None]
        x = functional.silu(self.halve(mel.transpose(1, 2))) * valid.repeat_interleave(2, dim=1)[:, None, :]
        return self.input_norm(functional.silu(self.halve_again(x)).transpose(1, 2))

    def features(self, samples: Tensor) -> Iterator[Tensor]:
        mel = self.log_mel(pad_to_units(samples)[None])
        mel = self.normalise(mel, mel.new_ones(1, mel.shape[1] // 4, dtype=torch.bool))
        for start, first, last in self.windows(mel.shape[1] // 4):
            valid = torch.ones(1, last - first, dtype=torch.bool, device=samples.device)
            yield self.encode(mel[:, 4 * first:4 * last], valid)[0, start - first:][:WINDOW]

    def windows(self, frames: int) -> Iterator[tuple[int, int, int]]:
        """(first unit, first frame, end frame) of each window of a recording of `frames` units.

        Each window includes all frames that its units depend on, so that windows do not change the units.
        """
        for start in range(0, frames, WINDOW):
            yield start, max(0, start - self.reach), min(frames, start + WINDOW + self.reach)

    def batch_features(self, recordings: list[Tensor]) -> list[Tensor]:
        """Recordings `[T]` -> their features `[ceil(T / 640), dim]`, by passes over at most MAX_UNITS units of all."""
        mels = [self.log_mel(pad_to_units(samples)[None]) for samples in recordings]
        mels = [self.normalise(mel, mel.new_ones(1, mel.shape[1] // 4, dtype=torch.bool))[0] for mel in mels]
        cuts = [(number, *window) for number, mel in enumerate(mels) for window in self.windows(len(mel) // 4)]
        cuts.sort(key=lambda cut: cut[3] - cut[2])
        by_window: dict[tuple[int, int], Tensor] = {}
        per_pass = max(1, MAX_UNITS // (WINDOW + 2 * self.reach))
        for first_cut in range(0, len(cuts), per_pass):
            chosen = cuts[first_cut:first_cut + per_pass]
            mel = pad_sequence([mels[number][4 * first:4 * last] for number, _, first, last in chosen], True)
            valid = valid_mask(torch.tensor([last - first for *_, first, last in chosen]), mel.shape[1] // 4)
            states = self.encode(mel, valid.to(mel.device, non_blocking=True))
            for row, (number, start, first, last) in zip(states, chosen, strict=True):
                by_window[number, start] = row[start - first:min(start + WINDOW, last) - first]
        return [torch.cat([by_window[number, start] for start, *_ in self.windows(len(mel) // 4)])
                for number, mel in enumerate(mels)]


def blocks(number: int, dim: int, heads: int, kernel: int, context: int, dropout: float) -> nn.ModuleList:
    """`number` Conformer blocks; the other arguments are those of `ConformerBlock`."""
    return nn.ModuleList(ConformerBlock(dim, heads, kernel, context, dropout) for _ in range(number))


def valid_mask(frames: Tensor, longest: int) -> Tensor:
    """Lengths `[B]` -> mask `[B, longest]`, False on padding."""
    return torch.arange(longest, device=frames.device)[None, :] < frames[:, None]


def positions_of(mask: Tensor, device: torch.device) -> Tensor:
    """The positions, int64 `[N]` on `device`, at which a flattened mask on the host is True.

    Indexing by a mask on a GPU would make the host wait for N.
    """
    return mask.flatten().nonzero()[:, 0].to(device, non_blocking=True)


@no_grad
def measure_scale(model: MelConformer, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Set the mean and standard deviation of each mel band from batches (samples `[B, T]`, units `[B]`)."""
    kept = []
    for samples, units in batches:
        valid = valid_mask(units, samples.shape[1] // (4 * MEL_HOP)).to(samples.device)
        kept.append(model.normalise(model.log_mel(samples), valid)[valid.repeat_interleave(4, dim=1)])
    frames = torch.cat(kept)
    model.mean.copy_(frames.mean(0))
    model.scale.copy_(frames.std(0) + 1e-3)
