"""Decoding in rounds, as on a GPU. On the CPU its answers can be compared with those of decoding token by token."""

import numpy as np
import pytest
import torch
from decoders import FAMILIES, PROMPTS, SEEDS, VOCABULARY, tiny

from audiopalm.lm.generation import sampling
from audiopalm.lm.generation.cache import CachedDecoder
from audiopalm.lm.generation.choice import uniform
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.tasks import get_task


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rounds_give_the_answers_of_decoding_token_by_token(monkeypatch, family, temperature):
    """In a round of 16 steps parts end, limits are reached, slots are reused and the batch shrinks."""
    model, task = tiny(**FAMILIES[family]), get_task("ast+s2st")
    config = DecodingConfig(text_tokens=9, audio_tokens=25, audio_temperature=temperature)
    arguments = model, PROMPTS, task, VOCABULARY, config, SEEDS
    expected = sampling.generate(*arguments)
    monkeypatch.setattr(sampling, "token_by_token", sampling.in_rounds)
    plain = CachedDecoder.__init__
    monkeypatch.setattr(CachedDecoder, "__init__", lambda self, *given: (plain(self, *given), vars(self).update(
        use_cpu_kernels=False))[0])
    for batch in (2, 7):
        for ours, answer in zip(sampling.generate(*arguments, batch), expected, strict=True):
            assert [part.tolist() for part in ours.parts] == [part.tolist() for part in answer.parts]
            assert ours.truncated == answer.truncated
            assert ours.score == pytest.approx(answer.score, rel=1e-4)


def test_random_numbers_are_uniform_and_depend_only_on_seed_and_number():
    seeds, numbers = torch.arange(500), torch.arange(500) % 7
    drawn = uniform(seeds, numbers, 40)
    assert drawn.dtype == torch.float32 and 0 < drawn.min() and drawn.max() < 1
    assert abs(float(drawn.mean()) - 0.5) < 0.01 and abs(float(drawn.std()) - 12 ** -0.5) < 0.01
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.15
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.15
    assert len(drawn.unique()) > 0.99 * drawn.numel()
    assert torch.equal(uniform(seeds[40:50], numbers[40:50], 7), drawn[40:50, :7])
    # The hash of this seed is the largest, which rounds up to 1 in float32.
    assert 0.999 < uniform(torch.tensor([11651290]), torch.tensor([0]), 3).max() < 1
