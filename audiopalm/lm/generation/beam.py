"""Beam search: at each step the `beam` most probable hypotheses of a prompt are extended by one token."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.core.gradients import inference_mode
from audiopalm.lm.generation.batching import ContinuousBatch
from audiopalm.lm.generation.config import DecodingConfig
from audiopalm.lm.generation.grammar import Generated, grammar, part_limits, required_capacity
from audiopalm.lm.model import Decoder
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary


@inference_mode
def beam_search(model: Decoder, prompts: list[np.ndarray], task: Task, vocabulary: Vocabulary, config: DecodingConfig,
                batch_size: int = 64) -> list[list[Generated]]:
    """At most `config.beam` answers to each of `prompts` (int64 `[T]`), the best first.

    `batch_size` counts the hypotheses of all prompts together. A hypothesis whose part reaches the length limit counts
    as truncated.
    """
    width = config.beam
    allowed, ends = grammar(task, vocabulary)
    limits = [part_limits(task, config, len(prompt)) for prompt in prompts]
    batch = ContinuousBatch(model, prompts, required_capacity(prompts, limits), max(batch_size // width, 1), width)
    allowed = allowed.to(batch.decoder.device)
    beams = [_Beam(len(prompt), prompt_limits, ends, config)
             for prompt, prompt_limits in zip(prompts, limits, strict=True)]
    while batch.admit():
        running = batch.running()
        slots = [slot for group, _ in running for slot in batch.slots_of(group)]
        scores = _extension_scores(batch.logits()[slots], [beams[index] for _, index in running], allowed, ends)
        # At most `width` candidates end an answer (one per hypothesis), so at least `width` others can be extended.
        best = scores.view(len(running), -1).topk(2 * width)
        tokens = [0] * len(batch.lengths)
        for (group, index), values, indices in zip(running, best.values.tolist(), best.indices.tolist(), strict=True):
            beam = beams[index]
            if beam.advance(values, indices, scores.shape[1]):
                tokens[group * width:(group + 1) * width] = beam.tokens
                _copy_parents(batch, group, beam)
            else:
                batch.release(group)
        if batch.running():
            batch.step(torch.tensor(tokens, device=allowed.device))
    return [beam.answers() for beam in beams]


@dataclass
class _Hypothesis:
    """The ids of an answer's parts so far, its log probability, and the log probability at the end of each part."""

    parts: list[list[int]]
    score: float
    truncated: bool = False
    at_ends: tuple[float, ...] = ()

    @property
    def part(self) -> int:
        return len(self.parts) - 1

    def at_limit(self, limits: list[int]) -> bool:
        return len(self.parts[-1]) >= limits[self.part]

    def ended(self, score: float, limits: list[int]) -> "_Hypothesis":
        return _Hypothesis(self.parts, score, self.truncated or self.at_limit(limits), (*self.at_ends, score))

    def extended(self, token: int, score: float, ends: list[int], limits: list[int]) -> "_Hypothesis":
        truncated = self.truncated or self.at_limit(limits)
        if token == ends[self.part]:
            return _Hypothesis([*self.parts, []], score, truncated, (*self.at_ends, score))
        return _Hypothesis([*self.parts[:-1], [*self.parts[-1], token]], score, truncated, self.at_ends)

    def normalised(self, length_penalty: float) -> float:
        """Log probability divided by the number of tokens, end tokens included, to the power of `length_penalty`."""
        return self.score / (sum(map(len, self.parts)) + len(self.parts)) ** length_penalty


