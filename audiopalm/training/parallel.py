"""Several processes train one model: DDP (each holds all of it) or FSDP2 (each holds a shard of every matrix).

Whoever starts the processes, torchrun or Slurm, says how many there are (docs/stages.md); a process that is started
alone trains alone. Lightning Fabric chooses devices and precision and sets up the process groups.
"""

import os
from collections.abc import Iterable

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

STRATEGIES = ("ddp", "fsdp")
BUCKET = 25_000_000  # numbers of gradients that are averaged by one message


def world_size() -> int:
    """The number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def start(strategy: str, precision: str) -> Fabric:
    """A Fabric of all processes with their process group set up; `strategy` is one of STRATEGIES."""
    processes = world_size()
    if processes == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    kind = ModelParallelStrategy(_shard, processes, 1) if strategy == "fsdp" else "ddp"
    fabric = Fabric(accelerator="auto", devices=local, num_nodes=processes // local, strategy=kind, precision=precision)
    fabric.launch()
    return fabric


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Every block is gathered while it computes; embedding and last norm belong to the whole model."""
    for block in model.blocks:
        fully_shard(block, mesh=mesh["data_parallel"])
    return fully_shard(model, mesh=mesh["data_parallel"])


def distribute(fabric: Fabric, strategy: str, module: nn.Module) -> None:
    """Move `module` to the device of this process and, with FSDP2, shard it in place."""
    if strategy == "fsdp" and fabric.world_size > 1:
        fabric.setup_module(module)
    else:
        module.to(fabric.device)


def whole(value: Tensor) -> Tensor:
    """The whole of a tensor that processes may hold in shards; every process must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: Tensor, model: Tensor) -> Tensor:
    """The whole tensor `value`, sharded as `model` is."""
    return distribute_tensor(value, model.device_mesh, model.placements) if isinstance(model, DTensor) else value


def total(fabric: Fabric, *counts: float) -> list[float]:
    """Each count, summed over all processes."""
    if fabric.world_size == 1:
        return list(counts)
    summed = fabric.all_reduce(torch.tensor(counts, dtype=torch.float64, device=fabric.device), reduce_op="sum")
    return summed.tolist()


def synchronise_gradients(fabric: Fabric, module: nn.Module, wanted: bool) -> None:
    """With FSDP2: whether the next backward pass exchanges gradients, which only the last micro-batch needs."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(wanted)


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Every process gets the mean of all processes' gradients. FSDP2 has done this in the backward pass.

    A parameter that took no part in this process's loss counts as a gradient of zero.
    """
    parameters = [one for one in parameters if one.requires_grad and not isinstance(one, DTensor)]
    if fabric.world_size == 1 or not parameters:
        return
    for one in parameters:
        if one.grad is None:
            one.grad = torch.zeros_like(one)
    bucket: list[Tensor] = []
    for one in [*parameters, None]:
        if bucket and (one is None or sum(grad.numel() for grad in bucket) + one.numel() > BUCKET):
            flat = torch.cat([grad.flatten() for grad in bucket])
            torch.distributed.all_reduce(flat)
            flat /= fabric.world_size
            for grad, mean in zip(bucket, flat.split([grad.numel() for grad in bucket]), strict=True):
                grad.copy_(mean.view_as(grad))
            bucket = []
        if one is not None:
            bucket.append(one.grad)


def broadcast_module(fabric: Fabric, module: nn.Module) -> None:
    """Every process gets the parameters and buffers of the first."""
    if fabric.world_size > 1:
        for tensor in module.state_dict().values():
            if not isinstance(tensor, DTensor):
                torch.distributed.broadcast(tensor, src=0)
