"""SoundStorm's iterative parallel decoding: units and a voice prompt to codec tokens, many utterances at once."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.acoustic.base import Acoustic, Made, Prompt, Window, WindowConfig, choose, make_in_windows
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT
from audiopalm.acoustic.soundstorm.masking import still_masked
from audiopalm.acoustic.soundstorm.model import SoundStorm, Voice
from audiopalm.core.errors import AudioPaLMError, nearest

PRECISIONS = ("32-true", "bf16-mixed")  # Lightning Fabric's names


@dataclass
class GenerationConfig(WindowConfig):
    """How tokens are chosen; temperature 0 takes the most probable token."""

    iterations: list = field(default_factory=lambda: [8, 1])  # of each level; the last number serves all further ones
    temperature: float = 0.8  # of levels with several iterations
    fine_temperature: float = 0.0  # of levels with one iteration
    noise: float = 1.0  # on the confidence, fading to 0 at the last iteration
    precision: str = "32-true"  # or bf16-mixed: products in bfloat16, with which codes depend a little on the batch

    def __post_init__(self):
        super().__post_init__()
        if self.precision not in PRECISIONS:
            raise AudioPaLMError(f"generation: unknown precision {self.precision!r}; "
                                 f"{nearest(self.precision, PRECISIONS)}")


class SoundStormAcoustic(Acoustic):
    """A trained SoundStorm with its decoding settings."""

    model: SoundStorm
    generation: GenerationConfig

    def __init__(self, model: SoundStorm, generation: GenerationConfig, meta: dict | None = None):
        super().__init__(model, generation, meta)
        self.bf16 = generation.precision == "bf16-mixed"
        for module in self.model.encoder.modules():
            if self.bf16 and isinstance(module, (nn.Linear, nn.Conv2d)):
                module.bfloat16()  # once, which autocast would do at every pass

    def make(self, units: list[np.ndarray], prompts: list[Prompt], seed: int) -> list[np.ndarray]:
        def extend(windows: list[Window], made: Made) -> list[np.ndarray]:
            return self._extend(windows, units, prompts, made, seed)

        return make_in_windows([len(one) for one in units], self.model.config.levels, self.generation, extend)

    def _extend(self, windows: list[Window], units: list[np.ndarray], prompts: list[Prompt], made: Made,
                seed: int) -> list[np.ndarray]:
        """The new frames `[n, levels]` of each window."""
        shape = (len(windows), max(window.frames for window in windows))
        unit_batch = np.zeros((shape[0], shape[1] // FRAMES_PER_UNIT), dtype=np.int64)
        codec_batch = np.full((*shape, self.model.config.levels), self.model.config.codec_size, dtype=np.int64)
        wanted = np.zeros(shape, dtype=bool)
        uniform = np.empty((2, sum(self._iterations()), *shape), dtype=np.float32)
        for row, window in enumerate(windows):
            unit_batch[row, :window.last - window.first] = units[window.utterance][window.first:window.last]
            codec_batch[row, :window.known] = window.known_of(made)
            wanted[row, window.known:window.frames] = True
            # One stream of numbers for each utterance and window, so that neighbours in the batch change nothing.
            random = np.random.default_rng([seed, window.begin])
            uniform[..., row, :window.frames] = random.random((*uniform.shape[:2], window.frames), dtype=np.float32)
        device = self.model.head_bias.device
        prompt_units, prompt_codec = (torch.from_numpy(np.stack(values)).to(device) for values in
                                      zip(*(prompts[window.utterance] for window in windows), strict=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            voice = self.model.encode_prompt(prompt_units, prompt_codec)
        lengths = torch.tensor([window.frames for window in windows], device=device)
        filled = self.fill(torch.from_numpy(unit_batch).to(device), torch.from_numpy(codec_batch).to(device), voice,
                           torch.from_numpy(wanted).to(device), lengths, torch.from_numpy(uniform).to(device))
        return [codes[new] for codes, new in zip(filled.cpu().numpy(), wanted, strict=True)]

    def _iterations(self) -> list[int]:
        given = self.generation.iterations
        return [given[min(level, len(given) - 1)] for level in range(self.model.config.levels)]

    def fill(self, units: Tensor, codec: Tensor, voice: Voice, wanted: Tensor, lengths: Tensor,
             uniform: Tensor) -> Tensor:
        """`codec [B, T, levels]` with the frames `wanted [B, T]` filled in, level by level; no other frame changes.

        units `[B, T / 2]`; lengths `[B]`, real frames; uniform `[2, passes, B, T]`, numbers in [0, 1):
        which token, and the noise on its confidence.
        """
        step = 0
        for level, iterations in enumerate(self._iterations()):
            masked = wanted.clone()
            for iteration in range(iterations):
                with torch.autocast(codec.device.type, torch.bfloat16, enabled=self.bf16):
                    states = self.model(units, codec, voice, lengths)
                temperature = self.generation.temperature if iterations > 1 else self.generation.fine_temperature
                tokens, confidence = choose(self.model.logits(states[masked], codec[masked], level), temperature,
                                            uniform[0, step][masked])
                if iteration + 1 < iterations:
                    fade = self.generation.noise * (1 - (iteration + 1) / iterations)
                    draw = uniform[1, step][masked].clamp(1e-7, 1 - 1e-7)
                    confidence = confidence - fade * torch.log(-torch.log(draw))
                    kept = most_confident(confidence, masked, wanted.sum(dim=1), iteration, iterations)
                else:
                    kept = torch.ones_like(tokens, dtype=torch.bool)
                places = masked.nonzero()[kept]
                codec[places[:, 0], places[:, 1], level] = tokens[kept]
                masked[places[:, 0], places[:, 1]] = False
                step += 1
        return codec


def most_confident(confidence: Tensor, masked: Tensor, totals: Tensor, iteration: int, iterations: int) -> Tensor:
    """Which masked positions to keep, `[N]` in row-major order of `masked [B, T]`: the cosine schedule per row."""
    table = torch.full(masked.shape, -torch.inf, device=masked.device)
    table[masked] = confidence
    remaining = torch.tensor([still_masked(int(total), iteration, iterations) for total in totals.tolist()],
                             device=masked.device)
    rank = table.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < (masked.sum(dim=1) - remaining)[:, None])[masked]
