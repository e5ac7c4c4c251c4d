"""Greedy decoding and sampling with continuous batching: an answer does not depend on the batch it was decoded in."""

import zlib

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.generation.batching import ContinuousBatch
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated, grammar, part_limits, required_capacity
from audiopalm.lm.model import Decoder
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary


class _Answer:
    """The answer of one prompt so far: the ids of its parts, and the log probability of each part."""

    def __init__(self, name: str, seed: int, limits: list[int]):
        self.limits, self.parts, self.truncated, self.scores = limits, [[]], False, [0.0]
        # The generator belongs to the utterance, so that its samples do not depend on the batch.
        self.random = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)

    @property
    def part(self) -> int:
        return len(self.parts) - 1

    def append(self, token: int, score: float, ends: list[int]) -> bool:
        """Append `token` with log probability `score`. Returns False when it ends the answer."""
        self.scores[-1] += score
        if token != ends[self.part]:
            self.parts[-1].append(token)
        elif self.part + 1 < len(ends):
            self.parts.append([])
            self.scores.append(0.0)
        else:
            return False
        return True

    def generated(self) -> Generated:
        return Generated([np.array(part, dtype=np.int64) for part in self.parts], self.truncated, sum(self.scores),
                         self.scores)


@torch.inference_mode()
def generate(model: Decoder, prompts: list[np.ndarray], names: list[str], task: Task, vocabulary: Vocabulary,
             config: DecodingConfig, seed: int = 0, batch_size: int = 64) -> list[Generated]:
    """Answer `prompts` (int64 `[T]` each, see SequenceBuilder.prompt), `batch_size` of them at a time.

    `names` and `seed` seed the sampling of each prompt. On a CPU in float32 an answer is the same for every batch size
    and order of prompts.
    """
    allowed, ends = grammar(task, vocabulary)
    limits = [part_limits(task, config, len(prompt)) for prompt in prompts]
    answers = [_Answer(*arguments) for arguments in zip(names, [seed] * len(names), limits, strict=True)]
    batch = ContinuousBatch(model, prompts, required_capacity(prompts, limits), batch_size)
    bias = torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf).to(batch.decoder.device)
    while batch.admit():
        logits = batch.logits()
        running = [(slot, answers[index]) for slot, index in batch.running()]
        parts = [0] * len(logits)
        for slot, answer in running:
            parts[slot] = answer.part
        tokens = _choose_tokens(logits + bias[parts], running, task, config).tolist()
        for slot, answer in running:
            if len(answer.parts[-1]) >= answer.limits[answer.part]:
                answer.truncated |= tokens[slot] != ends[answer.part]
                tokens[slot] = ends[answer.part]
        chosen = torch.tensor(tokens, device=logits.device)
        scores = logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0].tolist()
        for slot, answer in running:
            if not answer.append(tokens[slot], scores[slot], ends):
                batch.release(slot)
        if batch.running():
            batch.step(chosen)
    return [answer.generated() for answer in answers]


def _choose_tokens(logits: Tensor, running: list[tuple[int, _Answer]], task: Task, config: DecodingConfig) -> Tensor:
    """The next token of each slot, int64 `[slots]`, from `[slots, V]`, which is changed in place.

    Greedy slots take the most probable token; others are sampled by the Gumbel trick.
    """
    for slot, answer in running:
        temperature, top_k, top_p = config.sampling(task.outputs[answer.part].is_audio)
        if temperature > 0:
            best = logits[slot].topk(min(top_k, logits.shape[1]))
            values = best.values / temperature
            probabilities = values.softmax(dim=0)
            values = values.masked_fill(probabilities.cumsum(dim=0) - probabilities >= top_p, -torch.inf)
            uniform = torch.rand(len(values), generator=answer.random).to(logits.device)
            noisy = values - torch.log(-torch.log(uniform))
            logits[slot, best.indices[noisy.argmax()]] = torch.inf
    return logits.argmax(dim=-1)
