"""What AudioLM's stages learn: each codec token from all before it, prompt and target alike."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiopalm.acoustic.audiolm import AudioLM, ModelConfig
from audiopalm.acoustic.audiolm_generation import GenerationConfig
from audiopalm.acoustic.data import Corpus
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT
from audiopalm.acoustic.training import Losses, TrainingConfig, units_of


@dataclass
class AudioLMConfig:
    """conf/acoustic_audiolm.yaml."""

    kind: str = "audiolm"
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


def loss(model: AudioLM, corpus: Corpus, config: TrainingConfig,
         random: np.random.Generator) -> tuple[Tensor, Losses]:
    """Of a new batch: mean cross-entropy of stage 2 and of stage 3, added up, and the sums of each level."""
    stages, parts = {}, {}
    for level, logits, truth, _ in predictions(model, corpus, config, random, config.voices):
        value = functional.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum")
        parts[level] = (float(value.detach()), truth.numel())
        stages.setdefault(level < model.config.coarse_levels, []).append(value / truth.numel())
    return sum(sum(values) / len(values) for values in stages.values()), parts


def evaluate(model: AudioLM, corpus: Corpus, config: TrainingConfig) -> tuple[list[float], list[float]]:
    """Loss and accuracy of each level in the targets, given all true tokens before; always the same examples."""
    losses, accuracies = [], []
    for _, logits, truth, prompt in predictions(model, corpus, config, np.random.default_rng(0), config.dev_batch):
        logits, truth = logits[:, prompt:].flatten(0, 1), truth[:, prompt:].flatten()
        losses.append(float(functional.cross_entropy(logits, truth)))
        accuracies.append(float((logits.argmax(-1) == truth).float().mean()))
    return losses, accuracies


def predictions(model: AudioLM, corpus: Corpus, config: TrainingConfig, random: np.random.Generator,
                rows: int) -> Iterator[tuple[int, Tensor, Tensor, int]]:
    """Of each level of a new batch: its number, logits `[B, T, codec_size]`, truth `[B, T]`, and how many frames of
    these are of the prompt."""
    sizes = model.config
    batch = corpus.draw(random, rows, 1, units_of(config.prompt_seconds), units_of(config.target_seconds))
    units = torch.from_numpy(np.concatenate([batch.prompt_units, batch.units], axis=1))
    codec = torch.from_numpy(np.concatenate([batch.prompt_codec, batch.codec], axis=1))
    coarse = codec[..., :sizes.coarse_levels]
    prompt = batch.prompt_codec.shape[1]
    hidden = model.coarse(units[..., None], coarse)
    for level in range(sizes.coarse_levels):
        yield level, model.coarse.logits(hidden[:, :, level], level), coarse[..., level], prompt

    heard, length = (FRAMES_PER_UNIT * units_of(seconds) for seconds in (sizes.fine_prompt_seconds, sizes.fine_seconds))
    first = prompt + int(random.integers(0, max(1, batch.codec.shape[1] - length + 1)))
    window = torch.cat([codec[:, prompt - heard:prompt], codec[:, first:first + length]], dim=1)
    coarse, fine = window.split([sizes.coarse_levels, sizes.levels - sizes.coarse_levels], dim=2)
    hidden = model.fine(coarse, fine)
    for level in range(fine.shape[2]):
        yield sizes.coarse_levels + level, model.fine.logits(hidden[:, :, level], level), fine[..., level], heard
