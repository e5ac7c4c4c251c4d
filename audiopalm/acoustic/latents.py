"""Average codec latents, from which the embeddings of an acoustic model are initialised."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class UnitLatents:
    """The average codec latent of each unit of a corpus.

    means: float32 `[units_size, 2, latent]`, for the first and the second frame of a unit. unit_error: the mean squared
    distance, per axis, between a frame's latent and the mean of its unit. code_error: the same distance between the
    latent and the vector of the frame's first code.
    """

    means: Tensor
    unit_error: float
    code_error: float
