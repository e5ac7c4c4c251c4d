"""The initial weights of a training of the language model: random, or those of an LM with rows for audio ids.

A model is built on the meta device, and its weights are made one at a time when `audiopalm.training.parallel.fill`
asks for them. A process with a shard stores its own rows only. Their values are the same as in a process with the
whole model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from audiopalm.core.tensors import Stored
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.lm.storage import extended, named_seed, stored_model
from audiopalm.training.parallel import fill
from audiopalm.vocabulary.joint import Vocabulary


@dataclass(frozen=True)
class InitialModel:
    """A model on the meta device, and its initial weights by name."""

    model: Decoder
    weights: dict[str, Stored]

    def make(self) -> Decoder:
        """The whole model with its weights, on the CPU."""
        model = self.model.to_empty(device="cpu")
        fill(model, self.weights)
        return model


def text_lm(config: ModelConfig) -> InitialModel:
    """A model with random weights, which depend on torch's current seed and on their names."""
    drawn = _DrawnWeights()
    with torch.device("meta"), drawn:
        model = Decoder(config)
    return InitialModel(model, {name: _draw(named_seed(name), value, drawn.deviations.get(id(value)))
                                for name, value in model.named_parameters()})


def joint_lm(init_lm: str | Path, vocabulary: Vocabulary, dropout: float, audio_rows: str) -> InitialModel:
    """The LM of the folder `init_lm`, with rows for audio ids.

    A text LM gets them after its vocabulary, initialised by `audio_rows` (one of INITIALISATIONS). A joint LM, from
    stage 7 with --init_pack or from stage 8, already has them and stays as it is. Raises AudioPaLMError if the LM does
    not fit `vocabulary`.
    """
    config, weights = stored_model(init_lm, vocabulary, "stage 7 (textlm)")
    config.dropout = dropout
    config, weights = extended(config, weights, vocabulary.size - config.vocabulary_size, audio_rows)
    with torch.device("meta"), _DrawnWeights():
        return InitialModel(Decoder(config), weights)


class _DrawnWeights(TorchFunctionMode):
    """While it is active, `normal_` draws nothing; `deviations` records the last standard deviation per tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.deviations: dict[int, float] = {}  # {id of a tensor: standard deviation}

    def __torch_function__(self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (),
                           options: dict[str, Any] | None = None) -> Any:
        options = options or {}
        if getattr(function, "__name__", "") != "normal_":  # of torch.nn.init
            return function(*arguments, **options)
        tensor = arguments[0] if arguments else options["tensor"]
        self.deviations[id(tensor)] = options["std"] if "std" in options else 1.0
        return tensor


def _draw(seed: int, value: nn.Parameter, deviation: float | None) -> Stored:
    """The initial values of `value`: normal with the standard deviation `deviation`, or ones for None (norms).

    Every read draws the whole weight, so that a shard gets the same values.
    """
    def rows(first: int, last: int) -> Tensor:
        if deviation is None:
            return torch.ones(last - first, *value.shape[1:])
        generator = torch.Generator().manual_seed(seed)
        return torch.empty(value.shape).normal_(0.0, deviation, generator=generator)[first:last]

    return Stored(tuple(value.shape), torch.float32, rows)
