"""Products with weights that stay what they are while many rows of them are taken."""

from functools import cache

import torch
from torch import Tensor

LEAST_ROWS = 4  # a product of fewer rows adds up in another order, so that its rows have other last bits
TYPICAL_ROWS = 32  # the layout of packed weights is chosen for so many
PACKED_FROM = 400_000  # weights: fewer are faster transposed
TRIED_ROWS = 70


class PackedLinear:
    """`x` `[N, in]` -> `[N, out]` with weights of several layers side by side: one product instead of many.

    On a CPU in float32, with LEAST_ROWS and more, a row is the same bit for bit in any company, and weights are copied
    once. Few are transposed, where a plain product on this processor adds up every row alike: 4 rows then take a half
    to three quarters of the time. Others are laid out as oneDNN computes with them: of many weights, few rows then take
    half of the time, 32 rows a third less. Its two operators are those to which PyTorch's compiler lowers a linear
    layer with frozen weights.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor]):
        weight = torch.cat([one.detach() for one in weights]) if len(weights) > 1 else weights[0].detach()
        self.bias = torch.cat([one.detach() for one in biases]) if biases else None
        exact = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
        self.packed = exact and (weight.numel() >= PACKED_FROM or not rows_are_independent(*weight.shape))
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)
        else:
            self.weight = weight.T.contiguous() if exact else weight.T

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)


@cache
def rows_are_independent(size: int, width: int) -> bool:
    """Whether a row of the plain product of `[N, width]` and `[width, size]`, float32, is the same for every N."""
    x = torch.linspace(-1, 1, TRIED_ROWS * width).sin_().view(TRIED_ROWS, width)
    weight = torch.linspace(-3, 3, width * size).cos_().view(width, size)
    whole = x @ weight
    return all(torch.equal(x[first:first + rows] @ weight, whole[first:first + rows])
               for first in (0, 3) for rows in range(LEAST_ROWS, TRIED_ROWS - first))
