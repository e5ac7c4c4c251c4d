"""The weights that a training of the language model starts from: drawn, or those of an LM, with rows for audio ids.

A model is described on the meta device, and its weights are made one at a time when `audiopalm.training.parallel.fill`
asks for them. A process that holds a shard keeps its own rows only, and has the same values as one that holds all.
"""

from dataclasses import dataclass
from pathlib import Path

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
    """A model on the meta device, and its first weights by name."""

    model: Decoder
    weights: dict[str, Stored]

    def make(self) -> Decoder:
        """The whole model with its weights, on the CPU."""
        model = self.model.to_empty(device="cpu")
        fill(model, self.weights)
        return model


def text_lm(config: ModelConfig) -> InitialModel:
    """A model whose weights are drawn, from torch's seed as it is now and their names."""
    drawn = _DrawnWeights()
    with torch.device("meta"), drawn:
        model = Decoder(config)
    return InitialModel(model, {name: _draw(named_seed(name), value, drawn.deviations.get(id(value)))
                                for name, value in model.named_parameters()})


def joint_lm(init_lm: str | Path, vocabulary: Vocabulary, dropout: float, audio_rows: str) -> InitialModel:
    """The LM of `init_lm`. A text LM gets the audio rows behind its vocabulary, which start as `audio_rows` says; a
    joint LM, of stage 7 with --init_pack or of stage 8, has them already and goes on as it is."""
    config, weights = stored_model(init_lm, vocabulary, "stage 7 (textlm)")
    config.dropout = dropout
    config, weights = extended(config, weights, vocabulary.size - config.vocabulary_size, audio_rows)
    with torch.device("meta"), _DrawnWeights():
        return InitialModel(Decoder(config), weights)


class _DrawnWeights(TorchFunctionMode):
    """Under it, `normal_` draws nothing, and `deviations` has the standard deviation that it was last called with."""

    def __init__(self):
        super().__init__()
        self.deviations: dict[int, float] = {}  # {id of a tensor: standard deviation}

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if getattr(function, "__name__", "") != "normal_":  # of torch.nn.init
            return function(*arguments, **options)
        tensor = arguments[0] if arguments else options["tensor"]
        self.deviations[id(tensor)] = options["std"] if "std" in options else 1.0
        return tensor


def _draw(seed: int, value: nn.Parameter, deviation: float | None) -> Stored:
    """A weight that is drawn whole each time; those of norms are ones."""
    def rows(first: int, last: int) -> Tensor:
        if deviation is None:
            return torch.ones(last - first, *value.shape[1:])
        generator = torch.Generator().manual_seed(seed)
        return torch.empty(value.shape).normal_(0.0, deviation, generator=generator)[first:last]

    return Stored(tuple(value.shape), torch.float32, rows)
