import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from audiopalm.acoustic.corpus import Corpus, UnitLatents
from audiopalm.acoustic.registry import KINDS, load_acoustic, load_training_config
from audiopalm.acoustic.soundstorm import conformer
from audiopalm.acoustic.soundstorm.generation import GenerationConfig
from audiopalm.acoustic.soundstorm.model import ModelConfig, SoundStorm
from audiopalm.acoustic.soundstorm.training import SoundStormConfig, SoundStormTraining, draw_masks
from audiopalm.acoustic.training import Kind, train
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import read_json, write_json
from audiopalm.data.archive import write_ark
from audiopalm.data.datadir import write_table

UNITS, LEVELS, CODES, SPEAKERS = 12, 3, 24, 3


def write_tokens(folder: Path, seed: int, utterances: int = 30) -> None:
    """A made-up language: each speaker says unit u as his own codes, other ones in the second half of a unit.

    Every fifth utterance of a speaker is in Spanish, the others are in English.
    """
    table = np.random.default_rng(0).integers(0, CODES, (SPEAKERS, UNITS, 2, LEVELS))
    random = np.random.default_rng(seed)
    units, codec, speakers, languages = {}, {}, {}, {}
    for index in range(utterances):
        speaker = index % SPEAKERS
        language = "es" if index // SPEAKERS % 5 == 4 else "en"
        name = f"s{speaker}-{language}-{index:03d}"
        units[name] = random.integers(0, UNITS, int(random.integers(10, 40)))
        frames = table[speaker, units[name]].reshape(-1, LEVELS)
        codec[name] = frames[:len(frames) - index % 2].reshape(-1)  # the last frame may be missing
        speakers[name], languages[name] = f"s{speaker}", language
    write_table(folder / "units.scp", write_ark(folder / "units.ark", units))
    write_table(folder / "codec.scp", write_ark(folder / "codec.ark", codec))
    write_table(folder / "utt2spk", speakers)
    write_table(folder / "utt2lang", languages)
    write_json(folder / "meta.json", {"units_rate": 25, "units_size": UNITS, "units_sha256": "aaaa", "codec_rate": 50,
                                      "codec_levels": LEVELS, "codec_size": CODES, "codec_sha256": "bbbb"})


@pytest.fixture
def tokens(tmp_path) -> Path:
    write_tokens(tmp_path / "tokens", 1)
    return tmp_path / "tokens"


def small(**training) -> tuple[Kind, SoundStormConfig]:
    return KINDS["soundstorm"], SoundStormConfig(
        model=ModelConfig(dim=48, layers=2, heads=2, feedforward=96, dropout=0.0),
        training=SoundStormTraining(voices=3, targets=4, prompt_seconds=0.6, target_seconds=1.0, **training),
        generation=GenerationConfig(iterations=[4, 1], temperature=0.0, noise=0.0))


