"""Several processes train one model: DDP (each holds all of it) or FSDP2 (each holds a shard of every matrix).

The launcher of the processes, torchrun or Slurm, states their number (docs/stages.md); a process that is started alone
trains alone. Lightning Fabric chooses devices and precision and sets up the process groups.
"""

import json
import math
import os
import signal
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard

from audiopalm.core.device import check_gpu
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.processes import LIBC, ONE_LINE
from audiopalm.core.tensors import Stored

STRATEGIES = ("ddp", "fsdp")
BUCKET = 25_000_000  # values of gradients that are averaged in one message
MMAP_THRESHOLD, MAPPED_BYTES = -3, 2 ** 17  # for glibc's mallopt: larger blocks go back to the system when freed
GRACE_SECONDS = 20.0  # when a process has failed, the launcher ends the others within this time


def world_size() -> int:
    """The number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def start(precision: str) -> Fabric:
    """A Fabric of all processes with their process group set up. Raises AudioPaLMError as `check_gpu` does."""
    check_gpu()
    processes = world_size()
    if processes == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    fabric = Fabric(accelerator="auto", devices=local, num_nodes=processes // local, strategy="ddp",
                    precision=precision)
    fabric.launch()
    return fabric


@contextmanager
def one_line() -> Iterator[None]:
    """Where several processes fail together, only the first reports the error; the others wait for the launcher's end.

    Raises AudioPaLMError where the connection to another process is lost.
    """
    try:
        yield
    except (AudioPaLMError, RuntimeError, OSError) as error:
        if ONE_LINE in os.environ:  # bin.start_ranks makes one line of the errors of all ranks
            raise
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if world_size() == 1 or (isinstance(error, RuntimeError) and not lost):
            raise
        if int(os.environ.get("RANK", 0)) > 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(GRACE_SECONDS)
        if lost:
            raise AudioPaLMError("another process of this training has ended or cannot be reached; run the same "
                                 "command again, and it goes on from the last checkpoint") from None
        raise


def gather(fabric: Fabric, value: Any) -> list[Any]:
    """The `value` of every process, in the order of their ranks; any value of JSON."""
    if fabric.world_size == 1:
        return [value]
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(fabric.device)
    lengths = _gather_rows(fabric, torch.tensor([len(text)], device=fabric.device))[:, 0].tolist()
    padded = torch.zeros(max(lengths), dtype=torch.uint8, device=fabric.device)
    padded[:len(text)] = text
    rows = _gather_rows(fabric, padded).cpu().numpy()
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def _gather_rows(fabric: Fabric, row: Tensor) -> Tensor:
    """`row` `[N]`, of the same length everywhere, of every process: `[processes, N]`."""
    rows = [torch.zeros_like(row) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(rows, row)
    return torch.stack(rows)


def distribute(fabric: Fabric, strategy: str, module: nn.Module) -> None:
    """Move `module` to the device of this process: a shard of it under FSDP2, otherwise all of it.

    A module on the meta device gets memory without values, for `fill`.
    """
    if strategy == "fsdp" and fabric.world_size > 1:
        shard(module, init_device_mesh(fabric.device.type, (fabric.world_size,)))
        if fabric.device.type == "cpu" and hasattr(LIBC, "mallopt"):
            # By default glibc reserves freed blocks of up to 32 MiB, and gathered weights leave holes of all sizes.
            LIBC.mallopt(MMAP_THRESHOLD, MAPPED_BYTES)
    if any(parameter.is_meta for parameter in module.parameters()):
        module.to_empty(device=fabric.device)
    else:
        module.to(fabric.device)


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard `model` by FSDP2. Each of its `blocks` is gathered while it computes; embedding, output layer and last norm
    are gathered with the model."""
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def own_part(value: Tensor) -> tuple[Tensor, int]:
    """(the rows of a tensor that this process holds, the number of the first row); all rows where it is not sharded.

    Raises ValueError for a tensor that is not sharded by rows.
    """
    if not isinstance(value, DTensor):
        return value, 0
    if value.placements != (Shard(0),):
        raise ValueError(f"{value.placements} are not rows")
    rows = math.ceil(len(value) / value.device_mesh.size())
    return value.to_local(), min(value.device_mesh.get_local_rank() * rows, len(value))


def fill(module: nn.Module, weights: Mapping[str, Stored], without: Container[str] = ()) -> None:
    """Read the values of all parameters and buffers except `without`; a process reads only the rows that it holds."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name in without:
                continue
            own, first = own_part(value)
            if own.numel():
                own.copy_(weights[name].rows(first, first + (len(own) if own.ndim else 1)))


def with_rows(own: Tensor, parameter: Tensor) -> Tensor:
    """A tensor that is sharded as `parameter` is, in which this process holds the rows `own`."""
    if not isinstance(parameter, DTensor):
        return own
    shape = torch.Size([len(parameter), *own.shape[1:]])
    return DTensor.from_local(own, parameter.device_mesh, parameter.placements, run_check=False, shape=shape,
                              stride=torch.empty(shape, device="meta").stride())


def like_parameter(stored: Stored, parameter: Tensor) -> Tensor:
    """A moment of an optimizer for `parameter`: sharded as the parameter is where it has the same number of rows."""
    if not isinstance(parameter, DTensor) or len(stored.shape) != parameter.ndim or stored.shape[0] != len(parameter):
        return stored.whole()
    own, first = own_part(parameter)
    rows = torch.empty(len(own), *stored.shape[1:], dtype=stored.dtype, device=own.device)
    if len(own):
        rows.copy_(stored.rows(first, first + len(own)))
    return with_rows(rows, parameter)


def whole(value: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded; every process must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def total(fabric: Fabric, value: Tensor) -> Tensor:
    """Replace `value` by its sum over all processes, and return it; it stays on the device."""
    if fabric.world_size > 1:
        torch.distributed.all_reduce(value)
    return value


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their means over all processes. FSDP2 has done this in the backward pass.

    A parameter without a gradient in this process counts with a gradient of zero. Weights that no process trains have
    no `requires_grad`, because an optimizer would let them decay.
    """
    parameters = [parameter for parameter in parameters
                  if parameter.requires_grad and not isinstance(parameter, DTensor)]
    if fabric.world_size == 1 or not parameters:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    bucket: list[Tensor] = []
    for parameter in parameters:
        if bucket and sum(grad.numel() for grad in bucket) + parameter.numel() > BUCKET:
            _average(bucket, fabric.world_size)
            bucket = []
        bucket.append(parameter.grad)
    _average(bucket, fabric.world_size)


def _average(gradients: list[Tensor], processes: int) -> None:
    """Replace the gradients by their means over all processes, in one message."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= processes
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def scale_gradients(parameters: Iterable[nn.Parameter], factor: float | Tensor) -> None:
    """Multiply the gradients; a factor that is a tensor stays on the device."""
    if isinstance(factor, float) and factor == 1.0:
        return
    grads = [own_part(parameter.grad)[0] for parameter in parameters if parameter.grad is not None]
    if grads:
        torch._foreach_mul_(grads, factor)


def broadcast_module(fabric: Fabric, module: nn.Module) -> None:
    """Give the parameters and buffers the values of the first process; sharded tensors are left unchanged."""
    if fabric.world_size > 1:
        for tensor in module.state_dict().values():
            if not isinstance(tensor, DTensor):
                torch.distributed.broadcast(tensor, src=0)
