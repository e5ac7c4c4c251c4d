"""The numbers in packed rows on which shapes depend. They are counted on the host, so that no step waits for a GPU."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from audiopalm.lm.packing import IGNORED

OUTPUT_STEP = 128  # on a GPU, counts are rounded up to this, so that few different shapes occur


class Sizes(NamedTuple):
    """The numbers of a packed batch on which shapes depend, as Python integers on the host."""

    documents: int  # runs of equal segments in all rows, padding included
    longest: int  # tokens of the longest document
    outputs: int  # tokens with loss


def count_sizes(segments: Tensor, targets: Tensor) -> Sizes:
    """The sizes of a batch from its segments and targets, int64 `[B, T]`. For tensors on a GPU the host waits."""
    starts = document_starts(segments).flatten().nonzero()[:, 0]
    ends = pad(starts[1:], (0, 1), value=segments.numel())
    return Sizes(len(starts), int((ends - starts).max()), int((targets != IGNORED).sum()))


def output_positions(targets: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Positions int64 `[N]` in the flattened batch that have loss, and their targets `[N]`.

    On a GPU N is rounded up; the additional positions have the target IGNORED.
    """
    flat, size = targets.flatten(), sizes.outputs
    if targets.device.type != "cpu":
        size = round_up(size, OUTPUT_STEP)
    positions = torch.nonzero_static(flat != IGNORED, size=size, fill_value=0)[:, 0]
    chosen = flat.index_select(0, positions)
    return positions, pad(chosen[:sizes.outputs], (0, size - sizes.outputs), value=IGNORED)


def document_starts(segments: Tensor) -> Tensor:
    """bool `[B, T]`, True for the first token of each document; every row begins with a document."""
    return pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `number`."""
    return -(-number // step) * step
