"""Parts of the training of ESPnet's SoundStream: the frozen encoder, initial weights and codebooks, losses."""

import importlib.util
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from trainings import write_recordings

from audiopalm.codec.crops import CropConfig
from audiopalm.codec.registry import hash_codes, load_codec
from audiopalm.codec.soundstream import SoundStreamConfig
from audiopalm.codec.soundstream_training import (
    SoundStreamCodecTraining,
    SoundStreamTraining,
    add_noise,
    build_soundstream,
    discriminator_loss,
    generator_loss,
    start_codebooks,
    start_weights,
    train_soundstream,
)
from audiopalm.core.errors import AudioPaLMError
from audiopalm.training.config import TrainingConfig
from audiopalm.training.optimizer import UpdateGroup

pytestmark = pytest.mark.skipif(importlib.util.find_spec("espnet2") is None, reason="espnet is not installed")
CONFIGURATION = SoundStreamTraining(
    model=SoundStreamConfig(hidden_dim=8, filters=2, levels=3, size=16), scale_channels=16, stft_channels=2,
    batch=CropConfig(crops=2, crop_seconds=0.32), training=TrainingConfig(steps=4), quantise_from=1, plain_noise=0.4,
    kmeans_crops=8, adversarial_from=4, freeze_encoder_from=2)


@pytest.fixture
def data(tmp_path):
    return write_recordings(tmp_path / "data", 3)


def test_the_encoder_learns_until_it_is_frozen(data, tmp_path, monkeypatch):
    changed, update = [], UpdateGroup.update

    def watch(self, step):
        before = [parameter.detach().clone() for parameter in self.module.encoder.parameters()]
        update(self, step)
        changed.append(any(not torch.equal(*pair)
                           for pair in zip(before, self.module.encoder.parameters(), strict=True)))

    monkeypatch.setattr(UpdateGroup, "update", watch)
    train_soundstream(data, CONFIGURATION, tmp_path / "output", seed=1)
    assert changed == [True, True, False, False]
    ids = load_codec(tmp_path / "output").encode([np.zeros(640, dtype=np.float32)])[0]
    assert ids.shape == (2, 3)


def test_settings_that_give_no_codec_are_refused(data, tmp_path):
    with pytest.raises(AudioPaLMError, match="quantise_from is 4, training.steps 4: the quantiser would not be"):
        train_soundstream(data, replace(CONFIGURATION, quantise_from=4), tmp_path / "output", seed=1)
    assert not (tmp_path / "output").exists()
    with pytest.raises(AudioPaLMError, match="400 samples per frame are 40 frames a second, but acoustic models need"):
        SoundStreamConfig(ratios=(8, 5, 5, 2))


def test_the_decoder_of_a_trained_codec_is_trained_for_the_same_ids(data, tmp_path):
    train_soundstream(data, CONFIGURATION, tmp_path / "first", seed=1)
    config = replace(CONFIGURATION, model=SoundStreamConfig(), quantise_from=0, adversarial_from=0)
    train_soundstream(data, config, tmp_path / "second", seed=2, init=tmp_path / "first")
    assert hash_codes(tmp_path / "second") == hash_codes(tmp_path / "first")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed and all(name.startswith("decoder.") for name in changed)
    with pytest.raises(AudioPaLMError, match="needs quantise_from: 0"):
        train_soundstream(data, CONFIGURATION, tmp_path / "third", seed=2, init=tmp_path / "first")


@torch.no_grad()
def test_the_dev_set_is_measured_with_all_levels_and_changes_nothing(data, tmp_path):
    training = SoundStreamCodecTraining(replace(CONFIGURATION, quantise_from=0), data, data, tmp_path, 1,
                                        Fabric(accelerator="cpu"))
    generator = training.codec.generator
    start_codebooks(training.codec, training.dev, seed=0)
    codes = [layer.codebook.clone() for layer in generator.quantizer.vq.layers]
    measured = {training.evaluate()["mel_distance"] for _ in range(6)}
    made = generator.decoder(generator.quantizer.vq.decode(generator.encode(training.dev[:, None])))
    assert len(measured) == 1
    assert measured.pop() == pytest.approx(float(training.codec.mel_loss(made, training.dev[:, None])), rel=1e-5)
    assert all(torch.equal(layer.codebook, before)
               for layer, before in zip(generator.quantizer.vq.layers, codes, strict=True))
    assert generator.quantizer.training and len(generator.target_bandwidths) == 3


def test_training_draws_every_number_of_levels():
    codec = build_soundstream(CONFIGURATION)
    quantiser, rate = codec.generator.quantizer, codec.generator.frame_rate
    drawn = [quantiser.get_num_quantizers_for_bandwidth(rate, bandwidth)
             for bandwidth in codec.generator.target_bandwidths]
    assert drawn == [1, 2, 3]


@torch.no_grad()
def test_initial_latents_depend_on_the_speech():
    """With PyTorch's initial convolutions, latents are nearly the same for all inputs."""
    torch.manual_seed(0)
    generator = build_soundstream(CONFIGURATION).generator
    crops = 0.1 * torch.randn(8, 5120)

    def varying_fraction():
        latents = generator.encoder(crops[:, None]).transpose(1, 2).flatten(0, 1)  # [frames, hidden]
        return float(latents.var(dim=0).mean() / latents.square().mean())

    before = varying_fraction()
    start_weights(generator, crops)
    assert before < 0.2 and varying_fraction() > 0.8
    made = generator.decoder(generator.encoder(crops[:, None]))
    assert 0.05 < float(made.std() / crops.std()) < 0.4


