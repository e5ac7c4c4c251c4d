"""The next token of all slots at once, greedy or sampled, computed on the device without the host."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.tasks import Task

GREEDY = 1e-6  # replaces a temperature of 0 in the division by the temperature


@dataclass(frozen=True)
class Sampling:
    """The sampling settings of each part of an answer.

    temperature, top_p: float32 `[parts]`. top_k: int64 `[parts]`. most: the largest `top_k` of the sampled parts, 0 if
    no part is sampled.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    most: int

    @classmethod
    def from_config(cls, task: Task, config: DecodingConfig, vocabulary_size: int) -> "Sampling":
        parts = [config.sampling(output.is_audio) for output in task.outputs]
        most = max((min(top_k, vocabulary_size) for temperature, top_k, _ in parts if temperature > 0), default=0)
        temperature, top_k, top_p = zip(*parts, strict=True)
        return cls(torch.tensor(temperature), torch.tensor(top_k), torch.tensor(top_p), most)

    def to(self, device: torch.device) -> "Sampling":
        return Sampling(self.temperature.to(device), self.top_k.to(device), self.top_p.to(device), self.most)


def choose_tokens(logits: Tensor, parts: Tensor, seeds: Tensor, numbers: Tensor, sampling: Sampling) -> Tensor:
    """The next token of each slot, int64 `[slots]`, from logits `[slots, V]` in which forbidden tokens are -inf.

    parts, seeds, numbers: int64 `[slots]`, the current part of each slot, its seed, and its number of tokens so far.
    A sample is drawn by the Gumbel trick. It depends only on the slot's own logits, seed and number.
    """
    greedy = logits.argmax(dim=-1)
    if sampling.most == 0:
        return greedy
    temperature, top_k, top_p = (setting.index_select(0, parts)[:, None]
                                 for setting in (sampling.temperature, sampling.top_k, sampling.top_p))
    best = logits.topk(sampling.most)
    values = best.values / temperature.clamp(min=GREEDY)
    values = values.masked_fill(torch.arange(sampling.most, device=logits.device) >= top_k, -torch.inf)
    probabilities = values.softmax(dim=1)
    values = values.masked_fill(probabilities.cumsum(dim=1) - probabilities >= top_p, -torch.inf)
    noisy = values - torch.log(-torch.log(uniform(seeds, numbers, sampling.most)))
    sampled = best.indices.gather(1, noisy.argmax(dim=1, keepdim=True))
    return torch.where(temperature > 0, sampled, greedy[:, None])[:, 0]


def uniform(seeds: Tensor, numbers: Tensor, count: int) -> Tensor:
    """Random numbers in the open interval (0, 1), float32 `[N, count]`, for seeds and numbers int64 `[N]`.

    They are a hash of seed, number and column (the finaliser of SplitMix64). They need no state and are the same on
    every device.
    """
    bits = seeds[:, None] * -7046029254386353131 + numbers[:, None] * 1442695040888963407
    bits = bits + torch.arange(1, count + 1, device=seeds.device) * -4417276706812531889
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        bits = (bits ^ _shift(bits, shift)) * factor
    # The largest number plus 0.5 rounds to 2 ** 24.
    return ((_shift(bits ^ _shift(bits, 31), 40)).float() + 0.5).clamp(max=2 ** 24 - 1) / 2 ** 24


def _shift(bits: Tensor, places: int) -> Tensor:
    """Unsigned right shift of int64."""
    return (bits >> places) & (2 ** (64 - places) - 1)
