"""Training of SoundStorm: it predicts the masked codes of one level of each example."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from torch.nn import functional

from audiopalm.acoustic.corpus import Batch
from audiopalm.acoustic.soundstorm.generation import GenerationConfig
from audiopalm.acoustic.soundstorm.masking import draw_levels, draw_mask, hide
from audiopalm.acoustic.soundstorm.model import ModelConfig, SoundStorm, Voice
from audiopalm.acoustic.training import AcousticTraining, LevelScores, LevelSums, VoiceBatchConfig, to_device
from audiopalm.core.config import ranged
from audiopalm.training.config import TrainingConfig
from audiopalm.training.optimizer import OptimizerConfig


@dataclass
class MaskingConfig:
    """The choice of the masked level and frames of an example."""

    level_bias: float = ranged(0.8, above=0, high=1)  # probability of a level relative to the one below; the paper: 1
    whole_share: float = ranged(0.0, low=0, high=1)  # of examples with all frames masked, as in one-pass decoding
    cut_share: float = ranged(0.2, low=0, high=1)  # of examples whose known part reaches into the target; the paper: 1


@dataclass
class SoundStormConfig:
    """conf/acoustic.yaml for `kind: soundstorm`."""

    kind: str = "soundstorm"
    model: ModelConfig = field(default_factory=ModelConfig)
    batch: VoiceBatchConfig = field(default_factory=lambda: VoiceBatchConfig(targets=3))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(final_rate=0.0, warmup_steps=50,
                                                                               weight_decay=0.01))
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


@dataclass
class Masked:
    """A masked batch.

    shown: int64 `[B, T, levels]`, the codes with masks in place of hidden ones. mask: bool `[B, T]`, the frames to
    predict. level: int64 `[B]`, the level to predict.
    """

    shown: np.ndarray
    mask: np.ndarray
    level: np.ndarray


def draw_masks(random: np.random.Generator, codec: np.ndarray, codec_size: int, bias: float, cut_share: float,
               whole_share: float) -> Masked:
    """Random masks for codec tokens `[B, T, levels]`; arguments as in MaskingConfig.

    In a fraction `cut_share` of the sequences, all frames before t ~ U{0, T-1} are known. This is the paper's prompt,
    and synthesis continues long utterances in this way.
    """
    rows, frames, levels = codec.shape
    cuts = np.where(random.random(rows) < cut_share, random.integers(0, frames, rows), 0)
    level = draw_levels(random, rows, levels, bias)
    mask = draw_mask(random, cuts, frames, whole_share)
    return Masked(hide(codec, mask, level, cuts, codec_size), mask, level)


class SoundStormTraining(AcousticTraining):
    """The mean cross-entropy over the masked frames of each example's level."""

    model_class = SoundStorm
    model: SoundStorm

    def losses(self, batch: Batch, random: np.random.Generator) -> tuple[Tensor, LevelSums]:
        masking = self.config.masking
        return self.masked_loss(batch, draw_masks(random, batch.codec, self.corpus.codec_size, masking.level_bias,
                                                  masking.cut_share, masking.whole_share))

    def masked_loss(self, batch: Batch, masked: Masked) -> tuple[Tensor, LevelSums]:
        """`losses` for given masks."""
        units, shown = (to_device(values, self.device) for values in (batch.units, masked.shown))
        states = self.model(units, shown, self._voice(batch)).flatten(0, 1)
        sums = {}
        for level in sorted(set(masked.level.tolist())):
            # The host computes the positions. It would have to wait for their number if the mask were on a GPU.
            positions = np.flatnonzero(masked.mask & (masked.level == level)[:, None])
            truth = to_device(batch.codec.reshape(-1, batch.codec.shape[2])[positions], self.device)
            logits = self.model.logits(states.index_select(0, to_device(positions, self.device)), truth, level).float()
            sums[level] = (functional.cross_entropy(logits, truth[:, level], reduction="sum"), len(positions))
        total = sum(value for value, _ in sums.values()) / int(masked.mask.sum())
        return total, {level: (value.detach(), count) for level, (value, count) in sums.items()}

    def _voice(self, batch: Batch) -> Voice:
        units, codec, voice = (to_device(values, self.device)
                               for values in (batch.prompt_units, batch.prompt_codec, batch.voice))
        return self.model.encode_prompt(units, codec).select(voice)

    def scores(self, batch: Batch) -> LevelScores:
        """Loss and accuracy of each level with all its frames masked, given the true codes of the lower levels."""
        everything = np.ones(batch.codec.shape[:2], dtype=bool)
        cuts = np.zeros(len(everything), dtype=np.int64)
        losses, accuracies = [], []
        voice, units = self._voice(batch), to_device(batch.units, self.device)
        codec = to_device(batch.codec, self.device).flatten(0, 1)
        for level in range(self.corpus.levels):
            shown = hide(batch.codec, everything, np.full(len(cuts), level), cuts, self.corpus.codec_size)
            states = self.model(units, to_device(shown, self.device), voice)
            logits, truth = self.model.logits(states.flatten(0, 1), codec, level).float(), codec[:, level]
            losses.append(float(functional.cross_entropy(logits, truth)))
            accuracies.append(float((logits.argmax(-1) == truth).float().mean()))
        return losses, accuracies
