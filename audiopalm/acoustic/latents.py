"""Average codec latents, from which embeddings of an acoustic model start."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class UnitLatents:
    """The average codec latent of each unit of a corpus.

    means: `[units_size, 2, latent]`, for the first and the second frame of a unit. unit_error, code_error: the mean
    squared distance, per axis, of a frame's latent to that mean and to the vector of its first code.
    """

    means: Tensor
    unit_error: float
    code_error: float
