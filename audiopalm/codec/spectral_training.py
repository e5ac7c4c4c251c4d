"""Training of the spectral codec: autoencoder, residual k-means on its latents, decoder on quantised latents."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from audiopalm.codec.crops import CropConfig, dev_crops, make_crops
from audiopalm.codec.discriminator import SpectrogramDiscriminator, discriminator_loss, generator_losses
from audiopalm.codec.spectral import SpectralCodec, SpectralConfig, SpectralModel, read_config, repeat_last
from audiopalm.core.config import MAX_SIZE, ranged, to_dict
from audiopalm.core.device import device_of
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.core.gradients import no_grad
from audiopalm.core.kmeans import kmeans
from audiopalm.core.quantiser import nearest
from audiopalm.core.weights import write_weights
from audiopalm.data.mel import LogMel
from audiopalm.data.pitch import measure_pitch
from audiopalm.data.speech import open_speech
from audiopalm.training.batches import load_ahead
from audiopalm.training.config import TrainingConfig
from audiopalm.training.loop import Loss, Run, Training, Weights, run_training
from audiopalm.training.optimizer import OptimizerConfig, Schedule, UpdateGroup, learning_rate, make_optimizers
from audiopalm.training.record import made_from_speech


def _optimizer(rate: float) -> OptimizerConfig:
    return OptimizerConfig(learning_rate=rate, final_rate=rate / 50, warmup_steps=40, weight_decay=0.01,
                           betas=(0.8, 0.99))


@dataclass
class CodecTraining:
    """conf/codec.yaml for `kind: spectral`."""

    RENAMED: ClassVar[dict[str, str]] = {
        "crop_seconds": "batch.crop_seconds", "autoencoder_steps": "quantise_from",
        "decoder_steps": "training.steps, less quantise_from", "learning_rate": "optimizer.learning_rate",
        "decoder_learning_rate": "decoder_optimizer.learning_rate",
        "discriminator_learning_rate": "discriminator_optimizer.learning_rate", "warmup": "optimizer.warmup_steps",
        "checkpoint_every": "training.save_every"}

    kind: str = "spectral"
    model: SpectralConfig = field(default_factory=SpectralConfig)
    batch: CropConfig = field(default_factory=CropConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=1000, save_every=100))
    optimizer: OptimizerConfig = field(default_factory=lambda: _optimizer(1e-3))
    decoder_optimizer: OptimizerConfig = field(default_factory=lambda: _optimizer(5e-4))  # from quantise_from on
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: _optimizer(5e-4))
    # First step on quantised latents, with the encoder frozen; 0: train only the decoder of --init_codec
    quantise_from: int = ranged(600, low=0)
    new_decoder: bool = False  # with --init_codec: train a decoder as `model.decoder` says from random weights
    kmeans_crops: int = ranged(800, low=1)
    # First step with the discriminator; training.steps for none
    adversarial_from: int = ranged(700, low=0)
    discriminator_channels: int = ranged(16, low=1, high=MAX_SIZE)  # of its first convolutions
    adversarial_crops: float = ranged(0.5, above=0, high=1)  # fraction of a batch that the discriminator sees
    adversarial_weight: float = ranged(0.1, low=0)
    feature_weight: float = ranged(0.5, low=0)
    pitch_weight: float = ranged(1.0, low=0)  # of the error of the pitch in nats, on voiced frames


class MelDistance(nn.Module):
    """The mean absolute difference between the log-mels of two signals `[B, T]`, over several resolutions, 0-d."""

    def __init__(self, resolutions: tuple[tuple[int, int], ...] = ((256, 32), (512, 64), (1024, 80), (2048, 100))):
        super().__init__()
        self.mels = nn.ModuleList(LogMel(bands, n_fft, n_fft // 4, floor=1e-3) for n_fft, bands in resolutions)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return sum((mel(first) - mel(second)).abs().mean() for mel in self.mels) / len(self.mels)


def train_codec(data: str | Path, config: CodecTraining, output: str | Path, seed: int,
                dev: str | Path | None = None, init: Path | None = None) -> None:
    """Train on the speech of a data directory, and write config.json, model.safetensors and log.jsonl to `output`.

    init: a trained codec whose decoder is trained further or replaced (`config.new_decoder`). Its encoder and codebooks
    are frozen, so that the meaning of its ids does not change. Raises AudioPaLMError if `quantise_from`, `new_decoder`
    and `init` contradict each other, and if no steps remain for the decoder.
    """
    if (init is not None) != (config.quantise_from == 0):
        raise AudioPaLMError("quantise_from: 0 and --init_codec go together: they train the decoder of a trained codec "
                             "further; give both or neither")
    if config.new_decoder and init is None:
        raise AudioPaLMError("new_decoder: true replaces the decoder of --init_codec; give that too")
    if init is not None:
        trained = read_config(init)
        config.model = replace(trained, decoder=config.model.decoder) if config.new_decoder else trained
    if config.quantise_from >= config.training.steps:
        raise AudioPaLMError(f"quantise_from is {config.quantise_from}, training.steps {config.training.steps}: the "
                             "decoder needs steps of its own")
    made_from = made_from_speech(config, seed, data, dev)
    if init is not None:
        made_from["init"] = sha256(init / "model.safetensors")
    run = Run(Path(output), "model.safetensors", seed, config.training, made_from)
    run_training(run, lambda fabric: SpectralTraining(config, data, dev, Path(output), seed, fabric, init))


class SpectralTraining(Training):
    """The autoencoder, then the decoder alone. From `adversarial_from` on the discriminator is trained too."""

    def __init__(self, config: CodecTraining, data: str | Path, dev: str | Path | None, output: Path, seed: int,
                 fabric: Fabric, init: Path | None = None):
        self.config, self.output, self.seed, self.device = config, output, seed, fabric.device
        self.speech = open_speech(data)
        self.dev = dev_crops(dev, config.batch)
        self.model = make_model(config, init).train()
        self.discriminator = SpectrogramDiscriminator(channels=config.discriminator_channels)
        self.distance = MelDistance().to(fabric.device)
        self.modules = {"model": self.model.to(fabric.device), "discriminator": self.discriminator.to(fabric.device)}
        self.comparable_from, self.quantised = config.quantise_from, False

    def load(self, number: int) -> tuple[Tensor, Tensor]:
        """Crops `[crops, samples]` and their pitch `[crops, frames + 1]` in Hz, 0 where unvoiced."""
        crops = make_crops(self.speech, self.config.batch.crops, self.config.batch.samples,
                           np.random.default_rng([self.seed, number]))
        return crops, torch.from_numpy(measure_pitch(crops.numpy(), self.config.model.hop))

    def update_groups(self) -> dict[str, UpdateGroup]:
        config = self.config
        late = config.discriminator_optimizer
        return {"model": UpdateGroup(self.model, make_optimizers(config.optimizer, self.model), self.schedule(),
                                     config.optimizer.clip),
                "discriminator": UpdateGroup(self.discriminator, make_optimizers(late, self.discriminator),
                                             self.later(late), late.clip)}

    def schedule(self) -> Schedule:
        """The learning-rate schedule of the autoencoder, then that of the decoder."""
        first, later = self.config.quantise_from, self.later(self.config.decoder_optimizer)
        early = learning_rate(self.config.optimizer, first)
        return lambda step: early(step) if step < first else later(step)

    def later(self, optimizer: OptimizerConfig) -> Schedule:
        """A learning-rate schedule that begins at the first step on quantised latents."""
        first = self.config.quantise_from
        schedule = learning_rate(optimizer, self.config.training.steps - first)
        return lambda step: schedule(max(step - first, 0))

    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        return load_ahead(self.load, numbers, self.config.training.workers)

    def begin_step(self, step: int) -> bool:
        self.quantised = step >= self.config.quantise_from
        self.model.encoder.requires_grad_(not self.quantised)  # the ids keep their meaning
        if not step == self.config.quantise_from > 0:
            return False
        random = np.random.default_rng([self.seed, self.config.training.steps])
        crops = make_crops(self.speech, self.config.kmeans_crops, self.config.batch.samples, random)
        start_codebooks(self.model, crops, self.seed)
        return True

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> Iterator[Loss]:
        crops, pitch = (values.to(self.device, non_blocking=True) for values in batch)
        if self.quantised:
            with torch.no_grad():
                latents = drop_levels(self.model, self.model.quantise(self.model.encode(crops)))
        else:
            latents = self.model.encode(crops)
        filters, predicted = self.model.decoder.predict(repeat_last(latents))
        # The source has the predicted pitch, as in decoding. Its gradient would not lead to the right one.
        made = self.model.decoder.synthesise(filters, predicted.detach())
        distance, error = self.distance(made, crops), pitch_error(predicted, pitch)
        total = distance + self.config.pitch_weight * error
        values = {"mel_distance": (distance.detach(), 1), "pitch": (error.detach(), 1)}
        if step >= max(self.config.adversarial_from, self.config.quantise_from):
            # The discriminator sees a few crops only, because it costs more than the codec itself.
            few = max(1, round(self.config.adversarial_crops * len(crops)))
            real = self.discriminator(crops[:few])
            loss = discriminator_loss(real, self.discriminator(made[:few].detach()))
            yield Loss(loss, group="discriminator", values={"discriminator": (loss.detach(), 1)})
            self.discriminator.requires_grad_(False)
            fooling, features = generator_losses(real, self.discriminator(made[:few]))
            total = total + self.config.adversarial_weight * fooling + self.config.feature_weight * features
            values |= {"fooling": (fooling.detach(), 1), "features": (features.detach(), 1)}
        yield Loss(total, values=values)
        self.discriminator.requires_grad_(True)

    def evaluate(self) -> dict[str, float]:
        """The mel distance of dev crops, with quantised latents from `quantise_from` on."""
        if self.dev is None:
            return {}
        crops = self.dev.to(self.device)
        latents = self.model.encode(crops)
        if self.quantised:
            latents = self.model.look_up(self.model.quantise(latents))
        self.model.eval()  # always the same noise
        distance = float(self.distance(self.model.decode(latents), crops))
        self.model.train()
        return {"mel_distance": distance}

    def finish(self, weights: Weights) -> None:
        save_codec(self.model, self.output)


def make_model(config: CodecTraining, init: Path | None) -> SpectralModel:
    """The model in `init` in float32, or a new model where that is None. `config.new_decoder` replaces its decoder."""
    trained = None if init is None else SpectralCodec.load(init).model.float()
    if trained is not None and not config.new_decoder:
        return trained
    model = SpectralModel(config.model)
    if trained is not None:
        model.encoder.load_state_dict(trained.encoder.state_dict())
        model.codebooks.copy_(trained.codebooks)
    return model


def pitch_error(predicted: Tensor, measured: Tensor) -> Tensor:
    """The mean difference of the logarithms, 0-d, over voiced frames; arguments `[B, frames + 1]` in Hz, 0 unvoiced."""
    measured = measured[:, :predicted.shape[1]]
    voiced = (measured > 0).float()
    difference = (predicted.log() - measured.clamp(min=1.0).log()).abs()
    return (difference * voiced).sum() / voiced.sum().clamp(min=1)


def drop_levels(model: SpectralModel, ids: Tensor) -> Tensor:
    """Latents of ids `[B, T, levels]`, with all levels for half of the crops and a random number for the others."""
    levels = ids.shape[-1]
    with_all = torch.rand(len(ids), device=ids.device) < 0.5
    used = torch.where(with_all, levels, torch.randint(1, levels + 1, (len(ids),), device=ids.device))
    return sum(codebook[ids[..., level]] * (used > level)[:, None, None]
               for level, codebook in enumerate(model.codebooks))


@no_grad
def start_codebooks(model: SpectralModel, crops: Tensor, seed: int) -> None:
    """Set the codebooks by residual k-means on the latents of `crops` `[N, samples]`.

    Each level clusters the residual of the coarser levels.
    """
    residual = torch.cat([model.encode(part.to(device_of(model))).flatten(0, 1) for part in crops.split(32)])
    energy = residual.square().mean()
    for level, codebook in enumerate(model.codebooks):
        codebook.copy_(torch.from_numpy(kmeans(residual.cpu().numpy(), len(codebook), seed + level, iterations=12)))
        residual = residual - codebook[nearest(residual, codebook)]
        logging.info("level %d: %.3f of the energy left", level + 1, residual.square().mean() / energy)


def save_codec(model: SpectralModel, output: Path) -> None:
    """Write config.json, then model.safetensors in float16. The ids of stage 5 are computed with these weights."""
    write_json(output / "config.json", to_dict(model.config))
    write_weights(output / "model.safetensors", {key: value.half() for key, value in model.state_dict().items()})