def test_learns_the_codes_of_units_and_voices(tmp_path, tokens):
    write_tokens(tmp_path / "dev", 2, 12)
    torch.set_num_threads(1)
    config = small(steps=240, learning_rate=5e-3, warmup=20, log_every=80, dev_every=240)
    train(*config, tokens, tokens, tmp_path / "exp", 0, tmp_path / "dev", tmp_path / "dev")
    log = [json.loads(line) for line in (tmp_path / "exp" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [80, 160, 240]
    assert len(log[0]["loss_levels"]) == LEVELS and log[-1]["loss"] < log[0]["loss"]
    assert min(log[-1]["dev_accuracy"]) > 0.95

    # The voice comes from the prompt, the content from the units: another speaker's prompt gives his codes.
    corpus, acoustic = Corpus(tmp_path / "dev", tmp_path / "dev"), load_acoustic(tmp_path / "exp")
    spoken = corpus.units[:6]
    voices = [corpus.of_speaker[f"s{index % SPEAKERS}"][-1] for index in range(6)]
    made = acoustic.generate(spoken, [corpus.units[voice] for voice in voices],
                             [corpus.codec[voice] for voice in voices])
    table = np.random.default_rng(0).integers(0, CODES, (SPEAKERS, UNITS, 2, LEVELS))
    truth = [table[index % SPEAKERS, units].reshape(-1, LEVELS) for index, units in enumerate(spoken)]
    assert np.mean(np.concatenate(made) == np.concatenate(truth)) > 0.95


SMALL_FILES = {
    "soundstorm": "model: {dim: 16, layers: 1, heads: 2}\n"
                  "training: {steps: 40, save_every: 8, log_every: 10, voices: 2}\n",
    "audiolm": "kind: audiolm\nmodel: {coarse_levels: 1, coarse: {dim: 16, layers: 1}, fine: {dim: 16, layers: 1}}\n"
               "training: {steps: 40, save_every: 8, log_every: 10, voices: 1, target_seconds: 0.4, optimizer: muon}\n",
}


@pytest.mark.parametrize("kind", SMALL_FILES)
def test_a_killed_run_goes_on_exactly(tmp_path, tokens, caplog, kind):
    caplog.set_level("INFO")
    torch.set_num_threads(1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    (tmp_path / "acoustic.yaml").write_text(SMALL_FILES[kind])
    config = load_training_config(tmp_path / "acoustic.yaml")
    command = [sys.executable, "-m", "audiopalm.bin.train_acoustic", "--data_dir", str(tokens), "--tokens", str(tokens),
               "--config", str(tmp_path / "acoustic.yaml"), "--output", str(parts)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while not (parts / "snapshot.safetensors").is_file() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (parts / "model.safetensors").is_file(), "killed too late to test anything"

    train(*config, str(tokens), str(tokens), str(parts), 0)
    assert "going on from step" in caplog.text
    train(*load_training_config(tmp_path / "acoustic.yaml"), str(tokens), str(tokens), str(whole), 0)
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    timeless = [[{key: value for key, value in json.loads(line).items() if key != "seconds"}
                 for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (whole, parts)]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 4
    train(*load_training_config(tmp_path / "acoustic.yaml"), str(tokens), str(tokens), str(parts), 0)
    assert "nothing to do" in caplog.text


def test_other_tokens_are_refused_with_both_hashes(tmp_path, tokens):
    train(*small(steps=1), tokens, tokens, tmp_path / "exp", 0)
    meta = read_json(tokens / "meta.json")
    write_json(tokens / "meta.json", {**meta, "units_sha256": "cccc"})
    with pytest.raises(AudioPaLMError, match="units_sha256 aaaa.* cccc"):
        train(*small(steps=1), tokens, tokens, tmp_path / "exp", 0)
    write_tokens(tmp_path / "dev", 2)
    with pytest.raises(AudioPaLMError, match="units_sha256 differs.*cccc.*aaaa"):
        train(*small(steps=1), tokens, tokens, tmp_path / "other", 0, tmp_path / "dev", tmp_path / "dev")
    config = read_json(tmp_path / "exp" / "config.json")
    assert config["units_sha256"] == "aaaa" and config["codec_sha256"] == "bbbb"
    assert (config["units_size"], config["codec_levels"], config["codec_size"]) == (UNITS, LEVELS, CODES)


def test_tokens_without_codec_are_refused(tmp_path, tokens):
    meta = read_json(tokens / "meta.json")
    write_json(tokens / "meta.json", {**meta, "codec_sha256": None})
    with pytest.raises(AudioPaLMError, match="codec_sha256.*stage 5"):
        train(*small(steps=1), tokens, tokens, tmp_path / "exp", 0)
    with pytest.raises(AudioPaLMError, match="stage 5"):
        train(*small(steps=1), tokens, tmp_path / "nothing", tmp_path / "exp", 0)


def test_sequences_keep_the_speaker_and_change_the_utterance(tokens):
    corpus = Corpus(tokens, tokens)
    random = np.random.default_rng(0)
    own = corpus.of_speaker["s1"]
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
    assert np.max(matches[1], axis=0).min() > 0.9  # one voice in each, but for repeated last frames
    level_shown = np.take_along_axis(masked.shown, masked.level[:, None, None], axis=2)[..., 0]
    assert ((level_shown == CODES) == masked.mask).all()


def test_languages_are_drawn_by_their_weights(tokens, monkeypatch):
    corpus = Corpus(tokens, tokens, weights={"es": 6.0})
    drawn, target = [], corpus.target
    monkeypatch.setattr(corpus, "target", lambda random, utterance, length: (
        drawn.append(corpus.voice[utterance][1]), target(random, utterance, length))[1])
    random = np.random.default_rng(0)
    for _ in range(100):
        corpus.draw(random, voices=4, targets=2, prompt=15, target=30)
    assert 0.54 < drawn.count("es") / len(drawn) < 0.66  # 6 * 6 of 6 * 6 + 24
    with pytest.raises(AudioPaLMError, match="is in 'fr'"):
        Corpus(tokens, tokens, weights={"fr": 2.0})


def test_average_latents_of_units(tokens):
    codebooks = torch.randn(LEVELS, CODES, 8)
    corpus = Corpus(tokens, tokens)
    found = corpus.unit_latents(codebooks)
    codes = torch.from_numpy(np.concatenate(corpus.codec).astype(np.int64))
    latents = sum(codebooks[level][codes[:, level]] for level in range(LEVELS)).view(-1, 2, 8)
    units = torch.from_numpy(np.concatenate(corpus.units))
    means = torch.stack([latents[units == unit].mean(dim=0) for unit in range(UNITS)])
    torch.testing.assert_close(found.means, means, rtol=1e-4, atol=1e-4)
    assert found.unit_error == pytest.approx(float((latents - means[units]).square().mean()), rel=1e-3)
    finer = latents.flatten(0, 1) - codebooks[0][codes[:, 0]]
    assert found.code_error == pytest.approx(float(finer.square().mean()), rel=1e-3)


def test_starts_from_the_codebooks():
    """Untrained, the model already says each unit's average frame in the code that is nearest to it."""
    torch.manual_seed(0)
    model = SoundStorm(ModelConfig(UNITS, LEVELS, CODES, dim=64, layers=2, heads=2, feedforward=64)).eval()
    codebooks = torch.randn(LEVELS, CODES, 8) * 0.3 ** torch.arange(LEVELS)[:, None, None]
    codes = torch.randint(CODES, (UNITS, 2, LEVELS))
    means = sum(codebooks[level][codes[..., level]] for level in range(LEVELS))
    units = torch.arange(UNITS)[None]
    masked = torch.full((1, 2 * UNITS, LEVELS), CODES)

    def accuracy() -> float:
        voice = model.encode_prompt(units, codes.view(1, -1, LEVELS))  # of a speaker who is the average
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
