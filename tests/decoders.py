"""A decoder that computes in no time, vocabularies for it, and the scores of its answers, computed without cache."""

import numpy as np
import torch

from audiopalm.lm.generation.grammar import Generated
from audiopalm.lm.generation.sampling import sampling_seeds
from audiopalm.lm.model import Decoder, ModelConfig
from audiopalm.vocabulary.joint import Vocabulary

FAMILIES = {"llama": {}, "mistral": {"window": 9, "local_layers": [0, 1]},
            "gemma": {"window": 9, "local_layers": [0], "attention_cap": 5.0, "logit_cap": 9.0, "post_norms": True,
                      "query_key_norm": True, "local_rope_theta": 100.0}}
RANDOM = np.random.default_rng(0)
PROMPTS = [RANDOM.integers(0, 50, length) for length in (7, 19, 300, 3, 40, 1, 11)]  # of VOCABULARY
SEEDS = sampling_seeds("abcdefg", 3)  # of PROMPTS


def tiny_vocabulary(text_size: int, audio_size: int) -> Vocabulary:
    """English and Spanish; <eos> is 2, the newline 5."""
    return Vocabulary(text_size=text_size, audio_size=audio_size, eos=2, newline=5, text_sha256="t", units_sha256="u",
                      languages=["en", "es"])


VOCABULARY = tiny_vocabulary(30, 20)


def contents(answer: Generated) -> tuple:
    return [part.tolist() for part in answer.parts], answer.truncated, answer.score


def tiny(size: int = 50, seed: int = 0, spread: float = 0.2, **options) -> Decoder:
    torch.manual_seed(seed)
    model = Decoder(ModelConfig(size, dim=32, layers=2, heads=4, kv_heads=2, hidden_dim=48, **options))
    for parameter in model.parameters():  # the initial values are too small to tell tokens apart
        parameter.data += spread * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def log_probability(model: Decoder, prompt: np.ndarray, answer: list[int]) -> float:
    """The log probability of an answer after a prompt, computed in one pass without cache and batch."""
    ids = torch.tensor([[*prompt, *answer]])
    length = ids.shape[1]
    hidden = model.hidden(ids, torch.arange(length)[None], torch.ones(1, 1, length, length, dtype=torch.bool).tril())
    logs = model.logits(hidden)[0].log_softmax(dim=-1)
    return sum(float(logs[len(prompt) - 1 + position, token]) for position, token in enumerate(answer))
