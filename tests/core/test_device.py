"""Tensors that a training step makes lie on the device of its inputs: on `meta`, which refuses CPU tensors."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from audiopalm.codec.discriminator import SpectrogramDiscriminator
from audiopalm.codec.soundstream_training import add_noise
from audiopalm.codec.spectral_training import MelDistance, drop_levels
from audiopalm.core.device import best_device, device_of
from audiopalm.units.mel_conformer import valid_mask
from audiopalm.units.speech_batches import SpeechBatch, augment
from audiopalm.units.w2v_bert import draw_mask


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def test_meta_refuses_cpu_tensors():
    with pytest.raises(RuntimeError, match="device"):
        meta(3) + torch.zeros(3)


@pytest.mark.parametrize("made", [
    lambda: augment(meta(2, 120, 80), meta(2, 120, 80), meta(2, dtype=torch.long), meta(80)),
    lambda: valid_mask(meta(2, dtype=torch.long), 30),
    lambda: draw_mask(meta(2, 30, dtype=torch.bool), 0.1, 5),
    lambda: add_noise(meta(2, 8, 30), 0.1),
    lambda: drop_levels(SimpleNamespace(codebooks=meta(3, 16, 8)), meta(2, 30, 3, dtype=torch.long)),
    lambda: MelDistance().to("meta")(meta(2, 8000), meta(2, 8000)),
    lambda: [maps[-1] for maps in SpectrogramDiscriminator().to("meta")(meta(2, 8000))],
], ids=["augment", "valid_mask", "draw_mask", "add_noise", "drop_levels", "mel distance", "discriminator"])
def test_results_lie_on_the_device_of_the_inputs(made):
    results = made()
    assert {result.device.type for result in (results if isinstance(results, (list, tuple)) else [results])} == {"meta"}


def test_a_batch_moves_and_its_lengths_stay_on_the_host():
    tensors = [field.name for field in dataclasses.fields(SpeechBatch) if field.name != "paths"]
    batch = SpeechBatch(*(torch.zeros(1) for _ in tensors), ["x.flac"]).to("meta")
    moved = {name for name in tensors if getattr(batch, name).device.type == "meta"}
    assert set(tensors) - moved == {"frames", "target_lengths"}


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == device_of(torch.nn.Linear(1, 1)) == torch.device("cpu")
