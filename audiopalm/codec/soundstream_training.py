"""Training of SoundStream (arXiv 2107.03312) out of ESPnet's parts, espnet2.gan_codec.

ESPnet's are the generator (SEANet encoder and decoder, residual vector quantiser with moving averages), both
discriminators and all losses. Its Trainer and its GANCodecTask are not used: they resume at epochs only, and write
pickles. Crops, snapshots and the loop are those of the spectral codec.
"""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audiopalm.codec.crops import make_crops, set_learning_rate, train_on_crops, update
from audiopalm.codec.soundstream import SoundStreamConfig, build_quantiser, generator_parameters
from audiopalm.core import optional as shim
from audiopalm.core.config import to_dict
from audiopalm.core.device import best_device, device_of
from audiopalm.core.files import atomic_path, write_json
from audiopalm.core.quantiser import kmeans, nearest
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.speech import list_speech
from audiopalm.units.usm_v2_training import schedule

# ESPnet's defaults are for 24 kHz and lie in arguments that are shared by all its instances; hence in full.
SCALE_DISCRIMINATOR = {"in_channels": 1, "out_channels": 1, "kernel_sizes": [15, 41, 5, 3], "max_groups": 16,
                       "bias": True, "downsample_scales": [2, 2, 4, 4, 1], "nonlinear_activation": "LeakyReLU",
                       "nonlinear_activation_params": {"negative_slope": 0.1}}
STFT_DISCRIMINATOR = {"in_channels": 1, "strides": ((1, 2), (2, 2)) * 3, "chan_mults": (1, 2, 4, 4, 8, 8),
                      "n_fft": 1024, "hop_length": 256, "win_length": 1024, "stft_normalized": False,
                      "logits_abs": True}
MEL_LOSS = {"range_start": 6, "range_end": 11, "window": "hann", "n_mels": 64, "fmin": 0, "fmax": None,
            "log_base": None}


FAINT = 2e-3  # deviation of noise below which differences of log-mels do not count: silence would outweigh all speech
LEAST_MEL = 1e-10  # ESPnet's, of which it takes the logarithm where there is less
BETAS = (0.8, 0.99)  # of AdamW, as HiFi-GAN's
START_CROPS = 32
BRANCH = 0.3  # deviation that a residual unit starts to add to 1
RARE = 0.05  # a code that is chosen so much less often than the average is placed anew


@dataclass
class SoundStreamTraining:
    kind: str = "soundstream"
    model: SoundStreamConfig = field(default_factory=SoundStreamConfig)
    scale_channels: int = 128  # of the first convolution of the discriminators of waveforms
    stft_channels: int = 32  # of that of the discriminator of complex spectra
    batch: int = 16  # crops
    crop_seconds: float = 1.28
    steps: int = 200000
    plain_steps: int = 0  # the first ones, without the quantiser, whose codebooks then start as residual k-means
    plain_noise: float = 0.0  # in them latents get noise of up to this share of their energy, as from codes
    encoder_steps: int = 0  # the first ones, in which the encoder learns; 0: it does in all
    kmeans_crops: int = 400
    adversarial_from: int = 0  # first step with the discriminators
    waveform_weight: float = 1.0
    mel_weight: float = 45.0
    codes_weight: float = 1.0  # of what holds latents near their codes
    window_weights: bool = True  # ESPnet's of squared distances of log-mels, the root of each window's length; else 1
    feature_weight: float = 2.0
    adversarial_weight: float = 1.0
    learning_rate: float = 3e-4
    discriminator_learning_rate: float = 3e-4
    warmup: int = 1000
    checkpoint_every: int = 1000


def build_soundstream(config: SoundStreamTraining) -> nn.Module:
    """ESPnet's untrained `SoundStream`: generator, discriminators, losses. Raises AudioPaLMError without espnet."""
    shim.install()
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
        lambda_feat_match=config.feature_weight, lambda_adv=config.adversarial_weight,
        cache_generator_outputs=True)  # one pass of the generator a step, for both losses
    codec.generator.quantizer = build_quantiser(config.model)
    # In training ESPnet draws one of these for each batch (quantiser dropout), so every number of levels is good.
    bandwidth = codec.generator.target_bandwidths[-1]
    codec.generator.target_bandwidths = [bandwidth * (levels + 0.5) / (config.model.levels + 0.5)
                                         for levels in range(1, config.model.levels + 1)]
    # ESPnet places a code anew that is chosen less than twice a step: with small batches every code at every step.
    codec.frames_per_step = config.batch * round(config.crop_seconds * SAMPLE_RATE) / math.prod(config.model.ratios)
    for layer in codec.generator.quantizer.vq.layers:
        layer._codebook.threshold_ema_dead_code = RARE * codec.frames_per_step / config.model.size
    floor_mels(codec.mel_loss)
    return codec


