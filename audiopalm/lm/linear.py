"""Products with weights that stay what they are while many rows of them are taken."""

import torch
from torch import Tensor
from torch.nn import functional

LEAST_ROWS = 4  # a product of fewer rows adds up in another order, so that its rows have other last bits
TYPICAL_ROWS = 32  # the layout of packed weights is chosen for so many
PACKED_FROM = 200_000  # weights: calling a packed product costs more than it gains for smaller ones


class PackedLinear:
    """`x` `[N, in]` -> `[N, out]` with weights of several layers side by side: one product instead of many.

    On a CPU in float32 many weights are copied once into the layout that oneDNN computes with: few rows of them then
    take half of the time, those of 32 a third less. The two operators are those to which PyTorch's compiler lowers a
    linear layer with frozen weights. With LEAST_ROWS and more, a row is the same bit for bit in any company.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor]):
        weight = torch.cat([one.detach() for one in weights]) if len(weights) > 1 else weights[0].detach()
        self.bias = torch.cat([one.detach() for one in biases]) if biases else None
        self.packed = (weight.device.type == "cpu" and weight.dtype == torch.float32
                       and weight.numel() >= PACKED_FROM and torch.backends.mkldnn.is_available())
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS) if self.packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return functional.linear(x, self.weight, self.bias)
