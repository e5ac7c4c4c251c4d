"""Trainings of SoundStorm and AudioLM: the codes they learn, the tokens they refuse, the batches they draw."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from trainings import CODES, LEVELS, SPEAKERS, UNITS, write_tokens

from audiopalm.acoustic.audiolm.training import AudioLMConfig, AudioLMTraining
from audiopalm.acoustic.corpus import Corpus
from audiopalm.acoustic.latents import UnitLatents
from audiopalm.acoustic.registry import load_acoustic
from audiopalm.acoustic.soundstorm import conformer
from audiopalm.acoustic.soundstorm.generation import GenerationConfig
from audiopalm.acoustic.soundstorm.model import ModelConfig, SoundStorm
from audiopalm.acoustic.soundstorm.training import SoundStormConfig, SoundStormTraining, draw_masks
from audiopalm.acoustic.training import AcousticData, VoiceBatchConfig, train
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.training.config import TrainingConfig
from audiopalm.training.optimizer import OptimizerConfig


@pytest.fixture
def tokens(tmp_path) -> Path:
    write_tokens(tmp_path / "tokens", 1)
    return tmp_path / "tokens"


def learn(output, tokens, dev=None, **settings) -> None:
    """Train a small SoundStorm; `settings` are those of `training:`."""
    config = SoundStormConfig(
        model=ModelConfig(dim=48, layers=2, heads=2, feedforward=96, dropout=0.0),
        batch=VoiceBatchConfig(voices=3, targets=4, prompt_seconds=0.6, target_seconds=1.0),
        training=TrainingConfig(**settings),
        optimizer=OptimizerConfig(learning_rate=1e-2, final_rate=0, warmup_steps=20, weight_decay=0.01),
        generation=GenerationConfig(iterations=[4, 1], temperature=0.0, noise=0.0))
    train(SoundStormTraining, config, AcousticData(tokens, tokens, dev, dev), output, 0)


def test_a_model_learns_the_codes_of_units_and_voices(tmp_path, tokens):
    write_tokens(tmp_path / "dev", 2, 12)
    torch.set_num_threads(1)
    learn(tmp_path / "exp", tokens, tmp_path / "dev", steps=120, log_every=40, validate_every=120)
    log = [json.loads(line) for line in (tmp_path / "exp" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [40, 80, 120]
    assert all(f"level_{level}" in log[0] for level in range(LEVELS)) and log[-1]["loss"] < log[0]["loss"]
    assert min(log[-1]["dev"][f"accuracy_{level}"] for level in range(LEVELS)) > 0.95

    # The voice comes from the prompt, the content from the units: with another speaker's prompt come his codes.
    corpus, acoustic = Corpus(tmp_path / "dev", tmp_path / "dev"), load_acoustic(tmp_path / "exp")
    spoken = [corpus.tokens(index)[0] for index in range(6)]
    voices = [corpus.tokens(corpus.speakers.members(index % SPEAKERS)[-1]) for index in range(6)]
    made = acoustic.generate(spoken, *map(list, zip(*voices, strict=True)))
    table = np.random.default_rng(0).integers(0, CODES, (SPEAKERS, UNITS, 2, LEVELS))
    truth = [table[index % SPEAKERS, units].reshape(-1, LEVELS) for index, units in enumerate(spoken)]
    assert np.mean(np.concatenate(made) == np.concatenate(truth)) > 0.95


def test_a_training_may_start_from_a_trained_model(tmp_path, tokens):
    """It takes sizes and weights from the model, not from the configuration. Other kinds and tokens are refused."""
    learn(tmp_path / "pack", tokens, steps=2)
    config = SoundStormConfig(model=ModelConfig(dim=16, layers=1, heads=2), training=TrainingConfig(steps=1),
                              batch=VoiceBatchConfig(voices=2, prompt_seconds=0.6, target_seconds=1.0),
                              optimizer=OptimizerConfig(learning_rate=1e-9, warmup_steps=0, weight_decay=0.0))
    data = AcousticData(tokens, tokens, init_model=tmp_path / "pack")
    train(SoundStormTraining, config, data, tmp_path / "more", 0)
    before, after = (load_acoustic(tmp_path / name).model for name in ("pack", "more"))
    assert before.config == after.config
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight, rtol=0, atol=1e-6)
    with pytest.raises(AudioPaLMError, match="is an acoustic model of the kind soundstorm, the configuration is for"):
        train(AudioLMTraining, AudioLMConfig(training=TrainingConfig(steps=1)), data, tmp_path / "other", 0)
    settings = read_json(tmp_path / "pack" / "config.json")
    write_json(tmp_path / "pack" / "config.json", {**settings, "codes_sha256": "another"})
    with pytest.raises(AudioPaLMError, match="has codes_sha256 another, .* run stages 3 to 5 with the same"):
        train(SoundStormTraining, config, data, tmp_path / "third", 0)


def test_other_tokens_are_refused(tmp_path, tokens):
    learn(tmp_path / "exp", tokens, steps=1)
    meta = read_json(tokens / "meta.json")
    write_json(tokens / "meta.json", {**meta, "units_sha256": "cccc"})
    with pytest.raises(AudioPaLMError, match="other settings"):
        learn(tmp_path / "exp", tokens, steps=1)
    write_tokens(tmp_path / "dev", 2)
    with pytest.raises(AudioPaLMError, match="units_sha256 differs.*cccc.*aaaa"):
        learn(tmp_path / "other", tokens, tmp_path / "dev", steps=1)
    config = read_json(tmp_path / "exp" / "config.json")
    assert config["units_sha256"] == "aaaa" and config["codes_sha256"] == "bbbb"
    assert (config["units_size"], config["codec_levels"], config["codec_size"]) == (UNITS, LEVELS, CODES)


def test_tokens_without_codec_are_refused(tmp_path, tokens):
    meta = read_json(tokens / "meta.json")
    write_json(tokens / "meta.json", {**meta, "codes_sha256": None})
    with pytest.raises(AudioPaLMError, match="codes_sha256.*stage 5"):
        learn(tmp_path / "exp", tokens, steps=1)
    with pytest.raises(AudioPaLMError, match="stage 5"):
        learn(tmp_path / "exp", tmp_path / "nothing", steps=1)


def test_prompt_and_target_are_of_one_speaker_and_of_two_utterances(tokens):
    corpus = Corpus(tokens, tokens)
    random = np.random.default_rng(0)
    own = corpus.speakers.members(1)
    assert {corpus.other(random, own[3], own) for _ in range(300)} == set(own) - {own[3]}
    assert corpus.other(random, 7, [7]) == 7
    table = np.random.default_rng(0).integers(0, CODES, (SPEAKERS, UNITS, 2, LEVELS))
    batch = corpus.draw(random, voices=4, targets=3, prompt=15, target=60)
    masked = draw_masks(random, batch.codec, CODES, bias=1.0, cut_share=0.5, whole_share=0.0)
    assert batch.units.shape == (12, 60) and batch.codec.shape == (12, 120, LEVELS)
    assert batch.prompt_units.shape == (4, 15) and batch.prompt_codec.shape == (4, 30, LEVELS)
    assert masked.mask.any(axis=1).all()
    matches = [[(table[speaker, units].reshape(len(units), -1, LEVELS) == codec).all(axis=2).mean(axis=1)
                for speaker in range(SPEAKERS)]
               for units, codec in ((batch.prompt_units, batch.prompt_codec), (batch.units, batch.codec))]
    prompt_speaker, speaker = (np.argmax(match, axis=0) for match in matches)
    assert (speaker == prompt_speaker[batch.voice]).all()
    assert np.max(matches[1], axis=0).min() > 0.9  # one voice in each, apart from repeated last frames
    level_shown = np.take_along_axis(masked.shown, masked.level[:, None, None], axis=2)[..., 0]
    assert ((level_shown == CODES) == masked.mask).all()


def test_languages_are_drawn_by_their_weights(tokens, monkeypatch):
    corpus = Corpus(tokens, tokens, weights={"es": 6.0})
    drawn, target = [], corpus.target
    monkeypatch.setattr(corpus, "target", lambda random, utterance, length: (
        drawn.append(corpus.language(utterance)), target(random, utterance, length))[1])
    random = np.random.default_rng(0)
    for _ in range(100):
        corpus.draw(random, voices=4, targets=2, prompt=15, target=30)
    assert 0.54 < drawn.count("es") / len(drawn) < 0.66  # 6 * 6 of 6 * 6 + 24
    with pytest.raises(AudioPaLMError, match="is in 'fr'"):
        Corpus(tokens, tokens, weights={"fr": 2.0})


def test_latents_of_units_are_the_means_over_the_corpus(tokens):
    codebooks = torch.randn(LEVELS, CODES, 8)
    corpus = Corpus(tokens, tokens)
    unit_latents = corpus.unit_latents(codebooks)
    read_units, read_codec = zip(*(corpus.tokens(index) for index in range(len(corpus))), strict=True)
    codes = torch.from_numpy(np.concatenate(read_codec).astype(np.int64))
    latents = sum(codebooks[level][codes[:, level]] for level in range(LEVELS)).view(-1, 2, 8)
    units = torch.from_numpy(np.concatenate(read_units))
    means = torch.stack([latents[units == unit].mean(dim=0) for unit in range(UNITS)])
    torch.testing.assert_close(unit_latents.means, means, rtol=1e-4, atol=1e-4)
    assert unit_latents.unit_error == pytest.approx(float((latents - means[units]).square().mean()), rel=1e-3)
    finer = latents.flatten(0, 1) - codebooks[0][codes[:, 0]]
    assert unit_latents.code_error == pytest.approx(float(finer.square().mean()), rel=1e-3)


def test_an_untrained_model_says_each_unit_by_the_code_nearest_to_its_mean_latent():
    torch.manual_seed(0)
    model = SoundStorm(ModelConfig(UNITS, LEVELS, CODES, dim=64, layers=2, heads=2, feedforward=64)).eval()
    codebooks = torch.randn(LEVELS, CODES, 8) * 0.3 ** torch.arange(LEVELS)[:, None, None]
    codes = torch.randint(CODES, (UNITS, 2, LEVELS))
    means = sum(codebooks[level][codes[..., level]] for level in range(LEVELS))
    units = torch.arange(UNITS)[None]
    masked = torch.full((1, 2 * UNITS, LEVELS), CODES)

    def accuracy() -> float:
        voice = model.encode_prompt(units, codes.view(1, -1, LEVELS))  # a speaker whose codes are those of the means
        states = model(units, masked, voice)[0]
        nearest = torch.cdist(means.flatten(0, 1), codebooks[0]).argmin(dim=1)
        return float((model.logits(states, masked[0], 0).argmax(dim=1) == nearest).float().mean())

    assert accuracy() < 0.3
    model.start_from(codebooks, UnitLatents(means, unit_error=0.1, code_error=0.1))
    assert accuracy() > 0.9


def test_attention_has_the_precision_of_the_other_layers(monkeypatch):
    """Rotary tables are float32; they must not make queries and keys float32 too, which takes a third more time."""
    seen, attend = [], conformer.attend
    monkeypatch.setattr(conformer, "attend", lambda queries, keys, *others: (
        seen.extend([queries.dtype, keys.dtype]), attend(queries, keys, *others))[1])
    with torch.autocast("cpu", torch.bfloat16):
        conformer.Conformer(dim=32, layers=2, heads=2, feedforward=64, kernel=5, dropout=0.0)(torch.randn(1, 10, 32))
    assert seen == [torch.bfloat16] * 4
