"""The memory of a training step on a device, counted by torch's own memory trackers while the step runs without data.

The model, its shards, the forward pass, the backward pass and the optimizer's step run on fake tensors in a fake group
of processes, so that 8B parameters on 64 devices take seconds on any machine. Every tensor is counted, including
temporary tensors. Working memory inside kernels and fragmentation are not counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from audiopalm.core.errors import AudioPaLMError
from audiopalm.lm.cuda_attention import VariableLengthAttention
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.packed_attention import Attend
from audiopalm.lm.packed_sizes import Sizes
from audiopalm.lm.packing import IGNORED
from audiopalm.lm.training import LMConfig
from audiopalm.training.optimizer import make_optimizers
from audiopalm.training.parallel import shard


class _GpuDecoder(Decoder):
    """Attention as on a GPU. The trackers run on tensors of the CPU, where backward passes need no driver."""

    def attention_in(self, segments: Tensor, sizes: Sizes) -> dict[bool, Attend]:
        windows = {False: None} | ({True: self.window} if self.window else {})
        return {local: VariableLengthAttention(segments, sizes, window) for local, window in windows.items()}


class _Numbers(TorchDispatchMode):
    """Returns 1.0 where an optimizer reads a number from a fake tensor, which has none."""

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: tuple[Any, ...] = (),
                           options: dict[str, Any] | None = None) -> Any:
        if operator is torch.ops.aten._local_scalar_dense.default:
            return 1.0
        return operator(*arguments, **(options or {}))


def track(shape: ModelConfig, config: LMConfig, devices: int, output_share: float = 1.0) -> dict[str, int]:
    """Peak bytes of one of `devices` devices, by kind of tensor as torch's trackers name them, and their sum `Total`.

    Arguments as in `audiopalm.lm.estimate.estimate`. Raises AudioPaLMError for an optimizer that cannot be sharded.
    """
    sharded = config.training.strategy == "fsdp" and devices > 1
    with processes(devices) as mesh, FakeTensorMode(allow_non_fake_inputs=True):
        model = _GpuDecoder(shape).train()
        model.recompute = config.recompute
        if sharded:
            shard(model, mesh)
        optimizers = list(make_optimizers(config.optimizer, model).values())
        if sharded:
            if len(optimizers) > 1:
                raise AudioPaLMError(f"optimizer {config.optimizer.name} cannot be tracked on shards: it is two "
                                     "optimizers, and the tracker supports one; give optimizer.name=adamw")
            tracker = FSDPMemTracker(model, *optimizers)
        else:
            tracker = MemTracker()
            tracker.track_external(model, *optimizers)
        # The peaks of single modules are slow to count and not used here.
        tracker._update_peak_stats = lambda state: record_peak(tracker)
        inputs = batch(config, output_share)
        bf16 = config.training.precision != "32-true"
        for _ in range(2):  # the optimizer has no state before its first step
            tracker.reset_mod_stats()
            with tracker, _Numbers():
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss, _ = model(*inputs)
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
        (peak,) = (kinds for device, kinds in tracker.get_tracker_snapshot("peak").items() if device.type == "cpu")
    return {str(getattr(kind, "value", kind)): number for kind, number in peak.items()}


def record_peak(tracker: MemTracker) -> None:
    """Record the bytes by kind of tensor if the sum over all kinds is the largest so far."""
    for device, kinds in tracker._curr_mem_snap.items():
        if tracker._peak_mem.get(device, 0) < kinds["Total"]:
            tracker._peak_mem[device], tracker._peak_mem_snap[device] = kinds["Total"], dict(kinds)


@contextmanager
def processes(number: int) -> Iterator[DeviceMesh]:
    """The mesh of a fake group of `number` processes: this process is real, the messages of the others are made up."""
    distributed.init_process_group("fake", rank=0, world_size=number, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (number,), mesh_dim_names=("data_parallel",))
    finally:
        distributed.destroy_process_group()


def batch(config: LMConfig, output_share: float) -> tuple[Tensor | Sizes, ...]:
    """The arguments of `Decoder.forward` for full rows of one document each, with fake tensors.

    output_share: the fraction of the tokens that have loss.
    """
    rows, length = config.batch.rows, config.batch.row_length
    ids = torch.zeros(rows, length, dtype=torch.int64)
    targets = torch.full_like(ids, IGNORED)
    return ids, ids, ids, targets, Sizes(rows, length, round(rows * length * output_share))
