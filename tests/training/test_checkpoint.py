"""A checkpoint restores everything, and a damaged one costs only the steps since the checkpoint before it."""

import json
import threading

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.distributed import checkpoint as torch_checkpoint
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.files import sha256
from audiopalm.training.checkpoint import Checkpoints
from audiopalm.training.snapshot import Shard

MADE_FROM = "a hash of settings"
FABRIC = Fabric(accelerator="cpu", devices=1)


def checkpoints_of(path, made_from: str = MADE_FROM) -> Checkpoints:
    return Checkpoints(path, made_from, FABRIC)


def trained(steps: int, checkpoints: Checkpoints | None = None) -> tuple[nn.Linear, dict[str, torch.optim.Optimizer]]:
    """A small model after `steps` steps, each of which saves a checkpoint."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizers = {"optimizer": torch.optim.AdamW(model.parameters(), lr=0.1)}
    step = (checkpoints.load({"model": model}, optimizers) or {"step": 0})["step"] if checkpoints else 0
    while step < steps:
        model(torch.full((1, 3), float(step))).square().sum().backward()
        if checkpoints:
            checkpoints.wait_until_read()
        optimizers["optimizer"].step()
        optimizers["optimizer"].zero_grad()
        step += 1
        if checkpoints:
            checkpoints.save({"model": model}, optimizers, {"step": step})
    if checkpoints:
        checkpoints.settle()
    return model, optimizers


def shard(checkpoint):
    return checkpoint / "shard-00001-of-00001.safetensors"


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # one bit of a tensor
    path.write_bytes(data)


def test_a_run_goes_on_exactly(tmp_path):
    trained(3, checkpoints_of(tmp_path))
    model, _ = trained(5, checkpoints_of(tmp_path))
    whole, _ = trained(5)
    assert torch.equal(model.weight, whole.weight)
    checkpoints_of(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []
    assert checkpoints_of(tmp_path).load({"model": model}, {}) is None


@pytest.mark.parametrize("method", ["join", "start"])
def test_ctrl_c_while_a_checkpoint_is_written_leaves_nothing_half_written(tmp_path, monkeypatch, method):
    trained(3, checkpoints_of(tmp_path))
    checkpoints = checkpoints_of(tmp_path)
    with monkeypatch.context() as patch:
        def interrupted(shard):
            patch.undo()
            raise KeyboardInterrupt

        patch.setattr(Shard, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(5, checkpoints)
    checkpoints.close()
    assert not list(tmp_path.glob(".*"))
    step = 4 if method == "join" else 3  # a snapshot that was never started is no checkpoint
    assert json.loads((tmp_path / "checkpoint/snapshot.json").read_text())["state"]["step"] == step
    assert torch.equal(trained(5, checkpoints_of(tmp_path))[0].weight, trained(5)[0].weight)


def change_state(path) -> None:
    header = path.parent / "snapshot.json"
    header.write_text(header.read_text().replace('"step": 4', '"step": 5'))


@pytest.mark.parametrize("hurt", [damage, lambda path: path.write_bytes(path.read_bytes()[:40]),
                                  lambda path: path.write_bytes(b""), lambda path: path.unlink(), change_state,
                                  lambda path: (path.parent / "snapshot.json").unlink()])
def test_a_damaged_checkpoint_is_named_and_the_previous_one_used(tmp_path, caplog, hurt):
    trained(4, checkpoints_of(tmp_path))
    hurt(shard(tmp_path / "checkpoint"))
    caplog.set_level("INFO")
    model, _ = trained(6, checkpoints_of(tmp_path))
    assert f"DAMAGED CHECKPOINT: {tmp_path}/checkpoint cannot be used" in caplog.text
    assert f"going on from step 3 of {tmp_path}/checkpoint.previous" in caplog.text
    whole, _ = trained(6)
    assert torch.equal(model.weight, whole.weight)


def test_two_damaged_checkpoints_stop_the_run(tmp_path):
    trained(2, checkpoints_of(tmp_path))
    for path in tmp_path.iterdir():
        damage(shard(path))
    with pytest.raises(AudioPaLMError, match="checkpoint.previous is damaged.*remove"):
        trained(3, checkpoints_of(tmp_path))


def test_a_save_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoints = checkpoints_of(tmp_path)
    model, optimizers = trained(2, checkpoints)
    before = shard(tmp_path / "checkpoint").read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audiopalm.training.snapshot.write_tensors", full)
    checkpoints.save({"model": model}, optimizers, {"step": 3})
    with pytest.raises(AudioPaLMError, match="checkpoint cannot be written: .*No space left.*Make room"):
        checkpoints.settle()
    assert shard(tmp_path / "checkpoint").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "checkpoint.previous"]


def test_files_of_a_killed_process_are_removed_or_renamed(tmp_path):
    """It was killed before a snapshot had its name, or while a snapshot replaced the best one."""
    trained(2, checkpoints_of(tmp_path))
    (tmp_path / ".checkpoint.partial").mkdir()
    (tmp_path / "checkpoint.previous").rename(tmp_path / ".checkpoint.best.replaced")
    model, optimizers = trained(0)
    assert checkpoints_of(tmp_path).load({"model": model}, optimizers)["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "checkpoint.best"]


def test_the_weights_may_change_while_the_disk_is_slow(tmp_path, monkeypatch):
    """`wait_until_read` returns before the snapshot is on the disk. The snapshot has the weights before the change."""
    checkpoints = checkpoints_of(tmp_path)
    model, optimizers = trained(2)
    expected = model.weight.detach().clone()
    disk_is_ready = threading.Event()
    monkeypatch.setattr("audiopalm.training.snapshot.sha256", lambda path: disk_is_ready.wait() and sha256(path))
    checkpoints.save({"model": model}, optimizers, {"step": 2})
    checkpoints.wait_until_read()
    assert not (tmp_path / "checkpoint").exists()
    torch.nn.init.zeros_(model.weight)
    disk_is_ready.set()
    checkpoints.settle()
    assert torch.equal(checkpoints.weights(best=False)["model"]["weight"].whole(), expected)


def test_torch_reads_a_checkpoint(tmp_path):
    """It is in the format of torch.distributed.checkpoint's Hugging Face storage, without pickles."""
    model, _ = trained(2, checkpoints_of(tmp_path))
    read = {"model/weight": torch.zeros(2, 3), "model/bias": torch.zeros(2), "optimizer/1/exp_avg": torch.ones(2)}
    torch_checkpoint.load(read, storage_reader=HuggingFaceStorageReader(str(tmp_path / "checkpoint")), no_dist=True)
    assert torch.equal(read["model/weight"], model.weight) and torch.equal(read["model/bias"], model.bias)
    names = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert names == ["shard-00001-of-00001.safetensors", "snapshot.json"]
    assert json.loads((tmp_path / "checkpoint" / "snapshot.json").read_text())["state"] == {"step": 2}


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    trained(1, checkpoints_of(tmp_path))
    with pytest.raises(AudioPaLMError, match="belongs to a training with other settings or inputs; remove"):
        trained(2, checkpoints_of(tmp_path, "another hash"))


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    trained(1, checkpoints_of(tmp_path))
    for other in (nn.Linear(4, 2), nn.Sequential(nn.Linear(3, 2))):
        optimizers = {"optimizer": torch.optim.AdamW(other.parameters())}
        with pytest.raises(AudioPaLMError, match="does not hold the weights of this model") as refusal:
            checkpoints_of(tmp_path).load({"model": other}, optimizers)
        assert "\n" not in str(refusal.value)
