"""Training of SoundStream (arXiv 2107.03312) with ESPnet's parts, espnet2.gan_codec.

ESPnet provides the generator (SEANet encoder and decoder, residual vector quantiser with moving averages), both
discriminators and each loss. The losses are summed in this module, so that they stay on the device. ESPnet's Trainer
and GANCodecTask are not used, because they resume at epochs only and write pickles. audiopalm/training/loop.py is the
training loop, as for all models.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from audiopalm.codec.crops import CropConfig, dev_crops, make_crops
from audiopalm.codec.soundstream import SoundStreamCodec, SoundStreamConfig, build_quantiser, generator_parameters
from audiopalm.core import optional
from audiopalm.core.config import ranged, to_dict
from audiopalm.core.device import device_of
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256, write_json
from audiopalm.core.gradients import no_grad
from audiopalm.core.kmeans import kmeans
from audiopalm.core.quantiser import nearest
from audiopalm.core.weights import write_weights
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.speech import open_speech
from audiopalm.training.batches import load_ahead
from audiopalm.training.config import TrainingConfig
from audiopalm.training.loop import Loss, Run, Training, Weights, run_training
from audiopalm.training.optimizer import OptimizerConfig, UpdateGroup, update_group
from audiopalm.training.record import made_from_speech

# All settings are given, because ESPnet's defaults are for 24 kHz and are mutable objects that all instances share.
SCALE_DISCRIMINATOR = {"in_channels": 1, "out_channels": 1, "kernel_sizes": [15, 41, 5, 3], "max_groups": 16,
                       "bias": True, "downsample_scales": [2, 2, 4, 4, 1], "nonlinear_activation": "LeakyReLU",
                       "nonlinear_activation_params": {"negative_slope": 0.1}}
STFT_DISCRIMINATOR = {"in_channels": 1, "strides": ((1, 2), (2, 2)) * 3, "chan_mults": (1, 2, 4, 4, 8, 8),
                      "n_fft": 1024, "hop_length": 256, "win_length": 1024, "stft_normalized": False,
                      "logits_abs": True}
MEL_LOSS = {"range_start": 6, "range_end": 11, "window": "hann", "n_mels": 64, "fmin": 0, "fmax": None,
            "log_base": None}

FAINT = 2e-3  # standard deviation of noise whose log-mels are the floor; without it, silence outweighs all speech
MEL_FLOOR = 1e-10  # ESPnet's lower limit of mels before the logarithm
START_CROPS = 32  # crops on which the weights are initialised
BRANCH = 0.3  # initial standard deviation of the branch of a residual unit, relative to its input
RARE = 0.05  # a code is replaced if it is chosen less often than this fraction of the average


@dataclass
class SoundStreamTraining:
    """conf/codec.yaml for `kind: soundstream`."""

    RENAMED: ClassVar[dict[str, str]] = {
        "crop_seconds": "batch.crop_seconds", "steps": "training.steps", "plain_steps": "quantise_from",
        "encoder_steps": "freeze_encoder_from", "learning_rate": "optimizer.learning_rate",
        "discriminator_learning_rate": "discriminator_optimizer.learning_rate", "warmup": "optimizer.warmup_steps",
        "checkpoint_every": "training.save_every"}

    kind: str = "soundstream"
    model: SoundStreamConfig = field(default_factory=SoundStreamConfig)
    batch: CropConfig = field(default_factory=CropConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=200_000, save_every=1000,
                                                                            validate_every=1000))
    optimizer: OptimizerConfig = field(default_factory=lambda: _optimizer())
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: _optimizer())
    scale_channels: int = ranged(128, low=1)  # of the first convolution of the waveform discriminators
    stft_channels: int = ranged(32, low=1)  # of the first convolution of the STFT discriminator
    quantise_from: int = ranged(0, low=0)  # first step with the quantiser, which residual k-means initialises
    plain_noise: float = ranged(0.0, low=0)  # before that, latents get noise of up to this fraction of their energy
    freeze_encoder_from: int | None = ranged(None, low=1)  # first step with the encoder frozen; null: never
    kmeans_crops: int = ranged(400, low=1)
    adversarial_from: int = ranged(0, low=0)  # first step with the discriminators; training.steps for none
    waveform_weight: float = ranged(1.0, low=0)
    mel_weight: float = ranged(45.0, low=0)
    codes_weight: float = ranged(1.0, low=0)  # of the commitment loss, which pulls latents to their codes
    window_weights: bool = True  # weight log-mel distances by the root of the window's length, as ESPnet; else equally
    feature_weight: float = ranged(2.0, low=0)
    adversarial_weight: float = ranged(1.0, low=0)


def _optimizer() -> OptimizerConfig:
    return OptimizerConfig(learning_rate=3e-4, final_rate=6e-6, warmup_steps=1000, weight_decay=0.01, betas=(0.8, 0.99))


def build_soundstream(config: SoundStreamTraining) -> nn.Module:
    """ESPnet's untrained `SoundStream`: generator, discriminators, losses. Raises AudioPaLMError without espnet."""
    optional.install()
    from espnet2.gan_codec.soundstream.soundstream import SoundStream

    channels = config.scale_channels
    codec = SoundStream(
        sampling_rate=SAMPLE_RATE, generator_params=generator_parameters(config.model),
        discriminator_params={
            "scale_discriminator_params":
                {**SCALE_DISCRIMINATOR, "channels": channels, "max_downsample_channels": 8 * channels},
            "complexstft_discriminator_params": {**STFT_DISCRIMINATOR, "channels": config.stft_channels}},
        mel_loss_params={**MEL_LOSS, "alphas": config.window_weights}, use_dual_decoder=False,
        lambda_reconstruct=config.waveform_weight, lambda_mel=config.mel_weight,
        lambda_commit=config.codes_weight, lambda_quantization=config.codes_weight,
        lambda_feat_match=config.feature_weight, lambda_adv=config.adversarial_weight)
    codec.generator.quantizer = build_quantiser(config.model)
    # In training ESPnet draws one of these for each batch (quantiser dropout), which trains every number of levels.
    bandwidth = codec.generator.target_bandwidths[-1]
    codec.generator.target_bandwidths = [bandwidth * (levels + 0.5) / (config.model.levels + 0.5)
                                         for levels in range(1, config.model.levels + 1)]
    # ESPnet replaces codes that are chosen less than twice a step. With small batches these are all codes in all steps.
    codec.frames_per_step = config.batch.crops * config.batch.samples / math.prod(config.model.ratios)
    for layer in codec.generator.quantizer.vq.layers:
        layer._codebook.threshold_ema_dead_code = RARE * codec.frames_per_step / config.model.size
    floor_mels(codec.mel_loss)
    return codec


