"""Greedy decoding and sampling with continuous batching: an answer does not depend on the batch it was decoded in.

On a CPU, the host reads every token. On a GPU, it reads the tokens of several decode steps at once (rounds.py) and
never waits within a decode step.
"""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.gradients import inference_mode
from audiopalm.lm.generation.batching import ContinuousBatch
from audiopalm.lm.generation.choice import Sampling, choose_tokens
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated, grammar, part_limits, required_capacity
from audiopalm.lm.generation.rounds import Rounds
from audiopalm.lm.model import Decoder
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary


class _Answer:
    """The answer of one prompt so far: the ids of its parts, and the log probability of each part."""

    def __init__(self, seed: int, limits: list[int]):
        self.seed, self.limits, self.truncated, self.scores = seed, limits, False, [0.0]
        self.parts: list[list[int]] = [[]]

    @property
    def part(self) -> int:
        return len(self.parts) - 1

    @property
    def tokens(self) -> int:
        """The number of tokens so far, end tokens included."""
        return sum(map(len, self.parts)) + self.part

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


def sampling_seeds(utterances: Iterable[str], seed: int) -> list[int]:
    """A seed for each utterance, by its id and the `seed` of a run, so that samples do not depend on the batch."""
    return [zlib.crc32(utterance.encode()) + seed for utterance in utterances]


@inference_mode
def generate(model: Decoder, prompts: list[np.ndarray], task: Task, vocabulary: Vocabulary, config: DecodingConfig,
             seeds: Sequence[int] | None = None, batch_size: int = 64) -> list[Generated]:
    """Answer `prompts` (int64 `[T]` each, see SequenceBuilder.prompt), `batch_size` of them at a time.

    seeds: one for each prompt, see `sampling_seeds`; greedy decoding needs none. On a CPU in float32 an answer is the
    same for every batch size and order of prompts.
    """
    allowed, ends = grammar(task, vocabulary)
    limits = [part_limits(task, config, len(prompt)) for prompt in prompts]
    seeds = [0] * len(prompts) if seeds is None else seeds
    answers = [_Answer(seed, of_prompt) for seed, of_prompt in zip(seeds, limits, strict=True)]
    batch = ContinuousBatch(model, prompts, required_capacity(prompts, limits), batch_size)
    device = batch.decoder.device
    bias = torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf).to(device)
    sampling = Sampling.from_config(task, config, vocabulary.size)
    if device.type == "cpu":
        token_by_token(batch, answers, bias, ends, sampling)
    else:
        in_rounds(batch, answers, bias, ends, sampling)
    return [answer.generated() for answer in answers]


def token_by_token(batch: ContinuousBatch, answers: list[_Answer], bias: Tensor, ends: list[int],
                   sampling: Sampling) -> None:
    """Decode all prompts of `batch`; the host reads every token."""
    while batch.admit():
        logits = batch.logits()
        running = [(slot, answers[index]) for slot, index in batch.running()]
        states = np.zeros((3, logits.shape[0]), dtype=np.int64)
        for slot, answer in running:
            states[:, slot] = answer.part, answer.seed, answer.tokens
        parts, seeds, numbers = torch.from_numpy(states)
        tokens = choose_tokens(logits + bias.index_select(0, parts), parts, seeds, numbers, sampling).tolist()
        for slot, answer in running:
            if len(answer.parts[-1]) >= answer.limits[answer.part]:
                answer.truncated |= tokens[slot] != ends[answer.part]
                tokens[slot] = ends[answer.part]
        chosen = torch.tensor(tokens)
        scores = logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0].tolist()
        for slot, answer in running:
            if not answer.append(tokens[slot], scores[slot], ends):
                batch.release(slot)
        if batch.running():
            batch.step(chosen)


def in_rounds(batch: ContinuousBatch, answers: list[_Answer], bias: Tensor, ends: list[int],
              sampling: Sampling) -> None:
    """Decode all prompts of `batch`; the host reads the tokens of ROUND steps at once."""
    rounds = Rounds(batch, bias, ends, sampling)
    while batch.admit():
        running = [(slot, answers[index]) for slot, index in batch.running()]
        left = max(sum(answer.limits) + len(ends) - answer.tokens for _, answer in running)
        for slot, answer in running:
            rounds.set(slot, answer.part, len(answer.parts[-1]), answer.seed, answer.tokens, answer.limits)
        tokens, scores, cut = rounds.run(left)
        for slot, answer in running:
            for token, score, truncated in zip(tokens[slot].tolist(), scores[slot].tolist(), cut[slot].tolist(),
                                               strict=True):
                answer.truncated |= truncated
                batch.lengths[slot] += 1
                if not answer.append(token, score, ends):
                    batch.release(slot)
                    break
