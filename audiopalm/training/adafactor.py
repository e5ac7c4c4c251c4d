"""Adafactor (arXiv 1804.04235), the paper's optimizer: of a matrix it keeps a mean for each row and each column.

`torch.optim.Adafactor` makes the same steps, but refuses sharded matrices, and reads numbers of every parameter back
from the device. Here sums over the whole of sharded parameters are exchanged twice a step, for all of them together.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributed import all_reduce
from torch.distributed.tensor import DTensor

from audiopalm.training.parallel import own_part, with_rows

DECAY = -0.8  # in step t, the newest squares count as t ** DECAY of the moving means
MIN_SIZE = 1e-3  # of a parameter's root mean square, which scales its updates
MIN_MEAN = torch.finfo(torch.float32).eps


class Adafactor(torch.optim.Optimizer):
    """Updates with a root mean square of at most 1, times that of the parameter; decoupled weight decay."""

    def __init__(self, parameters: Iterable, lr: float, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        used = [(parameter, group) for group in self.param_groups for parameter in group["params"]
                if parameter.grad is not None]
        parameters = [parameter for parameter, _ in used]
        ages = [self._age(parameter) for parameter in parameters]
        sums = _of_all(parameters, [self._move(*pair) for pair in zip(parameters, ages, strict=True)])
        for parameter, age, (_, *matrix) in zip(parameters, ages, sums, strict=True):
            if matrix:
                self.state[parameter]["columns"].lerp_(matrix[1] / parameter.shape[-2], age ** DECAY)
        totals = [matrix[0] if matrix else None for _, *matrix in sums]
        squares = _of_all(parameters, [(self._update(*pair).square().sum(),)
                                       for pair in zip(parameters, totals, strict=True)])
        for (parameter, group), age, total, (size, *_), (square,) in zip(used, ages, totals, sums, squares,
                                                                         strict=True):
            number = parameter.numel()
            rate = min(group["lr"], age ** -0.5) * (size / number).sqrt().clamp(min=MIN_SIZE)
            update = self._update(parameter, total).mul_(rate / (square / number).sqrt().clamp(min=1.0))
            own_part(parameter)[0].mul_(1 - group["lr"] * group["weight_decay"]).sub_(update)

    def _age(self, parameter: Tensor) -> int:
        """The number of this step, from 1, of a parameter."""
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

    def _move(self, parameter: Tensor, age: int) -> tuple[Tensor, ...]:
        """Move the means that this process can; the sums of its rows: the parameter's squares and, of a matrix, the
        means of rows, and for each column the gradient's squares."""
        (own, _), (grad, _) = own_part(parameter), own_part(parameter.grad)
        squares, state = grad.square(), self.state[parameter]
        if parameter.ndim < 2:
            own_part(state["variance"])[0].lerp_(squares, age ** DECAY)
            return (own.square().sum(),)
        rows, _ = own_part(state["rows"])
        rows.lerp_(squares.mean(dim=-1, keepdim=True), age ** DECAY)
        return own.square().sum(), rows.sum(dim=-2, keepdim=True), squares.sum(dim=-2)

    def _update(self, parameter: Tensor, total: Tensor | None) -> Tensor:
        """The gradient over the root of its mean square; `total` is the sum of a matrix's means of rows."""
        (grad, _), state = own_part(parameter.grad), self.state[parameter]
        if total is None:
            squares = own_part(state["variance"])[0].clone()
        else:
            squares = own_part(state["rows"])[0] @ state["columns"].unsqueeze(-2)
            squares /= (total / parameter.shape[-2]).clamp(min=MIN_MEAN)
        return squares.clamp_(min=MIN_MEAN ** 2).rsqrt_().mul_(grad)


def _of_all(parameters: Sequence[Tensor], sums: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """Sums over the rows of this process -> sums over all rows of the parameters."""
    if not parameters or not isinstance(parameters[0], DTensor):
        return sums
    flat = torch.cat([one.flatten() for some in sums for one in some])
    all_reduce(flat, group=parameters[0].device_mesh.get_group())
    parts = iter(flat.split([one.numel() for some in sums for one in some]))
    return [tuple(next(parts).view_as(one) for one in some) for some in sums]
