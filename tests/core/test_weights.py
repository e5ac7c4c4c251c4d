"""core/weights.py: the one place where weights are written and read."""

import os
import stat

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.weights import load_module, read_weights, shapes_of, write_weights


def test_weights_are_read_as_they_were_written(tmp_path):
    model = nn.Linear(3, 2)
    write_weights(tmp_path / "a.safetensors", {**model.state_dict(), "weight": model.weight.T.contiguous().T})
    again = load_module(lambda: nn.Linear(3, 2), tmp_path / "a.safetensors")
    assert torch.equal(again.weight, model.weight) and torch.equal(again.bias, model.bias)
    assert read_weights(tmp_path / "a.safetensors", shapes_of(model)).keys() == {"weight", "bias"}


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_weights(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == mode


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_nan_is_refused_in_every_type(tmp_path, dtype):
    values = torch.ones(4, 5)
    save_file({"a": values.to(dtype)}, tmp_path / "a.safetensors")
    read_weights(tmp_path / "a.safetensors", {"a": (4, 5)})
    values[2, 3] = torch.nan
    save_file({"a": values.to(dtype)}, tmp_path / "a.safetensors")
    with pytest.raises(AudioPaLMError, match="a.safetensors: a holds values that are not finite"):
        read_weights(tmp_path / "a.safetensors", {"a": (4, 5)})


@pytest.mark.parametrize("expected, message", [
    ({"a": (2,), "b": (1,)}, "lacks 1 weights, e.g. 'b'"), ({}, "has unknown 1 weights, e.g. 'a'"),
    ({"a": (3,)}, r"a has shape \(2,\), expected is \(3,\)"), ({"a": (2, 1)}, r"expected is \(2, 1\)"),
])
def test_weights_other_than_expected_are_refused(tmp_path, expected, message):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(AudioPaLMError, match=message):
        read_weights(tmp_path / "a.safetensors", expected)


def test_an_absent_file_and_an_impossible_model_are_named(tmp_path):
    with pytest.raises(AudioPaLMError, match="does not exist; run stage 9 first"):
        read_weights(tmp_path / "a.safetensors", {}, "stage 9")
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(AudioPaLMError, match="describes no possible model"):
        load_module(lambda: nn.Linear(-1, 3), tmp_path / "a.safetensors")
