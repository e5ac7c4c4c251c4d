"""What AudioLM's stages learn: each codec token from all before it, prompt and target alike."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audiopalm.acoustic.audiolm.generation import GenerationConfig
from audiopalm.acoustic.audiolm.model import AudioLM, ModelConfig, Stage
from audiopalm.acoustic.corpus import Corpus
from audiopalm.acoustic.prompt import FRAMES_PER_UNIT
from audiopalm.acoustic.training import Losses, TrainingConfig, units_of
from audiopalm.core.device import device_of


@dataclass
class AudioLMTraining(TrainingConfig):
    # Of the past that stage 2 and 3 see in a target, a share of 0 to `own_share`, another for each example, is not true
    # but the model's own: what it draws given the true past (two passes of scheduled sampling, arXiv 1906.07651).
    # Otherwise its past tells it more than what it should speak, and left to itself it follows its own mistakes.
    own_share: float = 0.0


@dataclass
class AudioLMConfig:
    """conf/acoustic_audiolm.yaml."""

    kind: str = "audiolm"
    model: ModelConfig = field(default_factory=ModelConfig)
    training: AudioLMTraining = field(default_factory=AudioLMTraining)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


def loss(model: AudioLM, corpus: Corpus, config: AudioLMTraining,
         random: np.random.Generator) -> tuple[Tensor, Losses]:
    """Of a new batch: mean cross-entropy of stage 2 and of stage 3, added up, and the sums of each level."""
    stages, parts = {}, {}
    for level, logits, truth, _ in predictions(model, corpus, config, random, config.voices, config.own_share):
        value = functional.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="sum")
        parts[level] = (float(value.detach()), truth.numel())
        stages.setdefault(level < model.config.coarse_levels, []).append(value / truth.numel())
    return sum(sum(values) / len(values) for values in stages.values()), parts


def evaluate(model: AudioLM, corpus: Corpus, config: AudioLMTraining) -> tuple[list[float], list[float]]:
    """Loss and accuracy of each level in the targets, given all true tokens before; always the same examples."""
    losses, accuracies = [], []
    for _, logits, truth, prompt in predictions(model, corpus, config, np.random.default_rng(0), config.dev_batch, 0.0):
        logits, truth = logits[:, prompt:].flatten(0, 1), truth[:, prompt:].flatten()
        losses.append(float(functional.cross_entropy(logits, truth)))
        accuracies.append(float((logits.argmax(-1) == truth).float().mean()))
    return losses, accuracies


def predictions(model: AudioLM, corpus: Corpus, config: AudioLMTraining, random: np.random.Generator,
                rows: int, own_share: float) -> Iterator[tuple[int, Tensor, Tensor, int]]:
    """Of each level of a new batch: its number, logits `[B, T, codec_size]`, truth `[B, T]`, and how many frames of
    these are of the prompt. `own_share` as in AudioLMTraining."""
    sizes = model.config
    batch = corpus.draw(random, rows, 1, units_of(config.prompt_seconds), units_of(config.target_seconds))
    units, codec = (torch.from_numpy(np.concatenate(values, axis=1)).to(device_of(model)) for values in
                    ((batch.prompt_units, batch.units), (batch.prompt_codec, batch.codec)))
    coarse = codec[..., :sizes.coarse_levels]
    prompt = batch.prompt_codec.shape[1]
    past = with_own(model.coarse, units[..., None], coarse, prompt, own_share, random)
    hidden = model.coarse(units[..., None], past)
    for level in range(sizes.coarse_levels):
        yield level, model.coarse.logits(hidden[:, :, level], level), coarse[..., level], prompt

    heard, length = (FRAMES_PER_UNIT * units_of(seconds) for seconds in (sizes.fine_prompt_seconds, sizes.fine_seconds))
    first = prompt + int(random.integers(0, max(1, batch.codec.shape[1] - length + 1)))
    window = torch.cat([codec[:, prompt - heard:prompt], codec[:, first:first + length]], dim=1)
    coarse, fine = window.split([sizes.coarse_levels, sizes.levels - sizes.coarse_levels], dim=2)
    hidden = model.fine(coarse, with_own(model.fine, coarse, fine, heard, own_share, random))
    for level in range(fine.shape[2]):
        yield sizes.coarse_levels + level, model.fine.logits(hidden[:, :, level], level), fine[..., level], heard


@torch.no_grad()
def with_own(stage: Stage, context: Tensor, codes: Tensor, prompt: int, own_share: float,
             random: np.random.Generator) -> Tensor:
    """Codes `[B, T, levels]`, some of those behind `prompt` frames drawn by the stage itself."""
    if own_share == 0:
        return codes
    hidden = stage(context, codes)
    own = torch.stack([torch.distributions.Categorical(logits=stage.logits(hidden[:, :, level], level)).sample()
                       for level in range(stage.levels)], dim=2)
    share = random.uniform(0, own_share, (len(codes), 1, 1))
    replaced = torch.from_numpy(random.random(codes.shape) < share).to(codes.device)
    replaced[:, :prompt] = False
    return torch.where(replaced, own, codes)
