"""Linear layers for decode steps: weights are packed once and multiplied with many batches."""

from functools import cache

import torch
from torch import Tensor

MIN_ROWS = 4  # products of fewer rows are summed in another order, which changes the last bits of a row
TYPICAL_ROWS = 32  # oneDNN chooses the layout of packed weights for this number of rows
MIN_PACKED_WEIGHTS = 400_000  # smaller matrices are faster as a plain transposed product
TESTED_ROWS = 70  # the independence of rows is tested for up to this many rows


class PackedLinear:
    """`x` `[N, in]` -> `[N, out]` by the concatenated weights of several layers: one product instead of several.

    The weights are copied once. On a CPU in float32, with N >= MIN_ROWS, a row of the result does not depend on the
    other rows, bit for bit.

    - A matrix below MIN_PACKED_WEIGHTS is stored transposed, if plain products on this processor do not depend on N.
      With 4 rows this takes half to three quarters of the time.
    - Other matrices are stored in oneDNN's own layout. For a large matrix, few rows then take half of the time and 32
      rows two thirds. The two operators are those to which PyTorch's compiler lowers a linear layer with frozen
      weights.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor]):
        weight = torch.cat([part.detach() for part in weights]) if len(weights) > 1 else weights[0].detach()
        self.bias = torch.cat([part.detach() for part in biases]) if biases else None
        exact = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
        self.packed = exact and (weight.numel() >= MIN_PACKED_WEIGHTS or not rows_are_independent(*weight.shape))
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)
        else:
            self.weight = weight.T.contiguous() if exact else weight.T

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)


@cache
def rows_are_independent(out_features: int, in_features: int) -> bool:
    """Whether a row of the plain product `[N, in] @ [in, out]` in float32 has the same bits for every N."""
    x = torch.linspace(-1, 1, TESTED_ROWS * in_features).sin_().view(TESTED_ROWS, in_features)
    weight = torch.linspace(-3, 3, in_features * out_features).cos_().view(in_features, out_features)
    whole = x @ weight
    return all(torch.equal(x[first:first + rows] @ weight, whole[first:first + rows])
               for first in (0, 3) for rows in range(MIN_ROWS, TESTED_ROWS - first))