@no_grad
def floor_mels(mel_loss: nn.Module) -> None:
    """Scale mels so that ESPnet's lower limit is the mean mel of faint noise."""
    noise = FAINT * torch.randn(1, 4 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    for scale in mel_loss.mel_loss:
        scale.wav_to_mel.logmel.melmat *= MEL_FLOOR / scale.wav_to_mel(noise)[0].exp().mean()


@no_grad
def start_weights(generator: nn.Module, crops: Tensor) -> None:
    """Initialise the weights from data, `crops` `[N, samples]` (arXiv 1511.06422).

    Biases are 0, and the output of each convolution has a standard deviation of 1. Residual units change their inputs
    little, and the last layer returns at most a third of the crops' loudness. With PyTorch's initial weights every
    layer attenuates the signal, so that latents hardly depend on the speech; after 460 steps the decoder still returned
    the average spectrum.
    """
    from espnet2.gan_codec.shared.encoder.seanet import SEANetResnetBlock

    layers = [layer for layer in generator.modules() if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d))]

    def scale(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # original0 is the norm of the weights in torch's weight_norm.
        layer.parametrizations.weight.original0 /= output.std()
        return output / output.std()

    for layer in layers:
        nn.init.zeros_(layer.bias)
    hooks = [layer.register_forward_hook(scale) for layer in layers]
    generator.decoder(generator.encoder(crops[:, None]))
    for hook in hooks:
        hook.remove()
    for unit in generator.modules():
        if isinstance(unit, SEANetResnetBlock):
            unit.block[-1].conv.conv.parametrizations.weight.original0 *= BRANCH
    layers[-1].parametrizations.weight.original0 *= crops.std() / 3


def train_soundstream(data: str | Path, config: SoundStreamTraining, output: str | Path, seed: int,
                      dev: str | Path | None = None, init: Path | None = None) -> None:
    """Train on the speech of a data directory, and write config.json, model.safetensors and log.jsonl to `output`.

    init: a trained SoundStream whose decoder is trained further. Its encoder and codebooks are frozen, so that the
    meaning of its ids does not change. Raises AudioPaLMError if espnet is not installed, for a `quantise_from` without
    any step after it, and if `init` is given and `quantise_from` is not 0.
    """
    trained = None if init is None else SoundStreamCodec.load(init)
    if trained is not None and config.quantise_from:
        raise AudioPaLMError("--init_codec trains the decoder of a trained codec further, which needs quantise_from: 0")
    if config.quantise_from >= config.training.steps:
        raise AudioPaLMError(f"quantise_from is {config.quantise_from}, training.steps {config.training.steps}: the "
                             "quantiser would not be trained; give a smaller quantise_from or more steps")
    if trained is not None:
        config.model = trained.config
    made_from = made_from_speech(config, seed, data, dev)
    if init is not None:
        made_from["init"] = sha256(init / "model.safetensors")
    run = Run(Path(output), "model.safetensors", seed, config.training, made_from)
    run_training(run, lambda fabric: SoundStreamCodecTraining(config, data, dev, Path(output), seed, fabric, trained))


class SoundStreamCodecTraining(Training):
    """ESPnet's generator and discriminators. The first steps may have neither quantiser nor discriminators."""

    single_process = "the codebooks of ESPnet's SoundStream follow the batches of one process"

    def __init__(self, config: SoundStreamTraining, data: str | Path, dev: str | Path | None, output: Path, seed: int,
                 fabric: Fabric, trained: SoundStreamCodec | None = None):
        self.config, self.output, self.seed, self.device = config, output, seed, fabric.device
        self.speech = open_speech(data)
        self.dev = dev_crops(dev, config.batch)
        self.codec = build_soundstream(config).to(fabric.device).train()
        self.decoder_only = trained is not None
        if trained is not None:
            self.codec.generator.load_state_dict(trained.generator.state_dict())
        else:
            crops = make_crops(self.speech, START_CROPS, config.batch.samples, np.random.default_rng(seed))
            start_weights(self.codec.generator, crops.to(fabric.device))
        self.modules = {"codec": self.codec}
        judged = config.adversarial_from < config.training.steps
        self.comparable_from = max(config.quantise_from, config.adversarial_from if judged else 0)
        self.quantised = config.quantise_from == 0

    def load(self, number: int) -> Tensor:
        return make_crops(self.speech, self.config.batch.crops, self.config.batch.samples,
                          np.random.default_rng([self.seed, number]))

    def update_groups(self) -> dict[str, UpdateGroup]:
        config, steps = self.config, self.config.training.steps
        return {"model": update_group(self.codec.generator, config.optimizer, steps),
                "discriminator": update_group(self.codec.discriminator, config.discriminator_optimizer, steps)}

    def batches(self, numbers: range, state: Mapping[str, Any]) -> Iterator[Tensor]:
        return load_ahead(self.load, numbers, self.config.training.workers)

    def begin_step(self, step: int) -> bool:
        self.quantised = step >= self.config.quantise_from
        frozen = self.config.freeze_encoder_from is not None and step >= self.config.freeze_encoder_from
        if self.decoder_only:
            frozen = True
            self.codec.generator.quantizer.eval()  # otherwise the codes follow the batches
        self.codec.generator.encoder.requires_grad_(not frozen)
        if not step == self.config.quantise_from > 0:
            return False
        random = np.random.default_rng([self.seed, self.config.training.steps])
        crops = make_crops(self.speech, self.config.kmeans_crops, self.config.batch.samples, random)
        start_codebooks(self.codec, crops, self.seed)
        return True

    def step(self, batch: Tensor, step: int) -> Iterator[Loss]:
        crops = batch.to(self.device, non_blocking=True)
        if step < max(self.config.quantise_from, self.config.adversarial_from):
            loss, losses = reconstruction(self.codec, crops, None if self.quantised else self.config.plain_noise)
            yield Loss(loss, values=_logged(losses))
            return
        made = self.codec.generator(crops[:, None])[:3]  # one pass for both losses
        loss, losses = discriminator_loss(self.codec, crops, made[0])
        yield Loss(loss, group="discriminator", values=_logged(losses))
        loss, losses = generator_loss(self.codec, crops, *made)
        yield Loss(loss, values=_logged(losses))

    def evaluate(self) -> dict[str, float]:
        """The log-mel distance of dev crops, with quantised latents of all levels from `quantise_from` on."""
        if self.dev is None:
            return {}
        crops, generator = self.dev.to(self.device)[:, None], self.codec.generator
        if self.quantised:
            drawn, follows = generator.target_bandwidths, generator.quantizer.training
            generator.target_bandwidths = drawn[-1:]  # ESPnet draws one of them, which would make dev losses jump
            generator.quantizer.eval()  # otherwise the codes follow the dev set
            made = generator(crops)[0]
            generator.target_bandwidths = drawn
            generator.quantizer.train(follows)
        else:
            made = generator.decoder(generator.encoder(crops))
        return {"mel_distance": float(self.codec.mel_loss(made, crops))}

    def finish(self, weights: Weights) -> None:
        save_soundstream(self.codec.generator, self.config.model, self.output)


def _logged(losses: dict[str, Tensor]) -> dict[str, tuple[Tensor, int]]:
    return {name: (value.detach(), 1) for name, value in losses.items()}


def discriminator_loss(codec: nn.Module, crops: Tensor, made: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of ESPnet's discriminators, and {name in the log: loss}, all 0-d.

    crops: `[N, samples]`. made: the generator's output for them, `[N, 1, samples]`. The values equal those of ESPnet's
    `SoundStream.forward`, which reads every loss from the device.
    """
    judged = codec.discriminator(made.detach())
    real, fake = codec.discriminator_adv_loss(judged, codec.discriminator(crops[:, None]))
    loss = real + fake
    return loss, {"discriminator_loss": loss, "real_loss": real, "fake_loss": fake}


def generator_loss(codec: nn.Module, crops: Tensor, made: Tensor, commit: Tensor,
                   quantisation: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of all losses of ESPnet's generator, and {name in the log: loss}, all 0-d.

    crops, made: as in `discriminator_loss`. commit, quantisation: the generator's other outputs, 0-d.
    """
    crops = crops[:, None]
    judged = codec.discriminator(made)
    with torch.no_grad():
        real = codec.discriminator(crops)
    adversarial = codec.generator_adv_loss(judged) * codec.lambda_adv
    commit, quantisation = commit * codec.lambda_commit, quantisation * codec.lambda_quantization
    waveform = codec.generator_reconstruct_loss(crops, made) * codec.lambda_reconstruct
    codes = commit + quantisation
    features = codec.feat_match_loss(judged, real) * codec.lambda_feat_match
    mel = codec.lambda_mel * codec.mel_loss(made, crops)
    return adversarial + codes + waveform + features + mel, {
        "adv_loss": adversarial, "codec_loss": codes, "codec_commit_loss": commit,
        "codec_quantization_loss": quantisation, "reconstruct_loss": waveform, "feat_match_loss": features,
        "mel_loss": mel}


def reconstruction(codec: nn.Module, crops: Tensor, noise: float | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the generator's losses without discriminators, and {name in the log: loss}, all 0-d.

    The discriminators cost most of a step. crops: `[N, samples]`. noise: None with the quantiser; otherwise latents get
    noise of up to this fraction of their energy instead.
    """
    crops = crops[:, None]
    if noise is None:
        made, commit, quantisation, _ = codec.generator(crops)
        codes = codec.lambda_commit * commit + codec.lambda_quantization * quantisation
    else:
        latents = codec.generator.encoder(crops)
        made, codes = codec.generator.decoder(add_noise(latents, noise)), crops.new_zeros(())
    waveform = codec.lambda_reconstruct * codec.generator_reconstruct_loss(crops, made)
    mel = codec.lambda_mel * codec.mel_loss(made, crops)
    return (mel + waveform + codes,
            {"mel_loss": mel, "reconstruct_loss": waveform, "codec_loss": codes})


def add_noise(latents: Tensor, most: float) -> Tensor:
    """Latents `[B, D, T]` with white noise, whose energy in each item is 0 to `most` times the mean energy of latents.

    Gradients pass through the energy, so that larger latents are no advantage. The encoder thus learns to use the
    energy for relevant information, and its latents need few bits.
    """
    deviation = (most * torch.rand(len(latents), 1, 1, device=latents.device)).sqrt()
    return latents + latents.square().mean().sqrt() * deviation * torch.randn_like(latents)


@no_grad
def start_codebooks(codec: nn.Module, crops: Tensor, seed: int) -> None:
    """Set the codebooks by residual k-means on the latents of `crops` `[N, samples]`.

    Each level clusters the residual of the coarser levels.
    """
    device = device_of(codec)
    residual = torch.cat([codec.generator.encoder(part[:, None].to(device)).transpose(1, 2).flatten(0, 1)
                          for part in crops.split(32)])
    energy = residual.square().mean()
    for level, layer in enumerate(codec.generator.quantizer.vq.layers):
        book, points = layer._codebook, layer.project_in(residual)
        centres = torch.from_numpy(kmeans(points.cpu().numpy(), book.codebook_size, seed + level, iterations=12))
        centres = centres.to(device)
        chosen = nearest(points, centres)
        # The moving averages are set as if they had seen all crops. ESPnet's are sums over the vectors of one step.
        share = torch.bincount(chosen, minlength=len(centres)) / len(residual) * codec.frames_per_step
        book.embed.copy_(centres)
        book.embed_avg.copy_(centres * share[:, None])
        book.cluster_size.copy_(share)
        book.inited.fill_(1)
        residual = residual - layer.project_out(centres[chosen])
        logging.info("level %d: %.3f of the energy left", level + 1, residual.square().mean() / energy)


def save_soundstream(generator: nn.Module, config: SoundStreamConfig, output: Path) -> None:
    """Write config.json, then model.safetensors in float16. The ids of stage 5 are computed with these weights."""
    write_json(output / "config.json", to_dict(config))
    write_weights(output / "model.safetensors", {key: value.half() for key, value in generator.state_dict().items()})
