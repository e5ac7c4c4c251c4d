"""Packing: several sequences share a row of fixed length, so that little computation is spent on padding."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.sequences import Sequence

IGNORED = -100  # the target of positions without loss


@dataclass
class PackedBatch:
    """The arguments of `Decoder.forward`, int64 `[rows, T]` each.

    Example: two documents `[5 6 7]` (output: 7) and `[8 9]` (output: 9) in a row of 6:

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
    chunk: tuple[int, int]  # (index of its chunk of the mixture, number of batches before that chunk)

    @property
    def tokens(self) -> int:
        """The number of tokens without padding."""
        return int((self.segments > 0).sum())


def pack_rows(lengths: list[int], row_length: int) -> list[list[int]]:
    """Indices of the sequences in each row, by first-fit decreasing. No length may exceed `row_length`."""
    rows: list[list[int]] = []
    free: list[int] = []  # tokens left in each row
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((r for r, tokens in enumerate(free) if tokens >= lengths[index]), None)
        if row is None:
            rows.append([])
            free.append(row_length)
            row = len(rows) - 1
        rows[row].append(index)
        free[row] -= lengths[index]
    return rows


def collate(rows: list[list[Sequence]], row_length: int, chunk: tuple[int, int] = (0, 0)) -> PackedBatch:
    """The batch of these rows of sequences. A target is the next id if that is an output of the same document."""
    ids, segments, positions = (np.zeros((len(rows), row_length), dtype=np.int64) for _ in range(3))
    targets = np.full((len(rows), row_length), IGNORED, dtype=np.int64)
    for r, row in enumerate(rows):
        start = 0
        for segment, sequence in enumerate(row, start=1):
            end = start + len(sequence.ids)
            ids[r, start:end] = sequence.ids
            segments[r, start:end] = segment
            positions[r, start:end] = np.arange(end - start)
            targets[r, start:end - 1] = np.where(sequence.is_output[1:], sequence.ids[1:], IGNORED)
            start = end
    utterances = [sequence.utterance for row in rows for sequence in row]
    return PackedBatch(*(torch.from_numpy(array) for array in (ids, segments, positions, targets)), utterances, chunk)
