"""SoundStorm's iterative parallel decoding from units and a voice prompt to codec tokens, for a batch of utterances."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiopalm.acoustic.base import Acoustic, Generated, Prompt, Window, WindowConfig, generate_in_windows, sample_codes
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT
from audiopalm.acoustic.soundstorm.masking import still_masked
from audiopalm.acoustic.soundstorm.model import SoundStorm, Voice
from audiopalm.core.config import chosen, ranged
from audiopalm.core.errors import AudioPaLMError

CPU_BATCH_FRAMES = 600  # the states of larger batches exceed a processor's cache, and need more padding
PRECISIONS = ("32-true", "bf16-mixed")  # Lightning Fabric's names


@dataclass
class GenerationConfig(WindowConfig):
    """The sampling of codes. Temperature 0 takes the most probable code."""

    iterations: list[int] = ranged([8, 1], low=1, high=1000)  # of each level; the last number is repeated
    temperature: float = ranged(0.8, low=0, high=100)  # of levels with several iterations
    fine_temperature: float = ranged(0.0, low=0, high=100)  # of levels with one iteration
    noise: float = ranged(1.0, low=0, high=100)  # on the confidence, reduced to 0 at the last iteration
    # bf16-mixed: products in bfloat16; on a GPU, codes then depend slightly on the batch
    precision: str = chosen("32-true", PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.iterations:
            raise AudioPaLMError("generation: iterations must name at least one number")


class SoundStormAcoustic(Acoustic):
    """A trained SoundStorm with its generation settings."""

    model: SoundStorm
    generation: GenerationConfig

    def __init__(self, model: SoundStorm, generation: GenerationConfig, meta: dict[str, Any] | None = None):
        super().__init__(model, generation, meta)
        self.bf16 = generation.precision == "bf16-mixed"
        for module in self.model.encoder.modules():
            if self.bf16 and isinstance(module, (nn.Linear, nn.Conv2d)):
                module.bfloat16()  # converted once here; autocast would convert the weights in every pass

    def _generate(self, units: list[np.ndarray], prompts: list[Prompt], seed: int) -> list[np.ndarray]:
        encode = _LastVoice(self._encode)

        def extend(windows: list[Window], generated: Generated) -> list[np.ndarray]:
            voice = encode([prompts[window.utterance] for window in windows])
            return self._extend(windows, units, voice, generated, seed)

        return generate_in_windows([len(ids) for ids in units], self.model.config.levels, self.windows(), extend)

    def windows(self) -> GenerationConfig:
        """The settings of windows on the model's device. Batches on a CPU are small.

        In bfloat16 each window on a CPU is a batch of its own: a product of another size rounds differently, and the
        differences are large enough to change codes.
        """
        if self.model.head_bias.device.type != "cpu":
            return self.generation
        most = 1 if self.bf16 else CPU_BATCH_FRAMES
        return replace(self.generation, batch_frames=min(self.generation.batch_frames, most))

    def _encode(self, prompts: list[Prompt]) -> Voice:
        units, codec = (self._to_device(np.stack(values)) for values in zip(*prompts, strict=True))
        with self._precision():
            return self.model.encode_prompt(units, codec)

    def _precision(self) -> AbstractContextManager:
        return torch.autocast(self.model.head_bias.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def _to_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.model.head_bias.device, non_blocking=True)

    def _extend(self, windows: list[Window], units: list[np.ndarray], voice: Voice, generated: Generated,
                seed: int) -> list[np.ndarray]:
        """The new frames `[n, levels]` of each window; `voice` has a row for each window."""
        shape = (len(windows), max(window.frames for window in windows))
        unit_batch = np.zeros((shape[0], shape[1] // FRAMES_PER_UNIT), dtype=np.int64)
        codec_batch = np.full((*shape, self.model.config.levels), self.model.config.codec_size, dtype=np.int64)
        is_new = np.zeros(shape, dtype=bool)
        uniform = np.empty((2, sum(self._iterations()), *shape), dtype=np.float32)
        for row, window in enumerate(windows):
            unit_batch[row, :window.last - window.first] = units[window.utterance][window.first:window.last]
            codec_batch[row, :window.overlap] = window.overlap_codes(generated)
            is_new[row, window.overlap:window.frames] = True
            # Each window has its own random numbers, so that its codes do not depend on the batch.
            random = np.random.default_rng([seed, window.start])
            uniform[..., row, :window.frames] = random.random((*uniform.shape[:2], window.frames), dtype=np.float32)
        lengths = np.array([window.frames for window in windows])
        padded = None if lengths.min() == shape[1] else self._to_device(lengths)
        filled = self.fill(self._to_device(unit_batch), self._to_device(codec_batch), voice, self._to_device(is_new),
                           padded, self._to_device(uniform), self._to_device(self.schedule(is_new.sum(axis=1))))
        return [codes[new] for codes, new in zip(filled.cpu().numpy(), is_new, strict=True)]

    def _iterations(self) -> list[int]:
        """The number of iterations of each level."""
        iterations = self.generation.iterations
        return [iterations[min(level, len(iterations) - 1)] for level in range(self.model.config.levels)]

    def schedule(self, new: np.ndarray) -> np.ndarray:
        """The number of the `new [B]` frames that are still masked after each iteration, int64 `[iterations, B]`."""
        return np.array([[still_masked(int(frames), iteration, iterations) for frames in new]
                         for iterations in self._iterations() for iteration in range(iterations)], dtype=np.int64)

    def fill(self, units: Tensor, codec: Tensor, voice: Voice, is_new: Tensor, lengths: Tensor | None,
             uniform: Tensor, remaining: Tensor) -> Tensor:
        """Fill the frames `is_new [B, T]` of `codec [B, T, levels]` in place, level by level, and return it.

        units: int64 `[B, T / 2]`. lengths: int64 `[B]`, frames without padding; None means no padding. uniform: random
        numbers in [0, 1), `[2, iterations of all levels, B, T]`, for the samples and for the noise on the confidence.
        remaining: the result of `schedule`.

        On a CPU, codes are computed for masked frames only. On other devices they are computed for all frames, because
        the host would have to wait for the number of masked frames.
        """
        choose = self._choose_masked if codec.device.type == "cpu" else self._choose_everywhere
        step = 0
        for level, iterations in enumerate(self._iterations()):
            masked = is_new.clone()
            for iteration in range(iterations):
                with self._precision():
                    states = self.model(units, codec, voice, lengths)
                temperature = self.generation.temperature if iterations > 1 else self.generation.fine_temperature
                tokens, confidence = choose(states, codec, level, temperature, uniform[0, step], masked)
                accepted = masked
                if iteration + 1 < iterations:
                    noise = self.generation.noise * (1 - (iteration + 1) / iterations)
                    draw = uniform[1, step].clamp(1e-7, 1 - 1e-7)
                    confidence = confidence - noise * torch.log(-torch.log(draw))
                    accepted = most_confident(confidence, masked, remaining[step])
                codec[..., level] = torch.where(accepted, tokens, codec[..., level])
                masked = masked & ~accepted
                step += 1
        return codec

    def _choose_masked(self, states: Tensor, codec: Tensor, level: int, temperature: float, uniform: Tensor,
                       masked: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and their log probabilities `[B, T]`; 0 where a frame is not masked."""
        codes, scores = sample_codes(self.model.logits(states[masked], codec[masked], level), temperature,
                                     uniform[masked])
        return (codes.new_zeros(masked.shape).masked_scatter_(masked, codes),
                scores.new_zeros(masked.shape).masked_scatter_(masked, scores))

    def _choose_everywhere(self, states: Tensor, codec: Tensor, level: int, temperature: float, uniform: Tensor,
                           masked: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and their log probabilities `[B, T]` for all frames."""
        logits = self.model.logits(states.flatten(0, 1), codec.flatten(0, 1), level)
        codes, scores = sample_codes(logits, temperature, uniform.flatten())
        return codes.view(masked.shape), scores.view(masked.shape)


class _LastVoice:
    """Encodes the distinct prompts of a batch, and caches the result for batches with the same prompts."""

    def __init__(self, encode: Callable[[list[Prompt]], Voice]):
        self.encode = encode
        self.prompts: dict[int, Prompt] = {}
        self.voice: Voice | None = None

    def __call__(self, prompts: list[Prompt]) -> Voice:
        """The encoded prompt of each row. An object that occurs several times in `prompts` is encoded once."""
        distinct = {id(prompt): prompt for prompt in prompts}
        if self.voice is None or distinct.keys() != self.prompts.keys():
            self.prompts, self.voice = distinct, self.encode(list(distinct.values()))
        row = {key: number for number, key in enumerate(self.prompts)}
        if len(prompts) == len(row) == 1:
            return self.voice
        rows = torch.tensor([row[id(prompt)] for prompt in prompts])
        return self.voice.select(rows.to(self.voice.summary.device, non_blocking=True))


def most_confident(confidence: Tensor, masked: Tensor, remaining: Tensor) -> Tensor:
    """The masked positions with the highest confidence, bool `[B, T]`; the other `remaining [B]` of a row stay masked.

    confidence: `[B, T]`. masked: bool `[B, T]`.
    """
    rank = confidence.masked_fill(~masked, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return masked & (rank < (masked.sum(dim=1) - remaining)[:, None])
