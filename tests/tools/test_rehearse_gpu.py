"""tools/rehearse_gpu.py on tensors without data: no step waits for the device, and code that waits is found."""

import sys
from pathlib import Path

import pytest
import torch
from prestarted import run_python

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from rehearsal.backward import backward  # noqa: E402
from rehearsal.host_syncs import HostSyncs  # noqa: E402

from audiopalm.lm.model import Decoder, ModelConfig  # noqa: E402


def test_no_step_waits_for_the_device(monkeypatch):
    monkeypatch.chdir(ROOT)
    result = run_python(ROOT / "tools" / "rehearse_gpu.py", "--device", "meta")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "0 mistakes on meta tensors without data"
    for line in ("language model, decoding, float32: 12 steps", "AudioLM, float32: 2 steps", "SoundStream, float32: 3"):
        assert line in result.stdout


@pytest.mark.parametrize(("wait", "operation"), [
    (lambda x: float(x.sum()), "item()"), (lambda x: bool((x > 0).any()), "item()"), (lambda x: x.nonzero(), "nonzero"),
    (lambda x: x[x > 0], "indexing with bools"), (lambda x: x.masked_select(x > 0), "masked_select"),
    (lambda x: x.cpu(), "copy to the host"),
    (lambda x: torch.zeros(2).to(x.device), "copy to the device without non_blocking"),
    (lambda x: torch.tensor([1, 2], device=x.device), "torch.tensor on the device"),
    (lambda x: x.bincount(), "bincount"), (lambda x: x.float().multinomial(1), "multinomial")])
def test_code_that_makes_the_host_wait_is_found_with_its_line(wait, operation):
    x = torch.zeros(4, dtype=torch.int64, device="meta")
    with HostSyncs() as syncs:
        wait(x)
    assert any(name == operation and line.startswith("tests/tools/test_rehearse_gpu.py:") for name, line in syncs.found)


def test_code_that_does_not_wait_is_not_reported():
    x = torch.zeros(4, 3, device="meta")
    with HostSyncs() as syncs:
        x[:, 0] = 1.0
        x[x > 0] = 2.0  # a masked_fill
        x.index_select(0, torch.tensor([1, 2]).to("meta", non_blocking=True))
        torch.nonzero_static(x > 0, size=3)
        int(torch.tensor([1, 2]).max())
    assert not syncs.found
    with pytest.raises(RuntimeError, match="device"), HostSyncs():
        torch.zeros(4, device="meta") @ torch.zeros(4)


def test_the_backward_pass_in_python_has_the_gradients_of_torch():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(50, dim=32, layers=2, heads=2, kv_heads=1, hidden_dim=48, qkv_bias=True,
                                query_key_norm=True, local_layers=[1], window=5)).train()
    model.recompute = True
    ids, positions = torch.randint(0, 50, (2, 20)), torch.arange(20).expand(2, 20)
    gradients = []
    for run in (torch.Tensor.backward, backward):
        run(model(ids, torch.ones_like(ids), positions, ids)[0])
        gradients.append([parameter.grad for parameter in model.parameters()])
        model.zero_grad(set_to_none=True)
    for gradient, expected in zip(*gradients[::-1], strict=True):
        torch.testing.assert_close(gradient, expected)
