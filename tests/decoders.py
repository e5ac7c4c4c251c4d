"""A decoder that computes in no time, and what its answers are worth, computed the plain way."""

import numpy as np
import torch

from audiopalm.lm.model import Decoder, ModelConfig


def tiny(size: int = 50, seed: int = 0, spread: float = 0.2, **options) -> Decoder:
    torch.manual_seed(seed)
    model = Decoder(ModelConfig(size, dim=32, layers=2, heads=4, kv_heads=2, hidden_dim=48, **options))
    for parameter in model.parameters():  # the initial values are too small to tell tokens apart
        parameter.data += spread * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def log_probability(model: Decoder, prompt: np.ndarray, answer: list[int]) -> float:
    """Of an answer, token by token, without cache and batch."""
    ids = torch.tensor([[*prompt, *answer]])
    length = ids.shape[1]
    hidden = model.hidden(ids, torch.arange(length)[None], torch.ones(1, 1, length, length, dtype=torch.bool).tril())
    logs = model.logits(hidden)[0].log_softmax(dim=-1)
    return sum(float(logs[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))
