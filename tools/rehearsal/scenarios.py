"""The scenarios of tools/rehearse_gpu.py: one step of every training and of every use of a model, at tiny shapes.

A scenario is a generator: it builds its models, then yields a name and a function for each step. The functions must not
make the host wait.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from audiopalm.acoustic.audiolm.model import AudioLM
from audiopalm.acoustic.audiolm.model import ModelConfig as AudioLMModelConfig
from audiopalm.acoustic.audiolm.training import AudioLMConfig, AudioLMTraining
from audiopalm.acoustic.corpus import Batch
from audiopalm.acoustic.soundstorm.generation import GenerationConfig, SoundStormAcoustic
from audiopalm.acoustic.soundstorm.model import ModelConfig as SoundStormModelConfig
from audiopalm.acoustic.soundstorm.model import SoundStorm
from audiopalm.acoustic.soundstorm.training import SoundStormConfig, SoundStormTraining
from audiopalm.codec.discriminator import SpectrogramDiscriminator
from audiopalm.codec.soundstream import SoundStreamConfig
from audiopalm.codec.soundstream_training import (
    SoundStreamCodecTraining,
    SoundStreamTraining,
    build_soundstream,
)
from audiopalm.codec.source_filter import SourceFilterConfig
from audiopalm.codec.spectral import SpectralCodec, SpectralConfig, SpectralModel
from audiopalm.codec.spectral_training import CodecTraining, MelDistance, SpectralTraining
from audiopalm.lm.generation.batching import ContinuousBatch
from audiopalm.lm.generation.choice import Sampling
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.rounds import Rounds
from audiopalm.lm.model import ArchitectureConfig, Decoder, ModelConfig
from audiopalm.lm.packed_sizes import count_sizes
from audiopalm.lm.packing import IGNORED
from audiopalm.tasks import get_task
from audiopalm.training.optimizer import OptimizerConfig, update_group
from audiopalm.units.registry import UnitTokenizer
from audiopalm.units.speech_batches import SpeechBatch
from audiopalm.units.usm_v2 import UnitConfig, UnitModel
from audiopalm.units.usm_v2_training import UnitTraining, UsmTraining
from audiopalm.units.w2v_bert import W2vBert, W2vBertConfig
from audiopalm.units.w2v_bert_training import W2vBertTraining, W2vBertUnits

Backward = Callable[[Tensor], None]
Steps = Iterator[tuple[str, Callable[[], object]]]
FAMILIES = {"llama": {}, "gemma 3": {"window": 20, "local_layers": [0], "query_key_norm": True, "post_norms": True},
            "gemma 2": {"window": 20, "local_layers": [0], "attention_cap": 50.0, "logit_cap": 30.0}}


def decoder(**options: object) -> Decoder:
    return Decoder(ModelConfig(300, dim=64, layers=2, heads=4, kv_heads=2, hidden_dim=96, **options))


def lm_training(device: torch.device, backward: Backward) -> Steps:
    segments = torch.tensor([[1] * 100 + [2] * 120 + [0] * 36, [1] * 256])
    targets = torch.full((2, 256), IGNORED)
    targets[:, 50:200] = 7
    sizes, positions = count_sizes(segments, targets), torch.arange(256).expand(2, 256)
    for family, options in FAMILIES.items():
        for name in ("adamw", "muon", "adafactor"):
            model = decoder(**options).to(device).train()
            model.recompute = name == "muon"
            group = update_group(model, OptimizerConfig(name=name), 10, clip_apart=("embedding",))

            def step(model: Decoder = model, group: object = group) -> None:
                inputs = [one.to(device, non_blocking=True) for one in (segments, segments, positions, targets)]
                loss, _ = model(*inputs, sizes)
                backward(loss)
                group.update(3)

            yield f"language model, {family}, {name}", step


def lm_decoding(device: torch.device, backward: Backward) -> Steps:
    task = get_task("ast+s2st")
    prompts = [np.arange(length) for length in (5, 70, 300, 9, 11)]
    for family, options in FAMILIES.items():
        for temperature in (0.0, 1.0):
            model = decoder(**options).to(device)
            with torch.inference_mode():
                batch = ContinuousBatch(model, prompts, 400, 5)
                sampling = Sampling.from_config(task, DecodingConfig(audio_temperature=temperature), 300)
                rounds = Rounds(batch, torch.zeros(2, 300, device=device), [5, 2], sampling)
            name = f"{family}, temperature {temperature:g}"
            yield f"prefill, {name}", torch.inference_mode()(batch.admit)
            for slot, _ in batch.running():
                rounds.set(slot, 0, 0, 1, 0, [9, 25])
            yield f"decode step, {name}", torch.inference_mode()(lambda rounds=rounds: rounds.decode_step(256))


def voice_batch(random: np.random.Generator, voices: int, targets: int) -> Batch:
    """Prompts of 10 units of 30 and targets of 15, with three levels of 20 codes."""
    return Batch(random.integers(0, 30, (voices, 10)), random.integers(0, 20, (voices, 20, 3)),
                 random.integers(0, 30, (voices * targets, 15)), random.integers(0, 20, (voices * targets, 30, 3)),
                 np.repeat(np.arange(voices), targets))


def soundstorm(device: torch.device, backward: Backward) -> Steps:
    random = np.random.default_rng(0)
    model = SoundStorm(SoundStormModelConfig(30, 3, 20, dim=32, layers=2, heads=2, feedforward=64)).to(device)
    batch = voice_batch(random, 2, 2)
    training = SoundStormTraining.__new__(SoundStormTraining)
    training.model, training.device, training.config = model, device, SoundStormConfig()
    training.corpus = SimpleNamespace(codec_size=20)
    group = update_group(model, OptimizerConfig(), 10)

    def step() -> None:
        for loss in training.step((batch, random), 1):
            backward(loss.total)
            group.update(3)

    yield "SoundStorm, training", step
    acoustic = SoundStormAcoustic(model, GenerationConfig(iterations=[4, 1]))
    prompt = random.integers(0, 30, 75), random.integers(0, 20, (150, 3))
    voice = torch.inference_mode()(acoustic._encode)([prompt, prompt])
    new = np.ones((2, 40), dtype=bool)
    arrays = [np.zeros((2, 20), dtype=np.int64), np.zeros((2, 40, 3), dtype=np.int64), new, np.array([40, 30]),
              np.zeros((2, 6, 2, 40), dtype=np.float32), acoustic.schedule(new.sum(axis=1))]
    units, codec, is_new, lengths, uniform, remaining = map(acoustic._to_device, arrays)
    yield "SoundStorm, generation", lambda: torch.inference_mode()(acoustic.fill)(
        units, codec, voice, is_new, lengths, uniform, remaining)


def audiolm(device: torch.device, backward: Backward) -> Steps:
    random = np.random.default_rng(0)
    stage = ArchitectureConfig(dim=32, layers=2, heads=2, kv_heads=1, hidden_dim=48)
    model = AudioLM(AudioLMModelConfig(30, 3, 20, coarse_levels=1, coarse=stage, fine=stage, dropout=0.1,
                                       fine_prompt_seconds=0.2, fine_seconds=0.4)).to(device).train()
    training = AudioLMTraining.__new__(AudioLMTraining)
    group = update_group(model, OptimizerConfig(), 10)
    for own_share in (0.0, 0.5):
        training.model, training.device, training.config = model, device, AudioLMConfig(own_share=own_share)

        def step() -> None:
            for loss in training.step((voice_batch(random, 2, 1), random), 1):
                backward(loss.total)
                group.update(3)

        yield f"AudioLM, training{', with its own past' if own_share else ''}", step


def speech_batch(device: torch.device) -> SpeechBatch:
    samples = torch.zeros(3, 60 * 640)
    return SpeechBatch(samples, samples, torch.tensor([60, 41, 17]), torch.ones(12, dtype=torch.int64),
                       torch.tensor([5, 4, 3]), []).to(device)


def units(device: torch.device, backward: Backward) -> Steps:
    shape = {"dim": 32, "heads": 2, "kernel": 5, "context": 4}
    usm = UnitModel(UnitConfig(**shape, encoder_blocks=2, code_dim=8, size=32, characters="ab")).to(device)
    group = update_group(usm, OptimizerConfig(), 10)
    for quantised in (False, True):
        training = UsmTraining.__new__(UsmTraining)
        training.model, training.device, training.config, training.quantised = usm, device, UnitTraining(), quantised

        def step(training: UsmTraining = training) -> None:
            for loss in training.step(speech_batch(device), 1000):
                backward(loss.total)
                group.update(3)

        yield f"usm-v2, training{', quantised' if quantised else ''}", step
    bert = W2vBert(W2vBertConfig(**shape, contrastive_blocks=1, masked_blocks=1, layer=1, target_codes=8, target_dim=8,
                                 size=16)).to(device)
    bert_group = update_group(bert, OptimizerConfig(), 10)
    other = W2vBertUnits.__new__(W2vBertUnits)
    other.model, other.device, other.config = bert, device, W2vBertTraining()

    def masked() -> None:
        for loss in other.step(speech_batch(device), 1):
            backward(loss.total)
            bert_group.update(3)

    yield "w2v-bert, training", masked
    recordings = [torch.zeros(length, device=device) for length in (700, 640 * 700, 3333)]
    for name, model in (("usm-v2", usm), ("w2v-bert", bert)):
        yield f"{name}, encoder", torch.inference_mode()(
            lambda model=model: UnitTokenizer(model).model.batch_features(recordings))


def codec(device: torch.device, backward: Backward) -> Steps:
    model = SpectralModel(SpectralConfig(encoder_dim=16, encoder_blocks=2, decoder=SourceFilterConfig(dim=16, blocks=2),
                                         levels=3, size=20, latent_dim=8)).to(device)
    training = SpectralTraining.__new__(SpectralTraining)
    training.config, training.model, training.device = CodecTraining(), model, device
    training.discriminator = SpectrogramDiscriminator(channels=4).to(device)
    training.distance = MelDistance().to(device)
    groups = {"model": update_group(model, OptimizerConfig(), 10),
              "discriminator": update_group(training.discriminator, OptimizerConfig(), 10)}
    for quantised in (False, True):
        def step(quantised: bool = quantised) -> None:
            training.quantised = quantised
            for loss in training.step((torch.zeros(4, 6400), torch.full((4, 21), 100.0)),
                                      10 ** 6 if quantised else 0):
                backward(loss.total)
                groups[loss.group].update(3)

        yield f"spectral codec, training{', quantised' if quantised else ''}", step
    used = SpectralCodec(model)
    samples = torch.zeros(2, 6400, device=device)
    valid = torch.ones(2, 20, 1, device=device)
    yield "spectral codec, encoder", torch.inference_mode()(
        lambda: used.model.quantise(used.model.encode(samples, valid)))
    ids = torch.zeros(2, 20, 3, dtype=torch.int64, device=device)
    yield "spectral codec, decoder", torch.inference_mode()(
        lambda: used.model.decoder(used.model.look_up(ids), valid))


def soundstream(device: torch.device, backward: Backward) -> Steps:
    config = SoundStreamTraining(model=SoundStreamConfig(hidden_dim=8, filters=2, levels=3, size=16), scale_channels=16,
                                 stft_channels=2, plain_noise=0.4, quantise_from=1, adversarial_from=2)
    config.batch.crops, config.batch.crop_seconds = 2, 0.32
    training = SoundStreamCodecTraining.__new__(SoundStreamCodecTraining)
    training.config, training.device, training.codec = config, device, build_soundstream(config).to(device).train()
    groups = training.update_groups()
    for layer in training.codec.generator.quantizer.vq.layers:
        layer._codebook.started = True  # as after the k-means before the first step with the quantiser
    for number, name in enumerate(("plain", "quantised", "with discriminators")):
        def step(number: int = number) -> None:
            training.quantised = number >= 1
            for loss in training.step(torch.zeros(2, 5120), number):
                backward(loss.total)
                groups[loss.group].update(3)

        yield f"SoundStream, training, {name}", step


SCENARIOS = {"language model, training": lm_training, "language model, decoding": lm_decoding, "SoundStorm": soundstorm,
             "AudioLM": audiolm, "units": units, "codec": codec, "SoundStream": soundstream}
