"""AudioLM: batches, the cache against whole sequences, windows, refusals, and the start from codebooks."""

import dataclasses

import numpy as np
import pytest
import torch

from audiopalm.acoustic.audiolm.generation import AudioLMAcoustic, GenerationConfig
from audiopalm.acoustic.audiolm.model import AudioLM, ModelConfig
from audiopalm.acoustic.audiolm.training import AudioLMConfig, draw, with_own
from audiopalm.acoustic.latents import UnitLatents
from audiopalm.core.config import from_dict
from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.model import ArchitectureConfig

UNITS, LEVELS, COARSE, CODES = 30, 3, 2, 20
SHAPE = ArchitectureConfig(dim=32, layers=2, heads=2, kv_heads=2, hidden_dim=48)


@pytest.fixture
def acoustic() -> AudioLMAcoustic:
    torch.manual_seed(0)
    model = AudioLM(ModelConfig(UNITS, LEVELS, CODES, COARSE, SHAPE, SHAPE, fine_prompt_seconds=0.4, fine_seconds=0.6))
    return AudioLMAcoustic(model, GenerationConfig(window_seconds=1.2, overlap_seconds=0.2, batch_frames=200))


def speech(random: np.random.Generator, units: int, surplus: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return random.integers(0, UNITS, units), random.integers(0, CODES, (2 * units + surplus, LEVELS))


def test_an_utterance_has_the_same_codes_in_a_batch_and_alone(acoustic):
    random = np.random.default_rng(1)
    units = [random.integers(0, UNITS, length) for length in (5, 30, 0, 17, 18, 45)]  # 30 and 45 take several windows
    prompts = [speech(random, 30 + 20 * index, -1) for index in range(6)]
    prompt_units, prompt_codec = map(list, zip(*prompts, strict=True))
    together = acoustic.generate(units, prompt_units, prompt_codec, seed=3)
    for own_units, prompt, result in zip(units, prompts, together, strict=True):
        assert result.shape == (2 * len(own_units), LEVELS) and result.dtype == np.int64
        alone = acoustic.generate([own_units], [prompt[0]], [prompt[1]], seed=3)[0]
        np.testing.assert_array_equal(alone, result)
    other = acoustic.generate(units, prompt_units, prompt_codec, seed=4)
    assert (other[1] != together[1]).any()


def test_each_token_is_the_best_of_the_whole_sequence(acoustic):
    """Greedy generation with a cache agrees with one pass of the training network over prompt and answer."""
    random = np.random.default_rng(2)
    units, (prompt_units, prompt_codec) = random.integers(0, UNITS, 15), speech(random, 75)
    acoustic.generation.temperature = acoustic.generation.fine_temperature = 0.0
    made = acoustic.generate([units], [prompt_units], [prompt_codec])[0]
    codes = torch.from_numpy(np.concatenate([prompt_codec, made]))[None]
    all_units = torch.from_numpy(np.concatenate([prompt_units, units]))[None, :, None]
    model = acoustic.model
    hidden = model.coarse(all_units, codes[..., :COARSE])[0, 150:]
    for level in range(COARSE):
        assert model.coarse.logits(hidden[:, level], level).argmax(-1).tolist() == made[:, level].tolist()
    late = codes[:, 150 - 20:]  # stage 3 gets 0.4 s of the prompt
    hidden = model.fine(late[..., :COARSE], late[..., COARSE:])[0, 20:]
    assert model.fine.logits(hidden[:, 0], 0).argmax(-1).tolist() == made[:, COARSE].tolist()


def test_a_token_does_not_depend_on_later_ones(acoustic):
    random = np.random.default_rng(3)
    units, codec = (torch.from_numpy(values)[None] for values in speech(random, 10))
    stage = acoustic.model.coarse
    before = stage(units[..., None], codec[..., :COARSE])
    codec[0, 7, 1] = (codec[0, 7, 1] + 1) % CODES
    changed = (stage(units[..., None], codec[..., :COARSE]) != before).any(dim=-1)[0]
    assert not changed[:8].any() and changed[8:].any()
    units[0, -1] = (units[0, -1] + 1) % UNITS  # every token depends on all units
    assert (stage(units[..., None], codec[..., :COARSE])[0, 0] != before[0, 0]).any()


def test_a_window_begins_with_the_prompt_and_the_end_of_the_window_before(acoustic, monkeypatch):
    """Prompt and overlap stand unchanged before the new frames of each window."""
    from audiopalm.acoustic.audiolm import generation as audiolm_generation

    random = np.random.default_rng(4)
    units, (prompt_units, prompt_codec) = random.integers(0, UNITS, 45), speech(random, 80)
    seen, generate_codes = [], audiolm_generation.generate_codes
    monkeypatch.setattr(audiolm_generation, "generate_codes", lambda stage, contexts, known, *rest: (
        seen.append(known[0].copy()), generate_codes(stage, contexts, known, *rest))[1])
    made = acoustic.generate([units], [prompt_units], [prompt_codec])[0]
    coarse, fine = ([known for known in seen if known.shape[1] == levels] for levels in (COARSE, LEVELS - COARSE))
    assert [len(known) for known in coarse] == [150, 160] and [len(known) for known in fine[:2]] == [20, 30]
    for known in coarse:
        np.testing.assert_array_equal(known[:150], prompt_codec[:150, :COARSE])
    np.testing.assert_array_equal(coarse[1][150:], made[50:60, :COARSE])
    np.testing.assert_array_equal(fine[1][20:], made[20:30, COARSE:])


def test_greedy_codes_depend_on_the_prompt_and_not_on_the_seed(acoustic):
    random = np.random.default_rng(6)
    acoustic.generation.temperature = acoustic.generation.fine_temperature = 0.0
    units, codec = speech(random, 20)
    first, second = (acoustic.generate([units], [units], [codec], seed)[0] for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    assert (acoustic.generate([units], [units], [(codec + 1) % CODES])[0] != first).any()


def test_impossible_inputs_and_settings_are_refused(acoustic):
    random = np.random.default_rng(7)
    units, codec = speech(random, 20)
    with pytest.raises(AudioPaLMError, match="unit 30 is outside 0..29"):
        acoustic.generate([np.array([UNITS])], [units], [codec])
    with pytest.raises(AudioPaLMError, match="voice prompt"):
        acoustic.generate([units], [units[:0]], [codec[:0]])
    with pytest.raises(AudioPaLMError, match="coarse_levels 3 must be at least 1 and fewer than all 3"):
        AudioLM(dataclasses.replace(acoustic.model.config, coarse_levels=LEVELS))
    with pytest.raises(AudioPaLMError, match=r"fine_prompt_seconds is 3.0, but prompts have 2.0 s"):
        from_dict(AudioLMConfig, {"batch": {"prompt_seconds": 2.0}}, "acoustic.yaml")
    with pytest.raises(AudioPaLMError, match="overlap_seconds 2.0 must be shorter than window_seconds 1.2"):
        GenerationConfig(window_seconds=1.2, overlap_seconds=2.0)


def test_embeddings_start_from_the_codebooks(acoustic):
    """Rows of a level have the distances of the codec's vectors. A unit is nearest to the code of its mean latent."""
    codebooks = torch.randn(LEVELS, CODES, 8)
    means = codebooks[0][torch.arange(UNITS) % CODES][:, None].expand(-1, 2, -1)
    acoustic.model.start_from(codebooks, UnitLatents(means, 0.1, 0.1))
    rows = acoustic.model.coarse.decoder.embedding.weight.detach()
    for level in range(COARSE):
        distances = torch.pdist(rows[UNITS + level * CODES:][:CODES])
        assert torch.corrcoef(torch.stack([distances, torch.pdist(codebooks[level])]))[0, 1] > 0.999
    units = rows[:CODES] - rows[:CODES].mean(dim=0)
    codes = rows[UNITS:UNITS + CODES] - rows[UNITS:UNITS + CODES].mean(dim=0)
    assert torch.cdist(units, codes).argmin(dim=1).tolist() == list(range(CODES))


def test_a_fraction_of_the_past_is_sampled_from_the_model(acoustic):
    """The prompt stays, and each example has a fraction of its own."""
    random = np.random.default_rng(6)
    stage = acoustic.model.coarse
    pairs = [speech(random, 40) for _ in range(8)]
    units = torch.from_numpy(np.stack([units for units, _ in pairs]))[..., None]
    codes = torch.from_numpy(np.stack([codec for _, codec in pairs]))[..., :COARSE]
    torch.manual_seed(0)
    past = with_own(stage, units, codes, 20, 1.0, np.random.default_rng(0))
    changed = past != codes
    assert not changed[:, :20].any()
    shares = changed[:, 20:].float().mean(dim=(1, 2))
    assert 0.3 < shares.mean() < 0.6 and shares.max() - shares.min() > 0.3
    assert torch.equal(with_own(stage, units, codes, 20, 0.0, random), codes)
    stage.logits = lambda hidden, level: torch.nn.functional.one_hot(torch.full(hidden.shape[:2], 7), CODES) * 1e3
    # A model that is certain of code 7 draws only that.
    own = with_own(stage, units, codes, 20, 1.0, np.random.default_rng(0))
    assert set(own[own != codes].tolist()) == {7}


def test_codes_are_drawn_as_by_multinomial():
    logits = torch.randn(2, 40, 20, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    expected = logits.softmax(-1).view(-1, 20).multinomial(1).view(2, 40)
    torch.manual_seed(1)
    assert torch.equal(draw(logits), expected)
