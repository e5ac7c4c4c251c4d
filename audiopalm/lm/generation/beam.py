"""Beam search: of all answers that have begun, the `beam` most probable go on, each step by one token."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.generation.batching import Places
from audiopalm.lm.generation.sampling import DecodingConfig, Generated, grammar, most_tokens, part_limits
from audiopalm.lm.model import Decoder
from audiopalm.tasks import Task
from audiopalm.vocabulary.joint import Vocabulary


@dataclass
class _Hypothesis:
    """What has been written, and its log probability."""

    parts: list[list[int]]
    score: float
    truncated: bool = False

    @property
    def part(self) -> int:
        return len(self.parts) - 1

    def full(self, limits: list[int]) -> bool:
        return len(self.parts[-1]) >= limits[self.part]

    def ended(self, score: float, limits: list[int]) -> "_Hypothesis":
        return _Hypothesis(self.parts, score, self.truncated or self.full(limits))

    def followed_by(self, token: int, score: float, ends: list[int], limits: list[int]) -> "_Hypothesis":
        parts = ([*self.parts, []] if token == ends[self.part] else [*self.parts[:-1], [*self.parts[-1], token]])
        return _Hypothesis(parts, score, self.truncated or self.full(limits))

    def normalised(self, length_penalty: float) -> float:
        """Log probability over the number of tokens, ends counted, to the power of `length_penalty`."""
        return self.score / (sum(map(len, self.parts)) + len(self.parts)) ** length_penalty


@torch.inference_mode()
def beam_search(model: Decoder, prompts: list[np.ndarray], task: Task, vocabulary: Vocabulary, config: DecodingConfig,
                batch: int = 64) -> list[list[Generated]]:
    """Answers to each of `prompts` (int64 `[T]`), at most `config.beam`, the best first; `batch` hypotheses at a time.

    One of which a part is as long as its limit counts as truncated: what it would have gone on with was not asked.
    """
    width = config.beam
    allowed, ends = grammar(task, vocabulary)
    limits = [part_limits(task, config, len(prompt)) for prompt in prompts]
    places = Places(model, prompts, most_tokens(prompts, limits), max(batch // width, 1), width)
    allowed = allowed.to(places.decoder.device)
    finished: list[list[_Hypothesis]] = [[] for _ in prompts]
    # All but one of a prompt's first hypotheses are impossible: or else they would all go on alike.
    beams = [[_Hypothesis([[]], 0.0)] + [_Hypothesis([[]], -np.inf) for _ in range(width - 1)] for _ in prompts]
    # How many tokens any two of a prompt's hypotheses have in common, from the first on, int `[width, width]`.
    common = [np.zeros((width, width), dtype=int) for _ in prompts]
    while places.fill():
        going = [(group, number) for group, number in enumerate(places.numbers) if number is not None]
        rows = [row for group, _ in going for row in places.rows(group)]
        hypotheses = [(one, limits[number]) for _, number in going for one in beams[number]]
        scores = _scores(places.logits()[rows], hypotheses, allowed, ends)
        # Twice as many as go on: some of them may be ends.
        best = scores.view(len(going), -1).topk(2 * width)
        tokens = [0] * len(places.lengths)
        for (group, number), found, indices in zip(going, best.values.tolist(), best.indices.tolist(), strict=True):
            fresh, written, parents = [], [], []
            for rank, (score, index) in enumerate(zip(found, indices, strict=True)):
                parent, token = divmod(index, scores.shape[1])
                before = beams[number][parent]
                if token == ends[before.part] and before.part + 1 == len(ends):
                    if rank < width and score > -np.inf:
                        finished[number].append(before.ended(score, limits[number]))
                elif len(fresh) < width:
                    fresh.append(before.followed_by(token, score, ends, limits[number]))
                    written.append(token)
                    parents.append(parent)
            if _settled(finished[number], fresh, config):
                places.free(group)
                continue
            beams[number] = fresh
            tokens[group * width:(group + 1) * width] = written
            start, end = len(prompts[number]), places.lengths[group * width]
            moved = [row for row, parent in enumerate(parents) if row != parent]
            if moved:
                differs = start + min(common[number][row, parents[row]] for row in moved)
                places.decoder.follow([group * width + row for row in moved],
                                      [group * width + parents[row] for row in moved], differs, end)
            chosen = np.array(parents)
            common[number] = np.where(chosen[:, None] == chosen, end - start, common[number][chosen][:, chosen])
        if any(number is not None for number in places.numbers):
            places.step(torch.tensor(tokens, device=allowed.device))
    return [[Generated([np.array(part, dtype=np.int64) for part in one.parts], one.truncated, one.score)
             for one in sorted(found, key=lambda one: -one.normalised(config.length_penalty))[:width]]
            for found in finished]


def _scores(logits: Tensor, hypotheses: list[tuple[_Hypothesis, list[int]]], allowed: Tensor,
            ends: list[int]) -> Tensor:
    """Log probability `[rows, V]` of each hypothesis, which has limits, and one more token; minus infinity for what may
    not follow."""
    possible = allowed[[hypothesis.part for hypothesis, _ in hypotheses]]
    for row, (hypothesis, limits) in enumerate(hypotheses):
        if hypothesis.full(limits):
            possible[row] = False
            possible[row, ends[hypothesis.part]] = True
    scores = logits.log_softmax(dim=-1).masked_fill_(~possible, -torch.inf)
    return scores.add_(torch.tensor([hypothesis.score for hypothesis, _ in hypotheses], device=logits.device)[:, None])


def _settled(finished: list[_Hypothesis], going: list[_Hypothesis], config: DecodingConfig) -> bool:
    """Whether `beam` answers have ended that are better than what still goes on is now, or nothing can go on."""
    best = max(hypothesis.normalised(config.length_penalty) for hypothesis in going)
    better = [hypothesis for hypothesis in finished if hypothesis.normalised(config.length_penalty) >= best]
    return best == -np.inf or len(better) >= config.beam