class _Beam:
    """The running hypotheses of one prompt, in the order of their slots, and the finished hypotheses.

    tokens, parents: the last token of each hypothesis, and the slot within the group of the hypothesis it extends.
    shared: int `[width, width]`, the number of leading answer tokens that any two hypotheses have in common. Their
    cache is equal up to there.
    """

    def __init__(self, prompt_tokens: int, limits: list[int], ends: list[int], config: DecodingConfig):
        self.prompt_tokens, self.limits, self.ends, self.config = prompt_tokens, limits, ends, config
        # All initial hypotheses are equal. All but one are impossible, so that the search does not repeat itself.
        self.hypotheses = [_Hypothesis([[]], 0.0)] + [_Hypothesis([[]], -np.inf) for _ in range(config.beam - 1)]
        self.finished: list[_Hypothesis] = []
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.shared = np.zeros((config.beam, config.beam), dtype=int)

    def advance(self, scores: list[float], indices: list[int], vocabulary_size: int) -> bool:
        """Replace the hypotheses by their best extensions. Returns False when the search is finished.

        scores: log probabilities of the candidates, best first. indices: `parent * vocabulary_size + token` of each.
        """
        width = self.config.beam
        hypotheses: list[_Hypothesis] = []
        tokens, parents = [], []
        for rank, (score, index) in enumerate(zip(scores, indices, strict=True)):
            parent, token = divmod(index, vocabulary_size)
            hypothesis = self.hypotheses[parent]
            if token == self.ends[hypothesis.part] and hypothesis.part + 1 == len(self.ends):
                if rank < width and score > -np.inf:
                    self.finished.append(hypothesis.ended(score, self.limits))
            elif len(hypotheses) < width:
                hypotheses.append(hypothesis.extended(token, score, self.ends, self.limits))
                tokens.append(token)
                parents.append(parent)
        if self._is_settled(hypotheses):
            return False
        self.hypotheses, self.tokens, self.parents = hypotheses, tokens, parents
        return True

    def _is_settled(self, hypotheses: list[_Hypothesis]) -> bool:
        """Whether the search can stop.

        It stops if `beam` finished hypotheses are at least as good as the best running one, or if all running ones are
        impossible.
        """
        penalty = self.config.length_penalty
        best = max(hypothesis.normalised(penalty) for hypothesis in hypotheses)
        better = [hypothesis for hypothesis in self.finished if hypothesis.normalised(penalty) >= best]
        return best == -np.inf or len(better) >= self.config.beam

    def answers(self) -> list[Generated]:
        """The best finished hypotheses, at most `beam`, the best first."""
        ordered = sorted(self.finished, key=lambda hypothesis: -hypothesis.normalised(self.config.length_penalty))
        return [Generated([np.array(part, dtype=np.int64) for part in hypothesis.parts], hypothesis.truncated,
                          hypothesis.score, np.diff(hypothesis.at_ends, prepend=0.0).tolist())
                for hypothesis in ordered[:self.config.beam]]


def _extension_scores(logits: Tensor, beams: list[_Beam], allowed: Tensor, ends: list[int]) -> Tensor:
    """Log probability, float32 `[slots, V]`, of each hypothesis extended by each token.

    It is minus infinity where the grammar or a length limit forbids the token.
    """
    hypotheses = [(hypothesis, beam.limits) for beam in beams for hypothesis in beam.hypotheses]
    possible = allowed[[hypothesis.part for hypothesis, _ in hypotheses]]
    for row, (hypothesis, limits) in enumerate(hypotheses):
        if hypothesis.at_limit(limits):
            possible[row] = False
            possible[row, ends[hypothesis.part]] = True
    scores = logits.log_softmax(dim=-1).masked_fill_(~possible, -torch.inf)
    return scores.add_(torch.tensor([hypothesis.score for hypothesis, _ in hypotheses], device=logits.device)[:, None])


def _copy_parents(batch: ContinuousBatch, group: int, beam: _Beam) -> None:
    """Give each slot of a group the cache of its hypothesis' parent, from the first token in which they differ."""
    slots = batch.slots_of(group)
    start, end = beam.prompt_tokens, batch.lengths[slots[0]]
    moved = [number for number, parent in enumerate(beam.parents) if number != parent]
    if moved:
        differs = start + min(beam.shared[number, beam.parents[number]] for number in moved)
        batch.decoder.copy_slots([slots[number] for number in moved], [slots[beam.parents[number]] for number in moved],
                                 differs, end)
    parents = np.array(beam.parents)
    beam.shared = np.where(parents[:, None] == parents, end - start, beam.shared[parents][:, parents])
