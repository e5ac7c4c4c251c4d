"""Batches as a GPU computes them, here on the CPU: each recording has the result that it has alone."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_codec

from audiopalm.codec.base import in_batches
from audiopalm.codec.source_filter import SourceFilterConfig, inverse_stft
from audiopalm.codec.spectral import SpectralCodec


@pytest.fixture
def codec() -> SpectralCodec:
    torch.manual_seed(0)
    return SpectralCodec(tiny_codec(encoder_dim=16, encoder_blocks=2, levels=3,
                                  decoder=SourceFilterConfig(dim=16, blocks=2)))


@torch.inference_mode()
def test_padding_changes_neither_ids_nor_samples(codec):
    random = np.random.default_rng(0)
    audio = [random.normal(0, 0.1, length).astype(np.float32) for length in (700, 6400, 3333, 1)]
    ids = codec.encode(audio)
    for batched, alone in zip(codec.encode_batch(audio), ids, strict=True):
        assert batched.shape == alone.shape and (batched == alone).mean() > 0.99
    for batched, alone in zip(codec.decode_batch(ids), codec.decode(ids), strict=True):
        # Rounding of the pitch adds up to a small shift of the harmonics.
        np.testing.assert_allclose(batched, alone, atol=1e-2 * np.abs(alone).max())


def test_the_inverse_stft_is_that_of_torch():
    torch.manual_seed(0)
    window, samples = torch.hann_window(64), torch.randn(2, 16 * 9)
    spectrum = torch.stft(samples, 64, 16, window=window, return_complex=True)
    expected = torch.istft(spectrum, 64, 16, window=window, length=16 * 9)
    torch.testing.assert_close(inverse_stft(spectrum, window, 16), expected)


def test_batches_hold_similar_lengths_and_the_same_levels():
    items = [np.zeros((length, levels)) for length, levels in ((5, 2), (90, 2), (7, 1), (6, 2), (100, 2))]
    batches = []
    results = in_batches(lambda batch: batches.append([item.shape for item in batch]) or batch, items, 200)
    assert [result.shape for result in results] == [item.shape for item in items]
    assert batches == [[(7, 1)], [(5, 2), (6, 2)], [(90, 2), (100, 2)]]
