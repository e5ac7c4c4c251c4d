"""What SoundStorm learns: one level of each example, masked; the accuracy of each level on a development set."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiopalm.acoustic.corpus import Batch, Corpus
from audiopalm.acoustic.soundstorm.generation import GenerationConfig
from audiopalm.acoustic.soundstorm.masking import draw_levels, draw_mask, hide
from audiopalm.acoustic.soundstorm.model import ModelConfig, SoundStorm, Voice
from audiopalm.acoustic.training import Losses, TrainingConfig, units_of
from audiopalm.core.device import device_of


@dataclass
class SoundStormTraining(TrainingConfig):
    targets: int = 3  # sequences for each prompt
    level_bias: float = 0.8  # each level is drawn this much less often than the one below; the paper: 1
    whole_share: float = 0.0  # share of examples whose level is wholly masked, as in decoding by one pass; the paper: 0
    cut_share: float = 0.2  # share of examples whose known part reaches into the target; the paper: 1


@dataclass
class SoundStormConfig:
    """conf/acoustic.yaml."""

    kind: str = "soundstorm"
    model: ModelConfig = field(default_factory=ModelConfig)
    training: SoundStormTraining = field(default_factory=SoundStormTraining)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


@dataclass
class Masked:
    """What is hidden of a batch: shown `[B, T, levels]` (with masks put in), mask `[B, T]` (what to predict),
    level `[B]`."""

    shown: np.ndarray
    mask: np.ndarray
    level: np.ndarray


def draw_masks(random: np.random.Generator, codec: np.ndarray, codec_size: int, bias: float, cut_share: float,
               whole_share: float) -> Masked:
    """In a share `cut_share` of the sequences everything before t ~ U{0, T-1} is known, the paper's prompt cut: that
    is what synthesis needs to continue a long utterance."""
    rows, frames, levels = codec.shape
    cuts = np.where(random.random(rows) < cut_share, random.integers(0, frames, rows), 0)
    level = draw_levels(random, rows, levels, bias)
    mask = draw_mask(random, cuts, frames, whole_share)
    return Masked(hide(codec, mask, level, cuts, codec_size), mask, level)


def loss(model: SoundStorm, corpus: Corpus, config: SoundStormTraining,
         random: np.random.Generator) -> tuple[Tensor, Losses]:
    """Of a new batch: the loss, and what it is made of."""
    batch = corpus.draw(random, config.voices, config.targets, units_of(config.prompt_seconds),
                        units_of(config.target_seconds))
    masked = draw_masks(random, batch.codec, corpus.codec_size, config.level_bias, config.cut_share, config.whole_share)
    return masked_loss(model, batch, masked)


def masked_loss(model: SoundStorm, batch: Batch, masked: Masked) -> tuple[Tensor, Losses]:
    """Mean cross-entropy over the masked positions of each example's level."""
    codec, mask, level, units, shown = (torch.from_numpy(values).to(device_of(model)) for values in
                                        (batch.codec, masked.mask, masked.level, batch.units, masked.shown))
    states = model(units, shown, _voice(model, batch))
    sums = {}
    for one in sorted(set(masked.level.tolist())):
        chosen = mask & (level == one)[:, None]
        truth = codec[chosen]
        logits = model.logits(states[chosen], truth, one).float()
        sums[one] = (functional.cross_entropy(logits, truth[:, one], reduction="sum"), len(truth))
    total = sum(value for value, _ in sums.values()) / int(mask.sum())
    return total, {one: (float(value.detach()), count) for one, (value, count) in sums.items()}


def _voice(model: SoundStorm, batch: Batch) -> Voice:
    units, codec, voice = (torch.from_numpy(values).to(device_of(model)) for values in
                           (batch.prompt_units, batch.prompt_codec, batch.voice))
    return model.encode_prompt(units, codec).select(voice)


def evaluate(model: SoundStorm, corpus: Corpus, config: SoundStormTraining) -> tuple[list[float], list[float]]:
    """Loss and accuracy of each level when it is wholly masked, the levels below are true; always the same examples."""
    batch = corpus.draw(np.random.default_rng(0), config.dev_batch, 1, units_of(config.prompt_seconds),
                        units_of(config.target_seconds))
    everything = np.ones(batch.codec.shape[:2], dtype=bool)
    cuts = np.zeros(len(everything), dtype=np.int64)
    losses, accuracies = [], []
    voice, device = _voice(model, batch), device_of(model)
    for level in range(corpus.levels):
        shown = hide(batch.codec, everything, np.full(len(cuts), level), cuts, corpus.codec_size)
        states = model(torch.from_numpy(batch.units).to(device), torch.from_numpy(shown).to(device), voice)
        codec = torch.from_numpy(batch.codec).to(device).flatten(0, 1)
        logits, truth = model.logits(states.flatten(0, 1), codec, level).float(), codec[:, level]
        losses.append(float(functional.cross_entropy(logits, truth)))
        accuracies.append(float((logits.argmax(-1) == truth).float().mean()))
    return losses, accuracies
