"""SoundStorm: batches and windows, prompts of any length, masks, and the choice of codes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audiopalm.acoustic.base import PROMPT_UNITS, Acoustic, sample_codes
from audiopalm.acoustic.prompt import fit_prompt
from audiopalm.acoustic.soundstorm.generation import GenerationConfig, SoundStormAcoustic, most_confident
from audiopalm.acoustic.soundstorm.model import ModelConfig, SoundStorm
from audiopalm.core.errors import AudioPaLMError

UNITS, LEVELS, CODES = 30, 3, 20


@pytest.fixture
def acoustic() -> Acoustic:
    torch.manual_seed(0)
    model = SoundStorm(ModelConfig(UNITS, LEVELS, CODES, dim=32, layers=2, heads=2, feedforward=64))
    for weight in model.encoder.parameters():
        if not weight.any():  # zeros at the end of a residual branch would hide the branch
            torch.nn.init.normal_(weight, std=0.2)
    return SoundStormAcoustic(model, GenerationConfig(iterations=[4, 1], fine_temperature=0.5))


def speech(random: np.random.Generator, units: int, surplus: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return random.integers(0, UNITS, units), random.integers(0, CODES, (2 * units + surplus, LEVELS))


@pytest.mark.parametrize("batched, precision", [(False, "32-true"), (True, "32-true"), (False, "bf16-mixed")])
def test_an_utterance_has_the_same_codes_in_a_list_and_alone(acoustic, monkeypatch, batched, precision):
    """Batches are small on a CPU, and large on a GPU."""
    acoustic = SoundStormAcoustic(acoustic.model, replace(acoustic.generation, precision=precision))
    if batched:
        monkeypatch.setattr(acoustic, "windows", lambda: acoustic.generation)
    random = np.random.default_rng(1)
    units = [random.integers(0, UNITS, length) for length in (5, 40, 0, 17, 18, 260)]  # the last one takes two windows
    prompts = [speech(random, 30 + 20 * index, -1) for index in range(6)]
    prompt_units, prompt_codec = map(list, zip(*prompts, strict=True))
    together = acoustic.generate(units, prompt_units, prompt_codec, seed=3)
    for own_units, prompt, result in zip(units, prompts, together, strict=True):
        assert result.shape == (2 * len(own_units), LEVELS) and result.dtype == np.int64
        alone = acoustic.generate([own_units], [prompt[0]], [prompt[1]], seed=3)[0]
        np.testing.assert_array_equal(alone, result)
    other = acoustic.generate(units, prompt_units, prompt_codec, seed=4)
    assert (other[1] != together[1]).any()


@pytest.mark.parametrize("batched", [False, True])
def test_a_voice_that_utterances_share_is_encoded_once(acoustic, monkeypatch, batched):
    if batched:
        monkeypatch.setattr(acoustic, "windows", lambda: acoustic.generation)
    random, rows, encode = np.random.default_rng(5), [], acoustic.model.encode_prompt
    monkeypatch.setattr(acoustic.model, "encode_prompt", lambda units, codec: rows.append(len(units))
                        or encode(units, codec))
    units, (voice_units, voice_codec) = [random.integers(0, UNITS, length) for length in (9, 9, 14)], speech(random, 40)
    together = acoustic.generate(units, [voice_units] * 3, [voice_codec] * 3)
    assert sum(rows) == 1
    for own_units, result in zip(units, together, strict=True):
        np.testing.assert_array_equal(acoustic.generate([own_units], [voice_units], [voice_codec])[0], result)


def voice_of(acoustic: Acoustic, random: np.random.Generator, units: int = 10):
    return acoustic.model.encode_prompt(*(torch.from_numpy(value)[None] for value in speech(random, units)))


def test_padding_changes_no_hidden_state(acoustic):
    random = np.random.default_rng(2)
    voice = voice_of(acoustic, random)
    units, codec = (torch.from_numpy(value)[None] for value in speech(random, 20))
    short = acoustic.model(units, codec, voice, torch.tensor([40]))
    longer = torch.nn.functional.pad(units, (0, 15), value=3)
    noisy = torch.nn.functional.pad(codec, (0, 0, 0, 30), value=7)
    padded = acoustic.model(longer, noisy, voice, torch.tensor([40]))
    torch.testing.assert_close(padded[:, :40], short, atol=1e-5, rtol=1e-5)
    unmasked = acoustic.model(longer, noisy, voice)
    assert (unmasked[:, :40] - short).abs().max() > 1e-2  # without the mask, padding has an effect


def test_only_wanted_frames_are_filled(acoustic):
    random = np.random.default_rng(3)
    voice = voice_of(acoustic, random)
    units, codec = (torch.from_numpy(value)[None] for value in speech(random, 20))
    wanted = torch.zeros(1, 40, dtype=torch.bool)
    wanted[0, 15:33] = True
    start = codec.clone()
    start[wanted] = CODES
    remaining = torch.from_numpy(acoustic.schedule(np.array([18])))
    filled = acoustic.fill(units, start.clone(), voice, wanted, None, torch.rand(2, 6, 1, 40), remaining)
    assert (filled[~wanted] == codec[~wanted]).all()
    assert (filled < CODES).all()


def test_a_window_of_a_long_utterance_begins_with_the_end_of_the_window_before(acoustic):
    """The last second of the first window begins the second one and stays unchanged."""
    random = np.random.default_rng(8)
    units, (prompt_units, prompt_codec) = random.integers(0, UNITS, 260), speech(random, 80)
    seen = []
    fill = acoustic.fill
    acoustic.fill = lambda units, codec, *rest: seen.append(codec.clone().numpy()) or fill(units, codec, *rest)
    made = acoustic.generate([units], [prompt_units], [prompt_codec])[0]
    assert [codec.shape[1] for codec in seen] == [400, 2 * (260 - 175)]
    np.testing.assert_array_equal(seen[1][0, :50], made[350:400])
    assert (seen[1][0, 50:] == CODES).all()


@pytest.mark.parametrize("units", [1, 3, 75, 750])
def test_a_prompt_may_have_any_length(acoustic, units):
    random = np.random.default_rng(4)
    prompt_units, prompt_codec = speech(random, units, -1)
    result = acoustic.generate([np.arange(10)], [prompt_units], [prompt_codec])[0]
    assert result.shape == (20, LEVELS) and (0 <= result).all() and (result < CODES).all()


def test_a_short_prompt_is_repeated_and_a_long_one_cut():
    units, codec = np.array([1, 2, 3]), np.arange(5)[:, None]
    fitted_units, fitted_codec = fit_prompt(units, codec, 4)
    assert fitted_units.tolist() == [1, 2, 3, 1]
    assert fitted_codec[:, 0].tolist() == [0, 1, 2, 3, 4, 4, 0, 1]
    cut_units, cut_codec = fit_prompt(units, codec, 2)
    assert cut_units.tolist() == [1, 2] and cut_codec[:, 0].tolist() == [0, 1, 2, 3]


def test_codes_depend_on_the_prompt(acoustic):
    random = np.random.default_rng(5)
    acoustic.generation.temperature = acoustic.generation.fine_temperature = acoustic.generation.noise = 0.0
    units = np.arange(20)
    first, second = (acoustic.generate([units], [prompt_units], [prompt_codec])[0]
                     for prompt_units, prompt_codec in (speech(random, PROMPT_UNITS), speech(random, PROMPT_UNITS)))
    assert (first != second).any()


def test_greedy_codes_do_not_depend_on_the_seed(acoustic):
    random = np.random.default_rng(6)
    acoustic.generation.temperature = acoustic.generation.fine_temperature = acoustic.generation.noise = 0.0
    units, codec = speech(random, 20)
    np.testing.assert_array_equal(*(acoustic.generate([units], [units], [codec], seed)[0] for seed in (1, 2)))


def test_bfloat16_chooses_nearly_the_same_codes(acoustic):
    random = np.random.default_rng(8)
    units, codec = speech(random, 200)
    settings = {"iterations": [1], "temperature": 0.0}
    exact = SoundStormAcoustic(acoustic.model, GenerationConfig(**settings)).generate([units], [units], [codec])[0]
    rounded = SoundStormAcoustic(acoustic.model, GenerationConfig(**settings, precision="bf16-mixed"))
    assert {weight.dtype for weight in rounded.model.encoder.parameters()} == {torch.bfloat16, torch.float32}
    assert 0.9 < (rounded.generate([units], [units], [codec])[0] == exact).mean() < 1
    with pytest.raises(AudioPaLMError, match="precision: unknown value 'bf16-true'; did you mean 'bf16-mixed'"):
        GenerationConfig(precision="bf16-true")


def test_impossible_inputs_and_settings_are_refused(acoustic):
    random = np.random.default_rng(7)
    units, codec = speech(random, 20)
    with pytest.raises(AudioPaLMError, match="unit 30 is outside 0..29"):
        acoustic.generate([np.array([UNITS])], [units], [codec])
    with pytest.raises(AudioPaLMError, match="prompt codec token 20 is outside"):
        acoustic.generate([units], [units], [np.full_like(codec, CODES)])
    with pytest.raises(AudioPaLMError, match="voice prompt"):
        acoustic.generate([units], [units[:0]], [codec[:0]])


def test_choose_follows_the_probabilities():
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(10000, 3)
    tokens, log_probability = sample_codes(logits, 1.0, torch.linspace(0, 0.9999, 10000))
    shares = torch.bincount(tokens, minlength=3) / 10000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.6, 0.3]), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_probability, logits[0][tokens])
    assert sample_codes(logits, 0, torch.rand(10000))[0].unique().tolist() == [1]
    sharp = sample_codes(logits, 0.1, torch.linspace(0, 0.9999, 10000))[0]
    assert (sharp == 1).float().mean() > 0.99


def test_the_most_confident_frames_of_each_row_are_chosen():
    masked = torch.tensor([[True, True, True, True], [False, True, False, True]])
    confidence = torch.tensor([[-1.0, -4.0, -2.0, -3.0], [0.0, -9.0, 0.0, -8.0]])
    chosen = most_confident(confidence, masked, torch.tensor([2, 1]))  # two of four and one of two stay masked
    assert chosen.tolist() == [[True, False, True, False], [False, False, False, True]]
    assert torch.equal(most_confident(confidence, masked, torch.tensor([0, 0])), masked)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_codes_chosen_everywhere_are_those_of_masked_frames(acoustic, monkeypatch, temperature):
    """Devices other than a CPU compute the logits of all frames, not only of the masked ones."""
    random = np.random.default_rng(0)
    acoustic.generation.temperature = temperature
    units = [random.integers(0, UNITS, length) for length in (9, 30, 17)]
    codec = [random.integers(0, CODES, (2 * len(own_units), LEVELS)) for own_units in units]
    expected = acoustic.generate(units, units, codec)
    monkeypatch.setattr(SoundStormAcoustic, "_choose_masked", SoundStormAcoustic._choose_everywhere)
    for codes, expected_codes in zip(acoustic.generate(units, units, codec), expected, strict=True):
        assert (codes == expected_codes).mean() > 0.99
