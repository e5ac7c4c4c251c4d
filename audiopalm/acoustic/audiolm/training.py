"""Training of AudioLM's stages: they predict each codec token of prompt and target from all tokens before it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiopalm.acoustic.audiolm.generation import GenerationConfig
from audiopalm.acoustic.audiolm.model import AudioLM, ModelConfig, Stage
from audiopalm.acoustic.corpus import Batch
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT
from audiopalm.acoustic.training import (
    AcousticTraining,
    LevelScores,
    LevelSums,
    VoiceBatchConfig,
    to_device,
    units_of,
)
from audiopalm.core.config import ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.gradients import no_grad
from audiopalm.training.config import TrainingConfig
from audiopalm.training.optimizer import OptimizerConfig


@dataclass
class AudioLMConfig:
    """conf/acoustic.yaml for `kind: audiolm`."""

    kind: str = "audiolm"
    model: ModelConfig = field(default_factory=ModelConfig)
    batch: VoiceBatchConfig = field(default_factory=VoiceBatchConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(final_rate=0.0, warmup_steps=50,
                                                                               weight_decay=0.01))
    # Scheduled sampling in two passes (arXiv 1906.07651): in each example, a random fraction of the past, from 0 to
    # `own_share`, is replaced by tokens that the model has sampled given the true past. Without it, the model relies on
    # the true past more than on the units, and its errors accumulate in generation.
    own_share: float = ranged(0.0, low=0, high=1)
    generation: GenerationConfig = field(default_factory=GenerationConfig)

    def __post_init__(self) -> None:
        if self.model.fine_prompt_seconds > self.batch.prompt_seconds:
            raise AudioPaLMError(f"model.fine_prompt_seconds is {self.model.fine_prompt_seconds}, but prompts have "
                                 f"{self.batch.prompt_seconds} s (batch.prompt_seconds)")


class AudioLMTraining(AcousticTraining):
    """The loss is the cross-entropy of stage 2 plus the cross-entropy of stage 3, each a mean over its levels."""

    model_class = AudioLM
    model: AudioLM

    def losses(self, batch: Batch, random: np.random.Generator) -> tuple[Tensor, LevelSums]:
        stages: dict[bool, list[Tensor]] = {}
        parts = {}
        for level, logits, truth, _ in self.predictions(batch, random, self.config.own_share):
            value = functional.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum")
            parts[level] = (value.detach(), truth.numel())
            stages.setdefault(level < self.model.config.coarse_levels, []).append(value / truth.numel())
        return sum(sum(values) / len(values) for values in stages.values()), parts

    def scores(self, batch: Batch) -> LevelScores:
        """Loss and accuracy of each level in the targets, given all true tokens before each token."""
        losses, accuracies = [], []
        for _, logits, truth, prompt in self.predictions(batch, np.random.default_rng(0), 0.0):
            logits, truth = logits[:, prompt:].flatten(0, 1), truth[:, prompt:].flatten()
            losses.append(float(functional.cross_entropy(logits, truth)))
            accuracies.append(float((logits.argmax(-1) == truth).float().mean()))
        return losses, accuracies

    def predictions(self, batch: Batch, random: np.random.Generator,
                    own_share: float) -> Iterator[tuple[int, Tensor, Tensor, int]]:
        """For each level: its number, logits `[B, T, codec_size]`, true codes `[B, T]`, the number of prompt frames.

        own_share: as in AudioLMConfig.
        """
        model, sizes = self.model, self.model.config
        units, codec = (to_device(np.concatenate(values, axis=1), self.device) for values in
                        ((batch.prompt_units, batch.units), (batch.prompt_codec, batch.codec)))
        coarse = codec[..., :sizes.coarse_levels]
        prompt = batch.prompt_codec.shape[1]
        past = with_own(model.coarse, units[..., None], coarse, prompt, own_share, random)
        hidden = model.coarse(units[..., None], past)
        for level in range(sizes.coarse_levels):
            yield level, model.coarse.logits(hidden[:, :, level], level), coarse[..., level], prompt

        fine_prompt, length = (FRAMES_PER_UNIT * units_of(seconds)
                               for seconds in (sizes.fine_prompt_seconds, sizes.fine_seconds))
        first = prompt + int(random.integers(0, max(1, batch.codec.shape[1] - length + 1)))
        window = torch.cat([codec[:, prompt - fine_prompt:prompt], codec[:, first:first + length]], dim=1)
        coarse, fine = window.split([sizes.coarse_levels, sizes.levels - sizes.coarse_levels], dim=2)
        hidden = model.fine(coarse, with_own(model.fine, coarse, fine, fine_prompt, own_share, random))
        for level in range(fine.shape[2]):
            logits = model.fine.logits(hidden[:, :, level], level)
            yield sizes.coarse_levels + level, logits, fine[..., level], fine_prompt


@no_grad
def with_own(stage: Stage, context: Tensor, codes: Tensor, prompt: int, own_share: float,
             random: np.random.Generator) -> Tensor:
    """Codes `[B, T, levels]`; after `prompt` frames, a random fraction of them is sampled by the stage itself."""
    if own_share == 0:
        return codes
    hidden = stage(context, codes)
    own = torch.stack([draw(stage.logits(hidden[:, :, level], level)) for level in range(stage.levels)], dim=2)
    share = random.uniform(0, own_share, (len(codes), 1, 1))
    replaced = random.random(codes.shape) < share
    replaced[:, :prompt] = False
    return torch.where(to_device(replaced, codes.device), own, codes)


def draw(logits: Tensor) -> Tensor:
    """An index drawn from the softmax of each row of `logits` `[..., size]`, int64 `[...]`.

    torch.multinomial draws in the same way, but first waits for the device to check the probabilities on the host.
    """
    probabilities = logits.softmax(-1)
    return (probabilities / torch.empty_like(probabilities).exponential_(1)).argmax(-1)
