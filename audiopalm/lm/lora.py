"""LoRA (arXiv 2106.09685) by the package peft.

The initial weights are frozen, and each linear layer of the blocks gets an adapter of two thin matrices A and B:
`W x + alpha / rank * B A x`. Audio ids are new to a text LM, so their rows of the embedding, and of a head that is not
tied to it, are trained in full. Text rows are frozen. A finished training is merged into an ordinary model.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiopalm.core.config import chosen, ranged
from audiopalm.core.errors import AudioPaLMError
from audiopalm.core.optional import load_peft
from audiopalm.core.tensors import Stored, joined
from audiopalm.core.weights import build_empty
from audiopalm.lm.initial import InitialModel
from audiopalm.lm.model import MAX_DIM, Decoder, ModelConfig
from audiopalm.lm.storage import VOCABULARY_WEIGHTS, named_seed

LAYERS = ("query", "key", "value", "output", "gate", "up", "down")  # linear layers of a block
A, B = ".lora_A.default.weight", ".lora_B.default.weight"  # peft's names of the two matrices of an adapter
BASE = ".base_layer"  # peft's name of the layer that has an adapter


@dataclass
class AdapterConfig:
    """`lora:` of conf/lm.yaml."""

    rank: int = ranged(16, low=1, high=MAX_DIM)
    alpha: float = ranged(32.0, above=0)  # the output of an adapter is multiplied by alpha / rank
    dropout: float = ranged(0.0, low=0, high=0.99)  # on the input of an adapter
    target: list[str] = chosen(list(LAYERS), LAYERS)  # layers that get an adapter, in every block

    def __post_init__(self) -> None:
        if not self.target:
            raise AudioPaLMError(f"target: no layer is given; they are {', '.join(LAYERS)}")


class SplitRows(nn.Module):
    """A matrix with a row for each id: frozen rows of text ids, then trained rows of audio ids."""

    def __init__(self, text: int, audio: int, dim: int):
        super().__init__()
        self.text = nn.Parameter(torch.empty(text, dim), requires_grad=False)
        self.audio = nn.Parameter(torch.empty(audio, dim))

    def forward(self, ids: Tensor) -> Tensor:
        """The rows of `ids`, int64 `[...]` -> `[..., dim]`."""
        audio = ids - len(self.text)
        rows = F.embedding(audio.clamp(min=0), self.audio)
        return torch.where((audio >= 0).unsqueeze(-1), rows, F.embedding(ids.clamp(max=len(self.text) - 1), self.text))

    def scores(self, hidden: Tensor) -> Tensor:
        """Hidden states `[..., dim]` -> logits `[..., text + audio]`. Text rows get no gradient."""
        return torch.cat([F.linear(hidden, self.text), F.linear(hidden, self.audio)], dim=-1)


class AdaptedDecoder(Decoder):
    """A decoder in which only the adapters and the rows after the first `text` rows are trained."""

    def __init__(self, config: ModelConfig, lora: AdapterConfig, text: int):
        super().__init__(config)
        self.requires_grad_(False)
        sizes = text, config.vocabulary_size - text, config.dim
        self.embedding = SplitRows(*sizes)
        self.head = None if config.tied else SplitRows(*sizes)
        peft = load_peft()
        peft.inject_adapter_in_model(peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
                                                     target_modules=list(lora.target)), self.blocks)
        for module in self.blocks.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False  # it converts bfloat16 to float32, and autocast converts back

    def scores(self, hidden: Tensor) -> Tensor:
        return (self.embedding if self.head is None else self.head).scores(hidden)


def frozen_weights(model: nn.Module) -> frozenset[str]:
    """The names of the parameters that are not trained."""
    return frozenset(name for name, parameter in model.named_parameters() if not parameter.requires_grad)


def adapted(initial: InitialModel, lora: AdapterConfig, text: int) -> InitialModel:
    """`initial` with adapters that do not change its output yet; the first `text` ids are text."""
    model = build_empty(lambda: AdaptedDecoder(initial.model.config, lora, text), "the weights")
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    logging.info("LoRA: %.2f M parameters are trained, in adapters and audio rows", trained / 1e6)
    return InitialModel(model, {name: _initial_values(name, value, initial.weights, text)
                                for name, value in model.state_dict().items()})


def _initial_values(name: str, value: Tensor, weights: Mapping[str, Stored], text: int) -> Stored:
    """The initial values of the weight `name`: A is uniform as in peft, B is zero, all others come from `weights`."""
    if name.endswith(A):
        seed, limit = named_seed(name), value.shape[1] ** -0.5
        return _drawn(tuple(value.shape), lambda empty: empty.uniform_(
            -limit, limit, generator=torch.Generator().manual_seed(seed)))
    if name.endswith(B):
        return _drawn(tuple(value.shape), lambda empty: empty.zero_())
    stem, _, part = name.rpartition(".")
    if f"{stem}.weight" in VOCABULARY_WEIGHTS:
        whole = weights[f"{stem}.weight"]
        return _rows(whole, 0, text) if part == "text" else _rows(whole, text, whole.shape[0])
    return weights[name.replace(BASE, "")]


def _drawn(shape: tuple[int, ...], draw: Callable[[Tensor], Tensor]) -> Stored:
    return Stored(shape, torch.float32, lambda first, last: draw(torch.empty(shape))[first:last])


def _rows(whole: Stored, start: int, end: int) -> Stored:
    return Stored((end - start, *whole.shape[1:]), whole.dtype,
                  lambda first, last: whole.rows(start + first, start + last))


def merged(base: Mapping[str, Stored], trained: Mapping[str, Stored], lora: AdapterConfig) -> dict[str, Stored]:
    """The weights of an ordinary decoder, each made when it is needed.

    base: the initial weights of the training. trained: the trained weights of the adapted decoder, by name.
    """
    weights = {}
    for name, whole in base.items():
        stem, _, part = name.rpartition(".")
        if f"{stem}.audio" in trained:
            audio = trained[f"{stem}.audio"]
            text = whole.shape[0] - audio.shape[0]
            weights[name] = joined([(0, _rows(_as_float32(whole), 0, text)), (text, audio)])
        elif part == "weight" and stem + A in trained:
            weights[name] = _with_adapter(whole, trained[stem + A], trained[stem + B], lora.alpha / lora.rank)
        else:
            weights[name] = _as_float32(whole)
    return weights


def _as_float32(weight: Stored) -> Stored:
    """The weight in the dtype of trainings, whatever its dtype in the file."""
    return Stored(weight.shape, torch.float32, lambda first, last: weight.rows(first, last).float())


def _with_adapter(whole: Stored, a: Stored, b: Stored, factor: float) -> Stored:
    return Stored(whole.shape, torch.float32, lambda first, last: torch.addmm(
        whole.rows(first, last).float(), b.rows(first, last), a.whole(), alpha=factor))
