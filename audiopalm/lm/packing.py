"""Packing: several sequences share a row of fixed length, so that little computation is spent on padding."""

from bisect import bisect_left, insort
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

    @property
    def tokens(self) -> int:
        """The number of tokens without padding."""
        return int((self.segments > 0).sum())


def pack_rows(lengths: np.ndarray, row_length: int) -> list[list[int]]:
    """Indices of the sequences in each row, by best-fit decreasing.

    Each sequence, the longest first, goes into the row with the least sufficient space. No length may exceed
    `row_length`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    rows: list[list[int]] = []
    free: list[int] = []  # sorted; for each row with space left: space * base + number of the row
    base, shortest = max(len(lengths), 1), int(lengths.min(initial=row_length))
    order = np.argsort(-lengths, kind="stable")
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        best = bisect_left(free, length * base)
        if best == len(free):
            space, row = row_length, len(rows)
            rows.append([])
        else:
            space, row = divmod(free.pop(best), base)
        rows[row].append(index)
        if space - length >= shortest:
            insort(free, (space - length) * base + row)
    return rows


def collate(rows: list[list[Sequence]], row_length: int) -> PackedBatch:
    """The batch of these rows. A target is the next id if that is an output of the same document, else IGNORED."""
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
    return PackedBatch(torch.from_numpy(ids), torch.from_numpy(segments), torch.from_numpy(positions),
                       torch.from_numpy(targets), utterances)
