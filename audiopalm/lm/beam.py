"""Beam search: of all answers that have begun, the `beam` most probable go on, each step by one token."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiopalm.lm.generation import DecodingConfig, Generated, grammar, prefill
from audiopalm.lm.model import Decoder
from audiopalm.tasks import Task
from audiopalm.tokenizers.vocabulary import Vocabulary


@dataclass
class _Hypothesis:
    """What has been written, and its log probability."""

    parts: list[list[int]]
    score: float
    truncated: bool = False

    @property
    def part(self) -> int:
        return len(self.parts) - 1

    def normalised(self, length_penalty: float) -> float:
        """Log probability over the number of tokens, ends counted, to the power of `length_penalty`."""
        return self.score / (sum(map(len, self.parts)) + len(self.parts)) ** length_penalty


@torch.inference_mode()
def beam_search(model: Decoder, prompts: list[np.ndarray], task: Task, vocabulary: Vocabulary,
                config: DecodingConfig) -> list[list[Generated]]:
    """Answers to each of `prompts` (int64 `[T]`), at most `config.beam`, the best first.

    One of which a part is as long as its limit counts as truncated: what it would have gone on with was not asked.
    """
    model.eval()
    width, device = config.beam, model.embedding.weight.device
    allowed, ends, limits = grammar(task, vocabulary, config)
    allowed = allowed.to(device)
    cache, hidden, position = prefill(model, prompts, sum(limits) + len(limits))
    prompt_length = cache.length
    rows = torch.arange(len(prompts), device=device).repeat_interleave(width)
    cache.keep(rows)
    hidden, position = hidden[rows, -1:], position[rows]

    finished: list[list[_Hypothesis]] = [[] for _ in prompts]
    # All but one of a prompt's first hypotheses are impossible: or else they would all go on alike.
    beams = {number: [_Hypothesis([[]], 0.0)] + [_Hypothesis([[]], -np.inf) for _ in range(width - 1)]
             for number in range(len(prompts))}
    while beams:
        scores = _scores(model.logits(hidden[:, -1]), [one for beam in beams.values() for one in beam], allowed, limits,
                         ends)
        # Twice as many as go on: some of them may be ends.
        best = scores.view(len(beams), -1).topk(2 * width)
        going, alive, parents, tokens = {}, [], [], []
        for place, (number, beam) in enumerate(beams.items()):
            fresh, from_rows, written = [], [], []
            for rank, (score, index) in enumerate(zip(best.values[place].tolist(), best.indices[place].tolist(),
                                                      strict=True)):
                row, token = divmod(index, scores.shape[1])
                before = beam[row]
                truncated = before.truncated or len(before.parts[-1]) >= limits[before.part]
                if token == ends[before.part] and before.part + 1 == len(limits):
                    if rank < width and score > -np.inf:
                        finished[number].append(_Hypothesis(before.parts, score, truncated))
                elif len(fresh) < width:
                    parts = ([*before.parts, []] if token == ends[before.part]
                             else [*before.parts[:-1], [*before.parts[-1], token]])
                    fresh.append(_Hypothesis(parts, score, truncated))
                    from_rows.append(row)
                    written.append(token)
            if not _settled(finished[number], fresh, config):
                going[number] = fresh
                alive.append(place)
                parents.append(from_rows)
                tokens.append(written)
        if going:
            blocks = torch.arange(len(position), device=device).view(-1, width)
            if len(going) < len(beams):  # prompts that are answered leave the batch
                rows = blocks[alive].flatten()
                cache.keep(rows)
                position = position[rows]
            cache.follow((blocks[:len(going), :1] + torch.tensor(parents, device=device)).flatten(), prompt_length)
            position = position + 1
            mask = cache.visible[:, None, None, :cache.length + 1]
            hidden = model.hidden(torch.tensor(tokens, device=device).view(-1, 1), position, mask, cache)
        beams = going
    return [[Generated([np.array(part, dtype=np.int64) for part in hypothesis.parts], hypothesis.truncated)
             for hypothesis in sorted(found, key=lambda one: -one.normalised(config.length_penalty))[:width]]
            for found in finished]


def _scores(logits: Tensor, hypotheses: list[_Hypothesis], allowed: Tensor, limits: list[int],
            ends: list[int]) -> Tensor:
    """Log probability `[rows, V]` of each hypothesis and one more token; minus infinity for what may not follow."""
    possible = allowed[[hypothesis.part for hypothesis in hypotheses]]
    for row, hypothesis in enumerate(hypotheses):
        if len(hypothesis.parts[-1]) >= limits[hypothesis.part]:
            possible[row] = False
            possible[row, ends[hypothesis.part]] = True
    scores = logits.log_softmax(dim=-1).masked_fill(~possible, -torch.inf)
    return scores + torch.tensor([hypothesis.score for hypothesis in hypotheses], device=logits.device)[:, None]


def _settled(finished: list[_Hypothesis], going: list[_Hypothesis], config: DecodingConfig) -> bool:
    """Whether `beam` answers have ended that are better than what still goes on is now, or nothing can go on."""
    best = max(hypothesis.normalised(config.length_penalty) for hypothesis in going)
    better = [hypothesis for hypothesis in finished if hypothesis.normalised(config.length_penalty) >= best]
    return best == -np.inf or len(better) >= config.beam
