"""Muon (arXiv 2502.16982): orthogonalised momentum, for the matrices of linear layers.

`torch.optim.Muon` does the same, one matrix after the other; small models spend a fifth of their training there. Here
all matrices of one shape are made orthogonal together, which takes two thirds of that time. Sharded matrices are taken
in groups of as many as there are processes: the shards are exchanged, and each process makes one matrix orthogonal.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed import all_to_all_single
from torch.distributed.tensor import DTensor

from audiopalm.training.parallel import own_part

STEPS = 5  # of the Newton-Schulz iteration; singular values end between about 0.7 and 1.2
A, B, C = 3.4445, -4.7750, 2.0315  # coefficients of its polynomial a x + b x^3 + c x^5, as published


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonal updates scaled to the root mean square of AdamW's, decoupled weight decay.

    matrices: `[rows, columns]` each, whole or sharded by rows.
    """

    def __init__(self, matrices: list[Tensor], lr: float, weight_decay: float = 0.1, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def step(self) -> None:
        """Update all matrices that have a gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                by_shape: dict[torch.Size, list[Tensor]] = {}
                for matrix in group["params"]:
                    if matrix.grad is not None:
                        by_shape.setdefault(matrix.shape, []).append(matrix)
                for matrices in by_shape.values():
                    for batch in _batches(matrices):
                        self._update(batch, group)

    def _update(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """Update matrices of one shape, with the settings of their parameter group."""
        size = 0.2 * max(matrices[0].shape) ** 0.5
        moments = [self._momentum(matrix, group["momentum"]) for matrix in matrices]
        updates = _exchanged(moments, matrices[0]) if isinstance(matrices[0], DTensor) else orthogonal(
            torch.stack(moments))
        for matrix, update in zip(matrices, updates, strict=True):
            own, _ = own_part(matrix)
            own.mul_(1 - group["lr"] * group["weight_decay"])
            own.add_(update.to(own.dtype), alpha=-group["lr"] * size)

    def _momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        """The new momentum of a matrix; of a sharded matrix, the rows that this process holds."""
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        (buffer, _), (grad, _) = own_part(state["momentum_buffer"]), own_part(matrix.grad)
        buffer.lerp_(grad, 1 - momentum)
        return torch.lerp(grad, buffer, momentum)


def _batches(matrices: list[Tensor]) -> list[list[Tensor]]:
    """Batches of matrices that are made orthogonal at once: all together, or as many shards as there are processes."""
    number = matrices[0].device_mesh.size() if isinstance(matrices[0], DTensor) else len(matrices)
    return [matrices[start:start + number] for start in range(0, len(matrices), number)]


def _exchanged(shards: list[Tensor], like: DTensor) -> list[Tensor]:
    """This process's rows of the orthogonal matrices; each process makes one matrix orthogonal.

    shards: this process's rows `[own rows, columns]` of at most as many matrices as there are processes.
    """
    processes, group = like.device_mesh.size(), like.device_mesh.get_group()
    rows, columns = like.shape
    share = -(-rows // processes)  # rows of a process; the last processes may have fewer
    sent = shards[0].new_zeros(processes, share, columns, dtype=torch.bfloat16)
    for index, shard in enumerate(shards):
        sent[index, :len(shard)] = shard
    received = torch.empty_like(sent)
    all_to_all_single(received, sent, group=group)
    if like.device_mesh.get_local_rank() < len(shards):
        matrix = received.view(-1, columns)[:rows]
        matrix.copy_(orthogonal(matrix[None])[0])
    all_to_all_single(sent, received, group=group)
    return [sent[index, :len(shard)] for index, shard in enumerate(shards)]


def orthogonal(matrices: Tensor) -> Tensor:
    """`[N, rows, columns]` -> bfloat16 of the same shape, nearly orthogonal, by Newton-Schulz iteration."""
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.mT if tall else x
