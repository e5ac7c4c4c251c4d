"""A snapshot restores everything, and a damaged one costs no more than the steps since the one before it."""

import pytest
import torch
from torch import nn

from audiopalm.core.errors import AudioPaLMError
from audiopalm.training.checkpoint import Snapshots

SETTINGS = {"seed": 1, "config": {"steps": 9, "rates": (1, 2)}}


def trained(steps: int, snapshots: Snapshots | None = None) -> tuple[nn.Linear, dict[str, torch.optim.Optimizer]]:
    """A small model after so many steps; every step saves a snapshot."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizers = {"optimizer": torch.optim.AdamW(model.parameters(), lr=0.1)}
    step = (snapshots.load({"model": model}, optimizers) or {"step": 0})["step"] if snapshots else 0
    while step < steps:
        model(torch.full((1, 3), float(step))).square().sum().backward()
        optimizers["optimizer"].step()
        optimizers["optimizer"].zero_grad()
        step += 1
        if snapshots:
            snapshots.save({"model": model}, optimizers, {"step": step})
    return model, optimizers


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # one bit of a tensor
    path.write_bytes(data)


def test_a_run_goes_on_exactly(tmp_path):
    trained(3, Snapshots(tmp_path, SETTINGS))
    model, _ = trained(5, Snapshots(tmp_path, SETTINGS))
    whole, _ = trained(5)
    assert torch.equal(model.weight, whole.weight)
    Snapshots(tmp_path, SETTINGS).remove()
    assert list(tmp_path.iterdir()) == []
    assert Snapshots(tmp_path, SETTINGS).load({"model": model}, {}) is None


@pytest.mark.parametrize("hurt", [damage, lambda path: path.write_bytes(path.read_bytes()[:40]),
                                  lambda path: path.write_bytes(b"")])
def test_a_damaged_snapshot_is_named_and_the_previous_one_used(tmp_path, caplog, hurt):
    trained(4, Snapshots(tmp_path, SETTINGS))
    hurt(tmp_path / "snapshot.safetensors")
    caplog.set_level("INFO")
    model, _ = trained(6, Snapshots(tmp_path, SETTINGS))
    assert f"DAMAGED SNAPSHOT: {tmp_path}/snapshot.safetensors" in caplog.text
    assert f"going on from step 3 of {tmp_path}/snapshot.previous.safetensors" in caplog.text
    whole, _ = trained(6)
    assert torch.equal(model.weight, whole.weight)


def test_two_damaged_snapshots_stop_the_run(tmp_path):
    trained(2, Snapshots(tmp_path, SETTINGS))
    for path in tmp_path.iterdir():
        damage(path)
    with pytest.raises(AudioPaLMError, match="snapshot.previous.safetensors is damaged.*remove"):
        trained(3, Snapshots(tmp_path, SETTINGS))


def test_a_save_that_fails_leaves_the_last_snapshot(tmp_path, monkeypatch):
    snapshots = Snapshots(tmp_path, SETTINGS)
    model, optimizers = trained(2, snapshots)
    before = (tmp_path / "snapshot.safetensors").read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audiopalm.training.checkpoint.save_file", full)
    with pytest.raises(AudioPaLMError, match="snapshot.safetensors cannot be written: .*No space left.*Make room"):
        snapshots.save({"model": model}, optimizers, {"step": 3})
    assert (tmp_path / "snapshot.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["snapshot.previous.safetensors", "snapshot.safetensors"]


def test_a_run_with_other_settings_does_not_go_on(tmp_path):
    trained(1, Snapshots(tmp_path, SETTINGS))
    with pytest.raises(AudioPaLMError, match="belongs to a run with seed 1, this one has 2"):
        trained(2, Snapshots(tmp_path, {**SETTINGS, "seed": 2}))
