"""Speech -> unit ids at 25 Hz, the `usm-v2` kind.

Log-mel, a Conformer, a vector quantiser; CTC behind it makes the units carry words.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from audiopalm.config import from_dict
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.files import read_json, require
from audiopalm.data.mel import LogMel
from audiopalm.errors import AudioPaLMError
from audiopalm.tokenizers.conformer import ConformerBlock
from audiopalm.tokenizers.quantiser import VectorQuantiser, nearest

HOP = 640  # samples of one unit: 25 Hz
MEL_HOP = 160  # samples of one mel frame: 100 Hz
WINDOW = 500  # units that one pass computes of a longer recording: 20 s


@dataclass
class UnitConfig:
    bands: int = 80
    dim: int = 192
    heads: int = 4
    kernel: int = 9  # frames of the Conformer's depthwise convolutions
    context: int = 10  # frames of attention to each side
    encoder_blocks: int = 4  # before the quantiser
    head_blocks: int = 1  # between the quantiser and CTC; the tokenizer never runs them
    dropout: float = 0.0
    code_dim: int = 32
    size: int = 512  # codes
    characters: str = ""  # of the CTC head, which has one class more: 0 is blank. Set by training


class UnitModel(nn.Module):
    """The encoder, the quantiser and, for training, two heads behind it: CTC, and the spectrum of each unit."""

    def __init__(self, config: UnitConfig):
        super().__init__()
        self.config = config
        self.log_mel = LogMel(config.bands, n_fft=512, hop=MEL_HOP)
        self.register_buffer("mean", torch.zeros(config.bands))
        self.register_buffer("scale", torch.ones(config.bands))
        # Even kernels with a stride of 2: T mel frames become exactly T / 4, centred between their inputs.
        self.halve = nn.Conv1d(config.bands, config.dim, 6, stride=2, padding=2)
        self.halve_again = nn.Conv1d(config.dim, config.dim, 4, stride=2, padding=1)
        self.input_norm = nn.LayerNorm(config.dim)
        self.encoder = self._blocks(config.encoder_blocks)
        self.to_code = nn.Linear(config.dim, config.code_dim)
        self.code_norm = nn.LayerNorm(config.code_dim, elementwise_affine=False)
        self.quantiser = VectorQuantiser(config.size, config.code_dim)
        self.from_code = nn.Linear(config.code_dim, config.dim)
        self.head = self._blocks(config.head_blocks)
        self.ctc = nn.Linear(config.dim, 1 + len(config.characters))
        self.spectrum = nn.Sequential(nn.Linear(config.code_dim, config.dim), nn.SiLU(),
                                      nn.Linear(config.dim, 4 * config.bands))

    def _blocks(self, number: int) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(ConformerBlock(config.dim, config.heads, config.kernel, config.context, config.dropout)
                             for _ in range(number))

    @property
    def reach(self) -> int:
        """How many frames to either side one unit depends on, the subsampling and the mel window included."""
        return sum(block.reach for block in self.encoder) + 2

    def encode(self, mel: Tensor, valid: Tensor) -> Tensor:
        """Log-mel `[B, 4 T, bands]`, mask `[B, T]` -> latents `[B, T, code_dim]` in front of the quantiser."""
        mel = (mel - self.mean) / self.scale * valid.repeat_interleave(4, dim=1)[:, :, None]
        x = functional.silu(self.halve(mel.transpose(1, 2))) * valid.repeat_interleave(2, dim=1)[:, None, :]
        x = self.input_norm(functional.silu(self.halve_again(x)).transpose(1, 2))
        for block in self.encoder:
            x = block(x, valid)
        return self.code_norm(self.to_code(x).float())

    def classify(self, codes: Tensor, valid: Tensor) -> Tensor:
        """Codes or latents `[B, T, code_dim]` -> log-probabilities of characters `[B, T, 1 + characters]`."""
        x = self.from_code(codes)
        for block in self.head:
            x = block(x, valid)
        return self.ctc(x).float().log_softmax(-1)

    def sound(self, codes: Tensor) -> Tensor:
        """Codes or latents `[B, T, code_dim]` -> scaled log-mels `[B, 4 T, bands]`, each from its own code alone."""
        return self.spectrum(codes).float().unflatten(-1, (4, -1)).flatten(1, 2)

    def text(self, log_probabilities: Tensor) -> str:
        """The text of the best CTC path `[T, classes]`."""
        best = torch.unique_consecutive(log_probabilities.argmax(-1)).tolist()
        return "".join(self.config.characters[index - 1] for index in best if index)


class UnitTokenizer:
    """Speech to unit ids.

    >>> UnitTokenizer.load("exp/units").encode([samples])[0]
    """

    rate = SAMPLE_RATE // HOP  # Hz

    def __init__(self, model: UnitModel):
        self.model = model.eval()
        self.size = model.config.size

    @classmethod
    def load(cls, directory: str | Path, device: str = "cpu") -> "UnitTokenizer":
        """Read config.json and model.safetensors of stage 3."""
        made_by = "stage 3 (units)"
        path = Path(directory) / "config.json"
        config = from_dict(UnitConfig, read_json(path, made_by), str(path))
        model = UnitModel(config)
        model.load_state_dict(load_file(require(Path(directory) / "model.safetensors", made_by)))
        return cls(model.to(device))

    def encode(self, audio: list[np.ndarray]) -> list[np.ndarray]:
        """Recordings `[samples]` float at 16 kHz -> ids `[ceil(samples / 640)]` int64 each.

        Every recording passes alone, because a matrix product may round differently in a larger batch: so the ids of a
        recording never depend on its company. On a CPU nothing is lost by that.
        """
        return [self.encode_one(samples) for samples in audio]

    @torch.inference_mode()
    def encode_one(self, samples: np.ndarray) -> np.ndarray:
        samples = check_samples(samples)
        frames = -(-len(samples) // HOP)
        padded = np.zeros(frames * HOP, dtype=np.float32)
        padded[:len(samples)] = samples
        device = self.model.mean.device
        mel = self.model.log_mel(torch.from_numpy(padded)[None].to(device))
        ids = []
        for start in range(0, frames, WINDOW):
            # Each window sees all that its units depend on, so that cutting changes nothing.
            first, last = max(0, start - self.model.reach), min(frames, start + WINDOW + self.model.reach)
            valid = torch.ones(1, last - first, dtype=torch.bool, device=device)
            latents = self.model.encode(mel[:, 4 * first:4 * last], valid)[0, start - first:][:WINDOW]
            ids.append(nearest(latents, self.model.quantiser.codebook))
        return torch.cat(ids).cpu().numpy()


def check_samples(samples: np.ndarray) -> np.ndarray:
    """`[T]` float32, at least one sample, all finite; raises AudioPaLMError otherwise."""
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or len(samples) == 0:
        raise AudioPaLMError(f"audio must be one channel with at least one sample, found shape {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise AudioPaLMError("audio holds samples that are not numbers")
    return samples
