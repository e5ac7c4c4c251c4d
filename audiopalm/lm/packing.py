"""Packing: several sequences in one row of fixed length, so that no computation is spent on padding."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.sequences import Sequence

IGNORED = -100  # a target without loss


@dataclass
class PackedBatch:
    """int64 `[rows, T]` each, as `Decoder.forward` takes them.

    Two documents `[5 6 7]` (output: 7) and `[8 9]` (output: 9) in a row of 6:

        ids       5    6    7    8    9    0
        segments  1    1    1    2    2    0
        positions 0    1    2    0    1    0
        targets   -100 7    -100 9    -100 -100
    """

    ids: Tensor
    segments: Tensor
    positions: Tensor
    targets: Tensor
    utterances: list[str]
    chunk: tuple[int, int]  # the chunk of the mixture that it is from, and how many batches come before that

    @property
    def tokens(self) -> int:
        """Real tokens, padding not counted."""
        return int((self.segments > 0).sum())


def pack_rows(lengths: list[int], row_length: int) -> list[list[int]]:
    """First-fit decreasing: indices of sequences per row. Lengths above `row_length` must be removed before."""
    rows: list[list[int]] = []
    space: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((r for r, left in enumerate(space) if left >= lengths[index]), None)
        if row is None:
            rows.append([])
            space.append(row_length)
            row = len(rows) - 1
        rows[row].append(index)
        space[row] -= lengths[index]
    return rows


def collate(rows: list[list[Sequence]], row_length: int, chunk: tuple[int, int] = (0, 0)) -> PackedBatch:
    """Lay out rows of sequences; a target is the next id where that id is an output of the same document."""
    ids, segments, positions = (np.zeros((len(rows), row_length), dtype=np.int64) for _ in range(3))
    targets = np.full((len(rows), row_length), IGNORED, dtype=np.int64)
    for r, row in enumerate(rows):
        start = 0
        for number, sequence in enumerate(row, start=1):
            end = start + len(sequence.ids)
            ids[r, start:end] = sequence.ids
            segments[r, start:end] = number
            positions[r, start:end] = np.arange(end - start)
            targets[r, start:end - 1] = np.where(sequence.is_output[1:], sequence.ids[1:], IGNORED)
            start = end
    names = [sequence.utterance for row in rows for sequence in row]
    return PackedBatch(*(torch.from_numpy(array) for array in (ids, segments, positions, targets)), names, chunk)
