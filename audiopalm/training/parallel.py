"""Several processes train one model: DDP (each holds all of it) or FSDP2 (each holds a share of every matrix).

How many there are is said by who starts them, torchrun or Slurm (docs/stages.md); alone, a process trains by itself.
Lightning Fabric brings devices, precision and DDP, and the process groups of FSDP2.
"""

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from audiopalm.core.errors import AudioPaLMError, nearest

STRATEGIES = ("ddp", "fsdp")


def start(strategy: str, precision: str) -> Fabric:
    """A Fabric of all processes, their group set up; `strategy` is how several of them share the work."""
    if strategy not in STRATEGIES:
        raise AudioPaLMError(f"training: unknown strategy {strategy!r}; {nearest(strategy, STRATEGIES)}")
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if processes == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    kind = ModelParallelStrategy(_shard, processes, 1) if strategy == "fsdp" else "ddp"
    fabric = Fabric(accelerator="auto", devices=here, num_nodes=processes // here, strategy=kind, precision=precision)
    fabric.launch()
    return fabric


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Every block is gathered while it computes; embedding and last norm belong to the whole."""
    for block in model.blocks:
        fully_shard(block, mesh=mesh["data_parallel"])
    return fully_shard(model, mesh=mesh["data_parallel"])


def whole(value: Tensor) -> Tensor:
    """All of a tensor of which processes may hold shares; every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def share_like(value: Tensor, model: Tensor) -> Tensor:
    """`value`, whole, cut as `model` is cut."""
    return distribute_tensor(value, model.device_mesh, model.placements) if isinstance(model, DTensor) else value


def total(fabric: Fabric, *counts: float) -> list[float]:
    """Each count, summed over all processes."""
    if fabric.world_size == 1:
        return list(counts)
    summed = fabric.all_reduce(torch.tensor(counts, dtype=torch.float64, device=fabric.device), reduce_op="sum")
    return summed.tolist()