def test_noise_is_a_fraction_of_the_energy_at_any_scale():
    """Each item has a fraction of its own. Larger latents have larger noise, so the codec gains nothing by growing."""
    torch.manual_seed(0)
    latents = torch.randn(300, 4, 200, requires_grad=True)

    def noisy(scale: float) -> torch.Tensor:
        torch.manual_seed(1)
        return add_noise(scale * latents, 0.4)

    noise = noisy(1) - latents
    shares = noise.detach().square().mean((1, 2)) / latents.detach().square().mean()
    assert 0.0 <= shares.min() < 0.01 and 0.39 < shares.max() < 0.45 and 0.18 < shares.mean() < 0.22
    assert torch.allclose(noisy(10), 10 * noisy(1), atol=1e-4)
    noise.square().sum().backward()
    # Euler: noise is homogeneous of degree one, so the derivative along the latents is twice its energy.
    assert torch.isclose((latents.grad * latents).sum(), 2 * noise.square().sum(), rtol=1e-3)
    assert torch.equal(add_noise(latents, 0.0), latents)


def test_sound_below_the_floor_adds_little_to_the_loss():
    mel_loss = build_soundstream(CONFIGURATION).mel_loss
    silence, hiss, speech = torch.zeros(1, 1, 8000), 1e-4 * torch.randn(1, 1, 8000), 0.1 * torch.randn(1, 1, 8000)
    assert float(mel_loss(silence, hiss)) < 0.01 * float(mel_loss(silence, speech))


def test_codebooks_start_at_the_latents_and_a_step_moves_them_little():
    """Each level leaves a smaller error. ESPnet's own step replaces all codes in small batches."""
    torch.manual_seed(0)
    codec, crops = build_soundstream(CONFIGURATION).train(), torch.randn(24, 5120)
    start_codebooks(codec, crops, seed=0)
    vq = codec.generator.quantizer.vq
    with torch.no_grad():
        latents = codec.generator.encoder(crops[:, None])
        errors = [(latents - vq.decode(vq.encode(latents, n_q=levels))).square().mean() for levels in (1, 2, 3)]
    assert latents.square().mean() > 2 * errors[0] and errors[0] > errors[1] > errors[2]
    before = [layer.codebook.clone() for layer in vq.layers]
    codec.generator.target_bandwidths = codec.generator.target_bandwidths[-1:]
    codec.generator(crops[:2, None])
    for layer, codes in zip(vq.layers, before, strict=True):
        moved = (layer.codebook - codes).norm(dim=1) / codes.norm(dim=1)
        assert 0 < moved.median() < 0.1


def test_losses_gradients_and_codebooks_are_espnets():
    """The quantiser and the sums of losses are ours, so that the host does not wait for a GPU."""
    from espnet2.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer

    torch.manual_seed(0)
    ours, espnets, crops = build_soundstream(CONFIGURATION), build_soundstream(CONFIGURATION), torch.randn(2, 5120)
    espnets.generator.quantizer = ResidualVectorQuantizer(8, 8, n_q=3, bins=16)
    espnets.cache_generator_outputs = True
    for mine, theirs in zip(*(codec.generator.quantizer.vq.layers for codec in (ours, espnets)), strict=True):
        theirs._codebook.threshold_ema_dead_code = mine._codebook.threshold_ema_dead_code = 1.0  # some are replaced
    espnets.load_state_dict(ours.state_dict())
    for _ in range(2):  # the first pass starts the codebooks by k-means
        for codec in (ours, espnets):
            torch.manual_seed(1)
            random.seed(1)
            codec.zero_grad()
            if codec is ours:
                made = codec.generator(crops[:, None])[:3]
                logged = discriminator_loss(codec, crops, made[0])[1]
                loss, losses = generator_loss(codec, crops, *made)
            else:
                expected = codec(crops, forward_generator=False)["stats"]
                judged = codec(crops)
                loss = judged["loss"]
                expected |= {name: value for name, value in judged["stats"].items() if name != "loss"}
            loss.backward()
        assert {name: float(value.detach()) for name, value in (logged | losses).items()} == {
            name: float(value) for name, value in expected.items()}
        for mine, theirs in zip(ours.parameters(), espnets.parameters(), strict=True):
            assert mine.grad is theirs.grad is None or torch.equal(mine.grad, theirs.grad)
    for name, value in espnets.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_rare_codes_become_vectors_of_the_batch():
    """As on a GPU, where every code gets a replacement and only rare ones take it."""
    codebook = build_soundstream(CONFIGURATION).generator.quantizer.vq.layers[0]._codebook
    codebook.threshold_ema_dead_code = 0.5
    codebook.cluster_size.copy_(torch.tensor([0.4, 0.5] * 8))
    codebook.embed.fill_(-1.0)
    points = torch.arange(40.0).view(5, 8)
    codebook.replace_rare(points)
    assert all((points == code).all(1).any() for code in codebook.embed[::2])
    assert torch.equal(codebook.embed_avg[::2], 0.5 * codebook.embed[::2])
    assert (codebook.embed[1::2] == -1).all() and (codebook.cluster_size == 0.5).all()
