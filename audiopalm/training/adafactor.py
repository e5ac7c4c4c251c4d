"""Adafactor (arXiv 1804.04235), the paper's optimizer: for a matrix it stores one mean per row and one per column.

`torch.optim.Adafactor` makes the same steps, but refuses sharded matrices, and reads numbers of every parameter back
from the device. Here the sums over sharded parameters are exchanged twice a step, for all parameters together.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import all_reduce
from torch.distributed.tensor import DTensor

from audiopalm.training.parallel import own_part, with_rows

DECAY = -0.8  # in step t, the newest squares count as t ** DECAY of the moving means
MIN_SIZE = 1e-3  # of a parameter's root mean square, which scales its updates
MIN_MEAN = torch.finfo(torch.float32).eps


class Adafactor(torch.optim.Optimizer):
    """Updates whose root mean square is at most 1, times that of the parameter, with decoupled weight decay.

    parameters: tensors, or torch's parameter groups. The state of a matrix is `rows` and `columns`, the moving means of
    the gradient's squares; that of other parameters is `variance`.
    """

    def __init__(self, parameters: Iterable[Tensor | dict[str, Any]], lr: float, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    def step(self) -> None:
        """Update all parameters that have a gradient."""
        with torch.no_grad():
            self._step()

    def _step(self) -> None:
        used = [(parameter, group) for group in self.param_groups for parameter in group["params"]
                if parameter.grad is not None]
        parameters = [parameter for parameter, _ in used]
        ages = [self._age(parameter) for parameter in parameters]
        sums = _over_processes(parameters, [self._move_means(*pair) for pair in zip(parameters, ages, strict=True)])
        for parameter, age, (_, *matrix) in zip(parameters, ages, sums, strict=True):
            if matrix:
                self.state[parameter]["columns"].lerp_(matrix[1] / parameter.shape[-2], age ** DECAY)
        totals = [matrix[0] if matrix else None for _, *matrix in sums]
        squares = _over_processes(parameters, [(self._update(*pair).square().sum(),)
                                               for pair in zip(parameters, totals, strict=True)])
        for (parameter, group), age, total, (size, *_), (square,) in zip(used, ages, totals, sums, squares,
                                                                         strict=True):
            number = parameter.numel()
            rate = min(group["lr"], age ** -0.5) * (size / number).sqrt().clamp(min=MIN_SIZE)
            update = self._update(parameter, total).mul_(rate / (square / number).sqrt().clamp(min=1.0))
            own_part(parameter)[0].mul_(1 - group["lr"] * group["weight_decay"]).sub_(update)

    def _age(self, parameter: Tensor) -> int:
        """The number of this step for the parameter, from 1; the first step makes its state."""
        state, (own, _) = self.state[parameter], own_part(parameter)
        if not state:
            state["step"] = torch.zeros(())
            if parameter.ndim > 1:
                state["rows"] = with_rows(torch.zeros_like(own[..., :1]), parameter)
                state["columns"] = own.new_zeros(*parameter.shape[:-2], parameter.shape[-1])
            else:
                state["variance"] = torch.zeros_like(parameter)
        state["step"] += 1
        return int(state["step"])

    def _move_means(self, parameter: Tensor, age: int) -> tuple[Tensor, ...]:
        """Move the means of the rows that this process holds, and return sums over these rows.

        The sums are: the parameter's squares `[]`; for a matrix also its means of rows `[..., 1, 1]`, and the
        gradient's squares in each column `[..., columns]`.
        """
        (own, _), (grad, _) = own_part(parameter), own_part(parameter.grad)
        squares, state = grad.square(), self.state[parameter]
        if parameter.ndim < 2:
            own_part(state["variance"])[0].lerp_(squares, age ** DECAY)
            return (own.square().sum(),)
        rows, _ = own_part(state["rows"])
        rows.lerp_(squares.mean(dim=-1, keepdim=True), age ** DECAY)
        return own.square().sum(), rows.sum(dim=-2, keepdim=True), squares.sum(dim=-2)

    def _update(self, parameter: Tensor, total: Tensor | None) -> Tensor:
        """The gradient divided by the root of its mean square; `total` is the sum of a matrix's means of rows."""
        (grad, _), state = own_part(parameter.grad), self.state[parameter]
        if total is None:
            squares = own_part(state["variance"])[0].clone()
        else:
            squares = own_part(state["rows"])[0] @ state["columns"].unsqueeze(-2)
            squares /= (total / parameter.shape[-2]).clamp(min=MIN_MEAN)
        return squares.clamp_(min=MIN_MEAN ** 2).rsqrt_().mul_(grad)


def _over_processes(parameters: Sequence[Tensor], sums: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """Sums over the rows of this process, a tuple for each parameter -> sums over all rows of the parameters."""
    if not parameters or not isinstance(parameters[0], DTensor):
        return sums
    flat = torch.cat([value.flatten() for values in sums for value in values])
    all_reduce(flat, group=parameters[0].device_mesh.get_group())
    parts = iter(flat.split([value.numel() for values in sums for value in values]))
    return [tuple(next(parts).view_as(value) for value in values) for values in sums]
