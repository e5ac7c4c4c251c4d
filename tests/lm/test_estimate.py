"""Estimates of memory against the counts of PyTorch on small models, and against published sizes."""

from pathlib import Path

import pytest
import torch

from audiopalm.core.config import load_config
from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.estimate import Device, activation_bytes, estimate, optimizer_bytes
from audiopalm.lm.huggingface.pretrained import read_config
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.tracking import track
from audiopalm.lm.training import LMConfig
from audiopalm.training.optimizer import OptimizerConfig, make_optimizers

CONF = Path(__file__).resolve().parents[2] / "conf" / "lm"
SHAPE = ModelConfig(500, dim=64, layers=2, heads=6, head_dim=32, kv_heads=2, hidden_dim=160, dropout=0.1)
TOKENS = 64


def bytes_saved_for_gradients(shape: ModelConfig) -> int:
    """Bytes of the tensors, other than weights, that a forward pass in float32 saves for the backward pass."""
    model = Decoder(shape)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved = []
    ids = torch.ones(1, TOKENS, dtype=torch.long)
    targets = torch.full_like(ids, -100)
    targets[0, 0] = 1
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        model(ids, ids, torch.arange(TOKENS)[None], targets)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    return sum(size for address, size in storages.items() if address not in weights)


def test_activations_are_those_that_autograd_saves():
    deeper = ModelConfig(**{**SHAPE.__dict__, "layers": 3})
    measured = (bytes_saved_for_gradients(deeper) - bytes_saved_for_gradients(SHAPE)) / TOKENS
    assert measured == pytest.approx(activation_bytes(SHAPE, bf16=False), rel=0.02)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_optimizers_hold_the_estimated_bytes(name):
    model = Decoder(SHAPE)
    optimizers = make_optimizers(OptimizerConfig(name), model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    held = 0
    for optimizer in optimizers.values():
        optimizer.step()
        held += sum(value.numel() * 4 for state in optimizer.state.values() for value in state.values()
                    if isinstance(value, torch.Tensor) and value.ndim > 0)
    sizes = {key: parameter.shape for key, parameter in model.named_parameters()}
    assert held == pytest.approx(optimizer_bytes(name, sizes), rel=0.02)


@pytest.mark.parametrize(("devices", "name"), [(1, "adamw"), (1, "adafactor"), (4, "adamw")])
def test_the_trackers_of_torch_count_the_estimated_bytes(devices, name):
    """Weights, gradients and moments. Each of four devices has a quarter of them."""
    config = load_config(LMConfig, None, ["mixture=[]", f"training.strategy={'fsdp' if devices > 1 else 'ddp'}",
                                          f"optimizer.name={name}", "batch.rows=2", "batch.row_length=64"])
    tracked, expected = track(SHAPE, config, devices), estimate(SHAPE, config, Device(devices))
    weights, gradients, moments = (
        tracked[kind] for kind in (("Sharded Param", "Sharded Grad", "OptState") if devices > 1
                                 else ("Parameter", "Gradient", "Optstate")))
    assert weights == pytest.approx(expected.weights, rel=0.02)
    assert tracked["Total"] > weights + moments and gradients <= 1.02 * expected.gradients
    assert moments == pytest.approx(expected.optimizer, rel=0.05)


def test_an_optimizer_that_cannot_be_tracked_is_refused():
    config = load_config(LMConfig, None, ["mixture=[]", "training.strategy=fsdp", "optimizer.name=muon"])
    with pytest.raises(AudioPaLMError, match="optimizer muon cannot be tracked on shards.*optimizer.name=adamw"):
        track(SHAPE, config, 2)


@pytest.mark.parametrize("size, millions", [("128M", 134.5), ("1B", 1235.8), ("8B", 8030.3)])
def test_sizes_are_the_published_ones(size, millions):
    """Parameters as the publishers of the text LMs state them. A step has the same number of tokens at each size."""
    lm_args = (CONF / size / "options.conf").read_text().partition('lm_args="')[2].rstrip('"\n').split()
    config = load_config(LMConfig, CONF.parents[1] / "egs/joint/conf/lm.yaml", lm_args)
    devices = 1 if size == "128M" else 8
    estimated = estimate(read_config(CONF / size), config, Device(devices))
    assert estimated.parameters / 1e6 == pytest.approx(millions, abs=0.1) and estimated.tokens_per_step == 131072
    assert estimated.memory < 75e9
    blocks = estimated.parameters - read_config(CONF / size).vocabulary_size * read_config(CONF / size).dim
    assert estimated.operations >= 6 * blocks * estimated.tokens
