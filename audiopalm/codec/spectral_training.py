"""Training of the spectral codec: autoencoder, residual k-means on its latents, decoder on quantised latents."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audiopalm.codec.crops import make_crops, set_learning_rate, train_on_crops, update
from audiopalm.codec.discriminator import SpectrogramDiscriminator, discriminator_loss, generator_losses
from audiopalm.codec.spectral import SpectralConfig, SpectralModel
from audiopalm.core.config import to_dict
from audiopalm.core.device import best_device, device_of
from audiopalm.core.files import atomic_path, write_json
from audiopalm.core.quantiser import kmeans, nearest
from audiopalm.data.audio import SAMPLE_RATE
from audiopalm.data.mel import LogMel
from audiopalm.data.speech import list_speech
from audiopalm.units.usm_v2_training import schedule


@dataclass
class CodecTraining:
    kind: str = "spectral"
    model: SpectralConfig = field(default_factory=SpectralConfig)
    batch: int = 16  # crops
    crop_seconds: float = 1.28
    autoencoder_steps: int = 600
    kmeans_crops: int = 800
    decoder_steps: int = 400  # on quantised latents, the encoder frozen
    adversarial_from: int = 100  # first of the decoder steps with the discriminator; decoder_steps for none
    adversarial_weight: float = 0.1
    feature_weight: float = 0.5
    learning_rate: float = 1e-3
    decoder_learning_rate: float = 5e-4
    discriminator_learning_rate: float = 5e-4
    warmup: int = 40
    checkpoint_every: int = 100


class MelDistance(nn.Module):
    """Mean absolute difference of log-mels of two signals `[B, T]`, over several resolutions."""

    def __init__(self, resolutions: tuple[tuple[int, int], ...] = ((256, 32), (512, 64), (1024, 80), (2048, 100))):
        super().__init__()
        self.mels = nn.ModuleList(LogMel(bands, n_fft, n_fft // 4, floor=1e-3) for n_fft, bands in resolutions)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return sum((mel(first) - mel(second)).abs().mean() for mel in self.mels) / len(self.mels)


def train_codec(data: str | Path, config: CodecTraining, output: str | Path, seed: int) -> dict:
    """Train on the speech of a data directory; write config.json, model.safetensors, log.jsonl, report.json."""
    output, speech = Path(output), list_speech(data)
    torch.manual_seed(seed)
    model, judge, distance = (module.to(best_device()) for module in (
        SpectralModel(config.model), SpectrogramDiscriminator(), MelDistance()))
    optimizers = {"optimizer": torch.optim.AdamW(model.parameters(), betas=(0.8, 0.99)),
                  "discriminator_optimizer": torch.optim.AdamW(judge.parameters(), betas=(0.8, 0.99))}
    length = round(config.crop_seconds * SAMPLE_RATE)
    total = config.autoencoder_steps + config.decoder_steps

    def one_step(step: int, crops: Tensor) -> dict[str, float]:
        late = step - config.autoencoder_steps  # the number of the decoder step
        if late == 0:
            random = np.random.default_rng([seed, total])
            start_codebooks(model, make_crops(speech, config.kmeans_crops, length, random), seed)
        peak = config.learning_rate if late < 0 else config.decoder_learning_rate
        share = (schedule(step, config.warmup, config.autoencoder_steps) if late < 0 else
                 schedule(late, config.warmup, config.decoder_steps))
        set_learning_rate(optimizers["optimizer"], peak * share)
        set_learning_rate(optimizers["discriminator_optimizer"], config.discriminator_learning_rate * share)
        return train_step(model, judge, distance, optimizers, crops, quantised=late >= 0,
                          adversarial=late >= config.adversarial_from, config=config)

    return train_on_crops(speech, config, output, seed, total, {"model": model, "discriminator": judge}, optimizers,
                          one_step, lambda: save_codec(model, output))


def train_step(model: SpectralModel, judge: SpectrogramDiscriminator, distance: MelDistance,
               optimizers: dict[str, torch.optim.Optimizer], crops: Tensor, quantised: bool, adversarial: bool,
               config: CodecTraining) -> dict[str, float]:
    if quantised:
        with torch.no_grad():
            latents = drop_levels(model, model.quantise(model.encode(crops)))
    else:
        latents = model.encode(crops)
    made = model.decode(latents)
    losses = {"loss": distance(made, crops)}
    total = losses["loss"]
    if adversarial:
        few = len(crops) // 2  # enough for the discriminator, which costs more than the codec itself
        real = judge(crops[:few])
        losses["discriminator"] = discriminator_loss(real, judge(made[:few].detach()))
        update(judge, optimizers["discriminator_optimizer"], losses["discriminator"])
        judge.requires_grad_(False)
        losses["fooling"], losses["features"] = generator_losses(real, judge(made[:few]))
        total = total + config.adversarial_weight * losses["fooling"] + config.feature_weight * losses["features"]
    update(model, optimizers["optimizer"], total)
    judge.requires_grad_(True)
    return {key: value.item() for key, value in losses.items()}


def drop_levels(model: SpectralModel, ids: Tensor) -> Tensor:
    """Latents of ids `[B, T, levels]` with all levels for half of the crops and the first few for the others."""
    levels = ids.shape[-1]
    all_of_them = torch.rand(len(ids), device=ids.device) < 0.5
    kept = torch.where(all_of_them, levels, torch.randint(1, levels + 1, (len(ids),), device=ids.device))
    return sum(codebook[ids[..., level]] * (kept > level)[:, None, None]
               for level, codebook in enumerate(model.codebooks))


@torch.no_grad()
def start_codebooks(model: SpectralModel, crops: Tensor, seed: int) -> None:
    """Residual k-means: each level on what the coarser ones leave of the latents."""
    rest = torch.cat([model.encode(part.to(device_of(model))).flatten(0, 1) for part in crops.split(32)])
    energy = rest.square().mean()
    for level, codebook in enumerate(model.codebooks):
        codebook.copy_(torch.from_numpy(kmeans(rest.cpu().numpy(), len(codebook), seed + level, iterations=12)))
        rest = rest - codebook[nearest(rest, codebook)]
        logging.info("level %d: %.3f of the energy left", level + 1, rest.square().mean() / energy)


def save_codec(model: SpectralModel, output: Path) -> None:
    """float16 halves the file and changes no id: ids are always computed with the weights that were saved."""
    with atomic_path(output / "model.safetensors") as temporary:
        save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, str(temporary))
    write_json(output / "config.json", to_dict(model.config))
