"""A checkpoint restores everything, and a damaged one costs no more than the steps since the one before it."""

import pytest
import torch
from torch import nn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.training.checkpoint import Checkpoints

MADE_FROM = "a hash of settings"


def trained(steps: int, checkpoints: Checkpoints | None = None) -> tuple[nn.Linear, dict[str, torch.optim.Optimizer]]:
    """A small model after so many steps; every step saves a checkpoint."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizers = {"optimizer": torch.optim.AdamW(model.parameters(), lr=0.1)}
    step = (checkpoints.load({"model": model}, optimizers) or {"step": 0})["step"] if checkpoints else 0
    while step < steps:
        model(torch.full((1, 3), float(step))).square().sum().backward()
        optimizers["optimizer"].step()
        optimizers["optimizer"].zero_grad()
        step += 1
        if checkpoints:
            checkpoints.save({"model": model}, optimizers, {"step": step})
    return model, optimizers


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # one bit of a tensor
    path.write_bytes(data)


def test_a_run_goes_on_exactly(tmp_path):
    trained(3, Checkpoints(tmp_path, MADE_FROM))
    model, _ = trained(5, Checkpoints(tmp_path, MADE_FROM))
    whole, _ = trained(5)
    assert torch.equal(model.weight, whole.weight)
    Checkpoints(tmp_path, MADE_FROM).remove()
    assert list(tmp_path.iterdir()) == []
    assert Checkpoints(tmp_path, MADE_FROM).load({"model": model}, {}) is None


@pytest.mark.parametrize("hurt", [damage, lambda path: path.write_bytes(path.read_bytes()[:40]),
                                  lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_named_and_the_previous_one_used(tmp_path, caplog, hurt):
    trained(4, Checkpoints(tmp_path, MADE_FROM))
    hurt(tmp_path / "checkpoint.safetensors")
    caplog.set_level("INFO")
    model, _ = trained(6, Checkpoints(tmp_path, MADE_FROM))
    assert f"DAMAGED CHECKPOINT: {tmp_path}/checkpoint.safetensors" in caplog.text
    assert f"going on from step 3 of {tmp_path}/checkpoint.previous.safetensors" in caplog.text
    whole, _ = trained(6)
    assert torch.equal(model.weight, whole.weight)


def test_two_damaged_checkpoints_stop_the_run(tmp_path):
    trained(2, Checkpoints(tmp_path, MADE_FROM))
    for path in tmp_path.iterdir():
        damage(path)
    with pytest.raises(AudioPaLMError, match="checkpoint.previous.safetensors is damaged.*remove"):
        trained(3, Checkpoints(tmp_path, MADE_FROM))


def test_a_save_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, MADE_FROM)
    model, optimizers = trained(2, checkpoints)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audiopalm.core.weights.save_file", full)
    with pytest.raises(AudioPaLMError, match="checkpoint.safetensors cannot be written: .*No space left.*Make room"):
        checkpoints.save({"model": model}, optimizers, {"step": 3})
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.previous.safetensors", "checkpoint.safetensors"]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    trained(1, Checkpoints(tmp_path, MADE_FROM))
    with pytest.raises(AudioPaLMError, match="belongs to a training with other settings or inputs; remove"):
        trained(2, Checkpoints(tmp_path, "another hash"))


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    trained(1, Checkpoints(tmp_path, MADE_FROM))
    for other in (nn.Linear(4, 2), nn.Sequential(nn.Linear(3, 2))):
        optimizers = {"optimizer": torch.optim.AdamW(other.parameters())}
        with pytest.raises(AudioPaLMError, match="does not hold the weights of this model") as refusal:
            Checkpoints(tmp_path, MADE_FROM).load({"model": other}, optimizers)
        assert "\n" not in str(refusal.value)