@torch.no_grad()
def floor_mels(mel_loss: nn.Module) -> None:
    """Scale mels so that ESPnet's least one is the mean mel of faint noise."""
    noise = FAINT * torch.randn(1, 4 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    for scale in mel_loss.mel_loss:
        scale.wav_to_mel.logmel.melmat *= LEAST_MEL / scale.wav_to_mel(noise)[0].exp().mean()


@torch.no_grad()
def start_weights(generator: nn.Module, crops: Tensor) -> None:
    """Biases 0, and what each convolution makes of `crops` `[N, samples]` has a deviation of 1 (arXiv 1511.06422).

    As PyTorch starts them, every layer makes signals smaller, until latents are biases and say nothing of the speech:
    460 steps later the decoder still gave the average spectrum. Residual units start
    as little more than their inputs, and the last layer gives a third of the crops' loudness or less.
    """
    from espnet2.gan_codec.shared.encoder.seanet import SEANetResnetBlock

    layers = [layer for layer in generator.modules() if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d))]

    def scale(layer: nn.Module, given: tuple, output: Tensor) -> Tensor:
        # original0: the length of weights of torch's weight_norm
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


def train_soundstream(data: str | Path, config: SoundStreamTraining, output: str | Path, seed: int) -> dict:
    """Train on the speech of a data directory; write config.json, model.safetensors, log.jsonl, report.json."""
    output, speech = Path(output), list_speech(data)
    torch.manual_seed(seed)
    codec = build_soundstream(config).to(best_device()).train()
    length = round(config.crop_seconds * SAMPLE_RATE)
    crops = make_crops(speech, START_CROPS, length, np.random.default_rng(seed))
    start_weights(codec.generator, crops.to(device_of(codec)))
    optimizers = {"optimizer": torch.optim.AdamW(codec.generator.parameters(), betas=BETAS),
                  "discriminator_optimizer": torch.optim.AdamW(codec.discriminator.parameters(), betas=BETAS)}

    def train_step(step: int, crops: Tensor) -> dict[str, float]:
        if step == config.plain_steps > 0:
            random = np.random.default_rng([seed, config.steps])
            start_codebooks(codec, make_crops(speech, config.kmeans_crops, length, random), seed)
        codec.generator.encoder.requires_grad_(config.encoder_steps == 0 or step < config.encoder_steps)
        share = schedule(step, config.warmup, config.steps)
        set_learning_rate(optimizers["optimizer"], config.learning_rate * share)
        set_learning_rate(optimizers["discriminator_optimizer"], config.discriminator_learning_rate * share)
        if step < max(config.plain_steps, config.adversarial_from):
            noise = config.plain_noise if step < config.plain_steps else None
            loss, losses = reconstruction(codec, crops, noise)
        else:
            judged = codec(crops, forward_generator=False)
            update(codec.discriminator, optimizers["discriminator_optimizer"], judged["loss"])
            made = codec(crops)  # of the same pass of the generator, which ESPnet has kept
            loss, losses = made["loss"], made["stats"] | judged["stats"]
        update(codec.generator, optimizers["optimizer"], loss)
        return losses

    return train_on_crops(speech, config, output, seed, config.steps, {"codec": codec}, optimizers, train_step,
                          lambda: save_soundstream(codec.generator, config.model, output))


def reconstruction(codec: nn.Module, crops: Tensor, noise: float | None) -> tuple[Tensor, dict[str, float]]:
    """ESPnet's losses of the generator without those that need the discriminators, which cost most of a step.

    `noise`: instead of the quantiser, noise of up to this share of the latents' energy.
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
            {"mel_loss": mel.item(), "reconstruct_loss": waveform.item(), "codec_loss": codes.item()})


def add_noise(latents: Tensor, most: float) -> Tensor:
    """`[B, D, T]` with white noise, in each item 0 to `most` of the energy that latents have on average.

    The energy is a part of the graph: larger latents are not heard better. So the encoder learns to spend it on what
    matters, and leaves latents that few bits describe.
    """
    deviation = (most * torch.rand(len(latents), 1, 1, device=latents.device)).sqrt()
    return latents + latents.square().mean().sqrt() * deviation * torch.randn_like(latents)


@torch.no_grad()
def start_codebooks(codec: nn.Module, crops: Tensor, seed: int) -> None:
    """Residual k-means: each level on what the coarser ones leave of the latents of `crops` `[N, samples]`."""
    device = device_of(codec)
    rest = torch.cat([codec.generator.encoder(part[:, None].to(device)).transpose(1, 2).flatten(0, 1)
                      for part in crops.split(32)])
    energy = rest.square().mean()
    for level, layer in enumerate(codec.generator.quantizer.vq.layers):
        book, points = layer._codebook, layer.project_in(rest)
        centres = torch.from_numpy(kmeans(points.cpu().numpy(), book.codebook_size, seed + level, iterations=12))
        centres = centres.to(device)
        chosen = nearest(points, centres)
        # As if the moving averages had seen all of this: ESPnet's are of the vectors of one step.
        share = torch.bincount(chosen, minlength=len(centres)) / len(rest) * codec.frames_per_step
        book.embed.copy_(centres)
        book.embed_avg.copy_(centres * share[:, None])
        book.cluster_size.copy_(share)
        book.inited.fill_(1)
        rest = rest - layer.project_out(centres[chosen])
        logging.info("level %d: %.3f of the energy left", level + 1, rest.square().mean() / energy)


def save_soundstream(generator: nn.Module, config: SoundStreamConfig, output: Path) -> None:
    """In float16; whoever encodes or decodes has read these weights, so ids are computed with what was saved."""
    tensors = {key: value.half().contiguous() for key, value in generator.state_dict().items()}
    with atomic_path(output / "model.safetensors") as temporary:
        save_file(tensors, str(temporary))
    write_json(output / "config.json", to_dict(config))
